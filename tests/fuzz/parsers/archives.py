"""Zip and tar, plain and compressed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from sc_imagenet.data.archives import Limits, unpack
from tests.fuzz.mutations import NAMES, NUMBERS, spoilt_bytes
from tests.fuzz.parser import Parser

FILES = {"set/a.txt": b"alpha", "set/deep/b.txt": b"beta" * 100}
KINDS = (
    tarfile.REGTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.FIFOTYPE,
    tarfile.DIRTYPE,
    b"S",
    b"Z",
)
PLACES = (*NAMES, *FILES, "set", "set/x", "set/x/y", "x", ".", "set/deep", "./set/../..", "__MACOSX/a", "x/" * 300)
LIMITS = Limits(size=1 << 20, members=1000, ratio_from=1 << 20)


def _archive(content: bytes, folder: Path) -> None:
    place, out = folder / "archive", folder / "out"
    place.write_bytes(content)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    try:
        for path in unpack(place, out, limits=LIMITS):
            assert path.parent == out
        for path in out.rglob("*"):
            mode = path.lstat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode), f"{path} is a device"
            assert path.resolve().is_relative_to(out.resolve()), f"{path} leads out"
    finally:
        assert {path.name for path in folder.iterdir()} <= {"archive", "out"}, "written outside its folder"


def _zip(files: Sequence[tuple[str, bytes, int]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in files:
            entry = zipfile.ZipInfo("x")
            entry.filename = name  # as it is: the constructor cuts it at a NUL
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    return file.getvalue()


def _tar(*extra: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in extra:
            archive.addfile(entry, io.BytesIO(b"\0" * min(entry.size, 1 << 16)))
    return file.getvalue()


def _spoilt_zip(rng: Random, seeds: Sequence[bytes]) -> bytes:
    if rng.random() < 0.6:
        return spoilt_bytes(rng, seeds)
    entries = [(name, content, 0o644 | stat.S_IFREG) for name, content in FILES.items()]
    for _ in range(rng.choice((1, 2, 3))):
        mode = rng.choice((0, stat.S_IFREG, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFDIR, stat.S_IFIFO)) | 0o777
        entries.append((_writable(rng.choice(PLACES)), rng.choice(PLACES).encode(errors="ignore"), mode))
    return _zip(entries)


def _spoilt_tar(rng: Random, seeds: Sequence[bytes]) -> bytes:
    if rng.random() < 0.5:
        return spoilt_bytes(rng, seeds)
    entries = []
    for _ in range(rng.choice((1, 2, 3))):
        entry = tarfile.TarInfo(_writable(rng.choice(PLACES)))
        entry.type, entry.linkname = rng.choice(KINDS), _writable(rng.choice(PLACES))
        entry.size = rng.choice((0, 0, 1, 600)) if entry.type == tarfile.REGTYPE else 0
        if rng.random() < 0.3:
            entry.pax_headers = {
                rng.choice(("path", "size", "linkpath", "mtime", "GNU.sparse.map", "hdrcharset", "GNU.sparse.size")): (
                    _writable(rng.choice((*PLACES, *(number.decode() for number in NUMBERS))))
                )
            }
        entries.append(entry)
    return _tar(*entries, form=rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)))


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)  # of no time, so that an input is the same in every process


def _writable(name: str) -> str:
    return name.encode(errors="ignore").decode()[:60_000]


def _packed(pack: Callable[[bytes], bytes]) -> Callable[[Random, Sequence[bytes]], bytes]:
    """A spoilt tar that is packed well, or a good one whose packing is spoilt."""

    def spoil(rng: Random, seeds: Sequence[bytes]) -> bytes:
        return spoilt_bytes(rng, seeds) if rng.random() < 0.4 else pack(_spoilt_tar(rng, [_tar()]))

    return spoil


def _zip_seeds() -> list[bytes]:
    return [_zip([(name, content, 0o644 | stat.S_IFREG) for name, content in FILES.items()])]


PARSERS = [
    Parser("zip", _zip_seeds, _archive, _spoilt_zip, 3),
    Parser("tar", lambda: [_tar()], _archive, _spoilt_tar, 3),
    Parser("tar-gz", lambda: [_gzip(_tar())], _archive, _packed(_gzip), 1),
    Parser("tar-bz2", lambda: [bz2.compress(_tar())], _archive, _packed(bz2.compress), 1),
    Parser("tar-xz", lambda: [lzma.compress(_tar())], _archive, _packed(lambda t: lzma.compress(t, preset=0)), 1),
]
