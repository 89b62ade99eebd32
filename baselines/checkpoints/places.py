"""Where weights lie: what ``--checkpoint`` takes, and the one file of weights it means."""

from __future__ import annotations

from pathlib import Path

from baselines.saved import FILES, WEIGHTS
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.hub import fetch

TRAINED_ON = "trained_on.json"  # beside weights of 'scbench generate train': what they were trained on
BEST = Path("checkpoints", "best.safetensors")  # of a run's folder
SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin", ".pkl")  # of files, never of a repository's name


def weights_file(given: Path | str) -> Path:
    """The file of weights that a person named.

    Args:
        given: a file; a folder of ``save_pretrained``; the folder of a run; or a repository OWNER/NAME of the
            Hub, which is fetched unless it was before.

    Raises:
        InputError: there is none.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        if path.suffix in SUFFIXES:
            raise InputError("no such file of weights", where=given)
        path = fetch(given, (*FILES, TRAINED_ON))
    for name in (WEIGHTS, BEST):
        if (path / name).is_file():
            return path / name
    raise InputError(
        f"is a folder without {WEIGHTS}", where=given, fix=f"Nor is it a finished run, which would hold {BEST}."
    )


def recorded_name(given: Path | str) -> str:
    """How a result names the weights: OWNER/NAME of a repository, else the name of the file or folder.

    >>> recorded_name("me/my-cats"), recorded_name("/")
    ('me/my-cats', '')
    """
    path = Path(given).expanduser()
    return path.name if path.exists() else str(given)
