"""The ablations: what is compared with what, nothing done twice, other settings refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.report.ablation_table import (
    CASES,
    AblationTable,
    ablation_table,
    agreement,
    case_called,
    paper_figures,
    row_of,
    words,
)
from benchmark.report.ablations import Setting, options_of, run_ablations
from benchmark.report.contents import build_from
from benchmark.report.html import to_html
from benchmark.report.writers import to_markdown
from sc_imagenet.core.errors import InputError
from tests.benchmark.commands.test_score import scbench

OPTIONS = {
    **{"backbone": "resnet10t", "pretrained": False, "size": 64, "batch": 4, "warmup": 1, "views": 1},
    **{"candidates": 4, "pairs": 4, "network": {"attention_width": 16, "volume_width": 8, "fold": 2, "window": 3}},
}


def pck(*values):
    return {f"pck@{alpha}/bbox-kp/image": value for alpha, value in zip((0.05, 0.1, 0.15), values)}


def test_the_paper_s_figures_of_each_case():
    assert paper_figures(case_called("full")) == {0.05: 57.6, 0.1: 85.3}
    assert paper_figures(case_called("length-7"), "pf-pascal") == {0.05: 56.2, 0.1: 81.1}
    assert paper_figures(case_called("without-stages-2-3")) == {0.05: 55.2, 0.1: 83.0}
    assert paper_figures(case_called("full"), "toy") == paper_figures(case_called("trained-nearest")) == {}
    in_paper = [case.paper for case in CASES if case.paper]
    assert len(in_paper) == len(set(in_paper)) == 10  # Tables 4 and 5 without the three rows that repeat (I)


def test_a_case_is_the_full_model_with_one_thing_changed():
    base = {"size": 512, "network": {"fold": 2}}
    assert options_of(case_called("full"), base, 3) == {**base, "seed": 3}
    assert options_of(case_called("three-quarter-size"), base, 0)["size"] == 384
    assert options_of(case_called("without-hough"), base, 0)["network"] == {"fold": 2, "hough": False}


def test_directions_are_compared_seed_by_seed():
    full = {0: pck(40, 70, 80), 1: pck(44, 74, 84), 2: pck(42, 72, 82)}
    worse = {0: pck(39, 68, 80), 1: pck(44.5, 72, 84), 2: pck(41, 70.2, 82)}
    row = row_of(case_called("shared-attention"), worse, full)
    assert [score.value for score in row.scores] == pytest.approx([41.5, 70.0666, 82], abs=1e-3)
    near, far = row.changes
    assert near.measured.value == pytest.approx(-0.5)
    assert (near.paper, far.paper) == (pytest.approx(-4.0), pytest.approx(-6.8))
    assert (near.agrees, near.sure) == (True, False)
    assert (far.agrees, far.sure) == (True, True)
    assert agreement(row.changes) == "yes? / yes"
    better = {seed: pck(45, 80, 90) for seed in (0, 1)}
    assert agreement(row_of(case_called("without-saliency"), better, full).changes) == "no? / no?"
    one = row_of(case_called("length-3"), {1: pck(40, 70, 80)}, full)
    assert one.scores[0].low is None
    assert agreement(one.changes) == "yes? / yes?"  # one seed has no spread to lie beyond
    assert row_of(case_called("length-3"), {7: pck(40, 70, 80)}, full).changes == (None, None)
    assert agreement(row_of(case_called("full"), full, full).changes) == ""


def test_a_training_that_is_worse_than_none_fails_and_goes_nobodys_way():
    full, stage = {0: pck(40, 70, 80), 1: pck(42, 72, 82)}, {0: pck(30, 60, 80), 1: pck(31, 61, 82)}
    for untrained, expected in ((pck(20, 65, 70), "yes / fails"), (pck(20, 50, 70), "yes / yes")):
        others = {"untrained-region": {0: untrained}}
        row = row_of(case_called("without-stage-3"), stage, full, others=others)
        assert agreement(row.changes) == expected
    table = AblationTable("", "", (replace(row, changes=(replace(row.changes[0], fails=True), row.changes[1])),))
    assert table.verdict.startswith("1 of 1 directions agree")
    assert table.verdict.endswith("1 lie below the untrained network: they fail, and are not counted.")


def write(folder: Path, case: str, seed: int, *values: float) -> None:
    folder.joinpath("measured").mkdir(parents=True, exist_ok=True)
    content = {"case": case, "seed": seed, "pairs": 540, "metrics": pck(*values)}
    (folder / "measured" / f"{case}-{seed}.json").write_text(json.dumps(content))


def test_the_report_shows_measured_cases_and_the_commands_of_the_others(tmp_path):
    folder = tmp_path / "ablations"
    for seed in (0, 1):
        write(folder, "full", seed, 40, 70 + seed, 80)
        write(folder, "without-hough", seed, 30, 50 + seed, 60)
    settings = {"evaluate": "pf-willow", "limit": None, "max_steps": 30, "options": {"backbone": "b<", "size": 320}}
    (folder / "settings.json").write_text(json.dumps(settings))
    report = build_from(tmp_path)
    assert report.ablations.verdict.startswith("2 of 2 directions agree with the paper's; of the 2 beyond")
    row = next(row for row in report.ablations.rows if row.case == "without-hough")
    minus = "\N{MINUS SIGN}"
    assert words(row)[5:9] == (
        "56.1 / 84.0",
        f"{minus}10.0 / {minus}20.0",
        f"{minus}1.5 / {minus}1.3",
        "yes / yes",
    )
    page, markdown = to_html(report), to_markdown(report)
    for text in (page, markdown):
        assert "b&lt;, 320 px, 30 steps, measured on pf-willow, 540 of 900 pairs" in text
        assert f"scbench ablate PHOTOGRAPHS --out {folder} --only length-3" in text
        assert "--only without-hough" not in text
    (folder / "measured" / "full-1.json").write_text('{"case"')
    damaged = build_from(tmp_path)
    assert not damaged.ablations.measured
    assert "full-1.json" in damaged.problems[0]


def test_nothing_measured_leaves_every_row_with_its_command(tmp_path):
    table = ablation_table(tmp_path / "none")
    assert not table.measured
    assert len(table.rows) == len(CASES)
    assert "None measured yet" in to_markdown(build_from(tmp_path))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    root, draw = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir()
        for number in range(4):
            Image.fromarray(draw.integers(0, 255, (70, 70, 3), np.uint8)).save(root / name / f"{number}.png")
    return root


def test_cases_share_trainings_and_finished_ones_are_not_done_again(photographs, tmp_path):
    setting = Setting(photographs, tmp_path, OPTIONS, max_steps=1, evaluate="toy", limit=3)
    only = ("full", "trained-nearest", "untrained-nearest")
    run_ablations(setting, (0,), only)
    measured = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "measured").iterdir()}
    assert set(measured) == {f"{name}-0.json" for name in only}
    assert len(list((tmp_path / "trainings").iterdir())) == 1
    assert len(list((tmp_path / "features").glob("views-*"))) == 2  # a file a class
    run_ablations(setting, (0, 1), ("full",))
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "measured").iterdir()}
    assert {name: after[name] for name in measured} == measured
    assert set(after) - set(measured) == {"full-1.json"}
    table = ablation_table(tmp_path, only=only)
    assert [row.seeds for row in table.rows] == [1, 1, 2]
    assert table.about.endswith("measured on toy, 3 of 300 pairs")
    assert all(0 <= row.scores[1].value <= 100 for row in table.rows)
    with pytest.raises(InputError, match="holds ablations with other settings"):
        run_ablations(Setting(photographs, tmp_path, OPTIONS, max_steps=2, evaluate="toy", limit=3), (0,))


def test_measurements_of_other_photographs_are_not_mixed(photographs, tmp_path):
    root, out = tmp_path / "photographs", tmp_path / "out"
    shutil.copytree(photographs, root)
    setting = Setting(root, out, OPTIONS, max_steps=1, evaluate="toy", limit=3)
    run_ablations(setting, (0,), ("untrained-nearest",))
    Image.open(root / "a" / "1.png").rotate(90).save(root / "a" / "1.png")
    with pytest.raises(InputError, match=r"holds ablations with other settings \(trained on\)"):
        run_ablations(setting, (0,), ("untrained-nearest", "full"))
    content = json.loads((out / "settings.json").read_text())
    before = {name: value for name, value in content.items() if name not in ("trained on", "evaluated")}
    (out / "settings.json").write_text(json.dumps(before))  # as an earlier version wrote it
    run_ablations(setting, (0,), ("untrained-nearest",))


def test_a_case_that_fails_does_not_stop_the_others(photographs, tmp_path):
    setting = Setting(photographs, tmp_path, OPTIONS, max_steps=1, evaluate="toy", limit=3)
    blocked = tmp_path / "runs" / "untrained-nearest"
    blocked.parent.mkdir()
    blocked.write_text("a file where a folder must be")
    with pytest.raises(InputError, match=r"^untrained-nearest \(seed 0\): .*run again"):
        run_ablations(setting, (0,), ("untrained-nearest", "untrained-full"))
    assert [path.name for path in (tmp_path / "measured").iterdir()] == ["untrained-full-0.json"]


def test_mistakes_are_one_line(photographs, tmp_path):
    for seeds in ("three", "0"):
        done = scbench("ablate", photographs, "--out", tmp_path, "--seeds", seeds, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "neither a number of seeds nor a list" in done.stderr
    with pytest.raises(InputError, match="Did you mean 'full'"):
        run_ablations(Setting(photographs, tmp_path, OPTIONS), (0,), ("ful",))
    out = tmp_path / "out"
    with pytest.raises(InputError, match="no such folder of photographs"):
        run_ablations(Setting(tmp_path / "none", out, OPTIONS, evaluate="toy"), (0,))
    with pytest.raises(InputError, match="'test' of PF-WILLOW cannot be read"):
        run_ablations(Setting(photographs, out, OPTIONS, data_root=tmp_path), (0,))
    assert not out.exists()
