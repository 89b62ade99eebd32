"""How many objects an image shows: only images of exactly one are used (Huang et al., section 3.4).

The paper counts with a detector that also notices objects it was not trained on (VOS on COCO). Here: torchvision's
COCO detector with an energy score, counts made by any program, or, without other weights, the shape of the mask.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image, nms, remove_small_boxes
from torchvision.transforms.v2 import functional as F

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_text, sha256_of
from sc_imagenet.data.images import open_image
from sc_imagenet.generation.feature_masks import FOREGROUND
from sc_imagenet.generation.photographs import Photograph

SURE = 0.9  # score from which a detection counts (the paper's)
UNKNOWN = 6.0  # energy from which a region counts as an object of no known class
SMALLEST = 0.01  # pixels of a region's sides
OVERLAP = 0.5  # intersection over union from which two regions are one object
AREA = (0.02, 0.9)  # share of the image that one object may take, by its mask
SECOND = 0.25  # a second region of this share of the first is a second object


class Counter(Protocol):
    """Counts the objects of an image."""

    @property
    def identity(self) -> str:
        """Changes whenever the count of an image may."""

    def counts(self, root: Path, photographs: Sequence[Photograph], masks: Tensor) -> list[int]:
        """How many objects each of B photographs shows; ``masks`` (B, h, w) in [0, 1] is its saliency.

        Raises:
            InputError: a count is missing.
        """


class MaskCounter:
    """Counts the connected regions of the mask; none where the mask is next to nothing or nearly all."""

    identity = "masks-1"

    def counts(self, root: Path, photographs: Sequence[Photograph], masks: Tensor) -> list[int]:
        """See ``Counter.counts``; the files are not opened."""
        return [count_regions(mask.float().numpy() >= FOREGROUND) for mask in masks]


def count_regions(foreground: np.ndarray) -> int:
    """The connected regions (H, W) bool that are not much smaller than the largest.

    >>> count_regions(np.array([[1, 1, 0, 1], [1, 1, 0, 1]], bool))
    2
    """
    labels, found = ndimage.label(foreground)
    if not found or not AREA[0] <= foreground.mean() <= AREA[1]:
        return 0
    sizes = np.bincount(labels.ravel())[1:]
    return int((sizes >= SECOND * sizes.max()).sum())


class CountsFile:
    """Counts made by any program: a CSV file with the columns path and objects."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            InputError: it is missing or no text, lacks these columns, or a count is not a number.
        """
        self.path = path
        text = read_text(path)
        self.identity = f"file-{sha256_of(path)[:16]}"
        try:
            rows = csv.DictReader(io.StringIO(text, newline=""))
            if not {"path", "objects"} <= set(rows.fieldnames or ()):
                raise InputError("has no columns 'path' and 'objects'", where=path)
            self._counts = {}
            for number, row in enumerate(rows, start=2):
                try:
                    self._counts[row["path"]] = int(row["objects"])
                    if self._counts[row["path"]] < 0:
                        raise ValueError("negative")
                except (TypeError, ValueError) as error:
                    raise InputError(f"line {number}: {row['objects']!r:.80} is not a count", where=path) from error
        except csv.Error as error:
            raise InputError(f"is not a CSV file ({error})", where=path) from error

    def counts(self, root: Path, photographs: Sequence[Photograph], masks: Tensor) -> list[int]:
        """See ``Counter.counts``; paths are as the photographs', ``<class>/<image>``."""
        lacking = [each.path for each in photographs if each.path not in self._counts]
        if lacking:
            raise InputError(
                f"has no line for {lacking[0]}",
                where=self.path,
                fix="Paths are <class>/<image>, relative to the folder of photographs.",
            )
        return [self._counts[each.path] for each in photographs]


class DetectorCounter:
    """torchvision's ``fasterrcnn_resnet50_fpn`` trained on COCO; also sees objects of no COCO class.

    A region counts if one class has a score above 0.9, or if its energy, log sum exp of the class logits, is that
    of an object although no class is sure (the score by which VOS tells unknown objects from background). Regions
    that overlap are one object.
    """

    def __init__(self, weights: Path, device: str = "cpu") -> None:
        """Load the weights, a file as torchvision publishes it.

        Raises:
            InputError: no such file, or it does not fit.
        """
        from torchvision.models.detection import fasterrcnn_resnet50_fpn

        from sc_imagenet.data.tensor_files import read_state

        self.identity = f"detector-{sha256_of(weights)[:16]}" if weights.is_file() else ""
        state = read_state(weights)
        self._net: Any = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
        try:
            self._net.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(
                "does not hold the weights of torchvision's fasterrcnn_resnet50_fpn",
                where=weights,
                fix="The file wanted is fasterrcnn_resnet50_fpn_coco-258fb6c6.pth of torchvision's model zoo.",
            ) from error
        self._net.eval().to(device)
        self._device = device

    def counts(self, root: Path, photographs: Sequence[Photograph], masks: Tensor) -> list[int]:
        """See ``Counter.counts``; the masks are not looked at."""
        return [self.count(F.pil_to_tensor(open_image(root / each.path)).float() / 255) for each in photographs]

    @torch.inference_mode()
    def count(self, image: Tensor) -> int:
        """Objects in an image (3, H, W) in [0, 1]."""
        net = self._net
        batch, _ = net.transform([image.to(self._device)])
        maps = net.backbone(batch.tensors)
        proposals, _ = net.rpn(batch, maps)
        heads = net.roi_heads
        features = heads.box_head(heads.box_roi_pool(maps, proposals, batch.image_sizes))
        logits, regression = heads.box_predictor(features)
        boxes = heads.box_coder.decode(regression, proposals)
        return count_objects(logits, clip_boxes_to_image(boxes, batch.image_sizes[0]))


def count_objects(logits: Tensor, boxes: Tensor) -> int:
    """Objects among R regions.

    Args:
        logits: (R, classes), class 0 being the background.
        boxes: (R, classes, 4), the region as each class places it.
    """
    scores, known = logits.softmax(1)[:, 1:].max(1)
    energy = logits[:, 1:].logsumexp(1)
    background = logits.argmax(1) == 0
    seen = (scores > SURE) | ((energy > UNKNOWN) & ~background)
    places, scores, known = boxes[seen, known[seen] + 1], scores[seen], known[seen]
    there = remove_small_boxes(places, SMALLEST)  # beyond the image's border nothing of a region is left
    places, scores, known = places[there], scores[there], known[there]
    one_a_class = batched_nms(places, scores, known, OVERLAP)
    return len(nms(places[one_a_class], scores[one_a_class], OVERLAP))


def open_counter(given: str, device: str = "cpu") -> Counter:
    """The counter that ``given`` names: "masks", a CSV file of counts, or a detector's weights.

    Raises:
        InputError: none of these.
    """
    if given == "masks":
        return MaskCounter()
    path = Path(given).expanduser()
    if path.suffix == ".csv" and path.is_file():
        return CountsFile(path)
    if path.suffix in (".pth", ".pt", ".safetensors"):
        return DetectorCounter(path, device)
    raise InputError(
        f"counts {given!r} is neither 'masks' nor a .csv file of counts nor a detector's .pth file of weights",
        fix="Leave it out to count the regions of the masks.",
    )
