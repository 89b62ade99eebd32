"""What of an image is the object: masks in [0, 1] on the features' grid, behind one small interface.

The paper takes SelfReformer trained on DUTS-TR. Here the masks come from the backbone's own features, without other
weights; from a folder of masks made by any program; or from U2-Net or IS-Net as an ONNX file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import sha256_of, sha256_of_all
from sc_imagenet.data.images import open_image
from sc_imagenet.generation.feature_masks import feature_masks
from sc_imagenet.generation.features import Features
from sc_imagenet.generation.mask_files import Mask, read_mask
from sc_imagenet.generation.onnx_trial import image_input, open_session, try_model
from sc_imagenet.generation.options import key_of
from sc_imagenet.generation.photographs import Photograph
from sc_imagenet.sources.source import first_existing

IS_NET = 1024  # its input side
STEEP = 80.0  # logits beyond which a sigmoid is 0 or 1
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Saliency(Protocol):
    """Finds the object of an image."""

    @property
    def identity(self) -> str:
        """Changes whenever the masks of an image may, by more than ``content``; masks are kept by both."""

    def content(self, photographs: Sequence[Photograph]) -> tuple[str, ...]:
        """Hashes of the files that the masks are read from; none where they are made of the photographs themselves."""

    def masks(self, root: Path, photographs: Sequence[Photograph], features: Features) -> Tensor:
        """Masks (B, h, w) in [0, 1] of B photographs, on the grid of their ``features``.

        Raises:
            InputError: a mask is missing or cannot be read.
        """

    def notes(self, root: Path, photographs: Sequence[Photograph]) -> dict[str, int]:
        """How the masks of photographs were read, in words, each with how many were; nothing where we make them.

        Raises:
            InputError: as ``masks``.
        """


class FeatureSaliency:
    """Foreground is what differs from the image's border and lies towards its middle, in the backbone's features."""

    identity = "features-3"

    def content(self, photographs: Sequence[Photograph]) -> tuple[str, ...]:
        """See ``Saliency.content``."""
        return ()

    def masks(self, root: Path, photographs: Sequence[Photograph], features: Features) -> Tensor:
        """See ``Saliency.masks``; the files are not opened."""
        return feature_masks(features.tokens.float()) if features.masks is None else features.masks.float()

    def notes(self, root: Path, photographs: Sequence[Photograph]) -> dict[str, int]:
        """See ``Saliency.notes``."""
        return {}


class SaliencyFolder:
    """Masks made by any program: ``<folder>/<class>/<name of the image>.png``; see ``mask_files`` for their forms."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    identity = "folder-3"

    def content(self, photographs: Sequence[Photograph]) -> tuple[str, ...]:
        """See ``Saliency.content``; "" for a mask that is not there.

        Raises:
            InputError: two photographs have one mask, as ``x.jpg`` and ``x.png`` beside each other.
        """
        found = [self._place(each) for each in photographs]
        owners: dict[Path, Photograph] = {}
        for each, place in zip(photographs, found):
            if place is not None and (owner := owners.setdefault(place, each)) is not each:
                raise InputError(
                    f"is the mask of both {owner.path} and {each.path}",
                    where=place,
                    fix="Call the masks <name of the image with its ending>.png.",
                )
        hashes = iter(sha256_of_all([place for place in found if place is not None]))
        return tuple("" if place is None else next(hashes) for place in found)

    def masks(self, root: Path, photographs: Sequence[Photograph], features: Features) -> Tensor:
        """See ``Saliency.masks``."""
        grid = features.grid
        return torch.stack([mask_on_grid(self._read(root, each).values, grid) for each in photographs])

    def notes(self, root: Path, photographs: Sequence[Photograph]) -> dict[str, int]:
        """See ``Saliency.notes``."""
        return dict(Counter(note for each in photographs for note in self._read(root, each).notes))

    def _place(self, photograph: Photograph) -> Path | None:
        place = self.folder / photograph.path
        return first_existing(Path(f"{place}.png"), place.with_suffix(".png"), place)

    def _read(self, root: Path, photograph: Photograph) -> Mask:
        path = self._place(photograph)
        if path is not None:
            return read_mask(path, photograph, root)
        raise InputError(
            f"holds no mask {Path(photograph.path).with_suffix('.png')}",
            where=self.folder,
            fix="Masks are <folder>/<class>/<name of the image>.png, white where the object is, or cut-outs.",
        )


