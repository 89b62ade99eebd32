"""Puts commands on disks that are full, read-only, taken away or hang, and under clocks that jump; then lifts that.

    python -m tests.campaigns.disks
    python -m tests.campaigns.disks run --cases full clock

Needs root on Linux: it mounts small file systems of its own. Each case starts a command of ``subjects.py``, which must
end with exit code 2 and one line on standard error; then the trouble is lifted, the command goes on, and what it
leaves must equal what an untroubled one leaves, byte for byte, with no temporary file. One JSON line says what came of
each case; exit code 1 if anything is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sc_imagenet.core.files import CACHE
from tests.campaigns.dead_mount import dead_mount
from tests.campaigns.subjects import Subject, draw_photographs, generate_subject, run_subject

FULL = (0.001, 0.3, 0.6, 0.85)  # sizes of full disks, of what the untroubled command leaves at its widest
JUMPING = "import time\n_now = time.time\ntime.time = lambda: _now() - 3e8 - 60 * (time.monotonic() % 50)\n"
PATIENCE = 120.0  # seconds until a command must have said that its images hang
STOP_SECONDS = 10.0  # within which SIGTERM must be obeyed
IMPATIENT = "import sc_imagenet.core.locks\nsc_imagenet.slow_files.PATIENCE = 1.0\n"
# Root may write everywhere; without these capabilities it may do what files' modes say.
AS_ANYBODY = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


@dataclass
class Trouble:
    """A command that meets trouble.

    subject   the command
    folder    it works in
    room      bytes that it needs at its widest
    expected  digests of what it leaves without trouble
    wrong     what was not as it should be
    """

    subject: Subject
    folder: Path
    room: int
    expected: dict[str, str]
    wrong: list[str] = field(default_factory=list)

    def refused(self, process: subprocess.Popen[bytes], words: str) -> None:
        """See that a command ends with one line that holds ``words``."""
        _, errors = process.communicate()
        said = errors.decode(errors="replace").strip()
        line = said.splitlines()[-1] if said else ""
        if process.returncode != 2 or not line.startswith("error: ") or words not in line or "Traceback" in said:
            self.wrong.append(f"exit code {process.returncode}, not {words!r}: {said[-2000:]}")

    def goes_on(self, before: str = "") -> None:
        """See that the command ends well, and leaves what it should."""
        process = self.subject.start(self.folder, before=before)
        _, errors = process.communicate()
        if process.returncode != 0:
            self.wrong.append(f"resumed, exit code {process.returncode}: {errors.decode(errors='replace')[-2000:]}")
        found = self.subject.digests(self.folder)
        names = sorted(found.keys() | self.expected.keys())
        self.wrong += [f"differs: {name}" for name in names if found.get(name) != self.expected.get(name)]
        self.wrong += [f"left: {path.relative_to(self.folder)}" for path in self.folder.rglob("*.tmp*")]

    def wait_for(self, process: subprocess.Popen[bytes], phase: str) -> None:
        """Wait until the command has come to a phase, or past it."""
        phases = self.subject.phases
        while process.poll() is None and phases.index(self.subject.phase(self.folder)) < phases.index(phase):
            time.sleep(0.01)

    @contextmanager
    def disk(self, size: int) -> Iterator[None]:
        """A file system of ``size`` bytes at the folder."""
        options = f"size={size // 4096 * 4096}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def mount_again(self, options: str) -> None:
        """Change the file system at the folder."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)


def full_disk(share: float) -> Callable[[Trouble], None]:
    """A disk of ``share`` of the room that is needed, which is then made larger."""

    def case(trouble: Trouble) -> None:
        with trouble.disk(int(share * trouble.room)):
            trouble.refused(trouble.subject.start(trouble.folder), "No space left on device")
            trouble.mount_again(f"size={4 * trouble.room}")
            trouble.goes_on()

    return case


def read_only_disk(trouble: Trouble) -> None:
    """A disk that may not be written, from the start."""
    with trouble.disk(4 * trouble.room):
        trouble.mount_again("ro")
        trouble.refused(trouble.subject.start(trouble.folder), "Read-only file system")
        trouble.mount_again("rw")
        trouble.goes_on()


