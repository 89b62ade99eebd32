"""Triangle meshes made of a few primitives. Object axes: x forward, y to the object's left, z up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

Vector = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Mesh:
    """Triangles with a paint slot a face.

    ``texture`` are the positions that solid textures are looked up at: those the vertices were made at, so
    that a pattern moves along with an articulated part.
    """

    vertices: np.ndarray  # (V, 3)
    faces: np.ndarray  # (F, 3) indices of vertices
    paint: np.ndarray  # (F,) index of a material
    texture: np.ndarray  # (V, 3)

    def moved(self, rotation: np.ndarray | None = None, offset: Vector = (0.0, 0.0, 0.0)) -> Mesh:
        """Rotated about the origin by a (3, 3) matrix, then shifted."""
        turned = self.vertices if rotation is None else self.vertices @ rotation.T
        return replace(self, vertices=turned + np.asarray(offset, float))


def mesh(vertices: np.ndarray, faces: np.ndarray | list, paint: int = 0) -> Mesh:
    """A mesh of one paint."""
    vertices, faces = np.asarray(vertices, float), np.asarray(faces, np.int64)
    return Mesh(vertices, faces, np.full(len(faces), paint), vertices)


def merged(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several; paint slots are kept."""
    first = np.cumsum([0] + [len(part.vertices) for part in meshes[:-1]])
    return Mesh(
        np.concatenate([part.vertices for part in meshes]),
        np.concatenate([part.faces + start for part, start in zip(meshes, first)]),
        np.concatenate([part.paint for part in meshes]),
        np.concatenate([part.texture for part in meshes]),
    )


def rotation(axis: str, degrees: float) -> np.ndarray:
    """The (3, 3) matrix that turns by an angle about the x, y or z axis, right-handed.

    >>> rotation("z", 90).round().astype(int).tolist()
    [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    """
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def box(size: Vector, centre: Vector = (0, 0, 0), paint: int = 0, top: Vector = (1, 1), shift: float = 0.0) -> Mesh:
    """A box; ``top`` scales the upper face in x and y, ``shift`` moves it along x (cabins, hulls, seats).

    Vertices are not shared between sides, so that the edges shade sharply.
    """
    corners = np.array([[x, y, z] for z in (-0.5, 0.5) for y in (-0.5, 0.5) for x in (-0.5, 0.5)])
    corners[4:, :2] *= np.asarray(top, float)
    corners = corners * np.asarray(size, float) + np.asarray(centre, float)
    corners[4:, 0] += shift
    sides = np.array([[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]])
    start = 4 * np.arange(6)[:, None]
    faces = np.concatenate([start + [0, 1, 2], start + [0, 2, 3]])
    return mesh(corners[sides].reshape(-1, 3), faces, paint)


def ellipsoid(radii: Vector, centre: Vector = (0, 0, 0), paint: int = 0, segments: int = 14) -> Mesh:
    """An ellipsoid aligned with the axes."""
    around = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    polar = np.linspace(0, np.pi, segments // 2 + 1)
    ring = np.stack([np.cos(around), np.sin(around), np.ones(segments)], -1)
    scale = np.stack([np.sin(polar), np.sin(polar), np.cos(polar)], -1)
    points = (scale[:, None] * ring[None]).reshape(-1, 3)
    return mesh(points * np.asarray(radii, float) + np.asarray(centre, float), _grid(len(polar), segments), paint)


def tube(path: Sequence[Any] | np.ndarray, radii: Vector | float, paint: int = 0, segments: int = 9) -> Mesh:
    """Circles swept along a path (N, 3), one radius a point, closed by caps: cylinders, cones, limbs, handles."""
    points = np.asarray(path, float)
    radius = np.broadcast_to(np.asarray(radii, float), len(points))
    steps = points[1:] - points[:-1]
    along = np.concatenate([steps[:1], steps[1:] + steps[:-1], steps[-1:]])  # at each point, of its two steps
    along /= np.sqrt((along**2).sum(1))[:, None]
    side = np.eye(3)[np.abs(along).sum(0).argmin()]
    u = _cross(along, side)
    u /= np.sqrt((u**2).sum(1))[:, None]
    v = _cross(along, u)
    cosine, sine = _circle(segments)
    rings = points[:, None] + radius[:, None, None] * (cosine[:, None] * u[:, None] + sine[:, None] * v[:, None])
    walls, fan = _grid(len(points), segments), _fan(segments)
    first, last = len(points) * segments, (len(points) + 1) * segments + 1
    vertices = np.concatenate([rings.reshape(-1, 3), points[:1], rings[0], points[-1:], rings[-1]])
    return mesh(vertices, np.concatenate([walls, fan + first, fan[:, ::-1] + last]), paint)


def plate(outline: Sequence[Vector], thickness: Vector, paint: int = 0) -> Mesh:
    """A flat convex polygon (N, 3) swept along the vector ``thickness``, centred on it: wings, sails, fins."""
    points, half = np.asarray(outline, float), np.asarray(thickness, float) / 2
    count = len(points)
    fan = [[0, i, i + 1] for i in range(1, count - 1)]
    following = np.roll(points, -1, 0)
    rim = np.stack([points - half, following - half, following + half, points + half], 1).reshape(-1, 3)
    start = 4 * np.arange(count)[:, None]
    return merged(
        [
            mesh(points + half, fan, paint),
            mesh(points - half, [face[::-1] for face in fan], paint),
            mesh(rim, np.concatenate([start + [0, 1, 2], start + [0, 2, 3]]), paint),
        ]
    )


def wheel(radius: float, tyre: float, centre: Vector, paint: int = 0, spokes: int = 0, hub: int = 1) -> Mesh:
    """A wheel in the x-z plane: a tyre of the given half thickness with a hub disc, or with spokes."""
    angle = np.linspace(0, 2 * np.pi, 17)
    rim = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], -1) * (radius - tyre)
    ring = _ring(rim, tyre, paint)
    if not spokes:
        disc = tube([(0, -tyre, 0), (0, tyre, 0)], 0.55 * radius, hub, 12)
        wall = tube([(0, -0.7 * tyre, 0), (0, 0.7 * tyre, 0)], radius - 0.9 * tyre, paint, 14)
        return merged([ring, wall, disc]).moved(offset=centre)
    directions = np.linspace(0, 2 * np.pi, spokes, endpoint=False)
    ends = np.stack([np.cos(directions), 0 * directions, np.sin(directions)], -1) * (radius - tyre)
    bars = [tube([(0, 0, 0), end], 0.022 * radius / 0.35, hub, 4) for end in ends]
    return merged([ring, *bars, tube([(0, -2 * tyre, 0), (0, 2 * tyre, 0)], 1.4 * tyre, hub)]).moved(offset=centre)


