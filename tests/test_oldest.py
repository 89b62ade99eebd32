"""The versions that ``make oldest`` installs are the lower bounds of pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
# Builds the package; tested by tests/campaigns/processes.py, and test_diffusion.py, where they are installed.
ELSEWHERE = {"setuptools", "ray", "diffusers", "transformers"}


def versions(text: str, sign: str) -> dict[str, str]:
    found = dict(re.findall(rf"([\w-]+)(?:\[\w+\])?{sign}([\d.]+)", text))
    return {name: ".".join((version.split(".") + ["0", "0"])[:3]) for name, version in found.items()}


def test_each_lower_bound_is_the_version_that_is_tested():
    bounds = versions((HERE.parent / "pyproject.toml").read_text(), ">=")
    tested = versions((HERE / "oldest.txt").read_text(), "==")
    assert {"torch", "datasets", "timm", "hypothesis"} <= bounds.keys()
    assert tested == {name: version for name, version in bounds.items() if name not in ELSEWHERE | {"requires-python"}}
