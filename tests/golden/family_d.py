"""Probe3D, OmniProbe and SOCO: a unit square, cells' top-left corners, recall by category."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmark.scoring import foreign, protocols
from benchmark.scoring.evaluation import distance, evaluate_predictions
from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocol import Protocol, Sample, patched_side
from sc_imagenet.geometry import map_points
from tests.golden.family_a import ap10k
from tests.golden.references import FRACTION, PIXELS, Arrays, Compared, all_of, beside, load
from tests.golden.synthetic import info, padded, spair

UNIT = ProtocolFrame("unit", 800)
FILES = ("probe3d", "omniprobe", "soco")


def compare(name: str, arrays: Arrays, root: Path) -> list[Compared]:
    inputs = ["target_cell_col_row", "grid", "crop_files", "soco_pairs_json", "soco_features_20x20"]
    inputs += [key for key in arrays if key.startswith("ap10k_") and key.endswith(("_pairs", "_cells"))]
    if name == "soco":
        return all_of(arrays, _soco_script(arrays), inputs)
    found = [*_recall(name, arrays, root), *_readout(arrays, root)]
    if name == "probe3d":
        found += _cropped(arrays, root)
        found.append(
            beside("shuffle_of_37_seed_20", Sample("shuffle", 200, 20).rows(37), arrays["shuffle_of_37_seed_20"])
        )
    else:
        sizes = [[side, patch, patched_side(side, patch)] for side, patch, _ in arrays["effective_size"].tolist()]
        found.append(beside("effective_size", sizes, arrays["effective_size"]))
        found += [*_ap10k(arrays, root), *_soco(arrays), *_line(arrays, root)]
    return all_of(arrays, found, inputs)


def _recall(name: str, arrays: Arrays, root: Path) -> Iterator[Compared]:
    protocol = protocols.protocol_named(name).for_data("spair-71k")
    cells = arrays["target_cell_col_row"].astype(np.float32) / np.float32(arrays["grid"])
    predictions = replace(spair(root, "original", cells), frame=ProtocolFrame("unit", 800))
    ours = evaluate_predictions(predictions, protocol)
    names = np.unique(ours.categories).tolist()
    yield beside("categories", names, arrays["categories"])
    files = predictions.pair_ids
    for category in names:
        rows = np.flatnonzero(predictions.categories == category)
        order = files[rows][protocol.sample.rows(len(rows))]
        yield beside(f"order_{category}", order, arrays[f"order_{category}"])
    yield from _points_800(arrays, predictions, protocol, "")
    yield beside("threshold_scale", ours.threshold, arrays["threshold_scale"], FRACTION)
    ratio = np.full(len(predictions.true), np.nan)
    ratio[ours.rows] = ours.error / ours.threshold[ours.owner].astype(np.float32)
    yield beside("error_over_scale", padded(predictions, ratio, 30), arrays["error_over_scale"], FRACTION)
    nearest = padded(predictions, _nearest_visible(predictions, protocol), 30, -1)
    yield beside("nearest_visible_target_id", nearest, arrays["nearest_visible_target_id"])
    table = np.full((len(names), 4), -1.0)
    views = predictions.grades[:, 0]
    for column, view in enumerate((0, 1, 2, None)):
        part = ours if view is None else ours.where(pairs=views == view)
        for category, value in part.by_category("point").items():
            table[names.index(category), column] = 100 * value[0]
    yield beside("recall_by_category_view012all", table, arrays["recall_by_category_view012all"], 1e-5)
    averages = [column[column >= 0].mean() for column in table.T]
    yield beside("average_view012all", averages, arrays["average_view012all"], 1e-5)


def _points_800(arrays: Arrays, predictions: Predictions, protocol: Protocol, prefix: str) -> Iterator[Compared]:
    for name, points, sizes, visible in (
        ("source_points", predictions.other, predictions.other_sizes, predictions.other_visible),
        ("target_points", predictions.true, predictions.sizes, predictions.true_visible),
    ):
        placed = np.round(protocol.frame.place(points, sizes[predictions.owner]) * 800)
        values = np.column_stack([placed, np.ones(len(placed))]) * visible[:, None]
        key = f"{prefix}{name}" if prefix else f"{name}_800"
        yield beside(key, padded(predictions, values, 30, 0), arrays[key])


def _nearest_visible(predictions: Predictions, protocol: Protocol) -> np.ndarray:
    """The id of the visible target nearest to each mutual point's prediction, -1 elsewhere."""
    found = np.full(len(predictions.ids), -1)
    placed = protocol.frame.place(predictions.true, predictions.sizes[predictions.owner])
    for row in range(len(predictions)):
        points = np.flatnonzero((predictions.owner == row) & predictions.mutual)
        shown = np.flatnonzero((predictions.owner == row) & predictions.true_visible)
        said = predictions.predicted[points].astype(np.float32)
        apart = distance(said[:, None], placed[shown][None])
        found[points] = predictions.ids[shown][apart.argmin(axis=1)]
    return found


