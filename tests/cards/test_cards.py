"""Cards say what the code says, in the Hub's form, and what they tell to do works."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator

import numpy as np
import pytest
from huggingface_hub import RepoCard
from scipy.io import savemat

from benchmark.running.photographs import ROWS
from sc_imagenet.data.catalog import catalog, info
from sc_imagenet.data.load import load_dataset
from sc_imagenet.toy.pairs import CATEGORIES
from tests.benchmark.command_line import options_of, split
from tests.cards.write import CARDS, texts
from tests.sc_imagenet import made_data

ROOT = CARDS.parent
FILES = sorted(CARDS.glob("*/*.md"))
NAMES = [f"{path.parent.name}/{path.stem}" for path in FILES]
TEMPLATE = ROOT / "sc_imagenet/generation/card.md"
LICENCES = {"apache-2.0", "cc0-1.0", "mit", "other", "unknown"}  # identifiers of the Hub that our cards use
SIZES = {"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M"}


def test_every_card_is_what_the_code_makes_of_it():
    made = texts()
    assert sorted(made) == FILES, "a card is missing or nobody's: run python -m tests.cards.write"
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: run python -m tests.cards.write"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_card_s_metadata_is_the_hub_s(path):
    data = RepoCard.load(path).data.to_dict()
    assert data["license"] in LICENCES
    assert (data["license"] == "other") == ("license_link" in data)
    if path.parent.name == "models":
        assert data["library_name"] == "sc-imagenet"
        assert data["pipeline_tag"] == "keypoint-detection"
        assert set(data.get("datasets", [])) <= set(catalog())
    else:
        assert data["pretty_name"] == info(path.stem).title
        assert data["task_categories"] == ["keypoint-detection"]
        pairs = sum(info(path.stem).pairs.values())
        assert set(data.get("size_categories", [])) <= SIZES
        assert bool(pairs) == ("size_categories" in data)


def commands() -> Iterator[tuple[str, str]]:
    """Each line of documentation that begins with ``scbench``, with its file."""
    for path in [*FILES, TEMPLATE, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^    +(scbench .*)$|`(scbench [^`]*)`", text, re.M):
            yield path.name, (line[0] or line[1]).split("  #")[0].split("   ")[0]


@pytest.mark.parametrize(("where", "line"), dict.fromkeys(commands()))
def test_commands_and_their_options_exist(where, line):
    path, words = split(shlex.split(line)[1:])
    assert path, f"{where}: {line}"
    options = options_of(*path)
    for word in words:
        if word.startswith("--") and word != "--help":
            assert word.split("=")[0] in options, f"{where}: {line}"


def test_models_and_data_sets_in_commands_exist():
    from baselines import registry

    models = {card.name for card in registry.cards()} | {"MODEL", "my-model"}
    for where, line in commands():
        words = shlex.split(line)
        if words[1] in ("run", "check", "speed") and len(words) > 2 and not words[2].startswith("-"):
            assert words[2] in models, f"{where}: {line}"
        for option, value in itertools.pairwise(words):
            if option in ("--finetune", "--eval"):
                names = {name.partition(":")[0] for name in value.split(",")}
                assert names <= {*catalog(), *ROWS, "my-set", "NAME", "OWN"}, f"{where}: {line}"


def willow(root):
    """Ten photographs of one class, as PF-WILLOW's authors ship them."""
    for number in range(10):
        made_data.image(root / "duck(S)" / f"duck_{number}.png")
        savemat(root / "duck(S)" / f"duck_{number}.mat", {"pts_coord": np.full((2, 10), number + 1.0)})
    return root


MADE = {
    "toy": None,
    "sc-imagenet": lambda root: made_data.sc_release(root, images=True),
    "pf-pascal": made_data.pascal_package,
    "pf-willow": willow,
    "spair-71k": made_data.spair,
}


@pytest.mark.parametrize("name", MADE)
def test_what_a_card_says_of_loading_works(name, tmp_path, monkeypatch):
    text = (CARDS / "datasets" / f"{name}.md").read_text(encoding="utf-8")
    code = text.split("```python")[1].split("```")[0]
    if MADE[name] is not None:
        monkeypatch.setenv("SC_CACHE", str(tmp_path / "cache"))
        root = MADE[name](tmp_path / name)
        code = code.replace("FOLDER", str(root)).replace("IMAGENET", str(root / "JPEGImages"))
    found: dict[str, object] = {}
    exec(compile(code, f"{name}.md", "exec"), found)
    assert len(found["pairs"][0]["source_points"]) > 0
    assert found["pairs"][0]["source"].size[0] > 0


def test_the_card_of_toy_names_its_categories_and_the_score_of_copied_coordinates():
    text = (CARDS / "datasets/toy.md").read_text(encoding="utf-8")
    assert ", ".join(sorted(CATEGORIES)) in " ".join(text.split())
    scores = []
    for row in load_dataset("toy", split="test").select_columns(["source_points", "target_points"]):
        source, target = np.array(row["source_points"]), np.array(row["target_points"])
        scores.append((np.linalg.norm(source - target, axis=1) <= 0.1 * np.ptp(target, axis=0).max()).mean())
    told = float(re.search(r"Copying coordinates scores about (\d+)", text)[1])
    assert abs(100 * np.mean(scores) - told) < 1


def test_the_card_of_pf_pascal_tells_how_far_its_splits_overlap():
    text = (CARDS / "datasets/pf-pascal.md").read_text(encoding="utf-8")
    pairs = info("pf-pascal").pairs
    overlap = pairs["test"] - pairs["test_clean"]
    assert f"of the {pairs['test']} test pairs {overlap} are training pairs" in text
    assert f"of the {pairs['validation']} validation\npairs" in text


def test_no_card_holds_a_place_of_this_machine():
    for path in FILES:
        assert not re.search(r"/(home|work|root|tmp)/", path.read_text(encoding="utf-8"))
