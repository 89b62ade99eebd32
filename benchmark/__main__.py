"""``python -m benchmark`` is ``scbench``."""

from benchmark.cli import main

main()
