"""What the cascaded network is made of. The paper leaves much open: [R] marks our reading, the default its value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.generation.option_kinds import WIDEST, check_kinds

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
    temperature      [R] of every softmax over a volume
    saliency         only foreground cells are candidates, and vote (Table 4, II without)
    region_side      side of a region window, in cells
    """

    stages: Stage = "pixel"
    shared_attention: bool = False
    attention_layers: int = 1
    attention_width: int = 128
    heads: int = 4
    token_projection: bool = True
    gate_volume: bool = True
    aggregation: bool = True
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
    temperature: float = 0.1
    saliency: bool = True
    region_side: int = 5

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: a value that cannot be used.
        """
        if isinstance(self.hough_scales, list):  # where it comes from JSON
            object.__setattr__(self, "hough_scales", tuple(self.hough_scales))
        check_kinds(self, "network", WIDEST)
        if self.stages not in STAGES:
            raise unknown_name("stage", self.stages, STAGES)
        if self.votes not in (known := ("relu", "mutual", "softmax")):
            raise unknown_name("kind of votes", self.votes, known)
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

    @property
    def depth(self) -> int:
        """How many stages there are."""
        return STAGES.index(self.stages) + 1
