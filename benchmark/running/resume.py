"""The state that an interrupted training left: read without running anything in it, and taken up whole or not at all.

A file may be cut short, of another training, or made by a stranger: what would break a later step is found here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path
from sc_imagenet.data.tensor_files import is_plain, read_plain

# What each optimiser keeps of a parameter once it was stepped; "step" is one number, the others are of its shape.
MOMENTS = {"Adam": {"step", "exp_avg", "exp_avg_sq"}, "AdamW": {"step", "exp_avg", "exp_avg_sq"}}
MOMENTUM = {"momentum_buffer"}


@contextmanager
def resuming(path: Path) -> Iterator[Mapping[str, Any]]:
    """The state in ``path``; whatever goes wrong while it is taken up is the file's fault.

    Raises:
        InputError: the file is damaged, holds more than tensors and plain values, or does not fit.
    """
    try:
        state = read_plain(path)
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
        yield state
    except Exception as error:  # a reader given malformed bytes may raise anything at all
        told = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        why = told.removeprefix(f"{path}: ").splitlines()[0][:200] if told else type(error).__name__
        raise InputError(
            f"cannot be taken up ({why.rstrip('.')})", where=path, fix="Remove it to train from the start."
        ) from error


def resume_weights(model: nn.Module, state: Any) -> None:
    """Load all weights of ``model``, and no others.

    Raises:
        ValueError: they do not fit, or are not plain numbers.
    """
    own = model.state_dict()
    if not isinstance(state, dict) or state.keys() != own.keys():
        raise ValueError("its weights are of another model")
    for name, value in own.items():
        _see_fits(f"weight {name}", state[name], value)
    model.load_state_dict(state)


def resume_optimiser(optimiser: torch.optim.Optimizer, state: Any) -> None:
    """Load what ``optimiser`` remembers of its parameters; its settings are not the file's to say.

    Raises:
        ValueError: it does not fit the parameters.
    """
    remembered = state["state"]
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    if not isinstance(remembered, dict) or not remembered.keys() <= set(range(len(parameters))):
        raise ValueError("its optimiser is of another model")
    kind = type(getattr(optimiser, "optimizer", optimiser)).__name__  # accelerate wraps them
    wanted = MOMENTS.get(kind, MOMENTUM)
    for number, values in remembered.items():
        if not isinstance(values, dict) or values.keys() != wanted:
            raise ValueError(f"its optimiser is no {kind}")
        for name, value in values.items():
            what = f"{name} of parameter {number}"
            if name != "step":
                _see_fits(what, value, parameters[number])
            else:
                _see_fits(what, value, torch.zeros(()))
                if not 0 <= float(value) < math.inf:
                    raise ValueError(f"{what} is {float(value)}")
            if name == "exp_avg_sq" and bool((value < 0).any()):
                raise ValueError(f"{what}, a mean of squares, is negative")
    own = {number: {name: value.clone() for name, value in values.items()} for number, values in remembered.items()}
    # Values that share their memory, as those of a hostile file may, could not be stepped.
    optimiser.load_state_dict({"state": own, "param_groups": optimiser.state_dict()["param_groups"]})


def whole_number(name: str, value: Any, most: int) -> int:
    """``value``, which must be a whole number from 0 to ``most``.

    >>> whole_number("step", 3, 10)
    3

    Raises:
        ValueError: it is none.
    """
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"its {name} is {value!r:.40}, not a number from 0 to {most}")
    return value


def shorten_log(path: Path, step: int) -> None:
    """Drop the lines of a log, one JSON object each, that were written after ``step``, and what is no such line.

    An empty log is begun where there is none.

    Raises:
        InputError: it cannot be read or written.
    """
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path) from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"".join(line + b"\n" for line in lines if _step_of(line) <= step))


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):  # cut short by an interruption
        return math.inf


def _see_fits(what: str, value: Any, wanted: Tensor) -> None:
    if not isinstance(value, Tensor) or not is_plain(value):
        raise ValueError(f"its {what} is no tensor of numbers")
    if value.shape != wanted.shape:
        raise ValueError(f"its {what} is {list(value.shape)}, not {list(wanted.shape)}")
    if value.is_floating_point() != wanted.is_floating_point() or value.is_complex():
        raise ValueError(f"its {what} is of {value.dtype}, not {wanted.dtype}")
