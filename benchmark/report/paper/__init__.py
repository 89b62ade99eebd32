"""The figures that the paper prints in its tables, one CSV file a table."""
