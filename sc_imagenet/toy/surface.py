"""Where any point of a toy object lies on another instance of its category: truth beyond the semantic points.

A pixel shows a face of the object and a place on it (the renderer's buffers; no picture is changed by looking at
them). Instances of a category are built part by part in the same order, so the same face of the same part is the same
piece of surface. Where a part has other faces in the other instance (a wheel of more spokes) or there are other parts
(a chair's back of slats), the place with the nearest coordinates in the part's own box is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import cKDTree

from sc_imagenet.toy.mesh import Solid
from sc_imagenet.toy.pairs import CATEGORIES, SPLITS, image_size
from sc_imagenet.toy.render import Buffers, draw, object_mask
from sc_imagenet.toy.scene import Camera, compose

AWAY = 0.05  # a place counts as seen if the surface at its pixel is no nearer than so much before it, object units
STEPS = 6  # places along each side of a face among which the nearest is taken


@dataclass(frozen=True)
class Surface:
    """What a picture shows of an object; pixels are (x, y), 0-based."""

    solid: Solid
    camera: Camera
    buffers: Buffers
    mask: np.ndarray  # (H, W) bool, the object's pixels

    @property
    def bbox(self) -> np.ndarray:
        """Tight box (4,) of the mask: x_min, y_min, x_max, y_max."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return np.array([columns[0], rows[0], columns[-1], rows[-1]], float)


@dataclass(frozen=True)
class Transferred:
    """Where points of one picture truly lie in another.

    points   (K, 2) pixels; NaN for a point beside the object
    on_object  (K,) bool: the source point shows the object
    visible  (K,) bool: the true place is seen in the target
    """

    points: np.ndarray
    on_object: np.ndarray
    visible: np.ndarray


@lru_cache(maxsize=256)
def pictured(split: str, category: str, number: int) -> Surface:
    """What image ``<split>/<category>/<number>.jpg`` of the toy set shows."""
    seed = (SPLITS[split].index, CATEGORIES.index(category), number)
    return surface_of(category, seed, image_size(seed))


def surface_of(category: str, seed: int | tuple[int, ...], size: tuple[int, int]) -> Surface:
    """What ``render_object`` of the same arguments shows.

    Raises:
        InputError: no such category.
    """
    scene = compose(category, np.random.default_rng(seed), size)
    buffers = draw(scene, *size)
    return Surface(scene.solid, scene.camera, buffers, object_mask(scene, buffers))


def transfer(source: Surface, target: Surface, points: np.ndarray) -> Transferred:
    """Transfer points (K, 2) of the source's picture along the object's surface into the target's."""
    height, width = source.mask.shape
    column, row = np.rint(points).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    column, row = np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)
    on_object = inside & source.mask[row, column]
    transferred = np.full((len(points), 2), np.nan)
    visible = np.zeros(len(points), bool)
    if on_object.any():
        at = row[on_object], column[on_object]
        places = corresponding(source.solid, target.solid, source.buffers.face[at], source.buffers.weights[at])
        transferred[on_object], depth = target.camera.project(places)
        visible[on_object] = _seen(target, transferred[on_object], depth)
    return Transferred(transferred, on_object, visible)


def corresponding(source: Solid, target: Solid, faces: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Places (K, 3) on the target of places on the source, given as faces (K,) and barycentric weights (K, 3)."""
    places = np.full((len(faces), 3), np.nan)
    for source_faces, target_faces in _groups(source.parts, target.parts):
        mine = (faces >= source_faces.start) & (faces < source_faces.stop)
        if not mine.any():
            continue
        if len(source_faces) == len(target_faces):
            corners = target.mesh.faces[faces[mine] - source_faces.start + target_faces.start]
            places[mine] = np.einsum("nk,nkd->nd", weights[mine], target.mesh.vertices[corners])
        else:
            texture = source.mesh.texture
            rest = np.einsum("nk,nkd->nd", weights[mine], texture[source.mesh.faces[faces[mine]]])
            low, span = _box(source, source_faces)
            places[mine] = _nearest(target, target_faces, (rest - low) / span)
    return places


def _groups(source: tuple[int, ...], target: tuple[int, ...]) -> list[tuple[range, range]]:
    """Ranges of faces that correspond.

    Part by part where there are as many; else the first parts that are alike, and the rest with the rest.

    >>> _groups((12, 36, 36), (12, 20))
    [(range(0, 12), range(0, 12)), (range(12, 84), range(12, 32))]
    """
    alike = len(source)
    if len(source) != len(target):
        last = min(len(source), len(target)) - 1  # stays for the rest, which must have parts in both
        alike = next(k for k, (a, b) in enumerate(zip(source, target)) if a != b or k == last)
    groups, source_start, target_start = [], 0, 0
    for mine, other in zip(source[:alike], target[:alike]):
        groups.append((range(source_start, source_start + mine), range(target_start, target_start + other)))
        source_start, target_start = source_start + mine, target_start + other
    if alike < len(source):
        groups.append((range(source_start, sum(source)), range(target_start, sum(target))))
    return groups


def _box(solid: Solid, faces: range) -> tuple[np.ndarray, np.ndarray]:
    """Least coordinates and extent of some faces, as they were built: before the object was posed."""
    places = solid.mesh.texture[solid.mesh.faces[faces.start : faces.stop]].reshape(-1, 3)
    low = places.min(0)
    return low, np.maximum(places.max(0) - low, 1e-9)


def _nearest(target: Solid, faces: range, wanted: np.ndarray) -> np.ndarray:
    """Places (K, 3) of the target whose coordinates in the box of ``faces`` are nearest to ``wanted`` (K, 3)."""
    corners = target.mesh.faces[faces.start : faces.stop]
    steps = np.array([(i, j) for i in range(STEPS + 1) for j in range(STEPS + 1 - i)]) / STEPS
    weights = np.column_stack([steps, 1 - steps.sum(1)])
    low, span = _box(target, faces)
    texture, places = (
        np.einsum("sk,fkd->fsd", weights, values[corners]).reshape(-1, 3)
        for values in (target.mesh.texture, target.mesh.vertices)
    )
    return places[cKDTree((texture - low) / span).query(wanted)[1]]


def _seen(target: Surface, points: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Whether each place is inside the picture and nothing lies before it."""
    height, width = target.mask.shape
    column, row = np.rint(points).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    column, row = np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)
    return inside & target.mask[row, column] & (target.buffers.depth[row, column] > depth - AWAY)
