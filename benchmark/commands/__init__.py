"""One file a command: ``app`` holds it. A file is imported when its command is typed (``benchmark/cli.py``)."""
