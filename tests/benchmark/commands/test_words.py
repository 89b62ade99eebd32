"""What our words tell a person to type exists: commands, their options, and the names of options in errors."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from PIL import Image

from benchmark import cli
from sc_imagenet.backbones import LITE0
from tests.benchmark.command_line import commands, options_of, split

ROOT = Path(__file__).parents[3]
PACKAGES = ("benchmark", "baselines", "sc_imagenet")
TEXTS = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "Makefile",
    *sorted(str(p.relative_to(ROOT)) for folder in ("cards", "docs") for p in ROOT.glob(f"{folder}/**/*.md")),
)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
# A command as it stands in a sentence: up to what closes it, or what goes on after it.
COMMAND = re.compile(r"(?:scbench|-m benchmark)((?:[ ]+(?!#)[^\s`'\"\[\]()|]+)+)")
OTHERS = {
    "--porcelain": "git's",
    "--untracked-files": "git's",
    "--folder": "gdown's",
    "--repo-type": "hf's",
    "--resume": "answered in cli.py where somebody gives it",
    "--all": "pip's or git's",
}


def strings(tree: ast.AST) -> list[tuple[int, str]]:
    """Every text of a module, docstrings too, with its line; ``X`` stands for what is filled in."""
    parts = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
            found.append((node.lineno, text))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            found.append((node.lineno, node.value))
    return found


def sources() -> list[tuple[str, str]]:
    """What is said, and where."""
    said = [(name, (ROOT / name).read_text(encoding="utf-8")) for name in TEXTS]
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            said += [(f"{path.relative_to(ROOT)}:{line}", text) for line, text in strings(tree)]
    return said


def test_every_command_that_is_named_exists_with_the_options_it_is_given():
    wrong, looked = [], 0
    for where, text in sources():
        for found in COMMAND.finditer(text.replace("\\\n", " ")):
            words = re.sub(r"[.,;:]+$", "", found[1]).split()
            path, words = split([word.strip(".,;:") for word in words])
            if not path and re.fullmatch(r"[a-z]+", words[0]) and where.split(":")[0].endswith(".py") is False:
                wrong.append(f"{where}: scbench {words[0]} is no command")
            if not path:
                continue
            looked += 1
            given = {match for word in words for match in OPTION.findall(word.split("=")[0])}
            wrong += [f"{where}: scbench {' '.join(path)} has no {option}" for option in given - options_of(*path)]
    assert looked > 100
    assert wrong == []


def test_every_option_that_a_text_names_is_one_of_a_command():
    known = set().union(*(options_of(*words) for words in commands()))
    named = {(where, option) for where, text in sources() if ".py:" in where for option in OPTION.findall(text)}
    assert len(named) > 100
    assert sorted((where, option) for where, option in named if option not in known and option not in OTHERS) == []


def test_settings_of_recipes_that_errors_name_exist():
    """``--set recipe.KEY`` in a text names a field of a recipe, or an argument of a model."""
    from dataclasses import fields

    from baselines.recipe import Recipe

    names = {field.name for field in fields(Recipe)}
    keys = {
        (where, key)
        for where, text in sources()
        for key in re.findall(r"(?:recipe|pretrain|finetune)\.([a-z_]+)(?:=|\.model)", text)
    }
    assert len(keys) > 5
    assert sorted((where, key) for where, key in keys if key not in names) == []


NO_WEIGHTS = {
    ("run", "nearest", "--eval", "toy", "--limit", "2"): "--set recipe.model.pretrained=FILE",
    ("generate", "label", "photographs", "--out", "made"): "--weights FILE",
    ("generate", "run", "photographs", "--train", "--out", "made"): "--weights FILE",
    ("match", "photographs/cup/0.png", "photographs/cup/1.png"): None,
}


@pytest.mark.parametrize("words", NO_WEIGHTS, ids=" ".join)
def test_without_a_network_a_command_names_its_own_option_for_weights(
    words, tmp_path, monkeypatch, hub_offline, capsys
):
    noise = np.random.default_rng(0)
    for name in ("cup", "teapot"):
        for number in range(10):
            path = tmp_path / "photographs" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 256, (50, 60, 3), np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("sys.argv", ["scbench", *words, "--backbone", "resnet18"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "the weights of backbone 'resnet18' cannot be had" in line
    option = NO_WEIGHTS[words]
    assert line.endswith(f"Or give a file of weights: {option}" if option else f"brings those of {LITE0}.")
