"""The qualitative figure: which runs and pairs are shown, and what is said where images are not at hand."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from benchmark.report.contents import build
from benchmark.report.pictures import baseline_of, figures
from tests.benchmark.runs import make_run

PAIRS = [f"{number:06d}-a{number}-b{number}:cat" for number in range(7)]
DATA = {"data": [("spair-71k", "validation", len(PAIRS))], "pair_ids": PAIRS}


def made_root(root, size=(200, 150)):
    """A data root with the pairs of ``PAIRS`` in SPair-71k's layout."""
    folder = root / "spair-71k"
    (folder / "Layout" / "large").mkdir(parents=True)
    (folder / "Layout" / "large" / "val.txt").write_text("\n".join(PAIRS) + "\n")
    (folder / "PairAnnotation" / "val").mkdir(parents=True)
    images = folder / "JPEGImages" / "cat"
    images.mkdir(parents=True)
    for number in range(len(PAIRS)):
        for name, colour in (("a", (200, 180, 90)), ("b", (90, 120, 180))):
            Image.new("RGB", size, colour).save(images / f"{name}{number}.jpg")
    return root


def two_runs(runs):
    floor = make_run(runs, "floor", model="nearest", finetune=None, supervision="none", noise=40, **DATA)
    ours = make_run(runs, "ours", model="dhpf", noise=8, **DATA)
    return [floor, ours]


def test_best_median_and_worst_gain_over_the_baseline_are_drawn_under_both_runs(tmp_path):
    report = build(two_runs(tmp_path / "runs"))
    (figure,) = figures(report, made_root(tmp_path / "data"))
    assert (figure.baseline.run, figure.compared.run) == ("floor", "ours")
    assert figure.reason == "untrained nearest neighbours"
    assert [shown.kind for shown in figure.shown] == ["best gain", "median gain", "worst gain"]
    gains = [shown.gain for shown in figure.shown]
    assert gains == sorted(gains, reverse=True)
    assert len({shown.pair_id for shown in figure.shown}) == 3
    assert figure.note == ""
    for shown in figure.shown:
        for uri in shown.pictures:
            kind, _, data = uri.partition(",")
            assert kind == "data:image/webp;base64"
            picture = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
            assert picture.width > 2 * picture.height * 0.9
    # The better run's best pair is all green, the truth crossed on its own dots: green ink, no red.
    best = Image.open(io.BytesIO(base64.b64decode(figure.shown[0].pictures[1].partition(",")[2]))).convert("RGB")
    ink = np.asarray(best).astype(int)
    green = ((ink[..., 1] - ink[..., 0] > 90) & (ink[..., 1] > 120)).sum()
    red = ((ink[..., 0] - ink[..., 1] > 120) & (ink[..., 0] > 180)).sum()
    assert green > 50 or figure.shown[0].compared < 100
    assert (red == 0) == (figure.shown[0].compared == 100)


@pytest.mark.parametrize(
    ("root", "says"),
    [
        ("nothing", "no such folder"),
        ("other-size", "another size than when it was predicted"),
        ("hole", "no such image"),
    ],
)
def test_without_the_right_images_the_pairs_are_named_and_the_reason_given(tmp_path, root, says):
    data = tmp_path / root
    if root == "other-size":
        made_root(data, (100, 100))
    if root == "hole":
        for image in (made_root(data) / "spair-71k" / "JPEGImages" / "cat").iterdir():
            image.unlink()
    (figure,) = figures(build(two_runs(tmp_path / "runs")), data)
    assert says in figure.note
    assert len(figure.shown) == 3
    assert all(shown.pictures == ("", "") for shown in figure.shown)


def test_one_run_or_deleted_predictions_make_no_figure(tmp_path):
    floor, ours = two_runs(tmp_path)
    assert figures(build([ours]), tmp_path) == (None,)
    next((floor.folder / "predictions").iterdir()).unlink()
    report = build([floor, ours])
    assert figures(report, tmp_path) == (None,)
    of_ours, (problem,) = (run.problems for run in report.details)
    assert of_ours == ()
    assert "the predictions were deleted: no pictures for spair-71k:validation" in problem  # its curve was stored
    (floor.folder / "curves.json").unlink()
    (problem,) = build([floor, ours]).details[1].problems
    assert "the predictions were deleted: no curve and no pictures for spair-71k:validation" in problem


def test_the_baseline_is_the_twin_without_pre_training_then_untrained_then_the_weakest(tmp_path):
    toy = {"data": [("toy", "test", 12)], "draws": 2, "model": "cats"}
    made = {
        "best": make_run(tmp_path, "best", noise=2, pretrain="sc-imagenet", seed=3, **toy),
        "twin-other-seed": make_run(tmp_path, "twin-other-seed", noise=12, seed=1, **toy),
        "twin": make_run(tmp_path, "twin", noise=14, seed=3, **toy),
        "untrained": make_run(tmp_path, "untrained", noise=50, finetune=None, **toy),
        "weakest": make_run(tmp_path, "weakest", noise=90, finetune="pf-pascal", **toy),
    }

    def chosen(*names):
        entry, reason = baseline_of(build([made[name] for name in ("best", *names)]).leaderboards[0].entries)
        return entry.result.run, reason

    assert chosen("twin-other-seed", "twin", "untrained", "weakest") == ("twin", "the same model without pre-training")
    assert chosen("twin-other-seed", "untrained") == ("twin-other-seed", "the same model without pre-training")
    assert chosen("untrained", "weakest") == ("untrained", "an untrained model")
    assert chosen("weakest") == ("weakest", "the weakest run")
    entries = build([made["twin"], made["twin-other-seed"]]).leaderboards[0].entries
    assert baseline_of(entries)[1] == "the same with another seed"
