"""Getting a data set into its folder: each of its files fetched from ordered mirrors, checked, unpacked."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json, sha256_of, write_json
from sc_imagenet.data.archives import kind_of, unpack
from sc_imagenet.data.catalog import info
from sc_imagenet.data.roots import DATA_ROOT
from sc_imagenet.sources.source import DataSet, Mirror

# Fetching one file: ordered mirrors, resumed where it broke off, checked before it is used.
#
# Only ``https`` and ``file`` addresses, and plain ``http`` of this machine itself: the hash of a file is often not
# known before its first download, and whoever sits between could exchange it. What is being fetched lies in
# ``.<file>.part`` until it is whole and its checksum is right; a record ``<file>.sha256.json`` of what came from
# where stays beside it.

BLOCK = 1 << 18
SPARE = 64 << 20  # bytes of disk to leave free
TIMEOUT = 30.0  # seconds without an answer
ATTEMPTS = 3  # in a row without a further byte, before the next mirror is tried
BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP answers after which the same mirror is tried again

DownloadReport = Callable[[str, int, "int | None"], None]  # file, bytes there, bytes in all where known


class _MirrorFailed(Exception):
    """This mirror cannot give the file; another may."""


class _Interrupted(Exception):
    """It broke off; the same mirror may go on."""


def fetch_file(
    mirrors: Sequence[Mirror], folder: Path, report: DownloadReport | None = None, pause: float = 1.0
) -> Path:
    """Fetch one file from the first of its mirrors that gives it whole.

    A partial file is gone on with where the server says that it is still the same file (``Range`` and
    ``If-Range``), else started anew. The SHA-256 must be the mirror's, or, where that is unknown, the one
    recorded by an earlier download. ``pause`` seconds before a second attempt, doubled for each further one.

    Raises:
        InputError: no mirror gave the file (the message says why for each), the disk is full, or another
            process is fetching it.
    """
    file = mirrors[0].file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{file}.lock", timeout=0):
            reasons = []
            for mirror in mirrors:
                try:
                    return _fetch_from(mirror, folder, report or _silent, pause)
                except _MirrorFailed as failure:
                    reasons.append(f"{mirror.url}: {failure}")
    except Timeout as error:
        raise InputError("is being downloaded by another process", where=folder / file) from error
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror or error})",
            where=folder / file,
            fix="What came so far is kept; run again to go on.",
        ) from error
    raise InputError(
        f"could not be downloaded from any mirror ({'; '.join(reasons)})",
        where=file,
        fix="Run again later, or follow the steps by hand that 'scbench data info' prints.",
    )


def _fetch_from(mirror: Mirror, folder: Path, report: DownloadReport, pause: float) -> Path:
    if not _is_private(mirror.url):
        raise _MirrorFailed("only https and file addresses are downloaded")
    partial = folder / f".{mirror.file}.part"
    idle, most = 0, -1
    while True:
        try:
            _go_on(mirror, partial, report)
            break
        except _Interrupted as interruption:
            size = partial.stat().st_size if partial.exists() else 0
            idle, most = (0, size) if size > most else (idle + 1, most)
            if idle + 1 >= ATTEMPTS:
                raise _MirrorFailed(f"{interruption}, tried {ATTEMPTS} times") from interruption
            time.sleep(pause * 2**idle)
    record = folder / f"{mirror.file}.sha256.json"
    digest = _checked(mirror, partial, record)
    with open(partial, "rb") as whole:
        os.fsync(whole.fileno())
    today = datetime.now(timezone.utc).isoformat(timespec="seconds")
    content = {"url": mirror.url, "size": partial.stat().st_size, "sha256": digest, "date": today}
    write_json(record, content)
    os.replace(partial, folder / mirror.file)
    _note(partial).unlink(missing_ok=True)
    return folder / mirror.file


def _checked(mirror: Mirror, partial: Path, record: Path) -> str:
    """The file's SHA-256; a file that is not the right one is removed."""
    known, origin = mirror.sha256, "the one expected"
    if known is None and record.exists():
        earlier = read_json(record)
        known = earlier.get("sha256") if isinstance(earlier, dict) else None
        if not isinstance(known, str):
            raise InputError("is not the record of a download", where=record, fix="Remove it to download anew.")
        origin = f"the one recorded on {earlier.get('date')} in {record}"
    digest = sha256_of(partial)
    if mirror.archive and kind_of(partial) != mirror.archive:
        why = f"what came is not a {mirror.archive} archive but perhaps a sign-in or error page; removed"
    elif known is not None and digest != known:
        why = f"SHA-256 {digest} is not {origin}, {known}; removed"
    else:
        return digest
    _discard(partial)
    raise _MirrorFailed(why)


