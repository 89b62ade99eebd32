"""A folder whose file system no longer answers, as a network folder is whose server went away.

It is a FUSE mount without a server: whoever asks it anything waits in the kernel, hears no signal, and can only be
killed. Needs root on Linux.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INITIALISE = 26  # the kernel's first request
HEADER = struct.Struct("<IIQQIIII")  # length, kind, number, node, user, group, process, padding
VERSION = (7, 31)


@contextmanager
def dead_mount(folder: Path) -> Iterator[None]:
    """Within it ``folder`` does not answer; afterwards it holds what it held before."""
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"dead", str(folder).encode(), b"fuse", 0, options) != 0:
        os.close(device)
        raise OSError(ctypes.get_errno(), "mounting FUSE", str(folder))
    try:
        request = os.read(device, 1 << 20)
        length, kind, number, *_ = HEADER.unpack_from(request)
        if (length, kind) != (len(request), INITIALISE):
            raise OSError(f"FUSE began with request {kind}")
        answer = struct.pack("<IIIIHHI", *VERSION, 0, 0, 0, 0, 1 << 17) + bytes(40)
        os.write(device, struct.pack("<IiQ", 16 + len(answer), 0, number) + answer)
        yield  # nothing is read from here on
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        os.close(device)
