"""The metric object, and what permuting, splitting, merging, hiding and scaling must and must not change."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.scoring import protocol
from benchmark.scoring.bootstrap import scores
from benchmark.scoring.evaluation import pair_thresholds
from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.metric import PCK
from benchmark.scoring.predictions import predictions_of_pairs
from benchmark.scoring.protocols import ALL
from benchmark.scoring.readouts import average_precision, jamais_vu_kap, kap_quantities, visibility_aware_kap
from sc_imagenet.core.errors import InputError
from tests.scoring.made import pairs

NAMES = [str(each) for each in ALL]
DATASET = "spair-71k"
KNOWN_OF_ANY = ("pair_id", "category", "target_points", "predicted_points", "target_size", "target_bbox")
seeds = st.integers(0, 10_000)


def metric_of(rows, protocols=NAMES, **options):
    metric = PCK(protocols, dataset=DATASET, model="cats", **options)
    for row in rows:
        metric.update(**row)
    return metric


def values(scores):
    return {(p, name): (each.value, each.low, each.high) for p, found in scores.items() for name, each in found.items()}


def same(one, two, **tolerance):
    one, two = values(one), values(two)
    assert one.keys() == two.keys()
    np.testing.assert_allclose(list(one.values()), list(two.values()), **tolerance or {"rtol": 0, "atol": 0})


@settings(max_examples=8, deadline=None)
@given(seeds)
def test_the_order_of_pairs_changes_nothing(seed):
    rows = pairs(seed=seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    details = ("subsets", "errors", "geco", "groups")
    one = metric_of(rows).compute(50, details=details)
    same(one, metric_of([rows[row] for row in order]).compute(50, details=details))


@settings(max_examples=8, deadline=None)
@given(seeds, st.integers(1, 5))
def test_pairs_split_over_processes_and_merged_score_as_one(seed, processes):
    rows = pairs(seed=seed)
    whole = metric_of(rows).compute(50)
    parts = [metric_of(rows[rank::processes]) for rank in range(processes)]
    merged = PCK(NAMES, dataset=DATASET, model="cats")
    for part in parts:
        merged.merge(pickle.loads(pickle.dumps(part)))  # as processes hand it over
    same(whole, merged.compute(50))


def test_a_pair_that_two_processes_were_given_counts_once():
    rows = pairs()
    metric = metric_of(rows)
    metric.merge(metric_of(rows[:3]))
    same(metric_of(rows).compute(20), metric.compute(20))
    moved = {**rows[0], "predicted_points": rows[0]["predicted_points"] + 1}
    metric.update(**moved)
    with pytest.raises(InputError, match=r"pair-0000 is there twice, with different points"):
        metric.compute(20)


@settings(max_examples=8, deadline=None)
@given(seeds, st.integers(1, 6))
def test_points_that_no_image_shows_change_nothing(seed, more):
    rows = pairs(seed=seed)
    random = np.random.default_rng(seed)

    def with_hidden(row):
        hidden = {
            name: np.concatenate([row[name], random.random((more, 2)) * 900])
            for name in ("source_points", "target_points", "predicted_points")
        }
        flags = {
            name: np.concatenate([row[name], np.zeros(more, bool)]) for name in ("source_visible", "target_visible")
        }
        return {**row, **hidden, **flags, "ids": np.arange(len(row["ids"]) + more) * 1}

    details = ("errors", "geco", "subsets", "keypoints")
    same(metric_of(rows).compute(20, details=details), metric_of(map(with_hidden, rows)).compute(20, details=details))


@settings(max_examples=8, deadline=None)
@given(seeds, st.sampled_from([2, 4, 8]))
def test_scaling_images_with_all_that_is_in_them_changes_only_what_counts_pixels(seed, factor):
    rows = pairs(seed=seed)
    places = ("source_points", "target_points", "predicted_points", "source_size", "target_size", "source_bbox",
              "target_bbox")  # fmt: skip
    scaled = [{**row, **{name: np.multiply(row[name], factor) for name in places}} for row in rows]
    pixels = {"visual-ai", "probe3d", "omniprobe", "soco", "paper-2021", "distilldift-train"}  # corners, whole pixels
    free = [name for name in NAMES if name.split("@")[0] not in pixels]
    same(metric_of(rows, free).compute(20), metric_of(scaled, free).compute(20), rtol=0, atol=1e-6)


def test_lists_arrays_tensors_and_batches_are_read_alike():
    import torch

    rows = pairs(6)
    direct = metric_of(rows).compute(20)
    as_lists = [{name: v.tolist() if hasattr(v, "tolist") else v for name, v in row.items()} for row in rows]
    same(direct, metric_of(as_lists).compute(20))
    as_tensors = [
        {name: torch.tensor(v) if isinstance(v, np.ndarray) else v for name, v in row.items()} for row in rows
    ]
    same(direct, metric_of(as_tensors).compute(20))
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    batch["predicted_points"] = torch.tensor(np.stack(batch["predicted_points"]))
    metric = PCK(NAMES, dataset=DATASET, model="cats")
    metric.update(**batch)
    same(direct, metric.compute(20))


def test_predictions_in_a_protocols_own_frame_score_as_those_in_pixels():
    rows = pairs()
    frame = ProtocolFrame.parse("letterbox-840")
    native = [
        {**row, "predicted_points": frame.carry(row["predicted_points"], np.tile(row["target_size"], (9, 1)))}
        for row in rows
    ]
    same(metric_of(rows).compute(20), metric_of(native, frame="letterbox-840").compute(20), rtol=0, atol=1e-6)


def test_reset_forgets_and_an_empty_metric_says_so():
    metric = metric_of(pairs())
    metric.reset()
    with pytest.raises(InputError, match=r"no pair was handed to the metric\. Call update before compute"):
        metric.compute()


def test_kinds_of_error_sum_to_all_points():
    found = metric_of(pairs(noise=60), ["strict@1"]).compute(0, details=["errors"])["strict@1"]
    for alpha in (0.05, 0.1, 0.15):
        shares = [
            found[f"{kind}@{alpha:g}/point"].value for kind in ("hit", "swap", "other part", "near", "background")
        ]
        assert sum(shares) == pytest.approx(100)
        assert shares[0] == found[f"pck@{alpha:g}/point"].value


def test_a_left_eye_on_the_right_one_is_a_swap_and_on_the_nose_another_part():
    eyes_and_nose = [(100, 100), (200, 100), (150, 150)]
    pair = {
        "category": "cat",
        "ids": [4, 5, 8],
        "target_size": (400, 400),
        "target_bbox": (0, 0, 200, 200),
        "target_points": eyes_and_nose,
        "predicted_points": [(200, 100), (150, 150), (150, 180)],
    }
    found = metric_of([pair], ["strict@1"]).compute(0, details=["errors"])["strict@1"]
    shares = {kind: found[f"{kind}@0.1/point"].value for kind in ("hit", "swap", "other part", "near", "background")}
    assert shares == pytest.approx({"hit": 0, "swap": 100 / 3, "other part": 100 / 3, "near": 100 / 3, "background": 0})


def test_partners_that_a_data_set_tells_make_swaps_and_published_tables_are_of_their_own_data_set():
    eyes = [(100, 100), (200, 100)]
    pair = {
        "category": "cat",
        "ids": [4, 5],
        "target_size": (400, 400),
        "target_points": eyes,
        "predicted_points": eyes[::-1],
    }
    metric = PCK("strict@1", dataset="toy")
    metric.update(**pair)
    assert "swap@0.1/point" not in metric.compute(0, details=["errors"])["strict@1"]
    assert metric.compute(0, details=["errors"])["strict@1"]["other part@0.1/point"].value == 100
    metric.reset()
    metric.update(**pair, symmetric_ids=[5, 4])
    assert metric.compute(0, details=["errors"])["strict@1"]["swap@0.1/point"].value == 100


def test_several_valid_targets_count_by_the_nearest():
    pair = {
        "target_size": (400, 400),
        "target_bbox": (0, 0, 100, 100),
        "target_points": [(10, 10), (50, 50)],
        "further_targets": [[(300, 300), (200, 200)], []],
        "predicted_points": [(202, 200), (300, 300)],
    }
    assert metric_of([pair], ["strict@1"]).compute(0).headline("strict@1").value == 50


def test_a_metric_that_cannot_know_its_threshold_says_so_before_the_loop():
    with pytest.raises(InputError, match=r"strict@1 takes the threshold of the data set\. Say which"):
        PCK("strict@1")
    with pytest.raises(InputError, match=r"paper-2021@1 is what a model's authors did\. Say which model"):
        PCK("paper-2021@1", dataset=DATASET)


def test_a_protocol_without_its_boxes_is_left_out_and_the_others_stay():
    rows = [{k: v for k, v in row.items() if "bbox" not in k} for row in pairs()]
    scores = metric_of(rows, ["geco@1", "dift@1"]).compute(0)
    assert list(scores) == ["geco@1"]
    assert "dift@1 needs object boxes" in scores.left_out["dift@1"]


def test_entries_that_do_not_fit_name_the_pair():
    row = pairs(1)[0]
    cases = {
        "predicted_points": (
            row["predicted_points"][:3],
            r"pair pair-0000: has predicted_points of shape 3 x 2, not 9 x 2",
        ),
        "target_size": (None, r"has no target_size"),
        "ids": (["a"] * 9, r"has ids that are no numbers"),
        "keypoints": (1, r"has 'keypoints', which is not an entry of a pair"),
    }
    for name, (value, message) in cases.items():
        with pytest.raises(InputError, match=message):
            PCK("dift@1").update(**{**row, name: value})
    nan = row["predicted_points"].copy()
    nan[0] = np.nan
    with pytest.raises(InputError, match="has predicted_points that are not finite"):
        PCK("dift@1").update(**{**row, "predicted_points": nan})


def test_importing_the_scores_imports_nothing_heavy():
    code = (
        "import sys; import benchmark.scoring\n"
        "heavy = {'torch', 'datasets', 'pandas', 'scipy', 'transformers', 'timm', 'PIL', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_states_all_that_decides_a_score(name):
    facts = protocol(name).facts()
    assert {
        "frame",
        "true points",
        "threshold d",
        "comparison",
        "alphas",
        "points",
        "averages",
        "pairs",
        "printed",
    } <= set(facts)


def test_wide_images_show_what_the_y_scale_alone_is_worth():
    """DistillDIFT as released against its correction: d = d_box * 840 / H is far too large for wide images."""
    random = np.random.default_rng(1)
    rows = []
    for row in range(200):
        width, height = (500, 250) if row % 2 else (500, 333)
        true = random.random((8, 2)) * (width, height)
        rows.append(
            {
                "pair_id": f"{row:03d}",
                "category": "bus",
                "target_size": (width, height),
                "target_bbox": (0, 0, 300, 150),
                "target_points": true,
                "predicted_points": true + random.normal(0, 14, true.shape),
            }
        )
    scores = metric_of(rows, ["distilldift@1", "distilldift@2", "strict@1"]).compute(0)
    released, corrected, ours = (scores.headline(name).value for name in scores)
    assert released > corrected + 3
    thresholds = [protocol(name).for_data(DATASET) for name in ("distilldift@1", "distilldift@2")]
    d = [pair_thresholds(predictions_of_pairs(rows[1:2]), each)[0] for each in thresholds]
    assert d == [300 * 840 / 250, 300 * 840 / 500]
    assert ours > 0


def test_the_example_is_thirty_lines_and_ends_in_a_row_of_a_table():
    example = Path(__file__).parents[2] / "examples" / "score_my_loop.py"
    text = example.read_text()
    assert len(text.splitlines()) <= 32
    assert re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE) == ["numpy", "benchmark"]
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"Mine & \d+\.\d & \d+\.\d & \d+\.\d \\\\", done.stdout.splitlines()[-1])


def test_what_details_lack_is_said():
    rows = pairs()
    assert metric_of(rows, ["strict@1"]).compute(0, details=["geco", "subsets"]).notes == ()
    mutual = [{k: v for k, v in row.items() if not k.endswith("visible")} for row in rows]
    (note,) = metric_of(mutual, ["strict@1"]).compute(0, details=["geco", "subsets"]).notes
    assert note.startswith("geco: only points that both images show are here; classes 01 and 00 need")
    nameless = [{k: v for k, v in row.items() if k in KNOWN_OF_ANY} for row in rows]
    notes = metric_of(nameless, ["strict@1"]).compute(0, details=["geco", "keypoints", "groups"]).notes
    assert notes[0].startswith("keypoints, geco: these predictions have no keypoint ids")
    assert notes[1] == "groups: these predictions have neither grades nor azimuths"


def test_geco_shares_of_classes_sum_to_all_source_visible_points():
    found = metric_of(pairs(), ["geco@1"]).compute(0, details=["geco"])["geco@1"]
    shares = {name: found[f"geco share_{name}@0.1"].value for name in ("10", "01", "11", "00", "1x")}
    assert sum(shares.values()) == pytest.approx(100)
    assert min(shares.values()) > 0


def test_what_is_predicted_for_points_that_one_image_alone_shows_changes_no_hit_of_pck_dagger():
    rows = pairs()
    lost, hidden = [], 0
    for row in rows:
        mutual = (np.asarray(row["source_visible"]) & np.asarray(row["target_visible"])).astype(bool)
        hidden += int((~mutual).sum())
        lost.append({**row, "predicted_points": np.where(mutual[:, None], row["predicted_points"], np.nan)})
    assert hidden > 20
    same(metric_of(rows, ["jamais-vu-dagger@1"]).compute(20), metric_of(lost, ["jamais-vu-dagger@1"]).compute(20))


def test_keypoint_average_precision_differs_by_whether_hidden_points_are_positives():
    within, beyond, visible = np.array([0.6, 0.8]), np.array([0.5, 0.7]), np.array([True, False])
    # As released both are positives: 0.8 right, 0.7 wrong, 0.6 right, 0.5 wrong.
    assert average_precision(*jamais_vu_kap(within, beyond)) == pytest.approx((1 + 2 / 3) / 2)
    # As the text has it the hidden point's best, 0.8, is wrong and ahead of the only positive, 0.6.
    assert average_precision(*visibility_aware_kap(within, beyond, visible)) == 0.5
    (quantity,) = kap_quantities(np.array([[0.5], [1.0]]), [0.1])
    found = scores([quantity], np.array(["cat", "cat"]), draws=200)["kap@0.1/image"]
    assert (found.low, found.value, found.high) == (50, 75, 100)
