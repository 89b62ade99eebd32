"""Submitted scores: written once, whole, scored again by anybody, and refused where anything was changed."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.running.hub_results import CARD, SCORES, card_of, write_scores
from benchmark.running.score import score_file
from benchmark.running.submissions import FILES, PASSPORT, PREDICTIONS, SUBMISSION, key_of, submit, verify
from benchmark.scoring.joining import opened
from benchmark.scoring.prediction_files import read_predictions, write_predictions
from benchmark.scoring.predictions import PredictionInfo
from benchmark.scoring.protocols import protocols_named
from benchmark.scoring.result import Result, write_result
from benchmark.scoring.runs import evaluated_data, score_run
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.convert import convert
from sc_imagenet.data.load import load_dataset

DRAWS = 200


def toy_run(folder, name="mine", noise=9.0, pairs=None, model="cats"):
    """A run on toy's validation pairs that misses by some pixels."""
    rows = load_dataset("toy", split="validation").with_format("arrow")[:pairs].to_pylist()
    names = load_dataset("toy", split="validation").features["category"].names
    chance = np.random.default_rng(list(name.encode()))
    columns = ("pair_id", "source_size", "target_size", "source_points", "target_points", "source_bbox", "target_bbox")
    stored = [
        {
            **{column: row[column] for column in columns},
            "category": names[row["category"]],
            "predicted_points": np.array(row["target_points"])
            + chance.normal(0, noise, (len(row["target_points"]), 2)),
            "direction": "forward",
        }
        for row in rows
    ]
    manifest = convert("toy", "validation").manifest_sha256
    file = folder / "predictions" / "toy-validation.parquet"
    write_predictions(file, stored, PredictionInfo("toy", "validation", model, 256, name, manifest, "forward"))
    data = (evaluated_data(file, read_predictions(file)),)
    metrics, categories = score_run(folder, draws=10)
    about = {"title": "CATs", "supervision": "keypoints", "backbone": "resnet101", "pretrain": None, "finetune": "toy"}
    how = {"preset": "tiny", "recipe": {}, "seed": 0, "direction": "forward", "size": 256, "seconds": 1.0}
    write_result(
        folder,
        Result(run=name, model=model, **about, **how, data=data, metrics=metrics, per_category=categories),
    )
    return folder


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """A folder with one submission, and that submission."""
    folder = tmp_path_factory.mktemp("results")
    (place,) = submit(toy_run(tmp_path_factory.mktemp("run")), folder, "strict@1,geoaware@1", "Apache-2.0", DRAWS)
    return folder, place


def test_a_submission_holds_and_tells_what_made_it(sent):
    folder, place = sent
    (found,) = verify(folder)
    assert (found.faults, found.unchecked) == ((), None)
    assert (found.submission.method, found.submission.trained_on) == ("CATs", ("toy",))
    assert set(found.passport["scores"]) == {"strict@1", "geoaware@1"}
    assert sorted(path.name for path in place.iterdir()) == sorted((*FILES, SCORES))
    assert place.name == key_of(place)


def test_the_same_run_submitted_again_is_one_submission(sent, tmp_path):
    run = toy_run(tmp_path / "run")
    first, again = (submit(run, tmp_path / "out", draws=DRAWS) for _ in range(2))
    assert first == again
    assert len(verify(tmp_path / "out")) == 1


def test_two_submits_at_once_both_stay(tmp_path):
    runs = [toy_run(tmp_path / name, name, noise) for name, noise in (("one", 4.0), ("two", 8.0))]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda run: submit(run, tmp_path / "out", draws=DRAWS), [*runs, *runs]))
    assert len({place for places in made for place in places}) == 2
    found = verify(tmp_path / "out")
    assert [each.faults for each in found] == [(), ()]
    assert not list((tmp_path / "out").rglob(".submission*"))
    assert (tmp_path / "out" / CARD).read_text() == card_of(tmp_path / "out")


def test_the_folder_is_a_data_set_of_the_hub(tmp_path):
    folder = tmp_path / "results"
    (trained,) = submit(toy_run(tmp_path / "one", "one"), folder, draws=DRAWS)
    submit(toy_run(tmp_path / "two", "two", model="nearest"), folder, draws=DRAWS)
    read = functools.partial(datasets.load_dataset, str(folder), cache_dir=str(tmp_path / "cache"))
    rows = read("toy", split="validation")
    assert len(rows) == 280
    assert set(rows["pair_id"]) == set(load_dataset("toy", split="validation")["pair_id"])
    mine = read(data_files=f"toy/validation/{trained.name}/predictions.parquet", split="train")
    stored = read_predictions(trained / PREDICTIONS)
    np.testing.assert_array_equal(np.concatenate(mine["predicted_points"]), stored.predicted)
    scores = read(split="submitted")
    assert set(scores["model"]) == {"cats", "nearest"}
    assert scores[0]["trained_on"] == ["toy"]
    stated = json.loads((trained / PASSPORT).read_text())["scores"]["strict@1"]
    told = {row["score"]: row["value"] for row in scores if row["submission"] == trained.name}
    assert told == {name: each["value"] for name, each in stated.items()}
    assert [each.faults for each in verify(folder)] == [(), ()]


