"""A run's folder: its files by name, its lock, the machine it ran on; another configuration or state is refused."""

from __future__ import annotations

import json
import math
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.running.arguments import RunConfig, identity
from benchmark.scoring.prediction_files import prediction_file
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path, read_json, write_json
from sc_imagenet.core.locks import held
from sc_imagenet.data.tensor_files import is_plain, read_plain

# A run's folder: its files by name, its lock, and the refusal of another configuration.


@dataclass(frozen=True)
class RunFolder:
    """``runs/<model>/<id>`` and the names of what lies in it."""

    path: Path

    @classmethod
    def of(cls, runs: Path | str, config: RunConfig) -> RunFolder:
        """The folder of ``config`` under ``runs``; nothing is created."""
        return cls(Path(runs) / config.model / config.id)

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.json"

    @property
    def environment(self) -> Path:
        """Versions, git revision, device."""
        return self.path / "environment.json"

    @property
    def log(self) -> Path:
        """One JSON object a line: losses, rates, validation."""
        return self.path / "log.jsonl"

    @property
    def resume(self) -> Path:
        """Weights, optimiser and position of a training that is not finished."""
        return self.path / "checkpoints" / "resume.pt"

    @property
    def last(self) -> Path:
        """Weights after the last step; written when training has ended."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def best(self) -> Path:
        """Weights with the best validation PCK; the ones that are evaluated and handed on."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def trained(self) -> Path:
        """Summary of a finished training."""
        return self.path / "checkpoints" / "trained.json"

    @property
    def result(self) -> Path:
        """The scores."""
        return self.path / "result.json"

    @property
    def inputs(self) -> Path:
        """Hashes of what the training read beside the pairs that its configuration names: images, validation pairs."""
        return self.path / "inputs.json"

    def predictions(self, dataset: str, split: str, mark: str = "") -> Path:
        """Predictions on one split of a data set; see ``benchmark.scoring.prediction_files.prediction_file``."""
        return self.path / "predictions" / prediction_file(dataset, split, mark)

    def claim(self, config: RunConfig, typed: Mapping[str, Any]) -> None:
        """Write the configuration, or see that the one there is the same, and keep what was typed beside it.

        Args:
            config: resolved; its hash names the folder.
            typed: how data and weights were named on the command line; "eval" and "include" are those of all commands.

        Raises:
            InputError: the folder belongs to another configuration.
        """
        content = config.as_json()
        if self.config.exists():
            there = read_json(self.config)
            before = there.pop("typed", {})
            if identity(there) != identity(content):
                raise InputError(
                    "belongs to a run of another configuration",
                    where=self.path,
                    fix="Choose another --runs folder.",
                )
            typed = {**typed, "eval": list(dict.fromkeys([*before.get("eval", ()), *typed["eval"]]))}
            files = {Path(file).name: file for file in (*before.get("include", ()), *typed.get("include", ()))}
            typed |= {"include": list(files.values())} if files else {}
            if before == typed:
                return
        write_json(self.config, {**content, "typed": typed})

    def lock(self) -> AbstractContextManager[None]:
        """Hold the folder against other processes; see ``sc_imagenet.core.locks.held``."""
        return held(self.path, "run")


class RunLog:
    """Appends JSON lines to a run's log; a resumed run first drops the lines after its checkpoint."""

    def __init__(self, path: Path, from_step: int) -> None:
        self.path = path
        shorten_log(path, from_step)

    def write(self, **entry: Any) -> None:
        """Append one line.

        Raises:
            InputError: it cannot be written.
        """
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise InputError(
                f"cannot be written ({error.strerror})", where=self.path, fix="Free some space and run again to go on."
            ) from error


# Where a run ran: versions, source revision, device.

PACKAGES = ("sc-imagenet", "torch", "torchvision", "timm", "datasets", "accelerate", "numpy", "safetensors")


def environment(device: torch.device, processes: int) -> dict[str, Any]:
    """Versions of what decides the numbers, the git revision of this code, the device and its threads."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "git": git_revision(),
        "device": f"{device.type} {name}".strip(),
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def git_revision() -> str | None:
    """The commit of the checkout this code runs from, "+" behind it if files differ; None outside of one."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


# How much memory a run took.


def peak_memory() -> int:
    """The most memory held at once, in bytes: of the GPU where there is one, else of this process."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else process_memory()


def process_memory() -> int:
    """The most memory that this process held at once, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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
