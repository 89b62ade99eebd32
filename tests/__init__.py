"""What is used all over the tests."""

PATIENCE = 1200  # seconds after which a process is taken for hung, however busy the machine; no test waits so long
