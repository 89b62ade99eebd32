"""From features and similarity maps to points, as each published code takes them; on numpy alone.

Maps are (K, h, w), one a source point; cells and points (K, 2) are (column, row) and (x, y). Features are
(C, h, w). All is float32, as in the authors' codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sc_imagenet.core.errors import InputError, unknown_name


def unit_vectors(features: np.ndarray, eps: float = 1e-10, axis: int = 0) -> np.ndarray:
    """Features over their norm + eps."""
    features = features.astype(np.float32)
    return features / (np.sqrt((features * features).sum(axis=axis, keepdims=True)) + np.float32(eps))


def cell_of(points: np.ndarray, side: int, grid: int) -> np.ndarray:
    """The cell index row * grid + column of points in a frame of ``side``, truncated (GeoAware-SC)."""
    cells = np.trunc(np.float32(grid / side) * points.astype(np.float32)).astype(int)
    return grid * cells[:, 1] + cells[:, 0]


def aligned_cells(points: np.ndarray, side: int, cells: int) -> np.ndarray:
    """Fractional cells (K, 2) of points in a frame of ``side``: first and last cell on first and last pixel.

    They go through coordinates from -1 to 1 in float32, as a sampling grid does.
    """
    last = np.float32(cells - 1)
    place = points.astype(np.float32) / np.float32(side - 1) * last
    return (place / last * np.float32(2) - np.float32(1) + np.float32(1)) / np.float32(2) * last


def similarity_maps(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Dot products (K, h, w) of source vectors (K, C) with target features (C, h, w)."""
    channels, height, width = target.shape
    return (source.astype(np.float32) @ target.reshape(channels, -1).astype(np.float32)).reshape(-1, height, width)


def nearest(maps: np.ndarray) -> np.ndarray:
    """The first largest cell of each map, (K, 2) integers."""
    index = maps.reshape(len(maps), -1).argmax(axis=1)
    return np.stack([index % maps.shape[2], index // maps.shape[2]], axis=1)


def window_soft_argmax(maps: np.ndarray, window: int, temperature: float = 0.02) -> np.ndarray:
    """Expected cell (K, 2) of the softmax over the whole map with all but a window set to ZERO (GeoAware-SC).

    ``window`` w > 0: the (2w + 1) x (2w + 1) cells around the first maximum; 0: nothing is set to zero; below 0:
    the map times a Gaussian of sigma -w around the maximum.
    """
    maps = maps.astype(np.float32)
    if window > 0:
        maps = maps * _within(maps, window)
    elif window < 0:
        maps = maps * _gauss(maps, -window)
    return _expected(maps, temperature)


def inner_soft_argmax(maps: np.ndarray, window: int, temperature: float = 0.02) -> np.ndarray:
    """As ``window_soft_argmax``, but cells outside the window have no part in the softmax (OmniProbe)."""
    maps = maps.astype(np.float32)
    if window > 0:
        maps = np.where(_within(maps, window), maps, -np.inf)
    elif window < 0:
        maps = maps * _gauss(maps, -window)
    return _expected(maps, temperature)


def kernel_softmax(maps: np.ndarray, sigma: float, temperature: float) -> np.ndarray:
    """Expected cell (K, 2) of the softmax of the map times a Gaussian around its first maximum (SD4Match, MARCO)."""
    return _expected(maps.astype(np.float32) * _gauss(maps, sigma), temperature)


def softmax(maps: np.ndarray, temperature: float) -> np.ndarray:
    """Expected cell (K, 2) of the softmax over the whole map."""
    return _expected(maps.astype(np.float32), temperature)


def sample(features: np.ndarray, points: np.ndarray, zeros: bool = False) -> np.ndarray:
    """Features (K, C) at fractional cells (K, 2), bilinear; beyond the border zeros, or the border's."""
    height, width = features.shape[1:]
    low = np.floor(points).astype(int)
    part = (points - low).astype(np.float32)
    found = np.zeros((len(points), len(features)), np.float32)
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = low[:, 0] + dx, low[:, 1] + dy
            weight = (part[:, 0] if dx else 1 - part[:, 0]) * (part[:, 1] if dy else 1 - part[:, 1])
            if zeros:
                weight = weight * ((x >= 0) & (x < width) & (y >= 0) & (y < height))
            found += weight[:, None] * features[:, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)].T
    return found


def bilinear(source: np.ndarray, target: np.ndarray, queries: np.ndarray, eps: float | None = 1e-6) -> np.ndarray:
    """Mean of the nearest cells of the four source cells around each query, by opposite areas (SD4Match).

    ``source`` and ``target`` are features (C, h, w), ``queries`` fractional cells (K, 2); ``eps`` None: as they are.
    """
    height, width = source.shape[1:]
    queries = np.clip(queries, 1e-5, np.array([width, height]) - 1 - 1e-5).astype(np.float32)
    low = np.floor(queries).astype(int)
    part = queries - low
    targets = target.astype(np.float32) if eps is None else unit_vectors(target, eps)
    found = np.zeros((len(queries), 2), np.float32)
    for dx in (0, 1):
        for dy in (0, 1):
            vectors = source[:, low[:, 1] + dy, low[:, 0] + dx].T.astype(np.float32)
            cells = nearest(similarity_maps(vectors if eps is None else unit_vectors(vectors, eps, axis=1), targets))
            weight = (part[:, 0] if dx else 1 - part[:, 0]) * (part[:, 1] if dy else 1 - part[:, 1])
            found += weight[:, None] * cells
    return found


def upsampled(features: np.ndarray, width: int, height: int) -> np.ndarray:
    """Features (C, height, width), bilinear, pixel centres kept (align_corners false)."""
    features = _along(features.astype(np.float32), height, 1)
    return _along(features, width, 2)


def _along(features: np.ndarray, size: int, axis: int) -> np.ndarray:
    cells = features.shape[axis]
    half = np.float32(0.5)
    place = np.maximum((np.arange(size, dtype=np.float32) + half) * np.float32(cells / size) - half, 0)
    low = np.minimum(place.astype(int), cells - 1)
    part = (place - low.astype(np.float32)).reshape([-1 if a == axis else 1 for a in range(3)])
    one, two = np.take(features, low, axis), np.take(features, np.minimum(low + 1, cells - 1), axis)
    return one * (1 - part) + two * part


def _within(maps: np.ndarray, window: int) -> np.ndarray:
    cells = nearest(maps)
    columns = np.abs(np.arange(maps.shape[2]) - cells[:, :1]) <= window
    rows = np.abs(np.arange(maps.shape[1]) - cells[:, 1:]) <= window
    return rows[:, :, None] & columns[:, None, :]


def _gauss(maps: np.ndarray, sigma: float) -> np.ndarray:
    cells = nearest(maps).astype(np.float32)
    columns = (np.arange(maps.shape[2], dtype=np.float32) - cells[:, :1]) ** 2
    rows = (np.arange(maps.shape[1], dtype=np.float32) - cells[:, 1:]) ** 2
    return np.exp(-(rows[:, :, None] + columns[:, None, :]) / np.float32(2 * sigma**2)).astype(np.float32)


def _expected(maps: np.ndarray, temperature: float) -> np.ndarray:
    """Expected column and row under the softmax of each map, (K, 2) float32."""
    count, height, width = maps.shape
    flat = maps.reshape(count, -1)
    likely = np.exp((flat - flat.max(axis=1, keepdims=True)) / np.float32(temperature)).astype(float)
    likely = (likely / likely.sum(axis=1, keepdims=True)).reshape(maps.shape)
    x = likely.sum(axis=1) @ np.arange(width)
    y = likely.sum(axis=2) @ np.arange(height)
    return np.stack([np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)], axis=1).astype(np.float32)