def lost_permission(trouble: Trouble) -> None:
    """Folders that may no longer be written while the command is at work."""
    process = trouble.subject.start(trouble.folder, under=AS_ANYBODY)
    trouble.wait_for(process, trouble.subject.phases[2])
    _change_modes(trouble.folder, 0o555)
    trouble.refused(process, "Permission denied")
    _change_modes(trouble.folder, 0o755)
    trouble.goes_on()


def _change_modes(folder: Path, mode: int) -> None:
    for place, _, _ in os.walk(folder):
        os.chmod(place, mode)


def clock_that_jumps_back(trouble: Trouble) -> None:
    """Killed half-way; then files are from the future, and the clock goes back again and again."""
    process = trouble.subject.start(trouble.folder)
    trouble.wait_for(process, trouble.subject.phases[3])
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    later = time.time() + 3e8
    for place, folders, names in os.walk(trouble.folder):
        for name in (*folders, *names):
            os.utime(Path(place, name), (later, later), follow_symlinks=False)
    trouble.goes_on(JUMPING)
    weights = {path: path.stat().st_mtime_ns for path in trouble.folder.rglob("*.safetensors")}
    trouble.goes_on(JUMPING)
    trouble.wrong += [f"done again: {path}" for path, time in weights.items() if path.stat().st_mtime_ns != time]


def folder_that_hangs(trouble: Trouble) -> None:
    """The images' folder stops answering; the command says so, and is then asked to end."""
    process = trouble.subject.start(trouble.folder, before=IMPATIENT)
    trouble.wait_for(process, trouble.subject.phases[1])
    assert process.stderr is not None
    with dead_mount(trouble.subject.reads):
        said = [b""]
        late = threading.Timer(PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
        late.start()
        while b": no answer for " not in said[-1] and (line := process.stderr.readline()):
            said.append(line)
        late.cancel()
        os.killpg(process.pid, signal.SIGTERM)
        try:
            said.append(process.communicate(timeout=STOP_SECONDS)[1])
        except subprocess.TimeoutExpired:
            trouble.wrong.append(f"not ended {STOP_SECONDS:.0f} s after SIGTERM")
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    words = b"".join(said).decode(errors="replace")
    if process.returncode != 143 or ": no answer for " not in words or "Traceback" in words:
        trouble.wrong.append(f"exit code {process.returncode}: {words[-2000:]}")
    trouble.goes_on()


CASES: dict[str, Callable[[Trouble], None]] = {
    **{f"full at {share:.0%}": full_disk(share) for share in FULL},
    "read-only": read_only_disk,
    "permission lost": lost_permission,
    "clock": clock_that_jumps_back,
    "hanging": folder_that_hangs,
}


def campaign(subject: Subject, base: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """What is wrong with each case."""
    whole = base / "whole"
    whole.mkdir(parents=True)
    room = 0
    process = subject.start(whole)
    while process.poll() is None:
        with suppress(FileNotFoundError):  # temporary files come and go
            room = max(room, sum(path.stat().st_blocks * 512 for path in whole.rglob("*")))
        time.sleep(0.02)
    errors = process.communicate()[1]
    expected = subject.digests(whole)
    if process.returncode != 0 or not expected:
        raise SystemExit(f"the untroubled command failed: {errors.decode()[-2000:]}")
    found = {}
    for number, (name, case) in enumerate(CASES.items()):
        if names and not any(name.startswith(each) for each in names):
            continue
        folder = base / f"case-{number}"
        folder.mkdir()
        trouble = Trouble(subject, folder, room, expected)
        case(trouble)
        found[name] = trouble.wrong
        print(f"{subject.name}, {name}: {'; '.join(trouble.wrong) or 'as it should'}", file=sys.stderr, flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", nargs="?", choices=("run", "generate", "both"), default="both")
    parser.add_argument("--cases", nargs="*", default=[], help=f"beginnings of: {', '.join(CASES)}")
    given = parser.parse_args(arguments)
    if os.geteuid() != 0:
        parser.error("mounting needs root")
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        os.environ[CACHE] = str(base / "cache")  # whose images will hang
        subjects = []
        if given.subject in ("run", "both"):
            subjects.append(run_subject())
        if given.subject in ("generate", "both"):
            subjects.append(generate_subject(draw_photographs(base / "photographs")))
        found = {subject.name: campaign(subject, base / subject.name, given.cases) for subject in subjects}
    print(json.dumps(found))
    return 1 if any(wrong for cases in found.values() for wrong in cases.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
