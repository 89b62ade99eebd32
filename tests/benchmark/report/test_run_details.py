"""Where a run's figures come from: the command that makes it again, and everything known of it."""

import json
import shlex

from benchmark.report.contents import build
from benchmark.report.html import to_html
from benchmark.report.run_details import command_of, details_of, read_log
from benchmark.scoring.runs import FoundRun
from tests.benchmark.runs import make_run

TOY = {"data": [("toy", "test", 6)], "draws": 2}


def test_the_command_holds_all_that_departs_from_the_defaults(tmp_path):
    changes = ("--limit 20", "recipe.lr=0.1", 'recipe.frozen=["a b"]', "trained on pf-willow:images_train")
    run = make_run(tmp_path, "r1", preset="small", seed=3, pretrain="sc-imagenet", changes=changes, **TOY)
    stages = [{"dataset": "sc-imagenet", "split": "train"}, {"dataset": "pf-willow", "split": "images_train"}]
    command = command_of(run.result, {"stages": stages, "precision": "bf16", "direction": "forward"})
    assert shlex.split(str(command)) == [
        *("scbench", "run", "cats", "--pretrain", "sc-imagenet", "--finetune", "pf-willow:images_train"),
        *("--eval", "toy", "--preset", "small", "--limit", "20", "--set", "recipe.lr=0.1"),
        *("--set", 'recipe.frozen=["a b"]', "--seed", "3", "--precision", "bf16", "--direction", "forward"),
    ]
    assert str(command_of(make_run(tmp_path, "r2", **TOY).result, {})) == "scbench run cats --finetune toy --eval toy"


def test_hashes_versions_device_and_cost_are_told(tmp_path):
    run = make_run(tmp_path, "r1", weights_sha256="f" * 64, peak_memory=2_500_000_000, **TOY)
    environment = {"python": "3.11.7", "versions": {"torch": "2.14.1", "timm": None}, "git": "abc123", "device": "cpu"}
    (run.folder / "environment.json").write_text(json.dumps(environment))
    stage = {"dataset": "toy", "split": "train", "manifest_sha256": "d" * 64}
    (run.folder / "config.json").write_text(json.dumps({"stages": [stage]}))
    facts = dict(details_of(run, []).facts)
    assert facts["Trained on toy"] == f"manifest {'d' * 64}"
    assert facts["Scored on toy"] == f"6 of 300 pairs, manifest {'m' * 64}"
    assert facts["Weights"] == f"sha256 {'f' * 64}"
    assert (facts["Versions"], facts["Code"], facts["Device"]) == ("torch 2.14.1", "abc123", "device cpu")
    assert (facts["Peak memory"], facts["Trained for"]) == ("2.5 GB", "6 min 12 s")


def test_lost_and_damaged_files_take_only_their_own_lines_along(tmp_path):
    run = make_run(tmp_path, "r1", **TOY)
    for name in ("environment.json", "config.json"):
        (run.folder / name).write_text("[")
    (run.folder / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": "x"}\n[3]\n{"step": 3, "lo')
    details = details_of(run, ["its predictions are gone"])
    assert details.command == "scbench run cats --finetune toy --eval toy"
    assert "Versions" not in dict(details.facts)
    assert details.training.loss == ((1.0, 2.0),)
    assert "r1" in to_html(build([run]))


def test_a_change_without_a_value_is_printed_as_an_option(tmp_path):
    details = details_of(make_run(tmp_path, "r1", changes=("--limit 5", "--odd"), **TOY), [])
    assert details.command.startswith("scbench run cats --finetune toy --eval toy --limit 5 --odd")


def test_a_run_that_only_evaluates_shows_the_training_of_its_weights(tmp_path):
    trained = make_run(tmp_path, "trained", weights_sha256="w" * 64, **TOY)
    forward = make_run(tmp_path, "forward", weights_sha256="w" * 64, **TOY)
    log = "".join(json.dumps({"step": k, "loss": 1 / k, "validation_pck": k}) + "\n" for k in (1, 2, 3))
    (trained.folder / "log.jsonl").write_text(log)
    details = details_of(forward, [], [trained, forward])
    assert details.training.validation == ((1.0, 1.0), (2.0, 2.0), (3.0, 3.0))
    assert dict(details.facts)["Weights trained in"] == "trained"


def test_a_long_log_is_thinned_and_keeps_its_ends(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps({"step": k, "loss": 5.0 if k else 9.0}) + "\n" for k in range(5000)))
    loss = read_log(file).loss
    assert len(loss) <= 120
    assert loss[-1] == (4999.0, 5.0)
    assert loss[0][1] > 5.0
    assert not read_log(tmp_path / "none")


def test_protocols_stand_side_by_side_with_their_names(tmp_path):
    run = make_run(tmp_path, "r1", data=[("pf-willow", "test", 10)], draws=2, categories=("car(S)",))
    (table,) = details_of(FoundRun(run.folder, run.result), []).protocols
    labels = {row.protocol: row.label for row in table.rows}
    assert labels["bbox-kp/image"] == "strict"
    assert labels["bbox-padded@256/image"] == "paper, legacy"
    assert labels["img/point"] == ""
    assert table.alphas == (0.05, 0.1, 0.15)
    strict = next(row for row in table.rows if row.label == "strict")
    score = run.result.metrics["pf-willow"]["pck@0.1/bbox-kp/image"]
    assert strict.scores[1] == (score["value"], score["low"], score["high"])
