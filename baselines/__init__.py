"""The models: one readable file each, one interface, one table of recipes."""
