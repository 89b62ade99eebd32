"""What the cascade is made of and how it is trained; [P] is stated by the paper, [R] is our reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from sc_imagenet.backbones import LITE0
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.generation.options import POOLING, SIZE, WIDEST, check_kinds

# What the cascaded network is made of. The paper leaves much open: [R] marks our reading, the default its value.

Stage = Literal["image", "region", "pixel"]
STAGES: tuple[Stage, ...] = ("image", "region", "pixel")


@dataclass(frozen=True)
class NetworkOptions:
    """Everything that decides shapes, and what inference computes.

    stages           how deep the cascade is: "pixel" all three stages, "region" without stage 3, "image" without
                     stages 2 and 3 (Table 5)
    shared_attention  the three stages share the gated attention's weights (Table 4, VII)
    attention_layers  [R] L of Eq. 1
    attention_width  [R] channels of queries, keys and values
    heads            [R] of that attention
    token_projection [R] a linear layer beside the attention that every token passes, the same for both images
    gate_volume      [R] gates multiply the volume; False is the literal text, where they cancel
    aggregation      the volume level of MVAM
    aggregation_form [R] "added": free values come to what is there, for losses that say where; of a loss that asks only
                     whether images match they become one sharp pattern. "multiplied": each match is raised or lowered
                     by a factor in (0, 2); no loss can make a pattern of that
    fold             [R] cells of every dimension folded into one token of the volume, on whole images
    region_fold      [R] the same on region windows; 5 makes a 5 x 5 window one token, and its attention a linear layer
    volume_width     [R] channels of those tokens
    volume_heads     [R] of the attention between them
    volume_blocks    [R] every second one shifted
    window           [R] tokens along each side of its 4-D windows; 5 covers a 20 x 20 grid folded by 4 without padding
    hough            PMPS re-weights by Hough scores (Table 4, III without)
    hough_length     [R] "hyperpixel length" L: side in cells of the Gaussian over Hough bins (Table 4: 3, 5, 7)
    hough_scales     [R] the source's grid is also tried at these sizes, so that an object may be nearer in one image;
                     their scores are averaged; (1.0,) is the literal text
    reading          [R] what Hough scores re-weight: "similarity" is relu(v), the literal text; "mutual" its soft
                     mutual nearest-neighbour filter; "probability" the geometric mean of the softmax over rows and
                     the softmax over columns
    votes            [R] what a match votes with: "relu" is relu(v)^2, "mutual" that of the soft mutual nearest-
                     neighbour filter of v, "softmax" softmax over rows times softmax over columns
    balanced         [R] re-weighted scores are divided by the roots of their row's and their column's sum, so that no
                     target cell draws more sources than it is sure of
    temperature      [R] of every softmax over a volume
    temperatures     [R] of each stage's volume at inference and for labels; the image and the region stage's are chosen
                     without labels when their training ended (see ``alarm``); () takes ``temperature``
    saliency         only foreground cells are candidates, and vote (Table 4, II without)
    region_side      side of a region window, in cells
    joined           [R] the pixel stage is read by the mean of its volume and the image stage's, which few photographs
                     mislead less; False is the literal text, its volume alone
    """

    stages: Stage = "pixel"
    shared_attention: bool = False
    attention_layers: int = 1
    attention_width: int = 128
    heads: int = 4
    token_projection: bool = True
    gate_volume: bool = True
    aggregation: bool = True
    aggregation_form: Literal["added", "multiplied"] = "added"
    fold: int = 4
    region_fold: int = 5
    volume_width: int = 64
    volume_heads: int = 4
    volume_blocks: int = 2
    window: int = 5
    hough: bool = True
    hough_length: int = 5
    hough_scales: tuple[float, ...] = (0.8, 1.0, 1.25)
    reading: Literal["similarity", "mutual", "probability"] = "probability"
    votes: Literal["relu", "mutual", "softmax"] = "softmax"
    balanced: bool = True
    temperature: float = 0.1
    temperatures: tuple[float, ...] = ()
    saliency: bool = True
    region_side: int = 5
    joined: bool = True

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: a value that cannot be used.
        """
        for name in ("hough_scales", "temperatures"):
            if isinstance(getattr(self, name), list):  # where it comes from JSON
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_kinds(self, "network", WIDEST, but=("temperatures",))
        if self.stages not in STAGES:
            raise unknown_name("stage", self.stages, STAGES)
        if self.votes not in (known := ("relu", "mutual", "softmax")):
            raise unknown_name("kind of votes", self.votes, known)
        if self.aggregation_form not in (forms := ("multiplied", "added")):
            raise unknown_name("form of aggregation", self.aggregation_form, forms)
        if self.reading not in (known := ("similarity", "mutual", "probability")):
            raise unknown_name("reading", self.reading, known)
        widths = ("volume_width", "volume_heads", "attention_layers", "attention_width", "heads")
        for name in (*widths, "fold", "region_fold", "window", "region_side"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)} must be at least 1", where="network")
        if self.attention_width % self.heads or self.volume_width % self.volume_heads:
            raise InputError("a width is not a multiple of its number of heads", where="network")
        if self.hough_length < 1 or self.hough_length % 2 == 0:
            raise InputError(f"hough_length = {self.hough_length} must be odd", where="network", fix="3, 5 or 7")
        if not self.hough_scales or min(self.hough_scales) <= 0:
            raise InputError(f"hough_scales = {self.hough_scales} must be above 0", where="network")
        if self.temperature <= 0:
            raise InputError(f"temperature = {self.temperature} must be above 0", where="network")
        if not (
            isinstance(self.temperatures, tuple)
            and len(self.temperatures) in (0, self.depth)
            and all(type(each) is float and 0 < each <= WIDEST for each in self.temperatures)
        ):
            raise InputError(
                f"temperatures = {self.temperatures!r:.80} must be above 0, one for each stage", where="network"
            )

    @property
    def depth(self) -> int:
        """How many stages there are."""
        return STAGES.index(self.stages) + 1

    def temperature_of(self, stage: Stage) -> float:
        """Of the softmax over a stage's volume."""
        return self.temperatures[STAGES.index(stage)] if self.temperatures else self.temperature


