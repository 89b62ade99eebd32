"""GeoAware-SC and what descends from it: geoaware, diy_sc, cleandift, jamais_vu, distilldift."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmark.scoring import keypoints, protocols, readouts
from benchmark.scoring.evaluation import Evaluation, evaluate_predictions
from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.keypoints import AP10K_FLIPS, FLIPS, FLIPS_AS_RELEASED, flip_pairs, partner_of
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocol import Protocol, Sample
from sc_imagenet.geometry import map_points
from tests.golden.references import FRACTION, PIXELS, Arrays, Compared, all_of, beside, load
from tests.golden.synthetic import info, listed, padded, spair

FILES = ("geoaware", "diy_sc", "cleandift", "jamais_vu", "distilldift")
NAMES = {
    "geoaware": "geoaware",
    "diy_sc": "diy-sc",
    "cleandift": "cleandift",
    "jamais_vu": "jamais-vu",
    "distilldift": "distilldift@1",
}


def compare(name: str, arrays: Arrays, root: Path) -> list[Compared]:
    protocol = protocols.protocol_named(NAMES[name]).for_data("spair-71k")
    frame = str(protocol.frame)
    predictions = spair(root, frame)
    found = [*_points(arrays, predictions, protocol), *_modes(arrays, predictions, protocol, "")]
    inputs = ["categories"]
    if "result_pkl_files" in arrays:
        found += _stored(arrays, predictions, protocol)
    if name == "jamais_vu":
        dagger = protocols.protocol_named("jamais-vu-dagger").for_data("spair-71k")
        found += _modes(arrays, predictions, dagger, "pckd_")
        found.append(
            beside("pckd_per_pair", evaluate_predictions(predictions, dagger).shares, arrays["pckd_per_pair"], FRACTION)
        )
        found += _kap(arrays, root)
    if "sample_20_of_7" in arrays and name != "geoaware":
        inputs.append("sample_20_of_7")
    if name == "geoaware":
        found += [*_details(arrays, root), *_pascal(arrays), *_ap10k(arrays)]
        inputs += [
            key
            for key in arrays
            if re.match(
                "readout_(pairs|source_cell)|flow_map|cell_points|flip_pair$|"
                "flip_second_prediction|flip_categories|distance_mask|pascal_(si|so|ta|cl|cou|pred|cat)|"
                "ap10k_.*(prediction_letterbox840|_pairs|_categories)$|ap10k_(notebook|pairs|split|directory|crowd|images|"
                "image_part|annotations|species|list_order)",
                key,
            )
        ]
    return all_of(arrays, found, inputs)


def _points(arrays: Arrays, predictions: Predictions, protocol: Protocol) -> Iterator[Compared]:
    for category, ids in keypoints.used_ids(predictions).items():
        yield beside(f"used_points_{category}", ids, arrays[f"used_points_{category}"])
    ours = evaluate_predictions(predictions, protocol)
    yield beside("threshold", ours.threshold, arrays["threshold"])
    yield beside("loaded_points", _loaded(predictions, protocol.frame, 30), arrays["loaded_points"])


def _loaded(predictions: Predictions, frame: ProtocolFrame, width: int, seen: np.ndarray | None = None) -> np.ndarray:
    """Two rows a pair: source and target points in the frame with their visibility; zeros where invisible."""
    rows = np.zeros((2 * len(predictions), width, 3), np.float32)
    for side, points, sizes, visible in (
        (0, predictions.other, predictions.other_sizes, predictions.other_visible),
        (1, predictions.true, predictions.sizes, predictions.true_visible),
    ):
        placed = frame.place(points, sizes[predictions.owner])
        values = np.column_stack([placed, np.ones(len(placed))]) * visible[:, None]
        rows[2 * predictions.owner + side, predictions.ids] = values
    return rows


def _modes(arrays: Arrays, predictions: Predictions, protocol: Protocol, prefix: str) -> Iterator[Compared]:
    """What the loop returned and printed in each mode that the file has."""
    ours = evaluate_predictions(predictions, protocol)
    live = ours.where(points=keypoints.geometry_live(predictions))
    plain = replace(_stored_form(protocol), validity="")  # the log's image-mode geometry numbers have no dagger
    stored = evaluate_predictions(predictions, plain).where(points=keypoints.geometry_ids(predictions))
    for mode in sorted({key.split("_category_point")[0] for key in arrays if key.endswith("_category_point")}):
        if not mode.startswith(prefix) or re.match("pckd|pascal|ap10k", mode[len(prefix) :]):
            continue
        by_image = "image" in mode
        average = "image" if by_image else "point"
        yield from _compared(arrays, mode, ours, live, stored, average, by_image and "elsewhere" not in mode)


def _compared(
    arrays: Arrays, mode: str, ours: Evaluation, live: Evaluation, stored: Evaluation, average: str, by_id: bool
) -> Iterator[Compared]:
    names = np.unique(ours.categories).tolist()
    members = [ours.where(pairs=ours.categories == name) for name in names]
    points = [[*part.value("point"), len(part.rows)] for part in members]
    yield beside(f"{mode}_category_point", points, arrays[f"{mode}_category_point"], FRACTION)
    pairs = [int((ours.categories == name).sum()) for name in names]
    image = [[*part.value("image"), n] for part, n in zip(members, pairs)]
    image = image if average == "image" else np.full((len(names), 4), np.nan)
    yield beside(f"{mode}_category_image", image, arrays[f"{mode}_category_image"], FRACTION)
    overall = ours.value(average)
    yield beside(f"{mode}_overall", overall, arrays[f"{mode}_overall"], FRACTION)
    printed = [overall]
    if arrays[f"{mode}_category_geo"].size:
        geo = []
        for name, part, n in zip(names, members, pairs):
            subset = live.where(pairs=live.categories == name)
            share = len(np.unique(subset.owner)) / n
            geo.append([share, len(subset.rows) / len(part.rows), *_or_nan(subset, "point"), len(subset.rows)])
        yield beside(f"{mode}_category_geo", geo, arrays[f"{mode}_category_geo"], FRACTION)
        weights = np.array([len(part.rows) for part in members])
        table = np.array(geo)
        printed.append(np.array([table[:, 0].mean(), (table[:, 1] * weights).sum() / weights.sum()]))
        printed.append(stored.value("image") if by_id else live.value("point"))
    else:
        yield beside(f"{mode}_category_geo", np.empty((len(names), 0)), arrays[f"{mode}_category_geo"])
    log = [[float(number) for number in re.findall(r": *(\d+\.\d+)", line)] for line in arrays[f"{mode}_log"].tolist()]
    ours_printed = [number for values in printed for number in _rounded(values)]
    yield beside(f"{mode}_log", ours_printed, [number for line in log for number in line])


def _or_nan(part: Evaluation, average: str) -> np.ndarray:
    return part.value(average) if len(part.rows) else np.full(part.hits.shape[1], np.nan)


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{100 * value:.2f}") for value in values]


def _stored_form(protocol: Protocol) -> Protocol:
    return replace(protocol, comparison=protocols.STORED)


def _stored(arrays: Arrays, predictions: Predictions, protocol: Protocol) -> Iterator[Compared]:
    """What is computed from the file result.pkl."""
    ours = evaluate_predictions(predictions, _stored_form(protocol))
    geo, flip = keypoints.geometry_ids(predictions), keypoints.flip_ids(predictions)
    width = arrays["geo_ids"].shape[1]
    for name, mask in (("geo_ids", geo), ("flip_ids", flip)):  # theirs in the order of their tables
        yield beside(name, listed(predictions, mask, width), _ascending(arrays[name]))
    steps, mirror = keypoints.azimuth_difference(predictions), keypoints.mirrored_azimuth(predictions)
    yield beside("azimuth_difference", steps, arrays["azimuth_difference"])
    yield beside("mirror", mirror, arrays["mirror"])
    yield beside("result_threshold", ours.threshold.astype(np.float32), arrays["result_threshold"])
    yield beside("per_pair", ours.shares, arrays["per_pair"], FRACTION)
    yield beside("per_pair_geo", ours.where(points=geo).shares, arrays["per_pair_geo"], FRACTION)
    for short, average in (("img", "image"), ("std", "point")):
        for subset, mask in (("all", None), ("geo", geo), ("flip", flip)):
            for step in (None, 0, 1, 2, 3, 4):
                key = f"{short}_{subset}" + ("" if step is None else f"_az{step}")
                if key not in arrays:
                    continue
                part = ours.where(points=mask, pairs=None if step is None else steps == step)
                count = len(np.unique(part.owner)) if short == "img" else len(part.rows)
                value = [*_or_nan(part, average), count]
                theirs = arrays[key]
                yield beside(key, value if count else np.full(4, np.nan), theirs, FRACTION)
    by_category = []
    for name in np.unique(ours.categories):
        part = ours.where(pairs=ours.categories == name)
        by_category.append([*part.value("image"), *_or_nan(part.where(points=geo), "image")])
    yield beside("img_by_category", by_category, arrays["img_by_category"], FRACTION)
    given = padded(predictions, predictions.predicted, 30, 0)
    yield beside("result_pkl_src_kpts_pred", given, arrays["result_pkl_src_kpts_pred"])
    stems = [[Path(str(cell)).stem for cell in row] for row in arrays["result_pkl_files"]]
    names = [pair.split(":")[0].split("-")[1:3] for pair in predictions.pair_ids.tolist()]
    yield beside("result_pkl_files", names, stems)
    side = np.full(len(predictions), protocol.frame.side)
    yield beside("result_pkl_resolution", side, arrays["result_pkl_resolution"])


def _ascending(ids: np.ndarray) -> np.ndarray:
    large = np.where(ids < 0, 1 << 14, ids.astype(int))
    ordered = np.sort(large, axis=1)
    return np.where(ordered == 1 << 14, -1, ordered)


def _details(arrays: Arrays, root: Path) -> Iterator[Compared]:
    synth = load("spair_synth", root)
    files = np.array([pair.split(":")[0].split("-")[1:3] for pair in synth["pair_file"].tolist()])
    first = synth["image_category"][synth["pair_target"]] == np.sort(np.unique(synth["image_category"]))[0]
    rows = Sample("legacy", 20, 42).rows(int(first.sum()))
    drawn = files[first][rows].ravel()
    theirs = np.array([Path(cell).stem for cell in arrays["sample_20_of_7"].ravel().tolist()])
    yield beside("sample_20_of_7", drawn, theirs)
    small = load("small_synth", root)
    maps = []
    for one, two in arrays["readout_pairs"]:
        source, target = (map_points.unit_vectors(small["features_60x60_letterbox"][row]) for row in (one, two))
        vectors = source.reshape(len(source), -1)[:, arrays["readout_source_cell"]].T
        maps.append(map_points.similarity_maps(vectors, target))
    nearest = [14.0 * map_points.nearest(each) + 7 for each in maps]
    yield beside("readout_nearest", nearest, arrays["readout_nearest"])
    for name, window in (("window7", 7), ("window5", 5), ("soft_all", 0), ("gauss5", -5)):
        soft = [14 * map_points.window_soft_argmax(each, window) + 7 for each in maps]
        yield beside(f"readout_{name}", soft, arrays[f"readout_{name}"], PIXELS)
    flow = arrays["flow_map"].reshape(-1, 10, 10)
    for window in (0, 2, 5):
        name = f"flow_window{window}"
        yield beside(name, map_points.window_soft_argmax(flow, window), arrays[name], PIXELS)
    yield beside("cell_index", map_points.cell_of(arrays["cell_points"], 840, 60), arrays["cell_index"])
    yield beside("geometry", [_geometry(row[:2]) for row in arrays["geometry"]], arrays["geometry"], FRACTION)
    for name, tables in (("flip_permutation", FLIPS_AS_RELEASED), ("flip_permutation_train", FLIPS)):
        theirs = arrays[name]
        ours = np.full(theirs.shape, -1)
        for row, category in enumerate(arrays["flip_categories"].tolist()):
            width = int((theirs[row] >= 0).sum())
            ours[row, :width] = partner_of(np.arange(width), flip_pairs("spair-71k", category, tables))
        yield beside(name, ours, theirs)
    ours_ap10k = partner_of(np.arange(17), AP10K_FLIPS)
    yield beside("flip_permutation_ap10k", ours_ap10k, arrays["flip_permutation_ap10k"])
    yield from _adaptive(arrays, root)


def _geometry(size: np.ndarray) -> list[float]:
    """Scale, offset, three mapped points with visibility, and what the resized image occupies."""
    frame = protocols.LETTERBOX
    sizes = np.array([size])
    offset, resized = frame.offset(sizes)[0], frame.resized(sizes)[0]
    points = np.array([[10, 20], size - 1, [5, 5]], float)
    placed = frame.place(points, np.repeat(sizes, 3, axis=0))
    rows = [[*point, visible] for point, visible in zip(placed, (1, 1, 0))]
    rows[2] = [0, 0, 0]
    ends = [offset[0], offset[0] + resized[0], offset[1], offset[1] + resized[1]]
    return [*size, frame.scale(sizes)[0, 0], *offset, *np.ravel(rows), *ends]


def _adaptive(arrays: Arrays, root: Path) -> Iterator[Compared]:
    small, rows = load("small_synth", root), arrays["readout_pairs"][0]
    source, target = (map_points.unit_vectors(small["features_60x60_letterbox"][row]) for row in rows)
    masks = []
    for key, shape in zip(("distance_mask_1", "distance_mask_2"), arrays["distance_mask_shapes"].tolist()):
        masks.append(np.unpackbits(arrays[key])[: shape[0] * shape[1]].reshape(shape))
    ours = [readouts.instance_distance(source, target, *masks), readouts.mutual_distance(source, target)]
    yield beside("distance", ours, arrays["distance"], PIXELS)
    predictions = spair(root, "letterbox-840")
    shown = {
        name: padded(predictions, values, 30, 0)
        for name, values in (
            (
                "source",
                _loaded(predictions, protocols.LETTERBOX, 30)[0::2].reshape(-1, 30, 3)[
                    predictions.owner, predictions.ids, :2
                ],
            ),
            ("predicted", predictions.predicted),
            ("here", predictions.other_visible),
            ("mutual", predictions.mutual),
        )
    }
    turned, near, far = [], [], []
    for number, row in enumerate(arrays["flip_pair"].tolist()):
        category = str(predictions.categories[row])
        used = keypoints.used_ids(predictions)[category]
        table = flip_pairs("spair-71k", category, FLIPS_AS_RELEASED)
        count = int((arrays["flip_permutation"][arrays["flip_categories"] == category] >= 0).sum())
        pairs = readouts.flip_places(table, count, used)
        here, mutual = (shown[name][row, used] > 0 for name in ("here", "mutual"))
        points, seen = readouts.mirrored_source(shown["source"][row, used], here, mutual, pairs)
        second = arrays["flip_second_prediction"][number, : len(used)]
        plain = shown["predicted"][row, used]
        taken = readouts.pose_predictions(plain, second, mutual, pairs)
        for values, listed_ in ((np.column_stack([points, seen]), turned), (taken, near), (plain, far)):
            whole = np.full((30, values.shape[1]), np.nan)
            whole[: len(used)] = values
            listed_.append(whole)
    yield beside("flip_source_points", turned, arrays["flip_source_points"], FRACTION)
    yield beside("flip_chosen_when_nearer", near, arrays["flip_chosen_when_nearer"])
    yield beside("flip_chosen_when_not", far, arrays["flip_chosen_when_not"])


def _pascal(arrays: Arrays) -> Iterator[Compared]:
    protocol = protocols.protocol_named("geoaware").for_data("pf-pascal")
    sizes, target = arrays["pascal_sizes"], arrays["pascal_target"]
    pairs, width = arrays["pascal_target_points"].shape[:2]
    counts = arrays["pascal_count"]
    kept = (np.arange(width) < counts[:, None]).ravel()
    names = arrays["pascal_categories"]
    classes = arrays["pascal_class"]
    order = dict(zip(sorted(set(classes.tolist())), names.tolist()))
    predictions = Predictions(
        pair_ids=np.arange(pairs).astype(str),
        categories=np.array([order[number] for number in classes.tolist()]),
        sizes=sizes[target],
        other_sizes=sizes[arrays["pascal_source"]],
        boxes=np.full((pairs, 4), np.nan),
        other_boxes=np.full((pairs, 4), np.nan),
        true=arrays["pascal_target_points"].reshape(-1, 2),
        other=arrays["pascal_source_points"].reshape(-1, 2),
        predicted=arrays["pascal_prediction_letterbox840"].reshape(-1, 2),
        offsets=np.arange(pairs + 1) * width,
        info=info("pf-pascal"),
        frame=ProtocolFrame.parse("letterbox-840"),
    ).where(kept)
    ours = evaluate_predictions(predictions, protocol)
    for mode in ("image", "point"):
        shaped = {**arrays, f"pascal_{mode}_category_geo": np.empty((len(names), 0))}
        for compared in _compared(shaped, f"pascal_{mode}", ours, ours, ours, mode, False):
            if "geo" not in compared.array:
                yield compared


def _ap10k(arrays: Arrays) -> Iterator[Compared]:
    for subset in ("intra-species", "cross-species", "cross-family"):
        predictions = ap10k(arrays, subset)
        base = protocols.protocol_named("geoaware").for_data("ap-10k")
        ours = evaluate_predictions(predictions, base)
        live = ours.where(points=keypoints.geometry_live(predictions))
        stored_all = evaluate_predictions(predictions, _stored_form(base))
        geo = keypoints.geometry_ids(predictions)
        stored = stored_all.where(points=geo)
        prefix = f"ap10k_{subset}"
        yield beside(f"{prefix}_threshold", ours.threshold, arrays[f"{prefix}_threshold"], FRACTION)
        width = arrays[f"{prefix}_geo_ids"].shape[1]
        yield beside(f"{prefix}_geo_ids", listed(predictions, geo, width), _ascending(arrays[f"{prefix}_geo_ids"]))
        pooled = [*stored.value("point"), len(stored.rows)]
        yield beside(f"{prefix}_std_geo", pooled, arrays[f"{prefix}_std_geo"], FRACTION)
        loaded = _loaded(predictions, protocols.LETTERBOX, 17)
        theirs = arrays[f"{prefix}_loaded_points"]
        theirs[..., 2] = theirs[..., 2] > 0  # 0.25 where the file says 1
        yield beside(f"{prefix}_loaded_points", loaded, theirs, PIXELS)
        for mode in ("image", "point", "image_default"):
            average = "point" if mode == "point" else "image"
            yield from _compared(arrays, f"{prefix}_{mode}", ours, live, stored, average, mode == "image")


def ap10k(arrays: Arrays, subset: str, frame: str = "letterbox-840", halved: bool = True) -> Predictions:
    """A subset of the synthetic AP-10K set.

    ``halved``: points of visibility 1 lie at half their place in the frame, as GeoAware-SC's loader has them.
    """
    images = {int(row[0]): row[1:3] for row in arrays["ap10k_images"]}
    annotations = {int(row[1]): row for row in arrays["ap10k_annotations"][::-1]}  # the first of an image
    pairs = [str(pair).split("|") for pair in arrays[f"ap10k_{subset}_pairs"].tolist()]
    ids = [[int(stem) for stem in pair[:2]] for pair in pairs]
    sides = []
    for side in (0, 1):
        sizes = np.array([images[pair[side]] for pair in ids])
        rows = np.array([annotations[pair[side]] for pair in ids])
        points = rows[:, 8:].reshape(-1, 17, 3).astype(float)
        xy, seen = points[..., :2].reshape(-1, 2), points[..., 2].ravel()
        if halved:
            every = np.repeat(sizes, 17, axis=0)
            half = protocols.LETTERBOX.original(protocols.LETTERBOX.carry(xy, every) / 2, every)
            xy = np.where((seen == 1)[:, None], half, xy)
        boxes = rows[:, 3:7].astype(float)
        boxes[:, 2:] += boxes[:, :2]
        sides.append((sizes, xy, seen, boxes))
    (other_sizes, other, here, other_boxes), (sizes, true, there, boxes) = sides
    return Predictions(
        pair_ids=np.arange(len(pairs)).astype(str),
        categories=np.array([pair[2] for pair in pairs]),
        sizes=sizes,
        other_sizes=other_sizes,
        boxes=boxes,
        other_boxes=other_boxes,
        true=true,
        other=other,
        predicted=arrays[f"ap10k_{subset}_prediction_letterbox840"].reshape(-1, 2),
        offsets=np.arange(len(pairs) + 1) * 17,
        info=info("ap-10k"),
        ids=np.tile(np.arange(17), len(pairs)),
        true_visible=there > 0,
        other_visible=here > 0,
        frame=ProtocolFrame.parse(frame),
    )


def _kap(arrays: Arrays, root: Path) -> Iterator[Compared]:
    small = load("small_synth", root)
    predictions = spair(root, "letterbox-840", np.zeros((16, 30, 2), np.float32), "small_synth")
    protocol = protocols.protocol_named("jamais-vu").for_data("spair-71k")
    evaluated = evaluate_predictions(predictions, protocol)
    grid = small["features_20x20_letterbox"].shape[2]
    placed = _loaded(predictions, protocol.frame, 30)
    pooled, by_pair = [], []
    for category in arrays["kap_categories"].tolist():
        used = keypoints.used_ids(predictions)[category]
        yield beside(f"kap_{category}_used", used, arrays[f"kap_{category}_used"])
        each: list[tuple[np.ndarray, np.ndarray]] = []
        for row in np.flatnonzero(predictions.categories == category).tolist():
            ids = used[placed[2 * row, used, 2] > 0]
            source, target = (
                map_points.unit_vectors(small["features_20x20_letterbox"][small[side][row]])
                for side in ("pair_source", "pair_target")
            )
            cells = map_points.cell_of(placed[2 * row, ids, :2], 840, grid)
            maps = map_points.similarity_maps(source.reshape(len(source), -1)[:, cells].T, target)
            maps = readouts.normalised_maps(maps)
            targets, d = placed[2 * row + 1, ids, :2], evaluated.threshold[row]
            levels = [readouts.within_and_beyond(maps, targets, d, alpha) for alpha in protocol.alphas]
            each.append((np.array([level[0] for level in levels]), np.array([level[1] for level in levels])))
        within = np.concatenate([part[0] for part in each], axis=1)
        beyond = np.concatenate([part[1] for part in each], axis=1)
        yield beside(f"kap_{category}_positive", within, arrays[f"kap_{category}_positive"], 1e-5)
        yield beside(f"kap_{category}_negative", beyond, arrays[f"kap_{category}_negative"], 1e-5)
        count = [part[0].shape[1] for part in each]
        yield beside(f"kap_{category}_points_per_pair", count, arrays[f"kap_{category}_points_per_pair"])
        pooled.append(
            [readouts.average_precision(*readouts.jamais_vu_kap(a, b)) for a, b in zip(within, beyond)] + [sum(count)]
        )
        pairs = [[readouts.average_precision(*readouts.jamais_vu_kap(a, b)) for a, b in zip(*part)] for part in each]
        by_pair.append([*np.mean(pairs, axis=0), len(each)])
    for mode in ("image", "point"):
        key = f"kap_{mode}_category_pooled"
        yield beside(key, pooled, arrays[key], FRACTION)
        key = f"kap_{mode}_category_image"
        nothing = np.full((len(by_pair), 4), np.nan)
        yield beside(key, by_pair if mode == "image" else nothing, arrays[key], FRACTION)
    yield beside("kap_categories", np.unique(predictions.categories), arrays["kap_categories"])
