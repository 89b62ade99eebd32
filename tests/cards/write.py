"""``python -m tests.cards.write``: the cards as the code has them.

A model's card is all of the code's making: its docstrings, its recipes, its counts. Of a data set's card the metadata
and the part between the two marks are; the words below are written by hand and stay.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from baselines import registry
from baselines.model_card import architecture_card
from baselines.registry import recipes_of
from benchmark.commands.models import default_arguments
from benchmark.running.speed import is_trained
from sc_imagenet.data.catalog import catalog
from sc_imagenet.data.publish import data_facts, front_matter, splits_table
from sc_imagenet.sources.source import DataSet

CARDS = Path(__file__).parents[2] / "cards"
BEGIN, END = "<!-- counts: written by tests/cards/write.py -->", "<!-- end of counts -->"


def model_text(name: str) -> str:
    """The card of a registered model, built without memory for its weights."""
    with torch.device("meta"):
        matcher = registry.create(name, **{**default_arguments(name), "pretrained": False})
    return architecture_card(matcher, recipes_of(name), checkpoints_of(name), is_trained(matcher))


def checkpoints_of(name: str) -> str:
    """What is read of published weights."""
    published = registry.card(name).model.published
    if published is None:
        return "No published weights are read; those of `scbench run` are, with `--checkpoint`."
    return f"{published.about} `--checkpoint FILE` reads them."


def data_text(entry: DataSet, before: str) -> str:
    """The card of a data set with the words that it has already."""
    words = before.partition(END)[2] or f"\n\n{re.sub('^---.*?---', '', before, flags=re.S).strip()}\n"
    counts = f"{data_facts(entry)}\n\n{splits_table(entry.splits, entry.pairs)}"
    return f"---\n{front_matter(entry, entry.pairs)}\n---\n\n# {entry.title}\n\n{BEGIN}\n\n{counts}\n\n{END}{words}"


def texts() -> dict[Path, str]:
    """Every card by its path."""
    found = {CARDS / "models" / f"{entry.name}.md": model_text(entry.name) for entry in registry.cards()}
    for entry in catalog().values():
        path = CARDS / "datasets" / f"{entry.name}.md"
        found[path] = data_text(entry, path.read_text(encoding="utf-8") if path.exists() else "")
    return found


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
