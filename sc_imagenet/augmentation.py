"""Training augmentation: photometric changes and crops that keep the object, by name.

Every draw comes from a generator given by the caller, so that a sample is a function of (seed, epoch,
index) and a resumed run sees what an uninterrupted one saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from sc_imagenet.errors import unknown_name

# A photometric change draws from a generator and takes and gives a uint8 image (3, H, W).
Change = Callable[[np.random.Generator, Tensor], Tensor]
Crop = tuple[int, int, int, int] | None  # left, top, right, bottom; None: the whole image

PROBABILITY = 0.2  # of each photometric change


@dataclass(frozen=True)
class Augmentation:
    """What is done to both images of a pair, each drawn on its own.

    changes   photometric changes, in this order, each with probability 0.2
    crop      probability of a crop that keeps the whole object box: each side is drawn uniformly between the box
              and the image border
    views     further views of the target by name: their own changes instead, under the target's crop
    """

    changes: Sequence[Change]
    crop: float = 0.5
    views: Mapping[str, Sequence[Change]] = field(default_factory=dict)

    def __call__(self, draw: np.random.Generator, image: Tensor, box: np.ndarray) -> tuple[Tensor, Crop]:
        """The changed image and the crop that is to be cut from it.

        ``image`` is uint8 (3, H, W), ``box`` (x_min, y_min, x_max, y_max) in its pixels.
        """
        image = changed(draw, image, self.changes)
        return image, crop_around(draw, image, box) if draw.random() < self.crop else None


def changed(draw: np.random.Generator, image: Tensor, changes: Sequence[Change]) -> Tensor:
    """An image (3, H, W) after each of the changes with probability 0.2."""
    for change in changes:
        if draw.random() < PROBABILITY:
            image = change(draw, image)
    return image


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
    "cats": Augmentation(PHOTOMETRIC),  # VAT's and TransforMatcher's too
    "photometric": Augmentation(PHOTOMETRIC, crop=0.0),  # SCorrSAN's
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
