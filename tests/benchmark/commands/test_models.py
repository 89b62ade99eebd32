"""``scbench models``: a line a model, and all that is known of one."""

from __future__ import annotations

import json

from baselines import registry

NAMES = [card.name for card in registry.cards()]


def test_every_model_has_a_line_of_a_narrow_terminal(scbench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = scbench("models")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in lines[1:-1]] == NAMES
    assert max(map(len, lines)) <= 80
    assert "…" not in out
    assert " ".join(lines[NAMES.index("cats") + 1].split()) == "cats 2021 keypoints spair-71k, pf-pascal 256 49.1 M"


def test_json_holds_the_numbers(scbench):
    rows = {row["name"]: row for row in json.loads(scbench("models", "--json")[1])}
    assert list(rows) == NAMES
    assert rows["cats"]["parameters"] == 49_060_552
    assert (rows["cats"]["size"], rows["cats"]["direction"]) == (256, "backward")


def test_one_model_is_told_of_at_length(scbench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = scbench("models", "marco")
    assert code == 0
    for known in ("2604.18267", "Apache-2.0", "spair-71k: its training split", "322,925,056 parameters"):
        assert known in out
    assert [row["name"] for row in json.loads(scbench("models", "marco", "--json")[1])] == ["marco"]


def test_one_that_is_not_known_is_refused(scbench):
    code, out, err = scbench("models", "catz")
    assert (code, out) == (2, "")
    assert err.startswith("error: unknown model 'catz'. Did you mean 'cats'?")