# A read-out by its name, as protocols and models state it.

KINDS = {
    "nearest": "the first best cell",
    "bilinear": "the mean of the best cells of the four cells around the point",
    "window-soft-argmax": "the expected cell, similarities outside a window around the best set to zero",
    "inner-soft-argmax": "the expected cell of those inside the window",
    "gauss-soft-argmax": "the expected cell, similarities weighed by a Gaussian around the best",
    "softmax": "the expected cell",
    "kernel-softmax": "as gauss-soft-argmax",
}
QUERIES = ("cell", "aligned", "displaced")
PLACES = ("centre", "centre-0.5", "corner", "aligned")


@dataclass(frozen=True)
class Readout:
    """How a similarity map becomes a point; ``read_points`` computes it.

    kind          nearest, window-soft-argmax, gauss-soft-argmax, bilinear, softmax, kernel-softmax, upsampled
    grid          cells a side, None: what the features have
    window        half-width in cells; 0: the whole map
    temperature   of the softmax
    sigma         of the Gaussian, in cells
    place         where in the frame a cell lies: centre, centre-0.5, corner (top left), aligned (first and last
                  cell on the first and last pixel), pixel (features were up-sampled to the image)
    query         how the source's feature is taken: cell (truncated), aligned (bilinear, corners aligned),
                  pixel, floor-pixel, displaced (MARCO: not aligned, read as if it were)
    """

    kind: str = "any"
    grid: int | None = None
    window: int | None = None
    temperature: float | None = None
    sigma: float | None = None
    place: str = ""
    query: str = ""

    @classmethod
    def parse(cls, text: str) -> Readout:
        """A read-out as it is typed: its kind, then what it needs; the centres of cells and whole cells by default.

        >>> Readout.parse("kernel-softmax sigma=7 temperature=0.04 place=aligned query=aligned").sigma
        7.0

        Raises:
            InputError: anything else, or see ``check_readout``.
        """
        kind, *given = text.split() or [""]
        kinds = {"window": int, "temperature": float, "sigma": float, "place": str, "query": str}
        values: dict[str, Any] = {"place": "centre", "query": "cell"}
        for part in given:
            name, _, value = part.partition("=")
            if name not in kinds:
                raise unknown_name("number of a read-out", name, kinds)
            try:
                values[name] = kinds[name](value)
            except ValueError as error:
                raise InputError(f"{part!r} in a read-out is no number") from error
        readout = cls(kind, **values)
        check_readout(readout)
        return readout


