"""How the cascaded network is trained. [P] is stated by the paper, [R] is our reading of what it leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from sc_imagenet.backbones.pretrained import LITE0
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.generation.cascade.network_options import STAGES, NetworkOptions, Stage
from sc_imagenet.generation.option_kinds import check_kinds


@dataclass(frozen=True)
class TrainingOptions:
    """Everything a trained network depends on, beside the photographs.

    network       see ``NetworkOptions``
    backbone      timm's name [P: iBOT's ViT-B/16]
    layers        of the backbone; None: see ``FeatureReader``
    pretrained    the backbone's weights
    size          input side in pixels [P: 512; 256 and 384 are ablated]
    saliency      [R] see ``saliency.open_saliency`` [P: SelfReformer]
    labels_from   [R] the volumes that the image and the region level select from: "features" are those of the
                  backbone, which no training can make drift; "network" the stages' own, the paper's text; "both"
                  their mean
    loop_radius   [R] a candidate must lie within so many cells of where a third image of the class leads
                  (section "closed loop" of the paper); 0 does not ask for that
    candidates    [R] pairs of cells that the image level selects
    pairs         [P] 16, what is left of them for the pixel level
    radius        [R] of the non-maximum suppression, cells on both sides
    class_loss    [R] "margin" or "literal" (Eq. 2); see ``losses.class_loss``
    margin        [R] of "margin"
    pixel_loss    [R] "softmax": cross entropy over a row's cells, or "binary": the paper's, of each cell by itself
    image_weight, region_weight, pixel_weight  [R] of Eq. 3; a stage without weight, or that nothing reads, stays as
                  it is (see ``weight``)
    hough_share   [R] of the pixel loss, the share that is taken after Hough scores have re-weighted the volume, as
                  inference reads it; 0 is the literal text
    sigma         [R] of the Gaussian around the true cell, in cells
    views         [R] views of each image that the pixel level sees: the whole image, and crops, every other mirrored;
                  1 is the whole image alone. Candidates are always selected on whole images
    optimiser     [P] SGD; [R] "adamw" where the feature level starts from a few thousand photographs
    lr            [P: 3e-5 with SGD]
    momentum      [P] of SGD
    weight_decay  [R]
    batch         pairs a step, over all processes [P: 32]
    epochs        [R] each image is used once an epoch [P]
    warmup        [R] steps; a cosine decay follows
    seed          of everything drawn
    """

    network: NetworkOptions = field(default_factory=NetworkOptions)
    backbone: str = LITE0
    layers: tuple[int, ...] | None = None
    pretrained: bool | str = True
    size: int = 320
    saliency: str = "features"
    labels_from: Literal["features", "network", "both"] = "features"
    candidates: int = 24
    pairs: int = 16
    radius: float = 1.5
    loop_radius: float = 1.5
    class_loss: Literal["margin", "literal"] = "margin"
    margin: float = 0.2
    pixel_loss: Literal["softmax", "binary"] = "softmax"
    image_weight: float = 1.0
    region_weight: float = 1.0
    pixel_weight: float = 1.0
    hough_share: float = 0.5
    sigma: float = 1.0
    views: int = 6
    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.1
    batch: int = 16
    epochs: int = 12
    warmup: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: one that cannot be used.
        """
        check_kinds(self, "training", but=("network", "layers", "pretrained"))
        if not isinstance(self.pretrained, (bool, str)):
            raise InputError(
                f"pretrained = {self.pretrained!r:.80} is neither true, false nor a file", where="training"
            )
        if self.layers is not None and not (
            isinstance(self.layers, tuple) and all(type(layer) is int for layer in self.layers)
        ):
            raise InputError(f"layers = {self.layers!r:.80} are not numbers", where="training")
        for name, valid in (
            ("labels_from", ("features", "network", "both")),
            ("class_loss", ("margin", "literal")),
            ("pixel_loss", ("softmax", "binary")),
            ("optimiser", ("adamw", "sgd")),
        ):
            if getattr(self, name) not in valid:
                raise unknown_name(name, getattr(self, name), valid)
        for name in ("size", "candidates", "pairs", "views", "epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)} must be at least 1", where="training")
        if not any(self.weight(stage) > 0 for stage in STAGES[: self.network.depth]):
            raise InputError("no stage of the network has a weight: nothing would be trained", where="training")
        if self.batch < 2:
            raise InputError(
                f"batch = {self.batch} must be at least 2", where="training", fix="Negative pairs are made by shifting."
            )

    def weight(self, stage: Stage) -> float:
        """Of a stage's loss: 0 where the stage is read neither by labels nor at inference.

        Labels from features leave the image and the region level unread, unless the network ends there or shares
        their attention; training them would take half of the time and change nothing.
        """
        last = self.network.stages
        read = stage == last or last == "region" or self.labels_from != "features" or self.network.shared_attention
        return {"image": self.image_weight, "region": self.region_weight, "pixel": self.pixel_weight}[stage] * read

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingOptions:
        """The inverse of ``as_dict``; also of a part of it.

        Raises:
            InputError: an option that is not known, or a value that cannot be used.
        """
        given = dict(values)
        network = given.pop("network", {})
        if not isinstance(network, Mapping):
            raise InputError(f"network = {network!r:.80} is no object", where="training")
        for known, names in ((fields(NetworkOptions), network), (fields(cls), given)):
            for name in names:
                if name not in (valid := [each.name for each in known]):
                    raise unknown_name("option", name, valid)
        if isinstance(given.get("layers"), list):
            given["layers"] = tuple(given["layers"])
        return cls(network=NetworkOptions(**network), **given)


def paper_options() -> TrainingOptions:
    """The paper's training: iBOT's ViT-B/16 at 512 px, SGD 3e-5, 32 pairs a step.

    ``pretrained`` must then name iBOT's released teacher.
    """
    network = replace(
        NetworkOptions(), region_fold=1, window=4, hough_scales=(1.0,), reading="similarity", votes="relu"
    )
    return TrainingOptions(
        network=network,
        backbone="vit_base_patch16_224",
        size=512,
        labels_from="network",
        loop_radius=0.0,
        hough_share=0.0,
        class_loss="literal",
        pixel_loss="binary",
        views=1,
        optimiser="sgd",
        lr=3e-5,
        momentum=0.9,
        weight_decay=0.0,
        batch=32,
        warmup=0,
    )
