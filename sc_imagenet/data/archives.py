"""Unpacking a downloaded archive without trusting it.

An archive is unpacked into a temporary folder beside its destination and renamed into place only when all of
it is there and nothing in it is refused, so a broken one leaves nothing behind.
"""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from sc_imagenet.core.errors import InputError, visible

BLOCK = 1 << 20
JUNK = ("__MACOSX", ".DS_Store", "._*", "Thumbs.db")  # what desktop systems add to archives
MAGIC = {"gz": b"\x1f\x8b", "bz2": b"BZh", "xz": b"\xfd7zXZ\x00"}


@dataclass(frozen=True)
class Limits:
    """What an archive may hold before it is taken for a decompression bomb."""

    size: int = 400 << 30  # bytes unpacked
    members: int = 5_000_000
    ratio: int = 200  # unpacked bytes for each packed one, once more than ``ratio_from`` are unpacked
    ratio_from: int = 64 << 20

    def bytes_allowed(self, packed: int) -> int:
        """Most bytes that an archive of ``packed`` bytes may unpack to.

        >>> Limits(size=1000, ratio=10, ratio_from=50).bytes_allowed(20)
        200
        """
        return min(self.size, max(self.ratio_from, self.ratio * packed))


def kind_of(path: Path | str) -> str | None:
    """``"zip"``, ``"tar"`` (plain or compressed), or None where the file is neither."""
    with open(path, "rb") as file:
        start = file.read(512)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if start[257:262] == b"ustar" or start.startswith(tuple(MAGIC.values())):
        return "tar"
    return None


