"""DHPF trained without keypoints (Min et al., ECCV 2020); its recipes are in DHPF's file."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from baselines.dhpf import DHPF, Hyperimages
from baselines.matcher import Batch
from baselines.protocol import PublishedProtocol
from baselines.registry import register
from sc_imagenet.geometry.correlation import SMALLEST, mutual_nearest_neighbour, resize_source, resize_target
from sc_imagenet.geometry.hough import spread_differences

ENTROPY_GRID = (15, 15)  # what the loss sees of the other image's grid


@register(
    "dhpf-weak",
    title="DHPF (weak)",
    paper="Min et al., ECCV 2020",
    licence="that of the LICENSE file in the authors' repository, not read here",
    supervision="weak",
    backbone="resnet101.tv_in1k",
    trained_on=("spair-71k", "pf-pascal"),
    protocol=PublishedProtocol(240, "forward"),
    step_seconds={"pf-pascal": 0.6247},
)
class WeakDHPF(DHPF):
    """DHPF trained with class labels alone: pairs of one class should match more sharply than pairs of two."""

    def training_loss(self, batch: Batch, epoch: int) -> Tensor:
        """Entropy of the batch's pairs over that of pairs made of two of them.

        Each source is paired with the next target if that is of another class. Without such pairs the entropy
        itself is the loss.
        """
        count = len(batch["category"])
        own = torch.arange(count, device=batch["category"].device)
        others = own[batch["category"] != batch["category"].roll(-1)]
        sources, targets = torch.cat((own, others)), torch.cat((own, (others + 1) % count))
        source, target = self.features_of(batch)
        output = self.match([maps[sources] for maps in source], [maps[targets] for maps in target])
        entropy = self.entropy(output)
        ratio = entropy[:count].mean() / (entropy[count:].mean() if len(others) else 1.0)
        return ratio + self.selection_loss(output)

    def entropy(self, output: Hyperimages) -> Tensor:
        """How undecided each pair's filtered matches are (B,), in bits, averaged over cells and directions.

        Volumes are not kept for the backward pass but computed again.
        """
        pairs = range(len(output.gates))
        return torch.stack([checkpoint(self._entropy, output, pair, use_reentrant=False) for pair in pairs])

    def _entropy(self, output: Hyperimages, pair: int) -> Tensor:
        scores = spread_differences(output.hough[pair, None], self.grid, self.grid)[0]
        filtered = mutual_nearest_neighbour(torch.cat(list(self.appearance(output, pair))) * scores)[None]
        of_source = resize_target(filtered, self.grid, ENTROPY_GRID)[0]
        of_target = resize_source(filtered, self.grid, ENTROPY_GRID)[0].T
        return (bits(of_source) + bits(of_target)).mean() / 2


def bits(scores: Tensor) -> Tensor:
    """Entropy (N,) in bits of non-negative scores (N, cells), each row a distribution once it is normalised."""
    share = F.normalize(scores, p=1, dim=1)
    return -(share * share.where(share != 0, SMALLEST).log2()).sum(1)


assert DHPF.published is not None
WeakDHPF.published = replace(
    DHPF.published,
    about="The checkpoints of the weakly supervised DHPF hold the same weights as those of the supervised one.",
)
