"""The paper's network: MVAMs for whole images, regions and pixels, and how their volumes are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_imagenet.backbones.backbone import with_positions_of
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json
from sc_imagenet.data.tensor_files import read_state
from sc_imagenet.generation.cascade.options import STAGES, NetworkOptions, Stage, read_as_then
from sc_imagenet.generation.cascade.pmps import (
    Matches,
    balanced,
    cut_windows,
    hough_scores,
    match_probability,
    match_votes,
    read_out,
    window_cells,
    window_starts,
)
from sc_imagenet.generation.cascade.volume_attention import VolumeAggregation, only_zero
from sc_imagenet.generation.features import FeatureReader, Features
from sc_imagenet.generation.options import WIDEST
from sc_imagenet.geometry.correlation import mutual_nearest_neighbour

# MVAM, the matching volume aggregation module: features of a pair -> an aggregated matching volume.
#
# Feature level (Eq. 1): tokens of each image attend to the other image's, gated by the other image's global token.
# Volume level: windowed self-attention over the four dimensions of the folded volume. Both add to what they are given
# through weights that start at zero: an untrained module gives the cosines of the backbone's features, all scaled
# alike by its gates.

OPEN = 2.0  # bias of a gate before training: sigmoid(2) = 0.88


class MVAM(nn.Module):
    """One stage's module.

    Args:
        channels: C of the tokens.
        options: see ``NetworkOptions``.
        fold: cells of each dimension folded into one token of the volume's attention.
        attention: gated attention of another stage to share; None makes an own one.
    """

    def __init__(
        self, channels: int, options: NetworkOptions, fold: int, attention: GatedAttention | None = None
    ) -> None:
        super().__init__()
        self.attention = attention or GatedAttention(channels, options)
        self.aggregation = VolumeAggregation(options, fold) if options.aggregation else None

    def forward(self, source: Features, target: Features) -> Tensor:
        """Features of B pairs -> v_f (B, N_source, N_target)."""
        volume = self.attention.volume(*self.attention(source, target))
        return volume if self.aggregation is None else self.aggregation(volume, source.grid, target.grid)

    def begin_as(self, before: MVAM | None) -> None:
        """Take over the attention of the stage before, None: that of no training, with an aggregation of none."""
        if before is None:
            self.attention.be_identity()
        elif before.attention is not self.attention:
            self.attention.load_state_dict(before.attention.state_dict())
        if self.aggregation is not None:
            self.aggregation.be_identity()


class GatedAttention(nn.Module):
    """L layers of gated cross attention, and the volume of what they give (Eq. 1)."""

    def __init__(self, channels: int, options: NetworkOptions) -> None:
        super().__init__()
        self.gate_volume = options.gate_volume
        self.layers = nn.ModuleList(GatedCrossAttention(channels, options) for _ in range(options.attention_layers))
        self.gate_scale = nn.Parameter(torch.zeros(()))
        self.gate_bias = nn.Parameter(torch.tensor(OPEN))

    @torch.no_grad()
    def be_identity(self) -> None:
        """Let tokens come out as they went in, and all gates be open alike."""
        self.gate_scale.zero_()
        self.gate_bias.fill_(OPEN)
        for layer in self.layers:
            cast(GatedCrossAttention, layer).be_identity()

    def forward(self, source: Features, target: Features) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Refined tokens (B, N, C) of both images, of the tokens' scale, and their gates (B, N, 1)."""
        gates = self.gate(source, target), self.gate(target, source)
        ours, theirs = (features.tokens.flatten(2).transpose(1, 2).contiguous() for features in (source, target))
        for layer in self.layers:
            ours, theirs = layer(ours, theirs, *gates), layer(theirs, ours, *reversed(gates))
        return ours, theirs, *gates

    def gate(self, features: Features, other: Features) -> Tensor:
        """G = sigmoid(scale * <tokens, the other image's global token> + bias): (B, N, 1)."""
        agreement = torch.einsum("bchw,bc->bhw", features.tokens, other.global_token).flatten(1)
        return torch.sigmoid(self.gate_scale * agreement + self.gate_bias)[..., None]

    def volume(self, source: Tensor, target: Tensor, source_gate: Tensor, target_gate: Tensor) -> Tensor:
        """v_r (B, N_source, N_target): cosines of the refined tokens, times both gates if ``gate_volume``.

        A factor on a token cancels in its cosines, so that the last layer's gate only acts on the volume.
        """
        source, target = F.normalize(source, dim=-1), F.normalize(target, dim=-1)
        if self.gate_volume:
            source, target = source * source_gate, target * target_gate
        return source @ target.transpose(1, 2)


class GatedCrossAttention(nn.Module):
    """F + G * MHA(query F, key and value the other image's gated tokens), then a linear layer beside each token."""

    def __init__(self, channels: int, options: NetworkOptions) -> None:
        super().__init__()
        self.heads = options.heads
        width = options.attention_width
        self.scale = channels**0.5  # tokens have norm 1; linear layers want entries of about 1
        self.query = nn.Linear(channels, width)
        self.key = nn.Linear(channels, width)
        self.value = nn.Linear(channels, width)
        self.output = nn.Linear(width, channels)
        self.projection = nn.Linear(channels, channels, bias=False) if options.token_projection else None
        self.be_identity()

    def be_identity(self) -> None:
        """Let the last layers be zero."""
        for last in (self.output, self.projection):
            for parameter in () if last is None else last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, others: Tensor, gate: Tensor, other_gate: Tensor) -> Tensor:
        """Tokens (B, N, C), the other image's (B, M, C), gates (B, N, 1) and (B, M, 1) -> (B, N, C)."""
        refined = tokens
        if not only_zero(self.output):
            seen = others * (other_gate * self.scale)
            query, key, value = (
                linear(given).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for linear, given in ((self.query, tokens * self.scale), (self.key, seen), (self.value, seen))
            )
            mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            refined = tokens + self.output(mixed) * (gate / self.scale)
        return refined if self.projection is None else refined + self.projection(tokens)