def _go_on(mirror: Mirror, partial: Path, report: DownloadReport) -> None:
    """Append what is missing to ``partial``, or write it from the start."""
    request = urllib.request.Request(mirror.url, headers={"User-Agent": "sc-imagenet", "Accept-Encoding": "identity"})
    have, same = _resumable(mirror, partial)
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", same)
    try:
        response = _OPENER.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:
                if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                    return  # it was whole already
                _discard(partial)
                raise _Interrupted("the server has another file now") from error
            answer = f"the server answered {error.code} {error.reason}"
            raise (_Interrupted if error.code in BUSY else _MirrorFailed)(answer) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        on_disk = urlsplit(mirror.url).scheme == "file"  # trying again would not make it appear
        raise (_MirrorFailed if on_disk else _Interrupted)(_network(error)) from error
    with response:
        headers = response.headers
        if getattr(response, "status", None) == 206:
            first, total = _range(headers.get("Content-Range", ""))
            if first != have:
                _discard(partial)
                raise _Interrupted("the server sent another part of the file than asked for")
        else:
            length = headers.get("Content-Length", "")
            have, total = 0, int(length) if length.isdigit() else None
        _check_disk(partial, (total or 0) - have)
        write_json(_note(partial), {"url": mirror.url, "same": _validator(headers)})
        with open(partial, "ab" if have else "wb") as file:
            report(mirror.file, have, total)
            while True:
                try:
                    block = response.read(BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    raise _Interrupted(_network(error)) from error
                if not block:
                    break
                file.write(block)
                have += len(block)
                report(mirror.file, have, total)
    if total is not None and have != total:
        raise _Interrupted(f"the connection closed after {have:,} of {total:,} bytes")
    if have == 0:
        _discard(partial)
        raise _MirrorFailed("the file there is empty")


def _resumable(mirror: Mirror, partial: Path) -> tuple[int, str]:
    """Bytes there, and what the server must still call the file; (0, "") to start anew."""
    if not partial.exists() or not _note(partial).exists():
        return 0, ""
    try:
        note = read_json(_note(partial))
    except InputError:
        return 0, ""
    if not isinstance(note, dict) or note.get("url") != mirror.url or not note.get("same"):
        return 0, ""
    return partial.stat().st_size, str(note["same"])


def _validator(headers: Any) -> str:
    """What identifies this version of the file: a strong ETag, else its date (RFC 9110, section 13.1.5)."""
    etag = headers.get("ETag") or ""
    return (etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")) or ""


def _range(header: str) -> tuple[int, int | None]:
    """First byte and total of a Content-Range.

    >>> _range("bytes 5-9/10")
    (5, 10)
    """
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", header.strip())
    if not match:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _check_disk(partial: Path, missing: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if missing + SPARE > free:
        raise InputError(
            f"needs {missing:,} bytes more, {free:,} are free on that disk",
            where=partial.parent,
            fix="Free some space or give another data root; what came so far is kept.",
        )


def _network(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return f"cannot be reached ({getattr(reason, 'strerror', None) or reason or type(error).__name__})"


def _note(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _discard(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _note(partial).unlink(missing_ok=True)


def _silent(file: str, done: int, total: int | None) -> None:
    pass


def _is_private(url: str) -> bool:
    """Whether nobody between can read or change what comes from an address."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("https", "file") or (
            parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
        )
    except ValueError:
        return False


class _PrivateRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect from ``https`` to plain ``http``."""

    def redirect_request(self, request: Any, answer: Any, code: int, message: str, headers: Any, url: str) -> Any:
        if urlsplit(url).scheme not in ("http", "https") or not _is_private(url):
            raise urllib.error.HTTPError(request.full_url, code, f"leads to {url[:100]}", headers, answer)
        return super().redirect_request(request, answer, code, message, headers, url)


def _opener(handlers: Iterable[type[urllib.request.BaseHandler]]) -> urllib.request.OpenerDirector:
    director = urllib.request.OpenerDirector()
    for handler in handlers:
        director.add_handler(handler())
    return director


_OPENER = _opener(  # urllib's usual ones, proxies of the environment included, without FTP and data addresses
    (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.FileHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _PrivateRedirects,
        urllib.request.HTTPErrorProcessor,
    )
)


# Getting a data set into its folder: each of its files fetched, checked, unpacked.


@dataclass(frozen=True)
class Part:
    """One file of a data set and what was done about it."""

    file: str
    state: Literal["downloaded", "kept"]
    path: Path


def download(name: str, root: str | Path | None = None, report: DownloadReport | None = None) -> list[Part]:
    """Download a data set into its folder in ``root`` and unpack it; what is there already is kept.

    ``root`` is the folder that holds all data sets; without it, ``SC_DATA_ROOT``. An archive is removed once
    it is unpacked, its record stays.

    Raises:
        InputError: no root, nothing to download from, no mirror answered, a wrong checksum, a wrong archive,
            or a full disk. What came so far is kept, and the next call goes on from there.
    """
    entry = info(name)
    if not entry.mirrors:
        raise InputError(
            f"{entry.title} cannot be downloaded by a program (licence: {entry.licence})",
            fix=f"Its steps by hand: scbench data info {entry.name}",
        )
    base = root or os.environ.get(DATA_ROOT)
    if not base:
        raise InputError(f"no data root to download {entry.title} into", fix=f"Give one or set {DATA_ROOT}.")
    homes = [Path(base).expanduser() / folder for folder in (entry.name, *entry.folders)]
    return fetch_all(entry, next((home for home in homes if home.is_dir()), homes[0]), report)


def fetch_all(entry: DataSet, folder: Path, report: DownloadReport | None = None) -> list[Part]:
    """Fetch and unpack each file of a data set into ``folder``.

    Raises:
        InputError: as ``download``.
    """
    by_file: dict[str, list[Mirror]] = {}
    for mirror in entry.mirrors:
        by_file.setdefault(mirror.file, []).append(mirror)
    parts = []
    for file, mirrors in by_file.items():
        there = _already_there(mirrors[0], folder)
        if there:
            parts.append(Part(file, "kept", there))
            continue
        path = fetch_file(mirrors, folder, report)
        if mirrors[0].archive:
            unpacked = unpack(path, folder, holds=mirrors[0].holds)
            path.unlink()
            path = unpacked[0].parent
        parts.append(Part(file, "downloaded", path))
    return parts


def _already_there(mirror: Mirror, folder: Path) -> Path | None:
    """What an earlier download, or the person, put there."""
    name = mirror.holds if mirror.archive else mirror.file
    if name is None or not folder.is_dir():
        return None
    if (folder / name).exists():
        return folder / name
    below = (child / name for child in sorted(folder.iterdir()) if child.is_dir())
    return next((path for path in below if mirror.archive and path.exists()), None)
