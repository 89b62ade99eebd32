"""Where a run ran: versions, source revision, device."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

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