# The cascaded network: an MVAM for whole images, one for regions, one for pixels; and what it is read by.
#
# image level   v_f of the pair -> PMPS -> candidate pairs of cells
# region level  a window around each candidate in both images -> v_f of the windows -> PMPS -> the best pair of each
# pixel level   v_f of the pair, supervised by what is left of those; what inference reads, with the image level's

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
        of_region = replace(options, window=max(options.window, -(-options.region_side // options.region_fold)))
        for stage in STAGES[: options.depth]:
            region = stage == "region"  # one window: padded to several it would cost many times as much
            fold = options.region_fold if region else options.fold
            self.stages[stage] = MVAM(channels, of_region if region else options, fold, shared)
            if options.shared_attention:
                shared = self.stages[stage].attention

    def stage(self, name: Stage) -> MVAM:
        """A stage's module."""
        return cast(MVAM, self.stages[name])

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
        temperature: float | None = None,
    ) -> Tensor:
        """What ``reading`` makes of v_f, times h / max(h) unless PMPS has no Hough scores; saliency is (B, N).

        ``temperature`` is that of the volume's stage, None: the options'.
        """
        options = self.options if temperature is None else replace(self.options, temperature=temperature)
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
        scores = positive * hough_scores(votes, source.grid, target.grid, options, source_saliency, target_saliency)
        return balanced(scores) if options.balanced else scores

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
        temperatures = (self.options.temperature_of(stage),)
        return next(self.scores_at(temperatures, stage, source, target, source_saliency, target_saliency))

    def scores_at(
        self,
        temperatures: Sequence[float],
        stage: Stage,
        source: Features,
        target: Features,
        source_saliency: Tensor | None = None,
        target_saliency: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """What ``scores`` gives if a stage's volume is read at each of some temperatures."""
        if stage != "region":
            volume = self.volume(stage, source, target)
            if stage == "pixel" and self.options.joined:
                volume = (volume + self.volume("image", source, target)) / 2
            for temperature in temperatures:
                yield self.reweighted(volume, source, target, source_saliency, target_saliency, temperature)
            return
        image = self.scores(source, target, source_saliency, target_saliency, "image")
        rows, cells = self._window_rows(image.argmax(2), source, target)
        for temperature in temperatures:
            probable = self.options.reading == "probability"
            likely = (rows / temperature).softmax(2).sqrt() if probable else rows.relu()
            inside = image.gather(2, cells) * likely
            raised = 1 + inside / inside.amax(2, keepdim=True).clamp(min=1e-12)
            yield image.scatter(2, cells, image.amax(2, keepdim=True) * raised)

    def _window_rows(self, best: Tensor, source: Features, target: Features) -> tuple[Tensor, Tensor]:
        """Each source cell's row of the region level's v_f, and its cells: (B, N, side^2) both.

        The windows lie around the cell and around its best match by the image level (B, N). That level's scores are
        raised within the target's window, whose row decides between its cells.
        """
        ours = torch.arange(best.shape[1], device=best.device).expand_as(best)
        rows, cells = [], []
        most = max(1, REGIONS_AT_ONCE // len(best))
        for part, there in zip(ours.split(most, 1), best.split(most, 1)):
            source_windows, source_cells = self.regions(source, part)
            target_windows, target_cells = self.regions(target, there)
            volume = self.volume("region", source_windows, target_windows).unflatten(0, part.shape)
            own = (source_cells == part[..., None]).int().argmax(2)  # the cell's place in its own window
            rows.append(volume.gather(2, own[..., None, None].expand(-1, -1, 1, volume.shape[3]))[:, :, 0])
            cells.append(target_cells)
        return torch.cat(rows, 1), torch.cat(cells, 1)

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


# The network with the backbone it reads, from the folder of a trained model.


def load_network(folder: Path | str) -> tuple[FeatureReader, CascadeNetwork]:
    """What ``scbench generate train``, or ``save_pretrained`` of ``baselines.cascade``, wrote, in evaluation mode.

    Raises:
        InputError: files are missing, damaged or of another model.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    try:
        config = read_as_then(config)
        options = NetworkOptions(**(config["network"] or {}))
        backbone, layers, size = config["backbone"], config["layers"], config["size"]
        if not (isinstance(backbone, str) and type(size) is int and 0 < size <= WIDEST):
            raise TypeError(f"backbone {backbone!r:.80} for images of side {size!r:.80}")
        if not (layers is None or (isinstance(layers, list) and all(type(layer) is int for layer in layers))):
            raise TypeError(f"layers {layers!r:.80}")
        reader = FeatureReader(backbone, layers, size, False, config["pooling"], config["standardise"])
        network = CascadeNetwork(reader.channels, options)
        model = nn.ModuleDict({"backbone": reader, "network": network})
        model.load_state_dict(with_positions_of(model, read_state(folder / "model.safetensors")))
    except (KeyError, TypeError, RuntimeError, IndexError, AttributeError, AssertionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"does not hold a trained cascade ({reason})", where=folder) from error
    return reader.eval(), network.eval()
