"""The worked examples of CONTRIBUTING.md, taken from it and run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import PATIENCE

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"Write `([\w/]+\.py)`.*?```python\n(.*?)```", TEXT, re.S))
COMMANDS = re.findall(r"^ {4,}((?:scbench|python -m) .*)$", TEXT, re.M)
HOMES = re.findall(r"`((?:baselines|sc_imagenet/sources)/(my_\w+\.py))`", TEXT)
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


def run(commands: list[list[str]], folder: Path, code: Path, **environment: str) -> dict[str, str]:
    """What each of the commands printed, run in a folder by one process with the packages of ``code``."""
    threads = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(code), "COLUMNS": "150"}
    done = subprocess.run(
        [sys.executable, "-c", ALL, json.dumps(commands)],
        cwd=folder,
        env={**os.environ, **threads, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert f"codes: {[0] * len(commands)}" in done.stdout, done.stdout + done.stderr
    parts = done.stdout.split("\n$ ")
    return dict(zip(map(shlex.join, commands), [parts[0].removeprefix("$ "), *parts[1:]]))


def typed(line: str) -> list[str]:
    """The words of a line of the document, on the test's data."""
    words = shlex.split(line.replace("FOLDER", "data"))
    return [*words, *SMALLER.get(" ".join(words[:2]), [])]


def write_data(root: Path) -> None:
    """The data set that the second example reads."""
    data = root / "my-set"
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


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Path:
    """A folder of somebody who has the two files and the data set, and has changed nothing of ours."""
    outside = tmp_path_factory.mktemp("outside")
    for name, code in FILES.items():
        (outside / name).write_text(code, encoding="utf-8")
    write_data(outside / "data")
    return outside


@pytest.fixture(scope="module")
def said(outside) -> dict[str, str]:
    """What each command of the document printed there."""
    commands = [typed(line) for line in COMMANDS if line.startswith("scbench")]
    return run(commands, outside, ROOT)


@pytest.fixture(scope="module")
def inside(tmp_path_factory) -> Path:
    """A copy of this repository into which both files were moved, with the cards written anew."""
    house = tmp_path_factory.mktemp("house")
    for folder in ("sc_imagenet", "baselines", "benchmark", "cards", "tests"):
        leave = shutil.ignore_patterns("__pycache__", "references")
        shutil.copytree(ROOT / folder, house / folder, ignore=leave)
    for path, name in HOMES:
        assert not (house / path).exists()
        (house / path).write_text(FILES[name], encoding="utf-8")
    write_data(house / "data")
    return house


def test_the_document_holds_both_examples():
    assert list(FILES) == ["my_model.py", "my_set.py"]
    assert HOMES == [("baselines/my_model.py", "my_model.py"), ("sc_imagenet/sources/my_set.py", "my_set.py")]
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
    model = FILES["my_model.py"].partition("@recipe")[0]
    assert len([line for line in model.splitlines() if line.strip()]) <= 40


def test_a_stranger_s_model_passes_its_check_learns_and_stands_in_the_report(said, outside):
    check = next(text for line, text in said.items() if line.startswith("scbench check"))
    assert "learns" in check
    assert "FAILS" not in check
    [file] = (outside / "runs/my-model").glob("*/result.json")
    result, config = (json.loads((file.parent / name).read_text()) for name in ("result.json", "config.json"))
    assert result["finetune"] == "toy"
    digest = hashlib.sha256((outside / "my_model.py").read_bytes()).hexdigest()
    assert result["files"] == config["files"] == {"my_model.py": digest}
    assert config["typed"]["include"] == ["my_model.py"]
    page = (outside / "report/report.html").read_text()
    assert "My model" in page
    assert "--include my_model.py" in page


def test_a_stranger_s_data_set_is_verified_and_scored(said, outside):
    verified = next(text for line, text in said.items() if "verify" in line)
    assert "damaged" not in verified
    [file] = (outside / "runs/nearest").glob("*/result.json")
    result = json.loads(file.read_text())
    [data] = result["data"]
    assert (data["name"], data["split"], data["pairs"]) == ("my-set", "test", 2)
    assert list(result["files"]) == ["my_set.py"]
    assert "files" not in json.loads((file.parent / "config.json").read_text()), "what is evaluated makes no other run"


def test_moved_into_the_repository_both_need_no_include_and_have_cards(inside):
    commands = [words for line in COMMANDS if (words := typed(re.sub(r" --include \S+", "", line)))[1] != "report"]
    said = run(commands, inside, inside)
    assert "FAILS" not in next(text for line, text in said.items() if line.startswith("scbench check"))
    card = (inside / "cards/models/my-model.md").read_text()
    assert "My model: takes every point to the target by one learned affine map of the pair." in card
    assert "| test | 2 |" in (inside / "cards/datasets/my-set.md").read_text()
    [file] = (inside / "runs/my-model").glob("*/config.json")
    assert "files" not in json.loads(file.read_text()), "this repository's own are known by its commit"
