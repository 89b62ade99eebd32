"""Pairs of images with their points: the schema, reading, converting, fetching, checking and publishing."""
