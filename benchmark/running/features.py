"""What a model's encoder made of images: held in memory up to a limit, and on disk beyond it or from run to run.

An image's features are found by its content, and kept under a folder whose name is the hash of all that they depend
on beside it: the model's code, the arguments and weights that its encoder reads, how images are made ready. They are
written whole or not at all, one file an image, so that several processes may fill one folder and any may be killed.
"""

from __future__ import annotations

import hashlib
import inspect
import shutil
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from baselines.matcher import Matcher
from sc_imagenet.backbones import pretrained
from sc_imagenet.backbones.backbone import Backbone
from sc_imagenet.backbones.diffusion import DiffusionBackbone
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.files import cache_folder, files_in, read_json, write_json
from sc_imagenet.core.progress import say
from sc_imagenet.generation.class_features import kept, mapped
from sc_imagenet.generation.options import key_of

MODES = {
    "keep": "kept on disk for later runs",
    "memory": "kept until the command ends",
    "off": "not kept: every image of every pair is encoded",
}
LIMIT = 1000  # MB of features in memory
MB = 10**6
ABOUT = "about.json"  # what the features in a folder depend on
ENDING = ".safetensors"


@dataclass(frozen=True)
class Encoded:
    """An image's features (1, ...) each, and its width and height in original pixels."""

    features: list[Tensor]
    size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of all features."""
        return sum(each.nbytes for each in self.features)

    def tensors(self) -> dict[str, Tensor]:
        """As they are written to a file."""
        numbered = {f"{number:04d}": each.cpu() for number, each in enumerate(self.features)}
        return {**numbered, "size": torch.tensor(self.size)}

    @classmethod
    def of(cls, tensors: dict[str, Tensor], device: torch.device) -> Encoded:
        """The inverse of ``tensors``."""
        width, height = tensors["size"].tolist()
        return cls([tensors[name].to(device) for name in sorted(tensors) if name != "size"], (width, height))


class FeatureStore:
    """Features by key; those used last are in memory, the others on disk.

    Without a folder they last as long as the store: what does not fit into memory lies in a file without a name,
    which goes with the process, however it ends.

    Args:
        limit: most bytes of features in memory.
        folder: where features are kept, and found that another process kept.
        device: where they are wanted.
    """

    def __init__(self, limit: int, folder: Path | None = None, device: torch.device | None = None) -> None:
        self.limit, self.folder, self.device = limit, folder, device or torch.device("cpu")
        self._held: OrderedDict[str, Encoded] = OrderedDict()
        self._bytes = 0
        self._spilled: dict[str, tuple[int, int]] = {}  # where in the file, and how many bytes
        self._disk_is_full = False

    def __contains__(self, key: str) -> bool:
        """Whether features are at hand; those of a folder may be gone when they are asked for."""
        return key in self._held or key in self._spilled or (self.folder is not None and self._path(key).exists())

    def get(self, key: str) -> Encoded | None:
        """The features of an image; None where there are none."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        if key in self._spilled:
            start, count = self._spilled[key]
            self._file.seek(start)
            found = Encoded.of(load(self._file.read(count)), self.device)
        else:
            tensors = mapped(self._path(key)) if self.folder is not None else None
            if tensors is None or "size" not in tensors:
                return None
            found = Encoded.of(tensors, self.device)
        self._hold(key, found)
        return found

    def put(self, key: str, encoded: Encoded) -> None:
        """Take up the features of an image, and write them where they are kept."""
        if self.folder is not None:
            kept(self._path(key), encoded.tensors())
        self._hold(key, encoded)

    def drop(self, key: str) -> None:
        """Forget features that are not wanted again; what is kept on disk stays."""
        if (held := self._held.pop(key, None)) is not None:
            self._bytes -= held.nbytes
        self._spilled.pop(key, None)

    def _hold(self, key: str, encoded: Encoded) -> None:
        self._held[key] = encoded
        self._bytes += encoded.nbytes
        while self._bytes > self.limit and len(self._held) > 1:
            oldest, given_up = self._held.popitem(last=False)
            self._bytes -= given_up.nbytes
            if self.folder is None and oldest not in self._spilled:
                self._spill(oldest, given_up)

    def _spill(self, key: str, encoded: Encoded) -> None:
        """Write features that memory does not hold; where the disk refuses, their image is encoded again."""
        if self._disk_is_full:
            return
        content = save(encoded.tensors())
        try:
            start = self._file.seek(0, 2)
            self._file.write(content)
            self._file.flush()
        except OSError as error:
            self._disk_is_full = True
            say(
                f"{feature_folder()}: no features are written here ({error.strerror}); images are encoded again instead"
            )
            return
        self._spilled[key] = start, len(content)

    @cached_property
    def _file(self) -> IO[bytes]:
        folder = feature_folder()
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{key}{ENDING}"


