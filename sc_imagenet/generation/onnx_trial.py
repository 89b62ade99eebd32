"""Trying an ONNX model in a process of its own: onnxruntime is C++, and a damaged model may end its process.

Run as a script this file is that process; it must import nothing of ours, to start in a moment.
"""

from __future__ import annotations

import json
import mmap
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

SECONDS = 120.0  # most for starting, opening and one image; IS-Net takes ten where cores are shared
MOST_BYTES = 8 << 30  # of addresses; IS-Net takes three
U2_NET, LARGEST = 320, 2048  # input sides: where the model takes any, and the most
OTHER_FILES = b"location"  # the key under which a model names files that hold its weights
START = "import runpy, sys; del sys.path[0]; runpy.run_path(sys.argv[1], run_name='__main__')"


class Refused(ValueError):
    """Why a model is not taken, in words."""


def try_model(model: Path) -> None:
    """Open a model in another process and give it an image.

    Raises:
        Refused: it cannot be opened, takes or gives something else than wanted, dies, or does not end.
        OSError: the file cannot be read.
    """
    with open(model, "rb") as file:
        if file.seek(0, 2) == 0:
            raise Refused("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(OTHER_FILES) >= 0:
                raise Refused("it names other files, that its weights are to be read from")
    try:
        tried = subprocess.run(
            [sys.executable, "-c", START, __file__, str(model)], capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Refused(f"it has not made a mask after {SECONDS:.0f} s") from error
    try:
        refused = json.loads(tried.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        number = -tried.returncode
        how = signal.Signals(number).name if number in list(signal.Signals) else f"exit code {tried.returncode}"
        raise Refused(f"it ends the process of onnxruntime ({how})") from error
    if refused is not None:
        raise Refused(refused)


def open_session(model: Path | str) -> Any:
    """An onnxruntime session on the CPU, on one thread: as many processes as cores run beside one another."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what it finds odd about a model, our error says in one line
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def image_input(session: Any) -> tuple[str, tuple[int, int]]:
    """Name and size (W, H) of a model's input.

    Raises:
        Refused: it does not take images alone.
    """
    inputs = session.get_inputs()
    shape: Sequence[Any] = inputs[0].shape if inputs else ()
    sides = [side if isinstance(side, int) else U2_NET for side in shape[2:]]
    fits = len(inputs) == 1 and len(shape) == 4 and inputs[0].type == "tensor(float)"
    if not fits or shape[1] != 3 or not all(0 < side <= LARGEST for side in sides):
        wanted = f"images (B, 3, H, W) of at most {LARGEST} pixels a side"
        raise Refused(f"it does not take {wanted}, but {[(each.name, each.type, each.shape) for each in inputs]}")
    return inputs[0].name, (sides[1], sides[0])


def _main() -> None:
    """Try the model that the command line names; one line of JSON says why it is refused, null where it is not."""
    import numpy

    with suppress(ImportError):  # Windows has none
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS), int(SECONDS)))
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    refused = None
    try:
        session = open_session(sys.argv[2])
        name, (width, height) = image_input(session)
        session.run(None, {name: numpy.zeros((1, 3, height, width), numpy.float32)})
    except Exception as error:  # whatever onnxruntime raises at a damaged model
        refused = str(error) or type(error).__name__
    print(json.dumps(refused))


if __name__ == "__main__":
    _main()
