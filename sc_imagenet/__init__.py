"""The data of semantic correspondence under one schema, and the generator that makes more of it."""