# How the cascaded network is trained. [P] is stated by the paper, [R] is our reading of what it leaves open.


BEFORE_STAGES = {"order": "jointly", "image_trains": "all", "region_loss": "class", "held_out": 0}  # of one another
BEFORE_POOLING = {"layers": [5, 7], "pooling": 1.0, "standardise": False}  # how EfficientNet-Lite0 was read


@dataclass(frozen=True)
class TrainingOptions:
    """Everything a trained network depends on, beside the photographs.

    network       see ``NetworkOptions``
    backbone      timm's name [P: iBOT's ViT-B/16]
    layers        of the backbone; None: see ``FeatureReader``
    pretrained    the backbone's weights
    size          input side in pixels [P: 512; 256 and 384 are ablated]
    pooling, standardise  [R] see ``FeatureReader``
    saliency      [R] see ``saliency.open_saliency`` [P: SelfReformer]
    labels_from   [R] the volumes that the image and the region level select from: "network" the stages' own, the
                  paper's text; "features" those of the backbone, which no training can make drift; "both" their mean
    order         [R] "stages": one stage after the other, each beginning as the one before it ended; "jointly": all
                  losses at every step
    image_share, region_share  [R] of the steps in that order, of the image and of the region stage; the rest is the
                  pixel stage's
    refreshes     [R] so many times during the pixel stage's steps, evenly, the image stage, which labels, becomes as
                  the pixel stage is, where loops then close better
    image_trains  [R] what the class loss may change: "projection" of single tokens, the same for both images; or
                  "all", the paper's text: a volume that learns as a whole satisfies it with one fixed pattern. A
                  network without ``token_projection`` has only all
    region_loss   [R] "where": which cell of the window a closed loop leads to, cells of other classes' windows being
                  negatives; "class": Eq. 2 on windows, the paper's text
    region_features  [R] "map": windows are cut from the images' features; "crop", the paper's text: each is an image of
                  its own, read by the backbone at its full size, 48 passes a pair with 24 candidates
    held_out      [R] classes of which three photographs each are kept from training: by loops through them a stage is
                  found worse than the backbone's features, and reset; 0: none
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
    schedule      [R] "cosine" down to 0, or "constant" [P]; a stage trained by itself has its own
    warmup        [R] steps
    seed          of everything drawn
    """

    network: NetworkOptions = field(default_factory=NetworkOptions)
    backbone: str = LITE0
    layers: tuple[int, ...] | None = None
    pretrained: bool | str = True
    size: int = SIZE
    pooling: float = POOLING
    standardise: bool = True
    saliency: str = "features"
    labels_from: Literal["features", "network", "both"] = "network"
    order: Literal["stages", "jointly"] = "stages"
    image_share: float = 0.16
    region_share: float = 0.1
    refreshes: int = 0
    image_trains: Literal["projection", "all"] = "projection"
    region_loss: Literal["where", "class"] = "where"
    region_features: Literal["map", "crop"] = "map"
    held_out: int = 24
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
    epochs: int = 7
    schedule: Literal["cosine", "constant"] = "cosine"
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
            ("order", ("stages", "jointly")),
            ("image_trains", ("projection", "all")),
            ("region_loss", ("where", "class")),
            ("region_features", ("map", "crop")),
            ("class_loss", ("margin", "literal")),
            ("pixel_loss", ("softmax", "binary")),
            ("optimiser", ("adamw", "sgd")),
            ("schedule", ("cosine", "constant")),
        ):
            if getattr(self, name) not in valid:
                raise unknown_name(name, getattr(self, name), valid)
        for name in ("size", "pooling", "candidates", "pairs", "views", "epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)} must be at least 1", where="training")
        shares = self.image_share, self.region_share
        if min(*shares, 1 - sum(shares)) < 0:
            raise InputError(
                f"image_share = {shares[0]} and region_share = {shares[1]} must be at least 0, and at most 1 together",
                where="training",
            )
        for name in ("held_out", "refreshes"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} = {getattr(self, name)} must be at least 0", where="training")
        if not any(self.weight(stage) > 0 for stage in STAGES[: self.network.depth]):
            raise InputError("no stage of the network has a weight: nothing would be trained", where="training")
        if self.batch < 2:
            raise InputError(
                f"batch = {self.batch} must be at least 2", where="training", fix="Negative pairs are made by shifting."
            )

    def weight(self, stage: Stage) -> float:
        """Of a stage's loss: 0 where there is nothing for it to train, or the stage is read by nothing.

        Labels from features leave the image and the region level unread, unless the network ends there or shares
        their attention.
        """
        network = self.network
        last = network.stages
        read = stage == last or last == "region" or self.labels_from != "features" or network.shared_attention
        return {"image": self.image_weight, "region": self.region_weight, "pixel": self.pixel_weight}[stage] * read

    @property
    def trained(self) -> tuple[Stage, ...]:
        """The stages whose losses have a weight."""
        return tuple(stage for stage in STAGES[: self.network.depth] if self.weight(stage) > 0)

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

    @classmethod
    def from_saved(cls, values: Mapping[str, Any]) -> TrainingOptions:
        """The options that a training's folder holds; what earlier versions had no option for is as they did it.

        Raises:
            InputError: see ``from_dict``.
        """
        return cls.from_dict(read_as_then(values if "order" in values else {**BEFORE_STAGES, **values}))


