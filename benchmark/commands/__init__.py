"""One file a command; each has ``app`` with its commands and is imported when one of them is typed (``benchmark/cli.py``)."""
