"""The data sets, one file each: what is known of it, ``DATA_SET``, and its reader, a ``Source``."""