def read_as_then(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Saved options or arguments of a cascade; where they do not say how it was read, they now do."""
    layers, network = saved.get("layers"), saved.get("network") or {}
    if isinstance(network, Mapping):  # anything else is refused by whoever builds one of it
        network = {"joined": False, **network}
    if "pooling" in saved:
        return {**saved, "network": network}
    if isinstance(network, dict):
        network = {"balanced": False, **network}
    lite0 = str(saved.get("backbone", LITE0)).split(".")[0] == LITE0
    before = {**BEFORE_POOLING, "layers": BEFORE_POOLING["layers"] if layers is None and lite0 else layers}
    return {"size": 320, **saved, **before, "network": network}


# The trainings that have a name.


def paper_options() -> TrainingOptions:
    """The paper's training: iBOT's ViT-B/16 at 512 px, SGD 3e-5 at a constant rate, 32 pairs a step, Eq. 2 and 3.

    ``pretrained`` must then name iBOT's released teacher.
    """
    network = NetworkOptions(
        region_fold=1, window=4, hough_scales=(1.0,), reading="similarity", votes="relu", balanced=False, joined=False
    )
    return TrainingOptions(
        network=network,
        backbone="vit_base_patch16_224",
        size=512,
        pooling=1.0,
        standardise=False,
        order="jointly",
        image_trains="all",
        region_loss="class",
        loop_radius=0.0,
        hough_share=0.0,
        class_loss="literal",
        pixel_loss="binary",
        held_out=0,
        views=1,
        optimiser="sgd",
        lr=3e-5,
        momentum=0.9,
        weight_decay=0.0,
        schedule="constant",
        batch=32,
        warmup=0,
    )


def small_options() -> TrainingOptions:
    """For a laptop: three views of each photograph, eight pairs a step, three epochs."""
    return TrainingOptions(views=3, batch=8, epochs=3)


def tiny_options() -> TrainingOptions:
    """To see that everything works: a 10 x 10 grid."""
    return TrainingOptions(network=NetworkOptions(fold=2), size=160, pooling=1.0, views=3, batch=8, epochs=2)


PRESETS = {"paper": paper_options, "small": small_options, "tiny": tiny_options}
