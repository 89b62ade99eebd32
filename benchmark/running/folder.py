"""A run's folder: its files by name, its lock, the machine it ran on, and the refusal of another configuration."""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmark.running.arguments import RunConfig
from benchmark.running.resume import shorten_log
from benchmark.scoring.prediction_files import prediction_file
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json, write_json
from sc_imagenet.core.locks import held

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
            if there != content:
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
                f"cannot be written ({error.strerror})", where=self.path, fix="Make room and run again to go on."
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
