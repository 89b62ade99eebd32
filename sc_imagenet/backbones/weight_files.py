"""Reading a file of weights without running anything that it may hold."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import load_file
from torch import Tensor

from sc_imagenet.errors import InputError

State = dict[str, Tensor]

# The key under which the published codes keep the weights inside their checkpoint.
LARGEST = 1 << 30  # bytes of one tensor; the largest of any published model has a quarter of it
WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher")


def read_state(path: Path | str) -> State:
    """The tensors of a ``.safetensors`` file or of a file written by ``torch.save``, on the CPU.

    A checkpoint of the published codes is a dict {epoch, state_dict, optimizer, ...}: its ``state_dict`` is
    taken. ``module.`` in front of every key, left by DataParallel, is dropped.

    Raises:
        InputError: missing, truncated, not a file of weights, or a pickle that holds more than tensors and
            plain values (nothing in it is executed).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file of weights", where=path)
    if path.stat().st_size == 0:
        raise InputError("is empty", where=path, fix="Download it again.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else read_plain(path)
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
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
    if all(str(key).startswith("module.") for key in content):
        return {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


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
        InputError: missing, truncated, packed, or a pickle that holds more (nothing in it is executed).
    """
    try:
        _refuse_packed(path)
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


def _refuse_packed(path: Path) -> None:
    """torch stores weights as they are; a packed entry, or more of them than bytes, is a decompression bomb."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise InputError(
            "is packed as torch packs nothing, which looks like a decompression bomb",
            where=path,
            fix="Do not trust this file; get it from its authors.",
        )


def _plain_values() -> AbstractContextManager[None]:
    """What published checkpoints keep beside the weights and is plain data: numpy scalars, parsed arguments."""
    rebuild = numpy.float64(0).__reduce__()[0]  # its module was renamed in numpy 2; files name either
    kinds = [type(numpy.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    scalars: list[Any] = [(rebuild, f"numpy.{name}.multiarray.scalar") for name in ("core", "_core")]
    return torch.serialization.safe_globals([*scalars, numpy.dtype, *kinds, argparse.Namespace])
