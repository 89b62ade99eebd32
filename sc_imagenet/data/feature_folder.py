"""Features of images that another program made: a folder with an array (C, n, n) for each image.

An image's array is called like the image, with as many of the folders that it lies in as are needed to tell it from
others: of .../JPEGImages/cat/2008_000670.jpg any of JPEGImages/cat/2008_000670.npy, cat/2008_000670.npy and
2008_000670.npy, or the same behind the image's own ending (2008_000670.jpg.npy); the longest that is there is taken.
Endings are .npy, .npz and .safetensors. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import sha256_of_all
from sc_imagenet.data.tensor_files import FLOATS, LARGEST, shortened

ENDINGS = (".npy", ".npz", ".safetensors")
NAME = "features"  # of the array in a file that holds several


class FeatureFolder:
    """A folder of arrays, all of one shape (C, n, n), by the images they are of.

    Raises:
        InputError: no such folder, or nothing of the kind in it.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise InputError("no such folder of features", where=folder)
        found = (path for path in self.folder.rglob("*") if path.suffix in ENDINGS)
        self.files = sorted(path for path in found if not path.name.startswith("."))
        if not self.files:
            raise InputError(f"holds no {', '.join(ENDINGS)}", where=folder, fix="An array (C, n, n) for each image.")
        self._known = set(self.files)
        self._first: tuple[Path, tuple[int, ...]] | None = None  # the file that says what shape all have
        self._image: dict[Path, str] = {}  # what image a file was read for, by content

    def sha256(self) -> str:
        """A hash of the names and contents of all arrays."""
        lines = zip((file.relative_to(self.folder).as_posix() for file in self.files), sha256_of_all(self.files))
        return hashlib.sha256("\n".join(f"{name} {digest}" for name, digest in lines).encode()).hexdigest()

    def file_of(self, image: Path | str) -> Path:
        """The file with an image's array.

        Raises:
            InputError: there is none, or there are two of one name.
        """
        for name in _names(str(image)):
            found = [file for ending in ENDINGS if (file := self.folder / f"{name}{ending}") in self._known]
            if len(found) > 1:
                raise InputError(f"{found[0].name} and {found[1].name} are of one image", where=self.folder)
            if found:
                return found[0]
        fix = f"Wanted is {Path(image).stem}{ENDINGS[0]}, in folders as the image or not."
        raise InputError(f"no features of {image}", where=self.folder, fix=fix)

    def read(self, image: Path | str, content: str) -> Tensor:
        """An image's features (1, C, n, n) in float32.

        Args:
            image: its path.
            content: the hash of its content; an array is of one image.

        Raises:
            InputError: no array, or one that is damaged, holds NaN, or is of another shape than the others.
        """
        file = self.file_of(image)
        if self._image.setdefault(file, content) != content:
            fix = "Put the arrays into folders that are called as those of the images."
            raise InputError(f"would be of two images, one of them {image}", where=file, fix=fix)
        features = read_array(file)
        if features.ndim != 3 or 0 in features.shape or features.shape[1] != features.shape[2]:
            fix = "Wanted is (C, n, n): channels, then as many rows as columns of a square frame."
            raise InputError(f"has the shape {tuple(features.shape)}", where=file, fix=fix)
        first, shape = self._first = self._first or (file, tuple(features.shape))
        if tuple(features.shape) != shape:
            what = f"has the shape {tuple(features.shape)}, {first.name} has {shape}"
            raise InputError(what, where=file, fix="All must be of one network and one stride.")
        if bad := int((~features.isfinite()).sum()):
            raise InputError(f"holds {bad:,} values that are NaN or infinite", where=file, fix="Make it again.")
        return features[None].contiguous()


def _names(image: str) -> Iterator[str]:
    """What an image's array may be called, without its ending; the longest first."""
    parts = [part for part in PurePosixPath(image.replace("\\", "/")).parts if part not in ("/", ".")]
    for start in range(len(parts)):
        if ".." not in parts[start:]:
            whole = PurePosixPath(*parts[start:])
            yield str(whole.with_suffix(""))
            yield str(whole)


def read_array(file: Path) -> Tensor:
    """The one array that a file holds, or of several the one called "features"; in float32.

    Raises:
        InputError: none, several of other names, damaged, or not of numbers with a point.
    """
    try:
        if file.suffix == ".safetensors":
            arrays = load_file(file)
        elif file.suffix == ".npz":
            with zipfile.ZipFile(file) as packed:
                sizes = [entry.file_size for entry in packed.infolist()]
            if sum(sizes) > LARGEST:
                raise ValueError(f"unpacks to {sum(sizes):,} bytes")
            with np.load(file, allow_pickle=False) as held:
                arrays = {name: torch.from_numpy(held[name]) for name in held.files}
        else:
            arrays = {NAME: torch.from_numpy(np.load(file, allow_pickle=False))}
    except Exception as error:  # a reader given malformed bytes may raise anything at all
        why = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise InputError(f"is no array that can be read ({why})", where=file, fix="Make it again.") from error
    if len(arrays) > 1 and NAME not in arrays:
        fix = f"Call the one wanted {NAME!r}."
        raise InputError(f"holds {shortened(arrays)}", where=file, fix=fix)
    if not arrays:
        raise InputError("holds no array", where=file)
    array = arrays[NAME] if len(arrays) > 1 else next(iter(arrays.values()))
    if array.dtype not in FLOATS:
        raise InputError(f"holds {array.dtype}, no features", where=file, fix="float16, bfloat16, float32 or float64.")
    return array.float()