def _unit_readout(source: np.ndarray, target: np.ndarray, points: np.ndarray, soft: int | None = None) -> np.ndarray:
    """Predictions in the unit square for query points in it; features are normalised."""
    grid = source.shape[2]
    vectors = map_points.sample(map_points.unit_vectors(source), points * np.float32(grid - 1))
    maps = map_points.similarity_maps(vectors, map_points.unit_vectors(target))
    cells = map_points.nearest(maps) if soft is None else map_points.inner_soft_argmax(maps, soft)
    return cells.astype(np.float32) / np.float32(grid)


def _readout(arrays: Arrays, root: Path) -> Iterator[Compared]:
    small = load("small_synth", root)
    predictions = spair(root, "original", np.zeros((16, 30, 2)), "small_synth")
    frame = protocols.protocol_named("probe3d").frame
    placed = frame.place(predictions.other, predictions.other_sizes[predictions.owner])
    for key in [key for key in arrays if key.startswith("readout_")]:
        theirs = arrays[key]
        soft = {"readout_soft_7": 7, "readout_soft_2": 2, "readout_soft_0": 0, "readout_soft_m5": -5}.get(key)
        ours = np.full(theirs.shape, np.nan)
        queries = padded(predictions, placed * predictions.other_visible[:, None], 30, 0).astype(np.float32)
        for row in range(len(predictions)):  # an invisible point asks at (0, 0)
            features = [small["features_20x20_corner"][small[side][row]] for side in ("pair_source", "pair_target")]
            ours[row] = _unit_readout(*features, queries[row], soft)
        yield beside(key, ours, theirs, FRACTION if soft is None else PIXELS / 100)


def _cropped(arrays: Arrays, root: Path) -> Iterator[Compared]:
    """Images cropped to their boxes first."""
    predictions = spair(root, "original")
    rows = np.array([predictions.pair_ids.tolist().index(name) for name in arrays["crop_files"].tolist()])
    part = predictions.take(rows)
    owner = part.owner
    cropped = replace(
        part,
        true=part.true - part.boxes[owner, :2],
        other=part.other - part.other_boxes[owner, :2],
        sizes=part.boxes[:, 2:] - part.boxes[:, :2],
        other_sizes=part.other_boxes[:, 2:] - part.other_boxes[:, :2],
    )
    yield from _points_800(arrays, cropped, protocols.protocol_named("probe3d"), "crop_")
    yield beside("crop_scale", np.ones(len(rows)), arrays["crop_scale"])


