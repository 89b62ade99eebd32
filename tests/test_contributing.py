"""The worked examples of CONTRIBUTING.md, taken from it and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import PATIENCE

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"Write[^`]*`([\w/]+\.py)`.*?```python\n(.*?)```", TEXT, re.S)
FILES = {path: textwrap.dedent(code) for path, code in BLOCKS}
COMMANDS = re.findall(r"^ {6,}((?:scbench|python -m) .*)$", TEXT, re.M)
# What keeps the test short, and where it writes.
SMALLER = {"scbench run": ["--limit", "8", "--max-steps", "2", "--runs", "runs"]}
ALL = """
import json, runpy, sys
from benchmark.cli import main
codes = []
for words in json.loads(sys.argv[1]):
    print("$", *words, flush=True)
    sys.argv = words
    try:
        main() if words[0] == "scbench" else runpy.run_module(words[2], run_name="__main__")
        codes.append(0)
    except SystemExit as end:
        codes.append(end.code or 0)
print("codes:", codes)
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A copy of this repository with the examples in it, and the data set that the second one reads."""
    house = tmp_path_factory.mktemp("house")
    for folder in ("sc_imagenet", "baselines", "benchmark", "cards", "tests"):
        leave = shutil.ignore_patterns("__pycache__", "references", "*.npz")
        shutil.copytree(ROOT / folder, house / folder, ignore=leave)
    for path, code in FILES.items():
        assert not (house / path).exists()
        (house / path).write_text(code, encoding="utf-8")
    data = house / "data/my-set"
    (data / "images").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name in ("cup-1", "cup-2", "teapot-1", "teapot-2"):
        Image.fromarray(draw.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(data / "images" / f"{name}.png")
    points = [[10.0, 20.0], [40.0, 30.0], [70.0, 50.0]]
    rows = [
        {"category": kind, "source": f"{kind}-{a}.png", "target": f"{kind}-{b}.png"}
        for kind in ("cup", "teapot")
        for a, b in ((1, 2), (2, 1))
    ]
    for split, part in (("train", rows), ("test", rows[::2])):
        lines = [json.dumps({**row, "source_points": points, "target_points": points}) for row in part]
        (data / f"{split}.jsonl").write_text("\n".join(lines))
    return house


@pytest.fixture(scope="module")
def said(house) -> dict[str, str]:
    """What each command of the document printed."""
    commands = []
    for line in dict.fromkeys(COMMANDS):
        words = shlex.split(line.replace("FOLDER", "data"))
        commands.append([*words, *SMALLER.get(" ".join(words[:2]), [])])
    done = subprocess.run(
        [sys.executable, "-c", ALL, json.dumps(commands)],
        cwd=house,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(house), "COLUMNS": "150"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert f"codes: {[0] * len(commands)}" in done.stdout, done.stdout + done.stderr
    parts = done.stdout.split("\n$ ")
    return dict(zip(dict.fromkeys(COMMANDS), [parts[0].removeprefix("$ "), *parts[1:]]))


def test_the_document_holds_both_examples():
    assert list(FILES) == ["baselines/my_model.py", "baselines/recipes/my_model.py", "sc_imagenet/sources/my_set.py"]
    assert [shlex.split(line)[:3] for line in COMMANDS] == [
        ["scbench", "check", "my-model"],
        ["scbench", "run", "my-model"],
        ["scbench", "report"],
        ["python", "-m", "tests.cards.write"],
        ["scbench", "data", "verify"],
        ["scbench", "run", "nearest"],
        ["python", "-m", "tests.cards.write"],
    ]


def test_a_model_is_forty_lines():
    assert len([line for line in FILES["baselines/my_model.py"].splitlines() if line.strip()]) <= 40


def test_the_model_passes_its_check_learns_and_stands_in_the_report(said, house):
    assert "learns" in said["scbench check my-model"]
    assert "FAILS" not in said["scbench check my-model"]
    [result] = (house / "runs/my-model").glob("*/result.json")
    assert json.loads(result.read_text())["finetune"] == "toy"
    assert "My model" in (house / "report/report.html").read_text()
    card = (house / "cards/models/my-model.md").read_text()
    assert "My model: carries every point by one learned affine map of the pair." in card


def test_the_data_set_is_verified_and_scored(said, house):
    verified = next(text for line, text in said.items() if "verify" in line)
    assert "damaged" not in verified
    [result] = (house / "runs/nearest").glob("*/result.json")
    [data] = json.loads(result.read_text())["data"]
    assert (data["name"], data["split"], data["pairs"]) == ("my-set", "test", 2)
    assert "| test | 2 |" in (house / "cards/datasets/my-set.md").read_text()
