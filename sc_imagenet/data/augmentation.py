"""Training augmentation: photometric changes and crops that keep the object, by name.

Every draw comes from a generator given by the caller, so that a sample is a function of (seed, epoch,
index) and a resumed run sees what an uninterrupted one saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from sc_imagenet.core.errors import unknown_name

# A photometric change draws from a generator and takes and gives a uint8 image (3, H, W).
Change = Callable[[np.random.Generator, Tensor], Tensor]
Crop = tuple[int, int, int, int] | None  # left, top, right, bottom; None: the whole image

PROBABILITY = 0.2  # of each photometric change
MARGIN = 20  # pixels of the original image around keypoints that a crop keeps


@dataclass(frozen=True)
class Augmentation:
    """What is done to both images of a pair, each drawn on its own.

    changes   photometric changes, in this order, each with probability 0.2
    crop      probability of a crop: each side is drawn uniformly between the box it keeps and the image border
    keeps     the box: the object's, the keypoints' with a margin, or the middle half of the image along each side
    views     further views of the target by name: their own changes instead, under the target's crop
    warps     the affine warps of synthetic pairs (see ``sc_imagenet/data/synthetic.py``)
    """

    changes: Sequence[Change]
    crop: float = 0.5
    keeps: Literal["object", "keypoints", "middle"] = "object"
    views: Mapping[str, Sequence[Change]] = field(default_factory=dict)
    warps: Literal["wide", "narrow"] = "wide"

    def __call__(self, draw: np.random.Generator, image: Tensor, box: np.ndarray) -> tuple[Tensor, Crop]:
        """The changed image and the crop that is to be cut from it.

        ``image`` is uint8 (3, H, W), ``box`` (x_min, y_min, x_max, y_max), the object's or the keypoints' extent,
        in its pixels.
        """
        image = changed(draw, image, self.changes)
        if draw.random() >= self.crop:
            return image, None
        height, width = image.shape[-2:]
        kept = around_keypoints(box, width, height) if self.keeps == "keypoints" else box
        return image, crop_around(draw, image, kept)


def changed(draw: np.random.Generator, image: Tensor, changes: Sequence[Change]) -> Tensor:
    """An image (3, H, W) after each of the changes with probability 0.2."""
    for change in changes:
        if draw.random() < PROBABILITY:
            image = change(draw, image)
    return image


def around_keypoints(box: np.ndarray, width: int, height: int) -> np.ndarray:
    """The keypoints' extent and 20 pixels around it; around one keypoint, half its distance to each border.

    >>> around_keypoints(np.array([30.0, 40, 50, 45]), 60, 100).tolist()
    [10.0, 20.0, 60.0, 65.0]
    """
    borders = np.array([0, 0, width, height], np.float32)
    alone = np.array_equal(box[:2], box[2:])
    wider = (box + borders) / 2 if alone else box + np.array([-MARGIN, -MARGIN, MARGIN, MARGIN])
    return np.concatenate([np.maximum(wider[:2], 0), np.minimum(wider[2:], borders[2:])])


def crop_around(draw: np.random.Generator, image: Tensor, box: np.ndarray) -> Crop:
    """A crop of ``image`` that holds ``box``, each side uniform between the box and the border (pixels)."""
    height, width = image.shape[-2:]
    left, top = np.clip(np.floor(box[:2]), 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(np.ceil(box[2:]), (left + 1, top + 1), (width, height)).astype(int)
    return (
        int(draw.integers(0, left + 1)),
        int(draw.integers(0, top + 1)),
        int(draw.integers(right, width + 1)),
        int(draw.integers(bottom, height + 1)),
    )


def grey(draw: np.random.Generator, image: Tensor) -> Tensor:
    """Luminance in all three channels."""
    return F.rgb_to_grayscale(image, num_output_channels=3)


def posterize(draw: np.random.Generator, image: Tensor) -> Tensor:
    """Keep the four highest bits."""
    return F.posterize(image, bits=4)


def equalize(draw: np.random.Generator, image: Tensor) -> Tensor:
    """Equalise the histogram of each channel."""
    return F.equalize(image)


def sharpen(draw: np.random.Generator, image: Tensor) -> Tensor:
    """Blend with a 3x3 Laplacian sharpening: alpha in [0.2, 0.5], lightness in [0.5, 1]."""
    alpha, lightness = draw.uniform(0.2, 0.5), draw.uniform(0.5, 1.0)
    kernel = torch.full((3, 3), -alpha)
    kernel[1, 1] = (1 - alpha) + alpha * (8 + lightness)
    padded = torch.nn.functional.pad(image[None].float(), (1, 1, 1, 1), mode="replicate")
    sharp = torch.nn.functional.conv2d(padded, kernel.expand(3, 1, 3, 3), groups=3)[0]
    return sharp.round_().clamp_(0, 255).to(torch.uint8)


def brighten(draw: np.random.Generator, image: Tensor) -> Tensor:
    """Contrast factor 1 +- 0.2 and brightness +- 0.2 of the full range."""
    contrast, brightness = draw.uniform(0.8, 1.2), draw.uniform(-0.2, 0.2)
    return (image.float() * contrast + 255 * brightness).clamp_(0, 255).to(torch.uint8)


def solarize(draw: np.random.Generator, image: Tensor) -> Tensor:
    """Invert values of 128 and above."""
    return F.solarize(image, threshold=128)


def jitter(draw: np.random.Generator, image: Tensor) -> Tensor:
    """Brightness, contrast and saturation by 0.8 to 1.2, hue by -0.2 to 0.2 of the circle, in random order."""
    changes = (
        lambda x: F.adjust_brightness(x, draw.uniform(0.8, 1.2)),
        lambda x: F.adjust_contrast(x, draw.uniform(0.8, 1.2)),
        lambda x: F.adjust_saturation(x, draw.uniform(0.8, 1.2)),
        lambda x: F.adjust_hue(x, draw.uniform(-0.2, 0.2)),
    )
    for k in draw.permutation(len(changes)):
        image = changes[k](image)
    return image


def blur(draw: np.random.Generator, image: Tensor) -> Tensor:
    """Mean over squares of 3, 5 or 7 pixels."""
    side = int(draw.choice((3, 5, 7)))
    padded = torch.nn.functional.pad(image[None].float(), (side // 2,) * 4, mode="replicate")
    return torch.nn.functional.avg_pool2d(padded, side, 1)[0].round_().to(torch.uint8)


PHOTOMETRIC = (grey, posterize, equalize, sharpen, brighten, solarize, jitter)
STRONG = (blur, grey, posterize, equalize, brighten, solarize, jitter)

AUGMENTATIONS: dict[str, Augmentation | None] = {
    "none": None,
    "narrow-warps": Augmentation((), crop=0.0, warps="narrow"),  # of synthetic pairs, as CNNGeo's later release
    "cats": Augmentation(PHOTOMETRIC),  # VAT's too
    "photometric": Augmentation(PHOTOMETRIC, crop=0.0),  # SCorrSAN's
    "middle-crops": Augmentation((), crop=1.0, keeps="middle"),  # Weakalign's
    "transformatcher": Augmentation(PHOTOMETRIC, keeps="keypoints"),
    "semimatch": Augmentation(PHOTOMETRIC, views={"plain": (), "strong": STRONG}),
}


def augmentation(name: str) -> Augmentation | None:
    """The augmentation called ``name``; None for "none".

    >>> augmentation("none") is None
    True

    Raises:
        InputError: no augmentation is called so.
    """
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, AUGMENTATIONS)
    return AUGMENTATIONS[name]
