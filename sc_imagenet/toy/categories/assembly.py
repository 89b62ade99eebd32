"""What a category is made with: parts are added, semantic points are marked where the parts are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sc_imagenet.toy.mesh import Mesh, Vector, merged


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