def _ap10k(arrays: Arrays, root: Path) -> Iterator[Compared]:
    golden = load("geoaware", root)
    protocol = protocols.protocol_named("omniprobe").for_data("ap-10k")
    for subset in ("intra-species", "cross-species", "cross-family"):
        prefix = f"ap10k_{subset}_"
        cells = arrays[f"{prefix}cells"] / np.float32(50)
        pairs = [name.replace("-", "|", 1).replace(":", "|") for name in arrays[f"{prefix}pairs"].tolist()]
        changed = {**golden, f"ap10k_{subset}_pairs": np.array(pairs), f"ap10k_{subset}_prediction_letterbox840": cells}
        loaded = ap10k(changed, subset, str(protocol.frame), halved=False)
        levels = _levels(golden, pairs)
        predictions = replace(loaded, true_visible=levels[1].ravel() == 1, other_visible=levels[0].ravel() == 1)
        ours = evaluate_predictions(predictions, protocol)
        category = {name: 100 * value[0] for name, value in ours.by_category("point").items()}
        names = arrays[f"{prefix}categories"].tolist()
        yield beside(f"{prefix}categories", sorted(category), names)
        yield beside(f"{prefix}recall", [category.get(name, 0) for name in names], arrays[f"{prefix}recall"], 1e-5)
        yield beside(f"{prefix}average", 100 * ours.value("macro-point")[0], arrays[f"{prefix}average"], 1e-5)
        for side, points, sizes in ((0, loaded.other, loaded.other_sizes), (1, loaded.true, loaded.sizes)):
            placed = protocol.frame.place(points, sizes[loaded.owner]).reshape(-1, 17, 2)
            level = levels[side][..., None]
            values = np.concatenate([placed * (level > 0), level], axis=2)
            key = f"{prefix}{('source', 'target')[side]}_points"
            yield beside(key, values, arrays[key], FRACTION)
        yield beside(f"{prefix}scale", ours.threshold, arrays[f"{prefix}scale"], FRACTION)


def _levels(golden: Arrays, pairs: list[str]) -> list[np.ndarray]:
    """Half of COCO's visibility, (N, 17), of both sides."""
    rows = {int(row[1]): row[8:].reshape(17, 3)[:, 2] / 2 for row in golden["ap10k_annotations"][::-1]}
    return [np.array([rows[int(pair.split("|")[side])] for pair in pairs]) for side in (0, 1)]


def _line(arrays: Arrays, root: Path) -> Iterator[Compared]:
    """A line of OmniProbe's JSON: its points and scale are ours of the pair it names."""
    line = json.loads(str(arrays["json_line"]))
    predictions = spair(root, "original", np.zeros((16, 30, 2)), "small_synth")
    row = [Path(name).name.split(":")[0] for name in predictions.pair_ids.tolist()].index(
        line["meta"]["pair_filename"].split(":")[0].removesuffix(".json")
    )
    protocol = protocols.protocol_named("omniprobe").for_data("spair-71k")
    part = predictions.take(np.array([row]))
    theirs, ours = [line["thresh_scale"]], [evaluate_predictions(part, protocol).threshold[0]]
    for key, points, sizes, visible in (
        ("gt_src", part.other, part.other_sizes, part.other_visible),
        ("gt_trg", part.true, part.sizes, part.true_visible),
    ):
        values = np.column_stack([protocol.frame.place(points, sizes[part.owner]), np.ones(len(points))])
        whole = np.zeros((30, 3))
        whole[part.ids] = values * visible[:, None]
        given = np.zeros((30, 3))
        given[: len(line[key])] = line[key]
        theirs += given.ravel().tolist()
        ours += whole.ravel().tolist()
    yield beside("json_line", ours, theirs, FRACTION)


def _rows(arrays: Arrays, group: str) -> list[dict]:
    return [pair for kind, pair in json.loads(str(arrays["soco_pairs_json"])) if kind == group]


def _soco_predictions(arrays: Arrays, pairs: list[dict]) -> list[np.ndarray]:
    """What the read-out says for every source keypoint, in the unit square."""
    features = arrays["soco_features_20x20"]
    names = sorted({pair[side] for pair in json_pairs(arrays) for side in ("src_image", "trg_image")})
    number = {name: row for row, name in enumerate(names)}
    frame = protocols.protocol_named("soco").frame
    found = []
    for pair in pairs:
        points = np.array([each["pos"] for each in pair["src_keypoints"]], float)
        placed = frame.place(points, np.repeat([pair["src_imsize"]], len(points), axis=0))
        source, target = (features[number[pair[side]]] for side in ("src_image", "trg_image"))
        found.append(_unit_readout(source, target, placed))
    return found