def unpack(
    archive: Path | str, folder: Path | str, holds: str | None = None, limits: Limits | None = None
) -> list[Path]:
    """Unpack a zip or a tar (plain, gzip, bzip2, xz) into ``folder``; return what was put there.

    Absolute names, ``..``, links that lead out, devices, a name given twice, and more than ``limits`` allow
    are refused. Owners, permissions and times of the archive are not taken over.

    Args:
        archive: the file.
        folder: made where it is missing; entries it has already are never overwritten.
        holds: a folder or file that must be in the archive, such as ``"JPEGImages"``, at its top or in one
            folder below; what lies beside it is what is put into ``folder``, without that folder's name.
        limits: the default allows every data set of the catalogue.

    Raises:
        InputError: not an archive, truncated, damaged, refused for one of the above, without ``holds``, or
            the disk is full; nothing is left in ``folder``.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        kind = kind_of(archive)
        if kind is None:
            raise InputError("is not a zip or tar archive", where=archive, fix="Download it again.")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as temporary:
            inside = _Inside(archive, Path(temporary).resolve(), limits or Limits())
            (_unpack_zip if kind == "zip" else _unpack_tar)(inside)
            inside.check_links()
            return _move_in(archive, inside.root, folder, holds)
    except InputError:
        raise
    except Exception as error:  # the readers of archives raise anything at all when given malformed bytes
        # gzip and bzip2 report damaged data as an OSError too, but one without a number of the system's.
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(
                f"could not be unpacked into {folder} ({error.strerror})",
                where=archive,
                fix="Nothing was left behind; put it right and run again.",
            ) from error
        reason = str(error)[:200] or type(error).__name__
        raise InputError(f"is truncated or damaged ({reason})", where=archive, fix="Download it again.") from error


class _Inside:
    """The folder being filled, and the checks that every entry passes before it is made."""

    def __init__(self, archive: Path, root: Path, limits: Limits) -> None:
        self.archive, self.root, self.limits = archive, root, limits
        self.allowed = limits.bytes_allowed(archive.stat().st_size)
        self.written = self.members = 0
        self.links: list[Path] = []

    def refuse(self, name: str, why: str) -> InputError:
        return InputError(
            f"entry {name[:100]!r} {why}; nothing was unpacked",
            where=self.archive,
            fix="Do not trust this file; get it from its authors.",
        )

    def bomb(self) -> InputError:
        return InputError(
            f"unpacks to more than {self.allowed:,} bytes or {self.limits.members:,} entries, which looks "
            "like a decompression bomb; nothing was unpacked",
            where=self.archive,
        )

    def path_for(self, name: str) -> Path | None:
        """Where an entry goes; None for what desktop systems add."""
        self.members += 1
        if self.members > self.limits.members:
            raise self.bomb()
        plain = name.replace("\\", "/")
        if plain.startswith("/") or re.match(r"[A-Za-z]:($|/)", plain):
            raise self.refuse(name, "has an absolute path")
        if visible(name) != name:
            raise self.refuse(name, "has control characters in its name")
        parts = PurePosixPath(plain).parts
        if not parts:
            return None  # the archive's own top
        if ".." in parts:
            raise self.refuse(name, "leads out of the archive with '..'")
        if any(fnmatch.fnmatch(part, junk) for part in parts for junk in JUNK):
            return None
        path = self.root.joinpath(*parts)
        if not path.parent.resolve().is_relative_to(self.root):
            raise self.refuse(name, "leads out of the archive through a link")
        return path

    def make_folder(self, path: Path, name: str) -> None:
        if path.is_symlink() or path.is_file():
            raise self.refuse(name, "is there twice")
        path.mkdir(parents=True, exist_ok=True)

    def make_file(self, path: Path, content: IO[bytes], name: str) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        start = self.written
        try:
            with open(path, "xb") as file:
                while block := content.read(BLOCK):
                    self.written += len(block)
                    if self.written > self.allowed:
                        raise self.bomb()
                    file.write(block)
        except FileExistsError as error:
            raise self.refuse(name, "is there twice") from error
        return self.written - start

    def make_link(self, path: Path, to: str, name: str) -> None:
        if os.path.isabs(to) or not (path.parent / to).resolve().is_relative_to(self.root):
            raise self.refuse(name, f"is a link that leads out, to {to[:100]!r}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            raise self.refuse(name, "is there twice")
        path.symlink_to(to)
        self.links.append(path)

    def make_hard_link(self, path: Path, to: str, name: str) -> None:
        existing = self.path_for(to)
        if existing is None or not existing.is_file() or not existing.resolve().is_relative_to(self.root):
            raise self.refuse(name, f"is a link to {to[:100]!r}, which is not in the archive")
        with open(existing, "rb") as content:  # a copy: two names of one file surprise whoever edits one
            self.make_file(path, content, name)

    def check_links(self) -> None:
        """Links made later can bend earlier ones, so all are looked at once more at the end."""
        for link in self.links:
            if not link.resolve().is_relative_to(self.root):
                raise self.refuse(str(link.relative_to(self.root)), "is a link that leads out")


def _unpack_zip(inside: _Inside) -> None:
    with zipfile.ZipFile(inside.archive) as archive:
        entries = archive.infolist()
        expected = sum(entry.file_size for entry in entries)
        if expected > inside.allowed or len(entries) > inside.limits.members:
            raise inside.bomb()
        free = shutil.disk_usage(inside.root).free
        if expected > free:
            raise InputError(
                f"needs {expected:,} bytes unpacked, {free:,} are free",
                where=inside.archive,
                fix="Free some space and run again.",
            )
        for entry in entries:
            path = inside.path_for(entry.filename)
            if path is None:
                continue
            mode = entry.external_attr >> 16
            if entry.flag_bits & 1:
                raise inside.refuse(entry.filename, "is encrypted")
            if entry.is_dir():
                inside.make_folder(path, entry.filename)
            elif stat.S_ISLNK(mode):
                if entry.file_size > 4096:
                    raise inside.refuse(entry.filename, "is a link with an impossible target")
                inside.make_link(path, os.fsdecode(archive.read(entry)), entry.filename)
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise inside.refuse(entry.filename, "is a device or a pipe")
            else:
                try:
                    content = archive.open(entry)
                except NotImplementedError as error:
                    raise inside.refuse(entry.filename, "is packed in a way not known here") from error
                with content:
                    inside.make_file(path, content, entry.filename)


def _unpack_tar(inside: _Inside) -> None:
    with _decompressed(inside) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            path = inside.path_for(entry.name)
            if path is None:
                continue
            if entry.isdir():
                inside.make_folder(path, entry.name)
            elif entry.issym():
                inside.make_link(path, entry.linkname, entry.name)
            elif entry.islnk():
                inside.make_hard_link(path, entry.linkname, entry.name)
            elif entry.isreg():
                content = archive.extractfile(entry)
                if content is None or inside.make_file(path, content, entry.name) != entry.size:
                    raise EOFError("it ends inside an entry")
            else:
                raise inside.refuse(entry.name, "is a device or a pipe")
        while stream.read(BLOCK):  # to its end: only there does gzip, bzip2 or xz check what was read
            pass


class _Bounded(io.RawIOBase):
    """A decompressed stream that ends in an error, not in a full memory, when it is a bomb."""

    def __init__(self, stream: IO[bytes], inside: _Inside) -> None:
        # Headers and padding are read too: as much again as the files, and space for a small archive's.
        self.stream, self.inside, self.left = stream, inside, 2 * inside.allowed + BLOCK

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self.stream.read(min(size, BLOCK) if size >= 0 else BLOCK)
        self.left -= len(block)
        if self.left < 0:
            raise self.inside.bomb()
        return block


@contextmanager
def _decompressed(inside: _Inside) -> Iterator[_Bounded]:
    with open(inside.archive, "rb") as file:
        start = file.read(8)
        file.seek(0)
        stream: IO[bytes] = file
        if start.startswith(MAGIC["gz"]):
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=file))
        elif start.startswith(MAGIC["bz2"]):
            stream = bz2.BZ2File(file)
        elif start.startswith(MAGIC["xz"]):
            stream = lzma.LZMAFile(file)  # noqa: SIM115 (closed below)
        try:
            yield _Bounded(stream, inside)
        finally:
            stream.close()


def _move_in(archive: Path, unpacked: Path, folder: Path, holds: str | None) -> list[Path]:
    places = [unpacked, *sorted(child for child in unpacked.iterdir() if child.is_dir())]
    if holds:
        found = next((place for place in places if os.path.lexists(place / holds)), None)
        if found is None:
            names = ", ".join(repr(entry.name) for entry in sorted(unpacked.iterdir())[:5]) or "nothing"
            raise InputError(
                f"does not hold '{holds}' but {names}",
                where=archive,
                fix="It is another archive than the one expected.",
            )
        unpacked = found
    entries = sorted(unpacked.iterdir())
    if not entries:
        raise InputError("is an empty archive", where=archive, fix="Download it again.")
    taken = [entry.name for entry in entries if os.path.lexists(folder / entry.name)]
    if taken:
        raise InputError(
            f"holds {taken[0]!r}, which is there already",
            where=archive,
            fix=f"Move {folder / taken[0]} away first.",
        )
    for entry in sorted(entries, key=lambda entry: entry.name == holds):  # what tells that all is there: last
        entry.rename(folder / entry.name)
    return [folder / entry.name for entry in entries]