def test_a_readme_that_is_there_keeps_its_text_and_what_else_its_front_matter_says(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\nconfigs: []\n---\nOurs.\n")
    run = toy_run(tmp_path / "run")
    submit(run, folder, draws=DRAWS)
    whole = (folder / "README.md").read_text()
    assert whole.startswith("---\nlicense: cc-by-4.0\nconfigs:\n- config_name: scores\n")
    assert whole.endswith("\n---\nOurs.\n")
    submit(run, folder, draws=DRAWS)
    assert (folder / "README.md").read_text() == whole
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(InputError, match="front matter that is no YAML"):
        submit(run, folder, draws=DRAWS)


def test_a_run_on_some_of_the_pairs_is_not_submitted(tmp_path):
    with pytest.raises(InputError, match=r"has 20 pairs, 0 of them none of the data set's 140.*without --limit"):
        submit(toy_run(tmp_path / "run", pairs=20), tmp_path / "out", draws=DRAWS)


# Tampering. Each kind changes one thing; ``mended`` then makes every hash fit again, as a careful forger would.


def rewritten(place, change):
    """The Parquet file with its rows changed."""
    table = pq.read_table(place / PREDICTIONS)
    rows = change(table.to_pylist())
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), place / PREDICTIONS)


def edited(place, name, change):
    content = json.loads((place / name).read_text())
    change(content)
    (place / name).write_text(json.dumps(content))


def mended(place):
    """Hashes of files, the folder's name and, where they can be had, the table of scores as they must be."""
    hashes = {
        f"{kind}_sha256": hashlib.sha256((place / name).read_bytes()).hexdigest()
        for kind, name in (("predictions", PREDICTIONS), ("passport", PASSPORT))
    }
    edited(place, SUBMISSION, lambda content: content.update(hashes))
    named = place.rename(place.parent / key_of(place))
    about, passport = (json.loads((named / name).read_text()) for name in (SUBMISSION, PASSPORT))
    with suppress(KeyError, TypeError, ValueError):
        write_scores(named, named, about, passport)


def rescored(place):
    """The passport that these predictions would have: what remains to be seen is that their pairs are others."""
    before = json.loads((place / PASSPORT).read_text())
    found = opened(place / PREDICTIONS, None, "test", None, None)
    scored = score_file(place / PREDICTIONS, found, protocols_named("strict@1,geoaware@1"), (), None, before["draws"])
    (place / PASSPORT).write_text(json.dumps({**scored.passport, "predictions": PREDICTIONS}))


def moved_point(place, chance):
    def change(rows):
        row = chance.choice(rows)
        row["predicted_points"][0][chance.randrange(2)] += chance.choice([-5, 1, 40])
        return rows

    rewritten(place, change)


def moved_truth(place, chance):
    def change(rows):
        row = chance.choice(rows)
        row["target_points"] = [list(point) for point in row["predicted_points"]]
        return rows

    rewritten(place, change)


def dropped_pair(place, chance):
    def change(rows):
        del rows[chance.randrange(len(rows))]
        return rows

    rewritten(place, change)


def renamed_pair(place, chance):
    def change(rows):
        chance.choice(rows)["pair_id"] = f"other-{chance.randrange(99)}"
        return rows

    rewritten(place, change)


def larger_box(place, chance):
    def change(rows):
        for row in rows:
            row["target_bbox"] = [0, 0, 10 * row["target_size"][0], 10 * row["target_size"][1]]
        return rows

    rewritten(place, change)


def metric(place, chance):
    def change(content):
        name = chance.choice(sorted(content["scores"]["strict@1"]))
        content["scores"]["strict@1"][name]["value"] += chance.choice([0.01, 3, 20])

    edited(place, PASSPORT, change)


def interval(place, chance):
    def change(content):
        for value in content["scores"]["geoaware@1"].values():
            value["low"] = value["value"] - 0.01

    edited(place, PASSPORT, change)


def no_strict(place, chance):
    edited(place, PASSPORT, lambda content: content["scores"].pop("strict@1"))


def pair_hash(place, chance):
    edited(place, PASSPORT, lambda content: content.update(pairs_sha256=f"{chance.randrange(16**8):064x}"))


def prediction_hash(place, chance):
    edited(place, PASSPORT, lambda content: content.update(predictions_sha256=f"{chance.randrange(16**8):064x}"))


def passport_version(place, chance):
    edited(place, PASSPORT, lambda content: content.update(version=chance.choice([0, 2, "1", None])))


