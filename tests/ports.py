"""Ports for processes that find one another."""

from __future__ import annotations

import socket


def free_port() -> str:
    """A port for one launch; old versions of accelerate do not find one by themselves."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])