def check_readout(readout: Readout) -> None:
    """See that ``read_points`` can compute a read-out.

    Raises:
        InputError: a kind, a query or a place that it does not know, or a number that the kind needs is missing.
    """
    for name, valid in (("kind", KINDS), ("query", QUERIES), ("place", PLACES)):
        if (given := getattr(readout, name)) not in valid:
            raise unknown_name(f"{name} of a read-out", given, valid)
    if readout.kind == "bilinear" and readout.query == "cell":
        raise InputError("a bilinear read-out has no query 'cell'", fix="Take aligned or displaced.")
    needed = {
        "window-soft-argmax": ("window", "temperature"),
        "inner-soft-argmax": ("window", "temperature"),
        "gauss-soft-argmax": ("sigma", "temperature"),
        "kernel-softmax": ("sigma", "temperature"),
        "softmax": ("temperature",),
    }
    for name in needed.get(readout.kind, ()):
        value = getattr(readout, name)
        if value is None or not value >= 0 or (name != "window" and value == 0):
            raise InputError(f"a {readout.kind} read-out with {name} {value}", fix=f"Give it a positive {name}.")


def read_points(readout: Readout, source: np.ndarray, target: np.ndarray, points: np.ndarray, side: int) -> np.ndarray:
    """Where points (K, 2) of a source lie in the target, both in a frame of ``side`` pixels.

    ``source`` and ``target`` are square maps of features (C, n, n) whose inner products are similarities.

    >>> eye = np.eye(4, dtype=np.float32).reshape(4, 2, 2)
    >>> read_points(Readout("nearest", place="centre", query="cell"), eye, eye[:, ::-1], np.array([[1.0, 2.0]]), 8)
    array([[2., 6.]], dtype=float32)

    Raises:
        InputError: see ``check_readout``.
    """
    check_readout(readout)
    grid = source.shape[2]
    inside = np.clip(points, 0, np.nextafter(np.float32(side), np.float32(0)))
    if readout.query == "cell":
        vectors = source.reshape(len(source), -1)[:, cell_of(inside, side, grid)].T
    else:
        queries = aligned_cells(inside, side, grid)
        if readout.query == "displaced":
            queries = np.clip(inside.astype(np.float32) * np.float32(grid / side), 0, grid - 1)
        if readout.kind == "bilinear":
            return _placed(bilinear(source, target, queries, None), readout, side, grid)
        vectors = sample(source, queries, zeros=readout.query == "aligned")
    return _placed(_cells(readout, similarity_maps(vectors, target)), readout, side, target.shape[2])


def _cells(readout: Readout, maps: np.ndarray) -> np.ndarray:
    if readout.kind == "nearest":
        return nearest(maps)
    assert readout.temperature is not None
    if readout.kind == "softmax":
        return softmax(maps, readout.temperature)
    if readout.kind in ("gauss-soft-argmax", "kernel-softmax"):
        assert readout.sigma is not None
        return kernel_softmax(maps, readout.sigma, readout.temperature)
    assert readout.window is not None
    soft = window_soft_argmax if readout.kind == "window-soft-argmax" else inner_soft_argmax
    return soft(maps, readout.window, readout.temperature)


def _placed(cells: np.ndarray, readout: Readout, side: int, grid: int) -> np.ndarray:
    """Where cells lie in the frame, (K, 2) float32."""
    stride = side / grid
    if readout.place == "aligned":
        stride, start = (side - 1) / max(grid - 1, 1), 0.0
    else:
        start = {"centre": stride / 2, "centre-0.5": stride / 2 - 0.5, "corner": 0.0}[readout.place]
    return (cells * stride + start).astype(np.float32)


def read_maps(readout: Readout, maps: np.ndarray, side: int) -> np.ndarray:
    """Where the points of maps (K, n, n) of similarities lie in the target's frame of ``side`` pixels, (K, 2).

    >>> read_maps(Readout("nearest", place="corner", query="cell"), np.eye(4).reshape(4, 2, 2)[3:], 8).tolist()
    [[4.0, 4.0]]

    Raises:
        InputError: see ``check_readout``.
    """
    check_readout(readout)
    return _placed(_cells(readout, maps), readout, side, maps.shape[2])
