"""Matching without training: a backbone's own features, the mutual nearest-neighbour filter and Hough scores.

What the generator labels with before its network is trained, and what the trained network is measured against.
"""

from __future__ import annotations

from torch import Tensor

from sc_imagenet.generation.cascade.read_out import read_out
from sc_imagenet.generation.features import Features
from sc_imagenet.geometry.correlation import inner_product, mutual_nearest_neighbour
from sc_imagenet.geometry.hough import HoughSpace, grid_scores

HOUGH_LENGTH = 5  # cells; the paper's best (Table 4)
LEAST_VOTE = 0.2  # of a match between background cells, of that between foreground cells
SHARPNESS = 0.05  # temperature of the soft-argmax that reads the match


class RawMatcher:
    """Matches every source cell by the backbone's features alone."""

    name = "raw features"

    def match(
        self,
        source: Features,
        target: Features,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Where every source cell lies in the target, and how sure that is.

        Args:
            source, target: features of B images each, grids (h, w).
            source_mask, target_mask: saliency (B, h, w) in [0, 1] that votes are weighted by; None: all alike.

        Returns:
            target_xy (B, N, 2), cells of the target's grid; confidence (B, N) in [0, 1]: see ``read_out``.
        """
        volume = inner_product(source.tokens, target.tokens).relu_()
        filtered = mutual_nearest_neighbour(volume)
        votes = filtered.square()
        if source_mask is not None and target_mask is not None:
            ours, theirs = (mask.flatten(1).clamp(min=LEAST_VOTE) for mask in (source_mask, target_mask))
            votes *= ours[:, :, None] * theirs[:, None]
        scores = grid_scores(votes, HoughSpace(source.grid, target.grid, window=HOUGH_LENGTH))
        scores *= volume
        return read_out(scores, target.grid, SHARPNESS)