def check_mode(features: str) -> None:
    """See that a person named one of ``MODES``.

    Raises:
        InputError: another word.
    """
    if features not in MODES:
        raise unknown_name("way to treat features", features, MODES)


def feature_folder() -> Path:
    """Where features are kept from run to run, a folder an encoder."""
    return cache_folder() / "features"


def check_space(needed: int, folder: Path) -> None:
    """See that a disk takes so many bytes.

    Raises:
        InputError: it has less.
    """
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"features would take {in_mb(needed)}, and {in_mb(free)} are free",
            where=folder,
            fix="Free some ('scbench features prune'), set SC_CACHE to another disk, or give --features off.",
        )


def in_mb(count: int) -> str:
    """Bytes in words.

    >>> in_mb(1_126_400), in_mb(67_584_000)
    ('1.1 MB', '68 MB')
    """
    return f"{count / MB:.1f} MB" if count < 10 * MB else f"{count / MB:,.0f} MB"


# What features depend on beside the image.


def encoder_identity(matcher: Matcher, device: torch.device) -> dict[str, Any]:
    """What a model's features of an image depend on beside the image, as plain values.

    Raises:
        InputError: the model was typed at a prompt, so that nobody can tell when it changes.
    """
    others = (*matcher.match_arguments, *matcher.training_arguments)
    known, folder = matcher.registered(), matcher.feature_folder
    return {
        **({"features": folder.sha256()} if folder is not None else {}),
        "model": known.name if known else type(matcher).__qualname__,
        "arguments": {name: value for name, value in matcher.arguments.items() if name not in others},
        "weights": _weights_sha256(matcher),
        "code": _code_sha256(matcher),
        "size": matcher.size,
        "frame": asdict(matcher.frame),
        "mean": list(matcher.mean),
        "std": list(matcher.std),
        "device": device.type,
        "versions": {name: version(name) for name in _libraries(matcher)},
    }


def encoder_folder(identity: dict[str, Any]) -> Path:
    """Where an encoder's features are kept; says in it what they depend on."""
    folder = feature_folder() / key_of(identity)
    if not (folder / ABOUT).exists():
        write_json(folder / ABOUT, identity)
    return folder


def _libraries(matcher: Matcher) -> list[str]:
    """The packages whose code makes features."""
    noisy = any(isinstance(part, DiffusionBackbone) for part in matcher.modules())
    return ["sc-imagenet", "torch", "torchvision", "timm", "pillow", *(["diffusers"] if noisy else [])]


def _weights_sha256(matcher: Matcher) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(matcher.state_dict().items()):
        if not name.startswith(matcher.match_weights):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _code_sha256(matcher: Matcher) -> str:
    digest = hashlib.sha256()
    classes = [kind for kind in type(matcher).__mro__ if issubclass(kind, Matcher)]
    backbones = {kind for part in matcher.modules() for kind in type(part).__mro__ if issubclass(kind, Backbone)}
    below = sorted({Backbone.__module__, pretrained.__name__, *(kind.__module__ for kind in backbones)})
    modules = dict.fromkeys((*(kind.__module__ for kind in classes), *below))
    for name in modules:
        file = getattr(sys.modules.get(name), "__file__", None)
        try:
            text = Path(file).read_text(encoding="utf-8") if file else inspect.getsource(classes[0])
        except (OSError, TypeError) as error:
            raise InputError(
                f"features of {type(matcher).__name__} cannot be kept: its code lies in no file",
                fix="Write it to a file, or give --features memory.",
            ) from error
        digest.update(text.encode())
    return digest.hexdigest()


# What is kept, for ``scbench features``.


@dataclass(frozen=True)
class KeptFeatures:
    """What one encoder's folder holds."""

    folder: Path
    model: str
    about: dict[str, Any]
    images: int
    nbytes: int
    used: float  # seconds since 1970 at which the last image was added


def kept_features() -> Iterator[KeptFeatures]:
    """What is kept, an entry an encoder, the one that was filled last first."""
    root = feature_folder()
    folders = [each for each in root.iterdir() if each.is_dir()] if root.is_dir() else []
    found = []
    for folder in folders:
        try:
            about = read_json(folder / ABOUT)
        except InputError:  # spoilt by something else than us
            about = {}
        about = about if isinstance(about, dict) else {}
        files = files_in(folder, ENDING)
        states = [file.stat() for file in files]
        used = max((state.st_mtime for state in states), default=folder.stat().st_mtime)
        total = sum(state.st_size for state in states)
        found.append(KeptFeatures(folder, str(about.get("model", "?")), about, len(files), total, used))
    return iter(sorted(found, key=lambda each: -each.used))


def prune(chosen: KeptFeatures) -> None:
    """Delete one encoder's features; a process that reads them encodes again."""
    shutil.rmtree(chosen.folder, ignore_errors=True)
