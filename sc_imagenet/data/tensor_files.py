"""Files of tensors, weights above all, read without running anything that they may hold."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy
import torch
from safetensors.torch import load_file
from torch import Tensor

from sc_imagenet.core.errors import InputError, visible
from sc_imagenet.data.archives import MAGIC

State = dict[str, Tensor]

LARGEST = 1 << 30  # bytes of one tensor; the largest of any published model has a quarter of it
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
PACKED = 20  # bytes from one of a file at most: torch packs nothing, other programs weights to half
# Keys under which codes keep the weights inside a checkpoint, the first of those that are there is taken.
CONTAINERS = ("state_dict", "model_state_dict", "model", "teacher")
WRAPPERS = ("module.", "model.", "net.")  # what DataParallel and Lightning modules put in front of every key
# What torch.compile, FSDP and activation checkpointing put in front of the keys of whatever part they wrap.
PART_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
DEEPEST = 4  # containers in one another; a damaged file's may hold itself
AVERAGED = "n_averaged"  # the counter of torch's AveragedModel

logger = logging.getLogger(__name__)


def read_state(path: Path | str) -> State:
    """The tensors of a ``.safetensors`` file or of a file written by ``torch.save``, on the CPU.

    A checkpoint is often a dict {epoch, state_dict, optimizer, ...}: its weights are taken. What wrappers put in
    front of every key is dropped (see ``unwrapped``). Of weights and a running mean of them the weights are taken,
    which the log says.

    Raises:
        InputError: missing, truncated, not a file of weights, with NaN among them, or a pickle that holds more than
            tensors and plain values (nothing in it is executed).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file of weights", where=path)
    if path.stat().st_size == 0:
        raise InputError("is empty", where=path, fix="Download it again.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else read_plain(path)
    content = _weights_of(content, path)
    if not isinstance(content, dict) or not content:
        raise InputError(f"holds no weights but a {type(content).__name__}", where=path)
    others = [str(key) for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others:
        raise InputError(
            f"holds no weights: {shortened(others)} are not tensors",
            where=path,
            fix="The file wanted is the one saved with torch.save or safetensors, such as model_best.pth.",
        )
    odd = [key for key, value in content.items() if not is_plain(value)]
    if odd:
        raise InputError(
            f"holds no weights that a model here could have: {shortened(odd)}",
            where=path,
            fix="Do not trust this file; get it from its authors.",
        )
    if diverged := [key for key, value in content.items() if value.dtype in FLOATS and value.isnan().any()]:
        raise InputError(
            f"holds weights that are not numbers (NaN): {shortened(diverged)}",
            where=path,
            fix="Their training diverged: take those of an earlier step.",
        )
    # A file of safetensors holds one model, whatever its parts are called.
    weights: State = dict(content) if path.suffix == ".safetensors" else _without_means(content, path)
    state = unwrapped(weights)
    if len(state) < len(weights) - (AVERAGED in weights):
        raise InputError("holds a weight twice, wrapped and not", where=path, fix="Save one of the two alone.")
    return state


def _weights_of(content: Any, path: Path) -> Any:
    """What of a checkpoint's content is the weights: itself, or what lies in it, however deep."""
    for _ in range(DEEPEST):
        if not isinstance(content, dict) or _is_state(content):
            break
        found = [key for key, value in content.items() if isinstance(key, str) and _holds_state(value)]
        known = [key for key in CONTAINERS if isinstance(content.get(key), dict)]
        if not found and not known:
            break
        if len(found) > 1 and not known:
            raise InputError(
                f"holds several sets of weights: {shortened(found)}", where=path, fix="Save the one wanted alone."
            )
        taken = (known or found)[0]
        if others := [key for key in found if key != taken]:
            logger.warning(visible(f"{path}: of the weights it holds, {taken!r} are taken, not {shortened(others)}"))
        content = content[taken]
    return content


def _without_means(state: State, path: Path) -> State:
    """The weights of one of a module's parts, where all its others are running means of that part."""
    parts: dict[str, State] = {}
    for key, value in state.items():
        part, _, inside = key.partition(".")
        parts.setdefault(part, {})[inside] = value
    taken = [part for part in parts if f"{part}." in WRAPPERS]
    means = [part for part in parts if re.search("(^|_)ema(_|$)", part)]
    if len(taken) != 1 or not means or len(parts) != 1 + len(means):
        return state
    weights = parts[taken[0]]
    if any(unwrapped(parts[mean]).keys() != unwrapped(weights).keys() for mean in means):
        return state
    logger.warning(visible(f"{path}: of the weights it holds, {taken[0]!r} are taken, not {shortened(means)}"))
    return weights


def _is_state(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(value, Tensor) for value in content.values())


def _holds_state(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    return _is_state(content) or any(isinstance(content.get(key), dict) for key in CONTAINERS)


def unwrapped(state: Mapping[str, Tensor]) -> State:
    """The state without what wrappers put in front of its keys: where all have it, however many are nested.

    >>> unwrapped({"model._orig_mod.conv.weight": 1, "model._orig_mod.fc._orig_mod.bias": 2})
    {'conv.weight': 1, 'fc.bias': 2}
    >>> unwrapped({"net.conv.weight": 1, "head.weight": 2})
    {'net.conv.weight': 1, 'head.weight': 2}
    """
    named = {
        ".".join(part for part in key.split(".") if part not in PART_WRAPPERS): each for key, each in state.items()
    }
    counted = AVERAGED in named and all(key.startswith("module.") for key in named if key != AVERAGED)
    if counted and len(named) > 1:
        del named[AVERAGED]
    prefix = wrapper_of(named)
    return {key.removeprefix(prefix): value for key, value in named.items()}


def wrapper_of(keys: Iterable[str]) -> str:
    """What wrappers put in front of every one of these keys.

    >>> wrapper_of(["module.net.a", "module.net.b"]), wrapper_of(["net.a", "head.b"])
    ('module.net.', '')
    """
    names, prefix = list(keys), ""
    while names and (further := [each for each in WRAPPERS if all(key.startswith(prefix + each) for key in names)]):
        prefix += further[0]
    return prefix


def shortened(names: Iterable[str], most: int = 3) -> str:
    """The first few names and how many more there are.

    >>> shortened(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def is_plain(value: Tensor) -> bool:
    """Whether a tensor is numbers in memory, and not so many that a view which repeats a few must have made them."""
    plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    return plain and value.numel() * value.element_size() <= LARGEST


def _read_safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except Exception as error:  # a reader given malformed bytes may raise anything at all
        raise InputError(f"is not a whole safetensors file ({error})", where=path, fix="Get the file again.") from error


def read_plain(
    path: Path, what: str = "weights", wanted: str = "the file that holds the weights, such as model_best.pth"
) -> Any:
    """Whatever ``torch.save`` wrote, on the CPU: tensors and plain values; an error says ``what`` was ``wanted``.

    Raises:
        InputError: missing, truncated, an archive of other files, or a pickle that holds more (nothing in it is
            executed).
    """
    try:
        _refuse_archives(path)
        with _plain_values(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch finds odd about a file, our error says in one line
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise InputError(
                f"is not a file of {what}, or is truncated", where=path, fix="Get the file again."
            ) from error
        raise InputError(
            f"holds a Python object ({refused[1]}), not only {what}; nothing in it was executed",
            where=path,
            fix=f"Give {wanted}.",
        ) from error
    except Exception as error:  # a reader given malformed bytes may raise anything at all
        why = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise InputError(
            f"is truncated or not a file of {what} ({why})", where=path, fix="Get the file again."
        ) from error


def _refuse_archives(path: Path) -> None:
    """Raise InputError for an archive that torch did not write, or one that unpacks to a multiple of its bytes."""
    with open(path, "rb") as opened:  # told by its first bytes alone: a reader of archives could be bombed
        head = opened.read(512)
    if head[257:262] == b"ustar" or head.startswith(tuple(MAGIC.values())):
        raise _archive("a packed file", path)
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
    if not any(PurePosixPath(entry.filename).name == "data.pkl" for entry in entries):
        raise _archive(f"an archive of {shortened(entry.filename for entry in entries)}", path)
    unpacked, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if unpacked > PACKED * size:
        raise InputError(
            f"unpacks to {unpacked:,} bytes from {size:,}, which looks like a decompression bomb",
            where=path,
            fix="Do not trust this file; get it from its authors.",
        )


def _archive(what: str, path: Path) -> InputError:
    return InputError(f"is {what}, not a file of weights", where=path, fix="Unpack it and give the file inside.")


def _plain_values() -> AbstractContextManager[None]:
    """What published checkpoints keep beside the weights and is plain data: numpy scalars, parsed arguments."""
    rebuild = numpy.float64(0).__reduce__()[0]  # its module was renamed in numpy 2; files name either
    kinds = [type(numpy.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    scalars: list[Any] = [(rebuild, f"numpy.{name}.multiarray.scalar") for name in ("core", "_core")]
    return torch.serialization.safe_globals([*scalars, numpy.dtype, *kinds, argparse.Namespace])
