"""Random materials: a colour pair and a solid texture that is evaluated at positions in object space."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

PATTERNS = ("plain", "stripes", "checks", "spots", "marble")
SHARES = (0.5, 0.15, 0.1, 0.1, 0.15)


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


def random_colour(rng: np.random.Generator, saturation: float = 0.75) -> np.ndarray:
    """An RGB colour (3,) in [0, 1] of any hue, neither black nor glaring."""
    return np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0, saturation), rng.uniform(0.2, 0.95)))


def random_materials(rng: np.random.Generator, count: int) -> Materials:
    """Independent materials; the second colour of each is a relative of the first."""
    first = np.array([random_colour(rng) for _ in range(count)])
    other = np.array([random_colour(rng) for _ in range(count)])
    axes = np.array([np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(count)])
    return Materials(
        first,
        0.35 * first + 0.65 * other,
        rng.choice(len(PATTERNS), count, p=SHARES),
        rng.uniform(12, 40, count),
        axes,
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
