"""The toy set itself: which images there are, which of them make pairs, and the rows of the schema."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.files import atomic_path, read_json, write_json
from sc_imagenet.toy.categories import KINDS
from sc_imagenet.toy.render import Rendered, render_object
from sc_imagenet.toy.scene import angle_between

TOY_VERSION = "4"  # to be raised whenever a picture, a point or a pair changes: caches are keyed by it
CATEGORIES: tuple[str, ...] = tuple(KINDS)
ACROSS = "test_across"  # the split of pairs of two categories, of the images of TEST
TEST = "test"
SIDES = (176, 240)  # pixels, both included
FEWEST_POINTS = 4  # of a pair
VIEWPOINTS = (20.0, 50.0)  # degrees between two views: grade 0 below the first, 2 from the second on
SCALES = (1.25, 1.75)  # ratio of the boxes' longer sides: grades as for viewpoints
QUALITY = 92  # of the JPEG files


@dataclass(frozen=True)
class Split:
    """Counts of a split, for each category."""

    index: int  # part of every seed, so that no two splits share an instance
    images: int
    pairs: int


SPLITS: Mapping[str, Split] = {
    "train": Split(0, images=64, pairs=250),
    "validation": Split(1, images=10, pairs=14),
    TEST: Split(2, images=16, pairs=30),
}
PAIRS_ACROSS = 30  # of two categories, from the one to the other
# Which points of two categories are the same part, as a person would say.
ALIKE: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("bird", "aeroplane"): {
        "beak tip": "nose",
        "crown": "cockpit",
        "left wing tip": "left wing tip",
        "right wing tip": "right wing tip",
        "left tail corner": "left tailplane tip",
        "right tail corner": "right tailplane tip",
    },
    ("quadruped", "robot"): {
        "nose": "mouth",
        "front left paw": "left hand",
        "front right paw": "right hand",
        "rear left paw": "left foot",
        "rear right paw": "right foot",
    },
    ("quadruped", "chair"): {
        "front left paw": "front left foot",
        "front right paw": "front right foot",
        "rear left paw": "rear left foot",
        "rear right paw": "rear right foot",
    },
}


def render_pairs(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    """Render a split under ``folder`` and yield its pairs as rows of ``schema.pair_features``.

    Images are ``<folder>/<split>/<category>/<number>.jpg``; beside each category's images
    ``<category>.json`` keeps what is known of them. A category that is complete is not rendered again.
    ``source`` and ``target`` are paths relative to ``folder``; sizes, points and boxes are plain lists,
    ``category`` is the name; the columns of generated pairs are None.

    Raises:
        InputError: no such split, or ``folder`` cannot be written.
    """
    if split == ACROSS:
        yield from _rows_across(Path(folder))
        return
    if split not in SPLITS:
        raise unknown_name("split", split, (*SPLITS, ACROSS))
    for category in CATEGORIES:
        images = _images(Path(folder), split, category)
        for i, j in _choose(images, split, category):
            yield _row(images[i], images[j], f"{split}-{category}-{i}-{j}", category)


def _images(folder: Path, split: str, category: str) -> list[dict[str, Any]]:
    """What is known of a category's images, all of them on disk."""
    known = Path(folder) / split / f"{category}.json"
    images = _read_known(known)
    if images is not None and all((folder / image["path"]).is_file() for image in images):
        return images
    images = [_image(folder, split, category, number) for number in range(SPLITS[split].images)]
    write_json(known, {"version": TOY_VERSION, "images": images})
    return images


def _read_known(path: Path) -> list[dict[str, Any]] | None:
    if not path.exists():
        return None
    try:
        content = read_json(path)
    except InputError:  # cut short by something else than us: render again
        return None
    return content["images"] if content.get("version") == TOY_VERSION else None


def _image(folder: Path, split: str, category: str, number: int) -> dict[str, Any]:
    """Render one image to its file; what is known of it."""
    seed = (SPLITS[split].index, CATEGORIES.index(category), number)
    width, height = image_size(seed)
    seen = render_object(category, seed, (width, height))
    path = f"{split}/{category}/{number:03d}.jpg"
    with atomic_path(folder / path) as temporary:
        Image.fromarray(seen.image).save(temporary, "JPEG", quality=QUALITY, subsampling=0)
    return {"path": path, "size": [width, height], **_known(seen)}


def image_size(seed: tuple[int, ...]) -> tuple[int, int]:
    """Width and height of the image of a seed."""
    width, height = np.random.default_rng(seed).integers(SIDES[0], SIDES[1], 2, endpoint=True).tolist()
    return width, height


def _known(seen: Rendered) -> dict[str, Any]:
    return {
        "points": seen.points.round(3).tolist(),
        "visible": seen.visible.tolist(),
        "bbox": seen.bbox.tolist(),
        "towards": seen.towards.tolist(),
        "truncated": seen.truncated,
        "occluded": seen.occluded,
    }


