"""Flow between few matches: affine inside each triangle of the matched points; on numpy and scipy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, QhullError

Array = NDArray[np.float64]


def triangulated_flow(source: Array, target: Array, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The flow that matches give to the cells of a mask.

    Args:
        source: (M, 2) matched points, (column, row) in cells of the source.
        target: (M, 2) where they lie in the target.
        mask: (h, w) cells of the source that are wanted.

    Returns:
        (h, w, 2), columns and rows from each cell to its place in the target; 0 outside the mask and outside the hull
        of the points, and everywhere if they have no area.

    >>> corners = np.array([[0.0, 0], [2, 0], [0, 2], [2, 2]])
    >>> triangulated_flow(corners, 2 * corners, np.ones((3, 3), bool))[1, 1].tolist()
    [1.0, 1.0]
    """
    flow = np.zeros((*mask.shape, 2), np.float32)
    rows, columns = np.nonzero(mask)
    cells = np.stack((columns, rows), 1).astype(np.float64)
    if len(source) < 3 or not len(cells):
        return flow
    try:
        triangles = Delaunay(source)
    except QhullError:  # all on one line
        return flow
    found = triangles.find_simplex(cells)
    inside = found >= 0
    affine = triangles.transform[found[inside]]
    two = np.einsum("nij,nj->ni", affine[:, :2], cells[inside] - affine[:, 2])
    weights = np.concatenate((two, 1 - two.sum(1, keepdims=True)), 1)
    places = (weights[:, :, None] * target[triangles.simplices[found[inside]]]).sum(1)
    moved = places - cells[inside]
    flow[rows[inside], columns[inside]] = np.where(np.isfinite(moved), moved, 0)  # of a triangle without area
    return flow
