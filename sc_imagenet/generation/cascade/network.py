"""The cascaded network: an MVAM for whole images, one for regions, one for pixels; and what it is read by.

image level   v_f of the pair -> PMPS -> candidate pairs of cells
region level  a window around each candidate in both images -> v_f of the windows -> PMPS -> the best pair of each
pixel level   v_f of the pair, supervised by what is left of those; what inference reads
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sc_imagenet.generation.cascade.mvam import MVAM
from sc_imagenet.generation.cascade.network_options import STAGES, NetworkOptions, Stage
from sc_imagenet.generation.cascade.pmps import (
    Matches,
    cut_windows,
    hough_scores,
    match_probability,
    match_votes,
    window_cells,
    window_starts,
)
from sc_imagenet.generation.cascade.read_out import read_out
from sc_imagenet.generation.features import Features
from sc_imagenet.geometry.correlation import mutual_nearest_neighbour

REGIONS_AT_ONCE = 2**11  # windows of a pass where every cell of an image gets one
SHARPNESS = 0.15  # temperature of the soft-argmax that reads the match


class CascadeNetwork(nn.Module):
    """The three stages.

    Args:
        channels: C of the backbone's tokens.
        options: see ``NetworkOptions``.
    """

    def __init__(self, channels: int, options: NetworkOptions) -> None:
        super().__init__()
        self.options = options
        self.stages = nn.ModuleDict()
        shared: Any = None  # the image stage's gated attention, if all are to share it
        for stage in STAGES[: options.depth]:
            fold = options.region_fold if stage == "region" else options.fold
            self.stages[stage] = MVAM(channels, options, fold, shared)
            if options.shared_attention:
                shared = self.stages[stage].attention

    def volume(self, stage: Stage, source: Features, target: Features) -> Tensor:
        """v_f of a stage for B pairs: (B, N_source, N_target)."""
        return self.stages[stage](source, target)

    def reweighted(
        self,
        volume: Tensor,
        source: Features,
        target: Features,
        source_saliency: Tensor | None = None,
        target_saliency: Tensor | None = None,
    ) -> Tensor:
        """What ``reading`` makes of v_f, times h / max(h) unless PMPS has no Hough scores; saliency is (B, N)."""
        options = self.options
        votes = match_votes(volume, options) if options.hough else None
        if options.reading == "probability":
            known = votes if options.votes == "softmax" else None
            positive = (match_probability(volume, options.temperature) if known is None else known).sqrt()
        else:
            positive = volume.relu()
            if options.reading == "mutual":
                positive = mutual_nearest_neighbour(positive)
        if votes is None:
            return positive
        if not options.saliency:
            source_saliency = target_saliency = None
        return positive * hough_scores(votes, source.grid, target.grid, options, source_saliency, target_saliency)

    def regions(self, features: Features, cells: Tensor) -> tuple[Features, Tensor]:
        """Windows around flat cells (B, K): their features (B * K, C, side, side), and their cells (B, K, side^2).

        A window's global token is the mean of its tokens.
        """
        side = self.region_side(features)
        starts = window_starts(cells, features.grid, side)
        tokens = cut_windows(features.tokens, starts, side).flatten(0, 1)
        return Features(tokens, tokens.mean((2, 3))), window_cells(starts, features.grid, side)

    def region_side(self, features: Features) -> int:
        """Side of a window in cells; a grid smaller than it is one window."""
        return min(self.options.region_side, *features.grid)

    def refine(self, matches: Matches, source: Features, target: Features, scores: Tensor) -> Matches:
        """Region level: of each match's two windows the best pair of cells, scored by both levels.

        Args:
            matches: K candidates.
            source, target: features of the images.
            scores: v_f of the windows, re-weighted, in [0, inf): (B * K, side^2, side^2); what must not be
                selected is 0.
        """
        side = self.region_side(source)
        width = side * side
        best, where = scores.flatten(1).max(1)
        best, where = best.view_as(matches.scores), where.view_as(matches.source)
        source_cells = window_cells(window_starts(matches.source, source.grid, side), source.grid, side)
        target_cells = window_cells(window_starts(matches.target, target.grid, side), target.grid, side)
        ours = source_cells.gather(2, (where // width)[..., None])[..., 0]
        theirs = target_cells.gather(2, (where % width)[..., None])[..., 0]
        valid = matches.valid & (best > 0)
        return Matches(ours * valid, theirs * valid, matches.scores * best * valid, valid)

    def scores(
        self,
        source: Features,
        target: Features,
        source_saliency: Tensor | None = None,
        target_saliency: Tensor | None = None,
        stage: Stage | None = None,
    ) -> Tensor:
        """Scores of all matches, as inference reads them: (B, N_source, N_target), non-negative.

        Args:
            source, target: features of B pairs.
            source_saliency, target_saliency: (B, N) in [0, 1]; None: all cells count alike.
            stage: read another stage than the last, as a diagnostic.
        """
        stage = stage or self.options.stages
        whole = self.volume("image" if stage == "region" else stage, source, target)
        scores = self.reweighted(whole, source, target, source_saliency, target_saliency)
        return self._by_regions(scores, source, target) if stage == "region" else scores

    def _by_regions(self, scores: Tensor, source: Features, target: Features) -> Tensor:
        """Image-level scores, raised within the target window that each source cell's best match lies in.

        The window's row of the region level's v_f decides between its cells.
        """
        batch, cells, _ = scores.shape
        ours = torch.arange(cells, device=scores.device).expand(batch, -1)
        rows = []
        most = max(1, REGIONS_AT_ONCE // batch)
        for part, best in zip(ours.split(most, 1), scores.argmax(2).split(most, 1)):
            source_windows, source_cells = self.regions(source, part)
            target_windows, target_cells = self.regions(target, best)
            volume = self.volume("region", source_windows, target_windows).unflatten(0, part.shape)
            own = (source_cells == part[..., None]).int().argmax(2)  # the cell's place in its own window
            row = volume.gather(2, own[..., None, None].expand(-1, -1, 1, volume.shape[3]))[:, :, 0]
            image = scores.gather(1, part[..., None].expand(-1, -1, scores.shape[2]))
            inside = image.gather(2, target_cells) * row.relu()
            raised = image.amax(2, keepdim=True) * (1 + inside / inside.amax(2, keepdim=True).clamp(min=1e-12))
            rows.append(image.scatter(2, target_cells, raised))
        return torch.cat(rows, 1)

    def match(
        self,
        source: Features,
        target: Features,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Where every source cell lies in the target, and how sure that is.

        Args:
            source, target: features of B images each.
            source_mask, target_mask: saliency (B, h, w) in [0, 1]; None: all alike.

        Returns:
            target_xy (B, N, 2), cells of the target's grid; confidence (B, N) in [0, 1]: see ``read_out``.
        """
        ours, theirs = (None if mask is None else mask.flatten(1) for mask in (source_mask, target_mask))
        return read_out(self.scores(source, target, ours, theirs), target.grid, SHARPNESS)
