"""Being asked to stop: Ctrl-C, or SIGTERM as schedulers send it. What is unsaved is saved, then the process ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator


INTERRUPTED, TERMINATED = 130, 143  # exit codes


class Terminated(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, but for the exit code."""


_terminated = False


def was_terminated() -> bool:
    """Whether this process was sent SIGTERM: command line libraries make one exit code of every interruption."""
    return _terminated


class Hurried(KeyboardInterrupt):
    """A second signal while the first was being obeyed: nothing more is saved."""


class StopRequest:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._at_once = False

    def __bool__(self) -> bool:
        return self._number is not None

    def note(self, number: int, _: Any) -> None:
        """Handle a signal."""
        global _terminated
        _terminated = _terminated or number == signal.SIGTERM
        if self._number is not None:
            raise Hurried
        self._number = number
        if self._at_once:
            raise self.error()

    def error(self) -> KeyboardInterrupt:
        """What to raise once everything is saved."""
        return Terminated() if self._number == signal.SIGTERM else KeyboardInterrupt()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it a signal is not noted but ends the work where it is."""
        if self:
            raise self.error()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM instead of ending, so that a step is finished and saved before the end."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread alone
        yield request
        return
    before = {number: signal.signal(number, request.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def terminated(number: int, _: Any) -> None:
    """The handler of SIGTERM where no ``stop_request`` is open."""
    global _terminated
    _terminated = True
    raise Terminated


def any_process(asked: bool, accelerator: Accelerator) -> bool:
    """Whether any of the processes was asked; all must call it, since all must end after the same step."""
    if accelerator.num_processes == 1:
        return asked
    import torch

    flag = torch.tensor([int(asked)], device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum").item())