def _ring(path: np.ndarray, thickness: float, paint: int, segments: int = 6) -> Mesh:
    """A torus around a closed circular path (N, 3) in the x-z plane whose last point is its first."""
    outward = path / np.linalg.norm(path, axis=1, keepdims=True)
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    offset = np.cos(angle)[None, :, None] * outward[:, None] + np.sin(angle)[None, :, None] * np.array([0, 1, 0])
    return mesh((path[:, None] + thickness * offset).reshape(-1, 3), _grid(len(path), segments), paint)


@lru_cache(maxsize=64)
def _grid(rows: int, columns: int) -> np.ndarray:
    """Faces (2 (rows - 1) columns, 3) of a grid of vertices that is closed along its columns."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    lower = np.stack([a, b, a + columns], -1).reshape(-1, 3)
    upper = np.stack([b, b + columns, a + columns], -1).reshape(-1, 3)
    return np.concatenate([lower, upper])


@lru_cache(maxsize=64)
def _fan(count: int) -> np.ndarray:
    """Faces (count, 3) from vertex 0 to a closed ring of the ``count`` vertices after it."""
    around = np.arange(count)
    return np.stack([0 * around, 1 + around, 1 + (around + 1) % count], -1)


@lru_cache(maxsize=64)
def _circle(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine (count,) of equal steps around a circle."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.cos(angle), np.sin(angle)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products (N, 3); much quicker than numpy's on arrays as short as these."""
    x, y, z = a.T
    u, v, w = b.T
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], -1)


@dataclass
class Assembly:
    """An instance under construction, in object axes and any unit of length."""

    parts: list[Mesh] = field(default_factory=list)
    points: dict[str, tuple[np.ndarray, float]] = field(default_factory=dict)

    def add(self, *parts: Mesh) -> None:
        """Add parts."""
        self.parts.extend(parts)

    def mark(self, name: str, position: Vector, reach: float = 0.03) -> None:
        """A semantic point; ``reach`` is how deep it may lie below the surface that shows it.

        A point on the axis of a limb lies one radius below the skin.
        """
        self.points[name] = np.asarray(position, float), reach

    def finish(self) -> Solid:
        """The instance, scaled and shifted so that its parts lie in the unit ball."""
        whole = merged(self.parts)
        middle = (whole.vertices.min(0) + whole.vertices.max(0)) / 2
        radius = np.linalg.norm(whole.vertices - middle, axis=1).max()
        return Solid(
            Mesh((whole.vertices - middle) / radius, whole.faces, whole.paint, whole.texture / radius),
            np.array([(place - middle) / radius for place, _ in self.points.values()]),
            np.array([reach / radius for _, reach in self.points.values()]),
            tuple(self.points),
            tuple(len(part.faces) for part in self.parts),
        )


@dataclass(frozen=True)
class Solid:
    """An instance of a category inside the unit ball around the origin."""

    mesh: Mesh
    points: np.ndarray  # (K, 3)
    reach: np.ndarray  # (K,)
    names: tuple[str, ...]  # of the points, the same for every instance of the category
    parts: tuple[int, ...]  # faces of each part, in the mesh's order


@dataclass(frozen=True)
class Category:
    """How instances of a category are built and from where they are photographed."""

    build: Callable[[np.random.Generator], Assembly]
    azimuth: tuple[float, float]  # degrees, see camera.look
    elevation: tuple[float, float]
