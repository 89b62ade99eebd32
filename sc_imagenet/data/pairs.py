"""Pairs as tensors: images resized and normalised, points in the resized frame; for training and evaluation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import state_of
from sc_imagenet.data.augmentation import Crop, augmentation, changed
from sc_imagenet.data.images import open_image
from sc_imagenet.data.schema import check_size
from sc_imagenet.geometry.resize import Frame, normalised_image

DECODED_BYTES = 512 * 2**20  # most memory for decoded images, per loader process


class PairDataset(torch.utils.data.Dataset):
    """A pair of the schema as model input; S = ``size``.

    Each item holds ``source``, ``target`` float32 (3, S, S), normalised by ``mean`` and ``std``;
    ``source_points``, ``target_points`` float32 (K, 2) in pixels of the S x S frame; ``source_bbox``,
    ``target_bbox`` (4,) in the same frame, NaN where the data set has none; ``source_size``,
    ``target_size`` (2,) original width and height; ``partners`` (K,), the row of each point's left-right partner, its
    own where it has none, -1 where that is not known or not there; ``index``, the row; ``category``, its number. An
    augmentation with further views of the target ("semimatch": ``target_plain``, without photometric changes, and
    ``target_strong``) adds them, cut and resized as ``target`` is; its points and box hold for them too.

    Without augmentation images are resized as 8-bit images with antialiasing, with it as float tensors
    without, as the published codes do. With ``keep_aspect`` an image keeps its shape and lies in the frame as
    ``sc_imagenet.geometry.resize.Frame`` says; it is always resized as a float tensor, as HPF does. ``frame`` says all
    of this at once, and more. Random draws depend
    on (seed, epoch, index, side) alone.

    Items raise InputError where an image cannot be read or has another size than its row records.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        keep_aspect: bool = False,
        frame: Frame | None = None,
        augment: str = "none",
        points: int | None = None,
        seed: int = 0,
    ) -> None:
        for name in ("source", "target"):
            rows = rows.cast_column(name, datasets.Image(decode=False))
        self.rows = rows
        self.frame = frame or Frame(size, keep_aspect)
        self.mean, self.std = mean, std
        self.augment = augmentation(augment)
        if self.augment is not None and self.frame.letterboxed:
            raise InputError(f"images in a {self.frame.fit} are not augmented", fix="Give augmentation none.")
        self.shrinks_first = self.augment is None  # images are resized as they are decoded
        self.points = points
        self.seed = seed
        self._decoded: OrderedDict[Any, tuple[Tensor, tuple[int, int]]] = OrderedDict()  # by path and state
        self._decoded_bytes = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        """Item ``index``, or item (epoch, index) where the augmentation depends on the epoch."""
        epoch, index = index if isinstance(index, tuple) else (0, index)
        row = self.rows[index]
        item: dict[str, Any] = {"index": index, "category": row["category"]}
        for side, name in enumerate(("source", "target")):
            draw = np.random.default_rng([self.seed, epoch, index, side])
            item.update(self._side(name, row, draw))
        return item

    def _side(self, name: str, row: Mapping[str, Any], draw: np.random.Generator) -> dict[str, Any]:
        image, size = self._image(row[name])
        images: dict[str, Tensor] = {name: image}
        crop: Crop = None
        if self.augment is not None:
            kept = self._kept(self._points(name, row), row[f"{name}_bbox"], size)
            images[name], crop = self.augment(draw, image, kept)
            if name == "target":
                for view, changes in self.augment.views.items():
                    images[f"{name}_{view}"] = changed(draw, image, changes)
        placed = self.placed(name, row, size, crop)
        framed = {view: self._framed(image, crop, size, row["mirrored"]) for view, image in images.items()}
        return {**framed, **placed}

    def image(self, name: str, index: int) -> tuple[Tensor, tuple[int, int]]:
        """The image of a row's side as the model takes it, (3, S, S), not augmented; and its original size."""
        row = self.rows[index]
        image, size = self._image(row[name])
        return self._framed(image, None, size, row["mirrored"]), size

    def placed(self, name: str, row: Mapping[str, Any], size: tuple[int, int], crop: Crop = None) -> dict[str, Tensor]:
        """What an item holds of a row's side but for the image, which has ``size`` (width, height).

        Raises:
            InputError: the row records another size.
        """
        if (recorded := row.get(f"{name}_size")) is not None:
            check_size(row[name]["path"], size, recorded, f"pair {row['pair_id']}")
        left, top, right, bottom = crop or (0, 0, *size)
        origin, shown = np.array([left, top], np.float32), (right - left, bottom - top)
        box = row[f"{name}_bbox"]
        bbox = np.full(4, np.nan, np.float32) if box is None else np.asarray(box, dtype=np.float32)
        scale = self.frame.scale(shown).astype(np.float32)
        points = (self._points(name, row) - origin) * scale
        bbox = ((bbox.reshape(2, 2) - origin) * scale).reshape(4)
        if self.frame.letterboxed:
            start = self.frame.offset(shown).astype(np.float32)
            points, bbox = points + start, (bbox.reshape(2, 2) + start).reshape(4)
        if crop is not None:
            points = points.clip(0, self.frame.side - 1)
        if row["mirrored"]:
            mirror = np.float32(self.frame.mirror(shown))
            points[:, 0] = mirror - points[:, 0]
            bbox[[0, 2]] = mirror - bbox[[2, 0]]
        partners = {"partners": self._partners(row)} if name == "source" else {}
        return {
            **partners,
            f"{name}_points": torch.from_numpy(points),
            f"{name}_bbox": torch.from_numpy(bbox),
            f"{name}_size": torch.tensor(size),
        }

    def _points(self, name: str, row: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(row[f"{name}_points"], dtype=np.float32).reshape(-1, 2)[: self.points]

    def _partners(self, row: Mapping[str, Any]) -> Tensor:
        """The row of each point's left-right partner, its own where it has none; -1 where that is not known."""
        ids, partners = (row.get(name) for name in ("keypoint_ids", "symmetric_ids"))
        if ids is None or partners is None:
            return torch.full((len(self._points("source", row)),), -1)
        place = {each: number for number, each in enumerate(ids[: self.points])}
        return torch.tensor([place.get(each, -1) for each in partners[: self.points]], dtype=torch.int64)

    def _kept(self, points: np.ndarray, box: Sequence[float] | None, size: tuple[int, int]) -> np.ndarray:
        """The box that a crop must keep; the whole image where nothing is known."""
        assert self.augment is not None
        if self.augment.keeps == "middle":
            width, height = size
            return np.array([width / 4, height / 4, 3 * width / 4, 3 * height / 4], np.float32)
        if box is not None and (self.augment.keeps == "object" or not len(points)):
            return np.asarray(box, np.float32)
        return np.concatenate([points.min(0), points.max(0)]) if len(points) else np.array([0, 0, *size], np.float32)

    def _framed(self, image: Tensor, crop: Crop, size: tuple[int, int], mirrored: bool) -> Tensor:
        """An image (3, H, W), resized already if nothing is augmented, as the model takes it."""
        tensor = normalised_image(image.float().div_(255), self.mean, self.std)
        shown = size
        if crop is not None:
            left, top, right, bottom = crop
            tensor, shown = tensor[:, top:bottom, left:right], (right - left, bottom - top)
        if not self.frame.letterboxed:
            tensor = F.resize(tensor, self.frame.pixels(shown), antialias=False)
        return self.frame.place(tensor.flip(-1) if mirrored else tensor)

    def _image(self, cell: Mapping[str, Any]) -> tuple[Tensor, tuple[int, int]]:
        """The decoded image, uint8 (3, H, W), and its original size; resized already where that is done first."""
        key = (cell["path"], state_of(cell["path"])) if cell["bytes"] is None else None
        if key is not None and key in self._decoded:
            self._decoded.move_to_end(key)
            image, size = self._decoded[key]
            return image, size
        opened = open_image(cell["path"] if key is not None else cell["bytes"], name=cell["path"])
        size = opened.size
        if self.shrinks_first:
            opened = in_frame(opened, self.frame)
        image = F.pil_to_tensor(opened)
        if key is not None and image.nbytes <= DECODED_BYTES:
            self._decoded[key] = image, size
            self._decoded_bytes += image.nbytes
            while self._decoded_bytes > DECODED_BYTES:
                _, (oldest, _) = self._decoded.popitem(last=False)
                self._decoded_bytes -= oldest.nbytes
        return image, size


def in_frame(image: Image.Image, frame: Frame) -> Image.Image:
    """An RGB image as it lies in a frame, (S, S) with 8 bits; one that keeps its shape is resized later, as floats."""
    if frame.keep_aspect:
        return image
    resized = F.resize(image, frame.pixels(image.size), InterpolationMode(frame.resample))
    if not frame.letterboxed:
        return resized
    canvas = Image.new("RGB", (frame.side, frame.side), frame.padding)
    left, top = frame.offset(image.size).astype(int).tolist()
    canvas.paste(resized, (left, top))
    return canvas


def collate_pairs(items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Stack items to a batch; points are padded with 0 to the longest pair, ``valid`` (B, K) marks the real."""
    batch: dict[str, Tensor] = {}
    longest = max(len(item["source_points"]) for item in items)
    for key, first in items[0].items():
        values = [item[key] for item in items]
        if key.endswith("_points"):
            values = [torch.nn.functional.pad(v, (0, 0, 0, longest - len(v))) for v in values]
        if key == "partners":
            values = [torch.nn.functional.pad(v, (0, longest - len(v)), value=-1) for v in values]
        batch[key] = torch.stack(values) if isinstance(first, Tensor) else torch.tensor(values)
    counts = torch.tensor([len(item["source_points"]) for item in items])
    batch["valid"] = torch.arange(longest) < counts[:, None]
    return batch