def protocol_version(place, chance):
    def change(content):
        content["scores"]["strict@9"] = content["scores"].pop("strict@1")

    edited(place, PASSPORT, change)


def submission_format(place, chance):
    edited(place, SUBMISSION, lambda content: content.update(format=chance.choice([0, 2, "1"])))


def few_draws(place, chance):
    edited(place, PASSPORT, lambda content: content.update(draws=chance.choice([0, 1, 50])))


def markup(place, chance):
    name = chance.choice(["method", "supervision", "backbone", "licence", "run"])
    text = chance.choice(["<script>alert(1)</script>", "<b>CATs</b>", '" onload="x', "a\u202eb", "a\nb"])
    edited(place, SUBMISSION, lambda content: content.update({name: text}))


def markup_in_training(place, chance):
    edited(place, SUBMISSION, lambda content: content.update(trained_on=["<img src=x onerror=alert(1)>"]))


def markup_in_software(place, chance):
    edited(place, PASSPORT, lambda content: content.update(software="<i>sc-imagenet</i>"))


def other_data(place, chance):
    edited(place, PASSPORT, lambda content: content.update(split=chance.choice(["test", "train"])))


def other_model(place, chance):
    edited(place, SUBMISSION, lambda content: content.update(model="vat", run="another"))


def other_count(place, chance):
    edited(place, PASSPORT, lambda content: content.update(points=content["points"] + 1))


def more_entries(place, chance):
    edited(place, SUBMISSION, lambda content: content.update(award="best"))


def further_file(place, chance):
    (place / "notes.html").write_text("<script>1</script>")


def link(place, chance):
    (place / PASSPORT).rename(place.parent.parent.parent.parent / "elsewhere.json")
    (place / PASSPORT).symlink_to(place.parent.parent.parent.parent / "elsewhere.json")


def cut(place, chance):
    path = place / chance.choice((*FILES, SCORES))
    path.write_bytes(path.read_bytes()[: chance.randrange(200)])


def one_byte(place, chance):
    path = place / chance.choice(FILES)
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(content))


def other_table(place, chance):
    table = pq.read_table(place / SCORES)
    rows = table.to_pylist()
    row = chance.choice(rows)
    row.update(chance.choice([{"value": row["value"] + 1}, {"method": "Best"}, {"score": "pck@0.2/image"}]))
    pq.write_table(pa.Table.from_pylist(chance.choice([rows, rows[1:]]), schema=table.schema), place / SCORES)


def twice(place, chance):
    copy = place.parent / ("0" * 16)
    shutil.copytree(place, copy)
    edited(copy, SUBMISSION, lambda content: content.update(method=f"Ours {chance.randrange(9999)}"))
    mended(copy)


FORGED = (
    *(moved_point, moved_truth, dropped_pair, renamed_pair, larger_box, metric, interval, no_strict, pair_hash),
    *(prediction_hash, passport_version, protocol_version, submission_format, few_draws, markup, markup_in_training),
    *(markup_in_software, other_data, other_model, other_count, more_entries),
)
RESCORED = (moved_truth, dropped_pair, renamed_pair, larger_box)
PLAIN = (further_file, link, cut, one_byte, other_table, twice)


def test_two_hundred_tampered_submissions_are_all_refused_with_a_reason(sent, tmp_path):
    folder, place = sent
    chance = random.Random(20261128)
    kinds = [(kind, "mended") for kind in FORGED] + [(kind, "") for kind in (*FORGED, *PLAIN)]
    kinds += [(kind, "rescored") for kind in RESCORED]
    held, silent = [], []
    for number in range(200):
        kind, careful = kinds[number % len(kinds)]
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy / "results")
        there = copy / "results" / place.relative_to(folder)
        kind(there, chance)
        if careful == "rescored":
            rescored(there)
        if careful:
            mended(there)
        found = verify(copy / "results")
        faults = [fault for each in found for fault in each.faults]
        if not faults:
            held.append((number, kind.__name__, careful))
        if any(not fault or "\n" in fault for fault in faults):
            silent.append((number, kind.__name__))
        shutil.rmtree(copy)
    assert held == []
    assert silent == []


def test_the_commands_write_and_refuse(sent, tmp_path, scbench):
    code, out, _ = scbench("submit", toy_run(tmp_path / "run"), tmp_path / "out", "--draws", DRAWS)
    assert (code, out.startswith("wrote ")) == (0, True)
    code, out, _ = scbench("board", "verify", tmp_path / "out")
    assert (code, out.endswith("1 of 1 submissions hold\n")) == (0, True)
    (place,) = (tmp_path / "out").glob("*/*/*")
    os.truncate(place / PASSPORT, 100)
    code, out, _ = scbench("board", "verify", tmp_path / "out")
    assert (code, "refused" in out, out.endswith("0 of 1 submissions hold\n")) == (1, True, True)
