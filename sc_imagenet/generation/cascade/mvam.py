"""MVAM, the matching volume aggregation module: features of a pair -> an aggregated matching volume.

Feature level (Eq. 1): tokens of each image attend to the other image's, gated by the other image's global token.
Volume level: windowed self-attention over the four dimensions of the folded volume. Both add to what they are given
through weights that start at zero: an untrained module gives the cosines of the backbone's features, all scaled
alike by its gates.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_imagenet.generation.cascade.network_options import NetworkOptions
from sc_imagenet.generation.cascade.volume_attention import VolumeAggregation
from sc_imagenet.generation.features import Features
from sc_imagenet.geometry.volumes import Grid

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


class GatedAttention(nn.Module):
    """L layers of gated cross attention, and the volume of what they give (Eq. 1)."""

    def __init__(self, channels: int, options: NetworkOptions) -> None:
        super().__init__()
        self.gate_volume = options.gate_volume
        self.layers = nn.ModuleList(GatedCrossAttention(channels, options) for _ in range(options.attention_layers))
        self.gate_scale = nn.Parameter(torch.zeros(()))
        self.gate_bias = nn.Parameter(torch.tensor(OPEN))

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
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.projection = nn.Linear(channels, channels, bias=False) if options.token_projection else None
        if self.projection is not None:
            nn.init.zeros_(self.projection.weight)

    def forward(self, tokens: Tensor, others: Tensor, gate: Tensor, other_gate: Tensor) -> Tensor:
        """Tokens (B, N, C), the other image's (B, M, C), gates (B, N, 1) and (B, M, 1) -> (B, N, C)."""
        seen = others * (other_gate * self.scale)
        query, key, value = (
            linear(given).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear, given in ((self.query, tokens * self.scale), (self.key, seen), (self.value, seen))
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        refined = tokens + self.output(mixed) * (gate / self.scale)
        return refined if self.projection is None else refined + self.projection(tokens)


def grid_of(volume: Tensor, source: Grid, target: Grid) -> Tensor:
    """A volume (B, N_source, N_target) by rows and columns: (B, h_s, w_s, h_t, w_t)."""
    return volume.unflatten(2, target).unflatten(1, source)
