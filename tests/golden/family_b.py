"""SD4Match's evaluator and those made from it: sd4match, visual_ai, marco."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmark.scoring import protocols
from benchmark.scoring.evaluation import Evaluation, evaluate_predictions
from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocol import Protocol
from sc_imagenet.geometry import map_points
from tests.golden.family_a import ap10k
from tests.golden.references import FRACTION, PIXELS, Arrays, Compared, all_of, beside, load
from tests.golden.synthetic import info, spair

FILES = ("sd4match", "visual_ai", "marco")
FRAMES = {"sd4match": "stretch-768", "visual_ai": "corner-aligned-840", "marco": "stretch-770"}


def compare(name: str, arrays: Arrays, root: Path) -> list[Compared]:
    protocol = protocols.protocol_named(name).for_data("spair-71k")
    predictions = spair(root, FRAMES[name])
    ours = evaluate_predictions(predictions, protocol)
    found = [beside("alphas", protocol.alphas, arrays["alphas"])]
    inputs = ["readout_rows", "readout_query"]
    if name == "marco":
        found += _scores(arrays, ours, "spair_")
        found += _placed(arrays, predictions, protocol, "spair_")
        found += [*_marco(arrays, root), *_marco_readout(arrays, root)]
        inputs += [key for key in arrays if key.endswith(("_prediction", "_pairs", "_json"))]
    else:
        found += _placed(arrays, predictions, protocol, "")
        found.append(beside("threshold", ours.threshold, arrays["threshold"], PIXELS))
        found.append(beside("count", ours.counts, arrays["count"]))
        found.append(beside("per_pair", ours.shares, arrays["per_pair"], FRACTION))
        found.append(beside("categories", np.unique(ours.categories), arrays["categories"]))
        for average in ("image", "point"):
            found.append(beside(f"{average}_all", ours.value(average), arrays[f"{average}_all"], FRACTION))
            each = list(ours.by_category(average).values())
            found.append(beside(f"{average}_category", each, arrays[f"{average}_category"], FRACTION))
        found += _readouts(arrays, root, protocol)
    return all_of(arrays, found, inputs)


def _placed(arrays: Arrays, predictions: Predictions, protocol: Protocol, prefix: str) -> Iterator[Compared]:
    """The mutual points after clamping, in id order, padded."""
    mutual = predictions.where(predictions.mutual)
    owner = mutual.owner
    place = np.arange(len(owner)) - mutual.offsets[:-1][owner]
    for name, points, sizes in (
        ("source_points", mutual.other, mutual.other_sizes),
        ("target_points", mutual.true, mutual.sizes),
    ):
        theirs = arrays[f"{prefix}{name}"]
        ours = np.full(theirs.shape, -2.0 if np.isfinite(theirs).all() else np.nan, np.float32)
        ours[owner, place] = protocol.frame.place(points, sizes[owner])
        yield beside(f"{prefix}{name}", ours, theirs, PIXELS)


def _scores(arrays: Arrays, ours: Evaluation, prefix: str) -> Iterator[Compared]:
    yield beside(f"{prefix}threshold", ours.threshold, arrays[f"{prefix}threshold"], PIXELS)
    yield beside(f"{prefix}per_pair", ours.shares, arrays[f"{prefix}per_pair"], FRACTION)
    yield beside(f"{prefix}image", ours.value("image"), arrays[f"{prefix}image"], FRACTION)
    yield beside(f"{prefix}point", ours.value("point"), arrays[f"{prefix}point"], FRACTION)
    names = arrays[f"{prefix}categories"].tolist()
    by_category = ours.by_category("image")
    nothing = not names  # cross-family: the evaluator's own key takes the only category's place
    yield beside(f"{prefix}categories", [] if nothing else sorted(by_category), sorted(names))
    each = [] if nothing else [by_category[name] for name in names]
    yield beside(f"{prefix}category_image", each, arrays[f"{prefix}category_image"], FRACTION)
    macro = np.full(5, np.nan) if nothing else ours.value("macro-image")
    yield beside(f"{prefix}macro_image", macro, arrays[f"{prefix}macro_image"], FRACTION)


def _readouts(arrays: Arrays, root: Path, protocol: Protocol) -> Iterator[Compared]:
    small, side = load("small_synth", root), protocol.frame.side
    temperature = float(arrays["readout_temperature"])
    yield beside("readout_temperature", protocol.readout.temperature, temperature)
    ours: dict[str, list[np.ndarray]] = {}
    for row, query in zip(arrays["readout_rows"].tolist(), arrays["readout_query"]):
        source, target = (
            small["features_12x12_stretch"][small[s][row]].astype(np.float32) for s in ("pair_source", "pair_target")
        )
        height = source.shape[1]
        cells = map_points.aligned_cells(query, side, height)
        for norm in ("unit", "raw"):
            one, two = (source, target) if norm == "unit" else (source / 100, target / 100)
            vectors = map_points.sample(one, cells, zeros=True)
            if norm == "unit":
                vectors = map_points.unit_vectors(vectors, 1e-6, axis=1)
                maps = map_points.similarity_maps(vectors, map_points.unit_vectors(two, 1e-6))
            else:
                maps = map_points.similarity_maps(vectors, two)
            results = {
                "nn": map_points.nearest(maps),
                "bilinear": map_points.bilinear(one, two, cells, 1e-6 if norm == "unit" else None),
                "softmax": map_points.softmax(maps, temperature),
                "kernelsoftmax": map_points.kernel_softmax(maps, 7, temperature),
            }
            for kind, found in results.items():
                found = found * ((side - 1) / (height - 1))
                if kind in ("nn", "bilinear"):  # theirs takes any of several equal maxima, as its sort leaves them
                    tied = _tied(one, two, cells, norm) if kind == "bilinear" else _several(maps)
                    found = np.where(tied[:, None], np.nan, found)
                ours.setdefault(f"readout_{kind}_{norm}", []).append(found)
    for name, found in ours.items():
        theirs = np.where(np.isnan(found), np.nan, arrays[name])
        few = np.isnan(theirs).mean() < 0.25
        yield beside(name, found if few else np.empty(0), theirs, PIXELS)


def _tied(source: np.ndarray, target: np.ndarray, cells: np.ndarray, norm: str) -> np.ndarray:
    """Whether one of the four cells around a query has several most similar cells, up to rounding."""
    low = np.floor(np.clip(cells, 1e-5, source.shape[1] - 1 - 1e-5)).astype(int)
    tied = np.full(len(cells), False)
    for dx in (0, 1):
        for dy in (0, 1):
            vectors = source[:, low[:, 1] + dy, low[:, 0] + dx].T
            if norm == "unit":
                vectors, other = map_points.unit_vectors(vectors, 1e-6, axis=1), map_points.unit_vectors(target, 1e-6)
            else:
                other = target
            tied |= _several(map_points.similarity_maps(vectors, other))
    return tied


def _several(maps: np.ndarray) -> np.ndarray:
    """Whether the two largest of each map (K, h, w) are equal up to rounding."""
    largest = np.sort(maps.reshape(len(maps), -1), axis=1)
    return largest[:, -1] - largest[:, -2] < 1e-5 * np.abs(largest[:, -1])


def _marco(arrays: Arrays, root: Path) -> Iterator[Compared]:
    golden = load("geoaware", root)
    protocol = protocols.protocol_named("marco").for_data("ap-10k")
    for subset in ("intra-species", "cross-species", "cross-family"):
        prefix = f"ap10k_{subset}_"
        changed = {
            **golden,
            f"ap10k_{subset}_pairs": arrays[f"{prefix}pairs"],
            f"ap10k_{subset}_prediction_letterbox840": arrays[f"{prefix}prediction"],
        }
        predictions = ap10k(changed, subset, str(protocol.frame), halved=False)
        compacted = _compacted(predictions, arrays[f"{prefix}prediction"])
        yield from _scores(arrays, evaluate_predictions(compacted, protocol), prefix)
        yield from _placed(arrays, predictions, protocol, prefix)
        frames = np.full((len(predictions), 2), protocol.frame.side)
        yield beside(f"{prefix}frame", frames, arrays[f"{prefix}frame"])
    yield from _pascal(arrays, golden)
    yield from _mp100(arrays)
    frame = ProtocolFrame("corner-letterbox", 770)
    sizes = arrays["geometry"][:, :2]
    yield beside("geometry", np.hstack([sizes, frame.resized(sizes)]), arrays["geometry"])


def _compacted(predictions: Predictions, predicted: np.ndarray) -> Predictions:
    """Predictions given for the mutual points one after another, in place of by id."""
    mutual = predictions.where(predictions.mutual)
    owner = mutual.owner
    place = np.arange(len(owner)) - mutual.offsets[:-1][owner]
    return replace(mutual, predicted=predicted[owner, place])


def _pascal(arrays: Arrays, golden: Arrays) -> Iterator[Compared]:
    protocol = protocols.protocol_named("marco").for_data("pf-pascal")
    pairs, width = golden["pascal_target_points"].shape[:2]
    names = dict(zip(sorted(set(golden["pascal_class"].tolist())), golden["pascal_categories"].tolist()))
    kept = (np.arange(width) < golden["pascal_count"][:, None]).ravel()
    predictions = Predictions(
        pair_ids=np.arange(pairs).astype(str),
        categories=np.array([names[number] for number in golden["pascal_class"].tolist()]),
        sizes=golden["pascal_sizes"][golden["pascal_target"]],
        other_sizes=golden["pascal_sizes"][golden["pascal_source"]],
        boxes=np.full((pairs, 4), np.nan),
        other_boxes=np.full((pairs, 4), np.nan),
        true=golden["pascal_target_points"].reshape(-1, 2),
        other=golden["pascal_source_points"].reshape(-1, 2),
        predicted=arrays["pascal_prediction"].reshape(-1, 2),
        offsets=np.arange(pairs + 1) * width,
        info=info("pf-pascal"),
        frame=ProtocolFrame.parse("corner-letterbox-770"),
    ).where(kept)
    yield from _scores(arrays, evaluate_predictions(predictions, protocol), "pascal_")
    shown = [
        compared
        for compared in _placed(
            {**arrays, "pascal_source_points": arrays["pascal_target_points"]}, predictions, protocol, "pascal_"
        )
        if "target" in compared.array
    ]
    yield from shown


def _mp100(arrays: Arrays) -> Iterator[Compared]:
    """Visible points of each image's annotations, one after another, paired by position."""
    protocol = replace(protocols.protocol_named("marco").for_data(""), threshold="box")
    images = {image["file_name"]: image for image in json.loads(str(arrays["mp100_images_json"]))}
    annotations = json.loads(str(arrays["mp100_annotations_json"]))
    pairs = json.loads(str(arrays["mp100_pairs_json"]))
    columns: dict[str, list[object]] = {name: [] for name in ("sizes", "other_sizes", "boxes", "true", "other")}
    counts = []
    for pair in pairs:
        sides = []
        for side in ("src_file", "trg_file"):
            image = images[pair[side]]
            of = [each for each in annotations if each["image_id"] == image["id"]]
            points = np.concatenate([np.array(each["keypoints"], float).reshape(-1, 3) for each in of])
            boxes = np.array([each["bbox"] for each in of], float)
            size = np.array([image["width"], image["height"]])
            widest = (boxes[:, 2:] * protocol.frame.scale(size[None])).max() / protocol.frame.scale(size[None])[0, 0]
            sides.append((size, points[points[:, 2] > 0, :2], np.array([0, 0, widest, 0])))
        count = min(len(sides[0][1]), len(sides[1][1]))
        counts.append(count)
        for name, value in (("other_sizes", sides[0][0]), ("sizes", sides[1][0]), ("boxes", sides[1][2])):
            columns[name].append(value)
        columns["other"].append(sides[0][1][:count])
        columns["true"].append(sides[1][1][:count])
    predicted = arrays["mp100_prediction"]
    predictions = Predictions(
        pair_ids=np.arange(len(pairs)).astype(str),
        categories=np.array([str(pair["category_id"]) for pair in pairs]),
        sizes=np.array(columns["sizes"]),
        other_sizes=np.array(columns["other_sizes"]),
        boxes=np.array(columns["boxes"], float),
        other_boxes=np.full((len(pairs), 4), np.nan),
        true=np.concatenate(columns["true"]),
        other=np.concatenate(columns["other"]),
        predicted=np.concatenate([row[:count] for row, count in zip(predicted, counts)]),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        info=info("mp-100"),
        frame=ProtocolFrame.parse("stretch-770"),
    )
    yield from _scores(arrays, evaluate_predictions(predictions, protocol), "mp100_")
    yield from _placed(arrays, predictions, protocol, "mp100_")


def _marco_readout(arrays: Arrays, root: Path) -> Iterator[Compared]:
    small, protocol = load("small_synth", root), protocols.protocol_named("marco")
    ours = []
    for row, query in zip(range(len(arrays["readout_query"])), arrays["readout_query"]):
        source, target = (
            small["features_12x12_stretch"][small[side][row]].astype(np.float32) / 4
            for side in ("pair_source", "pair_target")
        )
        width, side = source.shape[2], protocol.frame.side
        cells = np.clip(query * np.float32(width / side), 0, width - 1)
        maps = map_points.similarity_maps(map_points.sample(source, cells), target)
        soft = map_points.kernel_softmax(maps, protocol.readout.sigma, protocol.readout.temperature)
        ours.append(soft * ((side - 1) / (width - 1)))
    yield beside("readout_matches", ours, arrays["readout_matches"], PIXELS)