class OnnxSaliency:
    """U2-Net, U2-Net-P, IS-Net or a model like them as an ONNX file, such as rembg's ``u2netp.onnx``, on the CPU.

    The input's size is the model's own, 320 px where it takes any. See ``onnx_input`` for how pixels are scaled and
    ``onnx_mask`` for which output is the mask.
    """

    def __init__(self, model: Path) -> None:
        """Open the model.

        Raises:
            InputError: onnxruntime is not installed, or the file is not such a model.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(
                "onnxruntime is needed to read it", where=model, fix="pip install 'sc-imagenet[saliency]'"
            ) from error
        del onnxruntime
        self.model = model
        try:
            try_model(model)
            self.identity = f"onnx-2-{sha256_of(model)[:16]}"
            self._session: Any = open_session(model)
            self._input, self._size = image_input(self._session)
        except Exception as error:  # whatever onnxruntime raises at a damaged file
            raise self._refusal("is not an ONNX saliency model", error) from error

    def content(self, photographs: Sequence[Photograph]) -> tuple[str, ...]:
        """See ``Saliency.content``."""
        return ()

    def masks(self, root: Path, photographs: Sequence[Photograph], features: Features) -> Tensor:
        """See ``Saliency.masks``."""
        return torch.stack([mask_on_grid(self.mask(root / each.path), features.grid) for each in photographs])

    def notes(self, root: Path, photographs: Sequence[Photograph]) -> dict[str, int]:
        """See ``Saliency.notes``."""
        return {}

    def mask(self, path: Path) -> np.ndarray:
        """The mask (H, W) in [0, 1] of an image file, of the model's size: the whole image made square.

        Raises:
            InputError: the file is no image, or the model gives no mask.
        """
        return self.mask_of(open_image(path), str(path))

    def mask_of(self, image: Image.Image, name: str = "an image") -> np.ndarray:
        """The same of an image that was read already; ``name`` is what the error calls it.

        Raises:
            InputError: the model gives no mask.
        """
        given = onnx_input(image, self._size)
        try:
            return onnx_mask(self._session.run(None, {self._input: given}))
        except Exception as error:  # whatever onnxruntime raises where a model cannot be computed
            raise self._refusal(f"makes no mask of {name}", error) from error

    def _refusal(self, what: str, error: Exception) -> InputError:
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        return InputError(f"{what} ({why})", where=self.model)


def onnx_input(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """An image as the networks were trained to see it: (1, 3, H, W) of a ``size`` (W, H).

    U2-Net's pixels are divided by the brightest and normalised as ImageNet's are; IS-Net, known by its 1024 px, takes
    pixels between -0.5 and 0.5.
    """
    pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR), np.float32)
    if max(size) == IS_NET:
        scaled = pixels / 255 - 0.5
    else:
        scaled = (pixels / max(float(pixels.max()), 1.0) - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None], np.float32)


def onnx_mask(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """The mask (H, W) in [0, 1] among a model's outputs: the first of one channel.

    The networks put the mask that fuses their side outputs first. It is stretched to [0, 1], as both publish it;
    values beyond [0, 1] are logits.

    >>> onnx_mask([np.full((1, 2, 1, 1), 9.0), np.array([[[[0.2, 0.6]]]])]).tolist()
    [[0.0, 1.0]]

    Raises:
        InputError: no output has one channel, or the mask is not finite.
    """
    for output in outputs:
        if isinstance(output, np.ndarray) and output.dtype.kind == "f" and output.ndim == 4 and output.shape[1] == 1:
            mask = output[0, 0].astype(np.float32) if output.size else np.full((1, 1), np.nan, np.float32)
            if not np.isfinite(mask).all():
                raise InputError("gives a mask that is empty or not finite")
            if mask.min() < 0 or mask.max() > 1:
                mask = (1 / (1 + np.exp(-mask.clip(-STEEP, STEEP)))).astype(np.float32)
            return (mask - mask.min()) / max(float(np.ptp(mask)), 1e-6)
    raise InputError(f"gives no mask (B, 1, H, W), but {[np.shape(output) for output in outputs]}")


def open_saliency(given: str) -> Saliency:
    """The masks that ``given`` names: "features", a folder of masks, or an ``.onnx`` file.

    >>> open_saliency("features").identity
    'features-3'

    Raises:
        InputError: none of these.
    """
    if given == "features":
        return FeatureSaliency()
    path = Path(given).expanduser()
    if path.is_dir():
        return SaliencyFolder(path)
    if path.suffix == ".onnx" and path.is_file():
        return OnnxSaliency(path)
    raise InputError(
        f"saliency {given!r} is neither 'features' nor a folder of masks nor an .onnx file",
        fix="Leave it out to take the backbone's own features.",
    )


def masks_key(given: str, photographs: Sequence[Photograph]) -> str | None:
    """A hash of the files that the masks of photographs are made with; None where that takes none.

    Args:
        given: as ``open_saliency`` takes it.
    """
    path = Path(given).expanduser()
    if given == "features" or not path.exists():
        return None
    masks = SaliencyFolder(path)
    return key_of(masks.identity, *masks.content(photographs)) if path.is_dir() else sha256_of(path)


def mask_on_grid(mask: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """A mask (H, W) averaged over the cells of a grid."""
    return F.adaptive_avg_pool2d(torch.from_numpy(np.ascontiguousarray(mask, np.float32))[None], grid)[0].clamp(0, 1)
