"""Random materials: a colour pair and a solid texture that is evaluated at positions in object space."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

PATTERNS = ("plain", "stripes", "checks", "spots", "marble")
SHARES = (0.5, 0.15, 0.1, 0.1, 0.15)


@dataclass(frozen=True)
class Role:
    """Which colours a kind of part has: tyres are dark, windows pale, lamps vivid, bodies anything."""

    saturation: tuple[float, float]
    value: tuple[float, float]
    patterned: bool


ROLES = (
    Role((0, 0.75), (0.25, 0.95), patterned=True),  # 0 main
    Role((0, 0.75), (0.25, 0.95), patterned=True),  # 1 second
    Role((0, 0.4), (0.04, 0.22), patterned=False),  # 2 dark
    Role((0, 0.25), (0.75, 1), patterned=False),  # 3 pale
    Role((0.75, 1), (0.65, 1), patterned=False),  # 4 vivid
)
PAINTS = len(ROLES)  # paint slots of an object


@dataclass(frozen=True)
class Materials:
    """A table of M materials, one row each."""

    first: np.ndarray  # (M, 3) colour in [0, 1]
    second: np.ndarray  # (M, 3) the pattern's other colour
    pattern: np.ndarray  # (M,) index of PATTERNS
    frequency: np.ndarray  # (M,) radians a unit of length
    axes: np.ndarray  # (M, 3, 3) orientation of the pattern

    def colours(self, material: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Colours (N, 3) of the materials (N,) at the positions (N, 3)."""
        mixed = np.zeros(len(material))
        for index in np.unique(material):
            here = material == index
            local = positions[here] @ self.axes[index].T * self.frequency[index]
            mixed[here] = _pattern(PATTERNS[self.pattern[index]], local)
        first, second = self.first[material], self.second[material]
        return first + mixed[:, None] * (second - first)


def random_colour(rng: np.random.Generator, role: Role = ROLES[0]) -> np.ndarray:
    """An RGB colour (3,) in [0, 1] of any hue, its saturation and value as the role has them."""
    return np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(*role.saturation), rng.uniform(*role.value)))


def random_materials(rng: np.random.Generator, objects: int) -> Materials:
    """One material for each role and object; the second colour of each is a relative of the first."""
    roles = ROLES * objects
    first = np.array([random_colour(rng, role) for role in roles])
    other = np.array([random_colour(rng, role) for role in roles])
    shares = np.array(SHARES)
    return Materials(
        first,
        0.35 * first + 0.65 * other,
        np.array([rng.choice(len(PATTERNS), p=shares) if role.patterned else 0 for role in roles]),
        rng.uniform(12, 40, len(roles)),
        np.linalg.qr(rng.standard_normal((len(roles), 3, 3)))[0],
    )


def _pattern(name: str, local: np.ndarray) -> np.ndarray:
    """How much of the second colour a pattern shows at positions (N, 3) in radians."""
    if name == "plain":
        return np.zeros(len(local))
    if name == "stripes":
        return (np.sin(local[:, 0]) > 0.1).astype(float)
    waves = np.sin(local)
    if name == "checks":
        return (waves.prod(1) > 0).astype(float)
    if name == "spots":
        return (waves.sum(1) > 1.3).astype(float)
    return 0.5 + 0.5 * np.sin(local[:, 0] + 2 * waves[:, 1] + 1.5 * np.sin(0.6 * local[:, 2] + waves[:, 0]))