def json_pairs(arrays: Arrays) -> list[dict]:
    return [pair for _, pair in json.loads(str(arrays["soco_pairs_json"]))]


def _soco(arrays: Arrays) -> Iterator[Compared]:
    protocol = replace(protocols.protocol_named("omniprobe").for_data("soco"), averages=("macro-image", "macro-point"))
    for group in ("intra", "cross"):
        pairs = _rows(arrays, group)
        records = json.loads(str(arrays[f"soco_{group}_records_json"]))
        said = _soco_predictions(arrays, pairs)
        ours_said = np.concatenate(said)
        theirs_said = np.concatenate([np.array(record["pred"]) for record in records])
        scales = [record["thresh_scale"] for record in records]
        both = {
            kind: evaluate_predictions(foreign.soco_predictions(pairs, said, kind, UNIT, info("soco")), protocol)
            for kind in foreign.SOCO_KINDS
        }
        ours = [*ours_said.ravel(), *both["concept"].threshold]
        yield beside(f"soco_{group}_records_json", ours, [*theirs_said.ravel(), *scales], FRACTION)
        for reduction, average in (("pair", "image"), ("keypoint", "point")):
            key = f"soco_{group}_{reduction}_category_semantic_concept"
            table = np.column_stack(
                [[100 * value[0] for value in both[kind].by_category(average).values()] for kind in foreign.SOCO_KINDS]
            )
            yield beside(key, table, arrays[key], 1e-5)
            means = [100 * both[kind].value(f"macro-{average}")[0] for kind in foreign.SOCO_KINDS]
            yield beside(f"soco_{group}_{reduction}_mean", means, arrays[f"soco_{group}_{reduction}_mean"], 1e-5)


def _soco_script(arrays: Arrays) -> Iterator[Compared]:
    protocol = protocols.protocol_named("soco").for_data("soco")
    for group in ("intra", "cross"):
        pairs = _rows(arrays, group)
        said = _soco_predictions(arrays, pairs)
        theirs = [np.array(each) for each in json.loads(str(arrays[f"{group}_predictions_unit_json"]))]
        yield beside(f"{group}_predictions_unit_json", np.concatenate(said), np.concatenate(theirs), FRACTION)
        both = {
            kind: evaluate_predictions(foreign.soco_predictions(pairs, said, kind, UNIT, info("soco")), protocol)
            for kind in foreign.SOCO_KINDS
        }
        rows = json.loads(str(arrays[f"{group}_rows_json"]))
        ours = [
            [100 * both[kind].shares[row, 0] for kind in foreign.SOCO_KINDS]
            + [both[kind].counts[row] for kind in foreign.SOCO_KINDS]
            for row in range(len(rows))
        ]
        names = ("semantic_pck", "concept_pck", "semantic_keypoints", "concept_keypoints")
        yield beside(f"{group}_rows_json", ours, [[row[name] for name in names] for row in rows], 1e-5)
        result = json.loads(str(arrays[f"{group}_result_json"]))
        listed = [result["overall"][name] for name in ("semantic_pck", "concept_pck")]
        mine = [100 * both[kind].value("macro-image")[0] for kind in foreign.SOCO_KINDS]
        for category, values in result["per_category"].items():
            listed += [values[name] for name in names]
            for kind in foreign.SOCO_KINDS:
                mine.append(100 * both[kind].by_category("image")[category][0])
            mine += [
                int(both[kind].where(pairs=both[kind].categories == category).counts.sum())
                for kind in foreign.SOCO_KINDS
            ]
        yield beside(f"{group}_result_json", mine, listed, 1e-5)
