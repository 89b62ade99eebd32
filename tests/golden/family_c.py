"""DIFT, GECO and DistillDIFT's training-side script: features up-sampled to the image, or predictions given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmark.scoring import details, protocols
from benchmark.scoring.evaluation import evaluate_predictions
from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.keypoints import geco_partners, partner_of
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocol import Protocol
from sc_imagenet.geometry import map_points
from tests.golden.references import EXACT, FRACTION, PIXELS, Arrays, Compared, all_of, beside, load
from tests.golden.synthetic import spair

FILES = ("dift", "distilldift_train", "geco")


def compare(name: str, arrays: Arrays, root: Path) -> list[Compared]:
    found = {"dift": _dift, "geco": _geco, "distilldift_train": _train}[name](arrays, root)
    return all_of(arrays, found, ("injected_pair_id_x_y", "counter_names", "pair_file"))


def _features(small: Arrays, row: int) -> tuple[np.ndarray, np.ndarray]:
    features = small["features_12x12_stretch"]
    return features[small["pair_source"][row]], features[small["pair_target"][row]]


def _small(root: Path) -> Predictions:
    return spair(root, "original", np.zeros((16, 30, 2)), "small_synth")


def _nearest_pixel(
    features: tuple[np.ndarray, np.ndarray], sizes: np.ndarray, pixels: np.ndarray, theirs: np.ndarray
) -> np.ndarray:
    """The most similar pixel of the target for pixels of the source, (K, 2) as (x, y).

    Where ``theirs`` is as similar up to the rounding of single precision, it is the one.
    """
    source, target = (
        map_points.upsampled(each, *size) for each, size in zip(features, np.asarray(sizes).astype(int).tolist())
    )
    vectors = map_points.unit_vectors(source[:, pixels[:, 1], pixels[:, 0]].T, 1e-6, axis=1)
    maps = map_points.similarity_maps(vectors, map_points.unit_vectors(target, 1e-6))
    ours, rows, cells = map_points.nearest(maps), np.arange(len(maps)), theirs.astype(int)
    inside = ((cells >= 0) & (cells < sizes[1])).all(axis=1)
    cells = np.where(inside[:, None], cells, 0)
    equal = maps[rows, cells[:, 1], cells[:, 0]] > maps.max(axis=(1, 2)) - 3e-7
    return np.where((inside & equal)[:, None], cells, ours)


def _injected(arrays: Arrays, root: Path) -> Predictions:
    """Predictions given by pair, id, x and y."""
    given = arrays["injected_pair_id_x_y"]
    predicted = np.zeros((int(given[:, 0].max()) + 1, 30, 2))
    predicted[given[:, 0], given[:, 1]] = given[:, 2:]
    return spair(root, "original", predicted)


def _dift(arrays: Arrays, root: Path) -> Iterator[Compared]:
    protocol = protocols.protocol_named("dift").for_data("spair-71k")
    small, predictions = load("small_synth", root), _small(root)
    owner, said, listed, start = predictions.owner, predictions.predicted.copy(), [], 0
    for row in range(len(predictions)):
        points = np.flatnonzero((owner == row) & predictions.mutual)
        sizes = np.stack([predictions.other_sizes[row], predictions.sizes[row]])
        theirs = arrays["predictions"][start : start + len(points)]
        start += len(points)
        said[points] = _nearest_pixel(_features(small, row), sizes, predictions.other[points].astype(int), theirs)
        listed.append(said[points])
    yield beside("predictions", np.concatenate(listed), arrays["predictions"])
    for prefix, scored in (("", replace(predictions, predicted=said)), ("injected_", _injected(arrays, root))):
        ours = evaluate_predictions(scored, protocol)
        values = [
            value[0]
            for each in zip(ours.by_category("image").values(), ours.by_category("point").values())
            for value in each
        ]
        values += [ours.value("image")[0], ours.value("point")[0]]
        theirs = [float(line.rpartition(" ")[2]) for line in arrays[f"{prefix}printed"].tolist()]
        yield beside(f"{prefix}printed", [float(f"{100 * value:.2f}") for value in values], theirs)


def _geco(arrays: Arrays, root: Path) -> Iterator[Compared]:
    image = protocols.protocol_named("geco").for_data("spair-71k")
    box = replace(image, threshold="box")
    small, predictions = load("small_synth", root), _small(root)
    names = np.unique(predictions.categories).tolist()
    yield beside("categories", names, arrays["categories"])
    owner = predictions.owner
    for mode, protocol, fine in (
        ("image_threshold", image, True),
        ("box_threshold", box, True),
        ("box_threshold_coarse", box, False),
    ):
        said = predictions.predicted.copy()
        listed, start = [], 0
        for row in range(len(predictions)):
            points = np.flatnonzero((owner == row) & predictions.other_visible)
            sizes = np.stack([predictions.other_sizes[row], predictions.sizes[row]])
            if fine:
                theirs = arrays[f"{mode}_predicted_yx"][start : start + len(points), ::-1]
                pixels = np.floor(predictions.other[points]).astype(int)
                found = _nearest_pixel(_features(small, row), sizes, pixels, theirs)
            else:
                source, target = (map_points.unit_vectors(each, 1e-12) for each in _features(small, row))
                cells = np.floor(predictions.other[points] * 12 / sizes[0]).astype(int)
                maps = map_points.similarity_maps(source[:, cells[:, 1], cells[:, 0]].T, target)
                found = np.floor(map_points.nearest(maps) * sizes[1] / 12)
            start += len(points)
            said[points] = found
            listed.append(found)
        yield beside(f"{mode}_predicted_yx", np.concatenate(listed)[:, ::-1], arrays[f"{mode}_predicted_yx"])
        yield from _counted(arrays, mode, replace(predictions, predicted=said), protocol)
    injected = _injected(arrays, root)
    for mode, protocol in (("injected_image_threshold", image), ("injected_box_threshold", box)):
        yield from _counted(arrays, mode, injected, protocol)
    for key, categories in (("permutation", names), ("injected_permutation", arrays["injected_categories"].tolist())):
        ours = np.full(arrays[key].shape, -1)
        for row, category in enumerate(categories):
            width = int((arrays[key][row] >= 0).sum())
            ours[row, :width] = partner_of(np.arange(width), geco_partners("spair-71k", category))
        yield beside(key, ours, arrays[key])
    yield beside("injected_categories", np.unique(injected.categories), arrays["injected_categories"])
    ap10k = partner_of(np.arange(17), geco_partners("ap-10k", ""))
    yield beside("permutation_ap10k", ap10k, arrays["permutation_ap10k"])
    yield beside("oriented_ap10k", ap10k != np.arange(17), arrays["oriented_ap10k"])
    yield beside("cub_pairs_of_11_images", details.geco_cub_pairs(11, 23), arrays["cub_pairs_of_11_images"])


def _counted(arrays: Arrays, mode: str, predictions: Predictions, protocol: Protocol) -> Iterator[Compared]:
    found = details.geco_counters(predictions, protocol)
    names = np.unique(predictions.categories).tolist()
    by_category = {
        name: {key: value[predictions.categories == name].sum(axis=0) for key, value in found.items()} for name in names
    }
    for level, short in enumerate(("10", "05", "15")):
        ours = [[by_category[name][key][level] for key in arrays["counter_names"].tolist()] for name in names]
        yield beside(f"{mode}_counters_{short}", ours, arrays[f"{mode}_counters_{short}"])
    by_category[""] = {key: value.sum(axis=0) for key, value in found.items()}
    values = [_named(label, by_category, protocol) for label in arrays[f"{mode}_result_names"].tolist()]
    yield beside(f"{mode}_result_values", values, arrays[f"{mode}_result_values"], 1e-9)
    yield beside(f"{mode}_result_names", len(values), len(arrays[f"{mode}_result_names"]))


def _named(label: str, by_category: dict[str, dict[str, np.ndarray]], protocol: Protocol) -> float:
    """The number of ours that a label of theirs names."""
    category = next(name for name in sorted(by_category, key=len, reverse=True) if label.endswith(name))
    part = by_category[category]
    head = label.removesuffix(category)
    if (alpha := re.match(r"per point PCK@([0-9.]+) ", head)) is None:
        total = sum(part[name][0] for name in ("10", "11", "1x"))
        share = re.match(r"n_(\w\w)/n", head)
        return float(part[share[1]][0] / total) if share else float(total)
    level = protocol.alphas.index(float(alpha[1]))
    kind = re.search(r"(hat|overline|ilde)\{n\}_(\w\w)", head)
    name = "PCK" if kind is None else f"{kind[1].replace('ilde', 'tilde')}_{kind[2]}"
    return float(100 * details.geco_ratio(part, name)[level])


def _train(arrays: Arrays, root: Path) -> Iterator[Compared]:
    small, predictions = load("small_synth", root), _small(root)
    for mode, side in (("original", None), ("rescaled", 224)):
        frame = ProtocolFrame("stretch", side, dtype="float16") if side else ProtocolFrame(dtype="float16")
        protocol = replace(protocols.protocol_named("distilldift-train"), frame=frame)
        owner = predictions.owner
        sizes_of = [
            np.full((2, 2), side) if side else np.stack([predictions.other_sizes[row], predictions.sizes[row]])
            for row in range(len(predictions))
        ]
        said = predictions.predicted.copy()
        windowed = np.full((3, 30, 2), np.nan)
        for row, sizes in enumerate(sizes_of):
            points = np.flatnonzero((owner == row) & predictions.mutual)
            placed = ProtocolFrame("stretch", side or 1, dtype="float32") if side else ProtocolFrame(dtype="float32")
            xy = placed.place(predictions.other[points], np.repeat(predictions.other_sizes[[row]], len(points), axis=0))
            pixels = np.round(np.clip(xy, 0, sizes[0] - 1)).astype(int)
            theirs = arrays[f"{mode}_predicted_yx"][row, : len(points), ::-1]
            said[points] = _nearest_pixel(_features(small, row), sizes, pixels, theirs)
            if side and row < 3:
                source, target = (map_points.upsampled(each, side, side) for each in _features(small, row))
                vectors = map_points.unit_vectors(source[:, pixels[:, 1], pixels[:, 0]].T, 1e-12, axis=1)
                maps = map_points.similarity_maps(vectors, map_points.unit_vectors(target, 1e-12))
                windowed[row, : len(points)] = map_points.window_soft_argmax(maps, 62, 1 / 50)[:, ::-1]
        scored = replace(predictions, predicted=said, frame=ProtocolFrame(frame.kind, frame.side))
        mutual = scored.where(scored.mutual)
        place = np.arange(len(mutual.owner)) - mutual.offsets[:-1][mutual.owner]
        listed = {name: np.full((16, 30, 2), np.nan) for name in ("predicted", "target")}
        listed["predicted"][mutual.owner, place] = mutual.predicted[:, ::-1]
        true = ProtocolFrame(frame.kind, frame.side, "float32").place(mutual.true, mutual.sizes[mutual.owner])
        listed["target"][mutual.owner, place] = true[:, ::-1]
        for name, ours in listed.items():
            yield beside(
                f"{mode}_{name}_yx", ours, arrays[f"{mode}_{name}_yx"], EXACT if name == "predicted" else PIXELS
            )
        corner = ProtocolFrame(frame.kind, frame.side, "float32").place(predictions.boxes[:, :2], predictions.sizes)
        extent = ProtocolFrame(frame.kind, frame.side, "float32").box(predictions.boxes, predictions.sizes)
        box = np.hstack([corner[:, ::-1], extent[:, ::-1]])
        yield beside(f"{mode}_target_box_yxhw", box, arrays[f"{mode}_target_box_yxhw"], PIXELS)
        yield from _halved(arrays, mode, scored, protocol)
        if side:
            yield beside("rescaled_window_predicted_yx", windowed, arrays["rescaled_window_predicted_yx"], PIXELS)
    given = np.round(load("spair_synth", root)["pred_original"].astype(float))
    yield from _halved(
        arrays, "injected", spair(root, "original", given), protocols.protocol_named("distilldift-train")
    )


def _halved(arrays: Arrays, mode: str, predictions: Predictions, protocol: Protocol) -> Iterator[Compared]:
    """Hits in half precision, held against the image and against the box."""
    image = evaluate_predictions(predictions, replace(protocol, threshold="image"))
    box = evaluate_predictions(predictions, protocol)
    counted = np.column_stack([image.counts, image.found, box.found])
    yield beside(f"{mode}_counts_hits_img_hits_box", counted, arrays[f"{mode}_counts_hits_img_hits_box"])
    pck = [image.value("point")[0], box.value("point")[0]]
    yield beside(f"{mode}_pck_img_box", pck, arrays[f"{mode}_pck_img_box"], FRACTION)