def point_names(category: str) -> tuple[str, ...]:
    """The names of a category's semantic points in their order, the same for every instance.

    >>> point_names("teapot")[-1]
    'handle top'
    """
    return KINDS[category].build(np.random.default_rng(0)).finish().names


def symmetric_points(names: Sequence[str]) -> list[int]:
    """Of each point the place of its left-right partner; its own where it has none.

    >>> symmetric_points(["left wing", "nose", "right wing"])
    [2, 1, 0]
    """
    other = {"left": "right", "right": "left"}
    partners = (" ".join(other.get(word, word) for word in name.split()) for name in names)
    return [names.index(partner) if partner in names else place for place, partner in enumerate(partners)]


def seen_points(folder: Path, image: str) -> tuple[np.ndarray, np.ndarray]:
    """All semantic points (K, 2) of a rendered image, by its path in its pairs, and which of them are visible (K,).

    Raises:
        InputError: what is known of the image is not beside it.
    """
    path = Path(image)
    known = read_json(Path(folder) / path.parent.with_suffix(".json"))
    try:
        found = known["images"][int(path.stem)]
        return np.array(found["points"]), np.array(found["visible"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"tells nothing of {image} ({error})", where=path.parent.with_suffix(".json")) from error


def _choose(images: list[dict[str, Any]], split: str, category: str) -> list[tuple[int, int]]:
    """Ordered pairs of images with enough points visible in both, drawn at random, each at most once."""
    usable = [
        (i, j)
        for i, j in itertools.permutations(range(len(images)), 2)
        if np.sum(np.array(images[i]["visible"]) & images[j]["visible"]) >= FEWEST_POINTS
    ]
    rng = np.random.default_rng((SPLITS[split].index, CATEGORIES.index(category)))
    chosen = rng.permutation(len(usable))[: SPLITS[split].pairs]
    return [usable[place] for place in sorted(chosen)]


def _rows_across(folder: Path) -> Iterator[dict[str, Any]]:
    """Pairs of two categories, in both directions: rows as ``render_pairs`` gives them, and which points they have.

    ``source_category`` is the source's, ``category`` the target's; ``points`` are places in the target's names.
    """
    images = {category: _images(folder, TEST, category) for category in {name for pair in ALIKE for name in pair}}
    for one, two in ALIKE:
        for source, target in ((one, two), (two, one)):
            alike = ALIKE[one, two] if source == one else {b: a for a, b in ALIKE[one, two].items()}
            own, other = point_names(source), point_names(target)
            places = np.array([(own.index(name), other.index(alike[name])) for name in own if name in alike]).T
            shown = [np.array([image["visible"] for image in images[side]]) for side in (source, target)]
            both = shown[0][:, None, places[0]] & shown[1][None, :, places[1]]
            usable = np.argwhere(both.sum(2) >= min(FEWEST_POINTS, len(alike) - 1))
            rng = np.random.default_rng((SPLITS[TEST].index, CATEGORIES.index(source), CATEGORIES.index(target)))
            chosen = sorted(rng.permutation(len(usable))[:PAIRS_ACROSS].tolist())
            for i, j in usable[chosen].tolist():
                kept = places[:, both[i, j]]
                pictures = [
                    {**image, "points": np.array(image["points"])[kept[side]], "visible": [True] * kept.shape[1]}
                    for side, image in enumerate((images[source][i], images[target][j]))
                ]
                row = _row(pictures[0], pictures[1], f"{ACROSS}-{source}-{target}-{i}-{j}", target)
                yield {**row, "source_category": source, "points": kept[1].tolist()}


def _row(source: dict[str, Any], target: dict[str, Any], pair_id: str, category: str) -> dict[str, Any]:
    both = np.array(source["visible"]) & target["visible"]
    angle = angle_between(np.array(source["towards"]), np.array(target["towards"]))
    sides = [max(box[2] - box[0], box[3] - box[1]) for box in (source["bbox"], target["bbox"])]
    return {
        "pair_id": pair_id,
        "dataset": "toy",
        "category": category,
        "source": source["path"],
        "target": target["path"],
        "source_size": source["size"],
        "target_size": target["size"],
        "source_points": np.array(source["points"])[both].tolist(),
        "target_points": np.array(target["points"])[both].tolist(),
        "source_bbox": source["bbox"],
        "target_bbox": target["bbox"],
        "mirrored": False,
        "viewpoint_variation": _grade(angle, VIEWPOINTS),
        "scale_variation": _grade(max(sides) / min(sides), SCALES),
        "truncation": _which(source["truncated"], target["truncated"]),
        "occlusion": _which(source["occluded"], target["occluded"]),
        "confidence": None,
        "loop_offset": None,
        "pair_score": None,
    }


def _grade(value: float, limits: tuple[float, float]) -> int:
    """0 below the first limit, 1 between them, 2 from the second on."""
    return int(value >= limits[0]) + int(value >= limits[1])


def _which(source: bool, target: bool) -> int:
    """As SPair-71k counts: 0 neither, 1 the source, 2 the target, 3 both."""
    return int(source) + 2 * int(target)
