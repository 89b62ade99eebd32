"""The one interface of every model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

Direction = Literal["forward", "backward"]
Batch = Mapping[str, Any]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Matcher(nn.Module, PyTorchModelHubMixin):
    """A model that carries points from one image of a pair to the other.

    A child sets these and writes ``forward``, ``transfer`` and, if it is trained, ``loss``;
    ``baselines/nearest.py`` is the shortest example. A training scheme that needs more than one forward pass a
    step (negative pairs, two networks, several views) writes ``training_loss`` instead of ``loss``.

    size        side S of the square images it is made for; points are in pixels of that S x S frame
    direction   "forward": points of the source are carried to the target; "backward": target to source
    keep_aspect images keep their shape in the S x S frame (see ``sc_imagenet/frames.py``) instead of filling it
    mean, std   normalisation of the RGB input in [0, 1]
    backbone    the part trained at the recipe's ``backbone_lr``, or frozen; None if there is none

    Constructor arguments are plain JSON values, so that ``save_pretrained`` can keep them. ``from_pretrained``
    is strict, and fetches no weights for the backbone: those saved with the model are complete.
    """

    size: int
    direction: Direction = "forward"
    keep_aspect: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    backbone: nn.Module | None  # no value here: a class attribute would hide the child's module

    def __init__(self) -> None:
        super().__init__()
        self.backbone = None
        saved = self._hub_mixin_config
        if isinstance(saved, dict) and "pretrained" in saved:
            saved["pretrained"] = False  # what is saved holds the backbone's weights

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was built with, constructor arguments by name; whether weights were fetched is not kept."""
        kept = self._hub_mixin_config
        return {name: value for name, value in kept.items() if name != "pretrained"} if isinstance(kept, dict) else {}

    def forward(self, source: Tensor, target: Tensor) -> Any:
        """The model's native output for normalised images (B, 3, S, S): a flow, a correlation, ..."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def loss(self, output: Any, batch: Batch) -> Tensor:
        """The published training loss of one forward pass, a scalar.

        ``batch`` is what ``sc_imagenet.pairs.PairDataset`` yields, collated: ``source_points`` and
        ``target_points`` (B, K, 2) in pixels of the S x S frame, ``valid`` (B, K) bool, ``source_bbox`` and
        ``target_bbox`` (B, 4) in the same frame (NaN where unknown), ``category`` (B,), the class's number,
        images ``source`` and ``target``, and what the recipe's augmentation adds.
        """
        raise NotImplementedError(f"{type(self).__name__} is not trained")

    def training_loss(self, batch: Batch, epoch: int) -> Tensor:
        """What one training step minimises: a forward pass and its ``loss``, unless a model needs more.

        ``epoch`` counts from 0.
        """
        return self.loss(self(batch["source"], batch["target"]), batch)

    def transfer(self, output: Any, points: Tensor) -> Tensor:
        """Carry ``points`` (B, K, 2), pixels of the S x S frame, to the other image; same shape and frame."""
        raise NotImplementedError(f"{type(self).__name__} must define transfer")

    @classmethod
    def _from_pretrained(cls, **options: Any) -> Matcher:
        return super()._from_pretrained(**{"strict": True, **options})
