"""The photographs a data set is generated from: ``<folder>/<class>/<image>``, or an ImageNet training folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from sc_imagenet.core.errors import InputError, visible
from sc_imagenet.core.files import state_of
from sc_imagenet.core.locks import watched
from sc_imagenet.core.processes import in_order, processes_for
from sc_imagenet.data.images import image_header, open_image
from sc_imagenet.data.orientation import UPRIGHT
from sc_imagenet.generation.classes import removed_classes

# The photographs a data set is generated from: ``<folder>/<class>/<image>``, or an ImageNet training folder.
#
# Every file is read and decoded once, here, so that nothing later meets a damaged one. What cannot be used, and what
# is no photograph of a class, is left out with one line that says why; it never stops the others. Hidden files and
# folders, whose names begin with a dot (``.ipynb_checkpoints``, ``._cat.jpg``), are nobody's data and not mentioned.

FEWEST_IMAGES = 10  # of a class: of ten images three are kept, and three close a loop
MOST_PIXELS = 64_000_000  # more takes seconds and gigabytes to decode
MOST_ASPECT = 4.0  # longer side : shorter side; a square network input shows nothing of a wider panorama
SMALLEST_SIDE = 32  # pixels
FEWEST_COLOURS = 32  # of a photograph; placeholders ("image not available") and masks have fewer
MOST_COPIES = 2  # of one file in a class; what lies there more often is a placeholder
NO_CLASS = {
    "background_google": "is Caltech's clutter, which shows no one class",
    "__macosx": "is what macOS adds to archives",
    "@eadir": "holds a disk's own thumbnails",
    "thumbnails": "holds thumbnails, by its name",
    "lost+found": "holds what a disk recovered",
    "tmp": "holds temporary files, by its name",
    "temp": "holds temporary files, by its name",
}  # folders, in small letters, that lie among classes and are none
NO_NAME = "has a name that is not Unicode or holds control characters"


@dataclass(frozen=True)
class Photograph:
    """One image of a class."""

    path: str  # relative to the scanned folder, with forward slashes
    category: str  # the class, as its folder is called
    sha256: str  # of the file's bytes
    width: int  # of the image once upright, as ``open_image`` gives it
    height: int
    orientation: int = UPRIGHT  # EXIF's: how it lies in its file

    @property
    def content(self) -> str:
        """Identifies what is seen in it. (What was made before turned images were turned is of other content.)"""
        return self.sha256 if self.orientation == UPRIGHT else f"{self.sha256} upright"


@dataclass(frozen=True)
class Skipped:
    """Something that was left out, and why."""

    path: str  # relative to the scanned folder
    reason: str


@dataclass(frozen=True)
class Scan:
    """What a folder holds: photographs by class, both in sorted order, and what was left out."""

    root: Path
    classes: Mapping[str, Sequence[Photograph]]
    skipped: Sequence[Skipped]

    @property
    def count(self) -> int:
        """How many photographs there are."""
        return sum(map(len, self.classes.values()))


def scan_photographs(
    root: Path | str,
    *,
    only: Collection[str] | None = None,
    removed: Mapping[str, str] | None = None,
    fewest: int = FEWEST_IMAGES,
    known: Mapping[str, Photograph] | None = None,
    keep: Callable[[Photograph], None] = lambda photograph: None,
    processes: int | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Scan:
    """Find the usable photographs below ``root``.

    Args:
        root: holds one folder a class; what lies beside these folders is left out.
        only: look at these class folders alone; None: at all of them.
        removed: classes that are left out, with the reason (see ``classes.removed_classes``).
        fewest: classes with fewer usable photographs are left out.
        known: photographs by path that were decoded before and need not be again.
        keep: called with every photograph that was decoded now.
        processes: that decode; by default all cores where it pays.
        report: called with (files looked at, files in all).

    Raises:
        InputError: ``root`` is no folder or cannot be listed, or no class is left.
    """
    root = Path(root).expanduser()
    skipped: list[Skipped] = []
    files = [
        file for name in _class_folders(root, only, removed or {}, skipped) for file in _files(root, name, skipped)
    ]
    looked = _look_at(root, files, known or {}, keep, processes, report)
    copies: dict[str, list[Photograph]] = {}
    for found in looked:
        if isinstance(found, Photograph):
            copies.setdefault(found.sha256, []).append(found)
    by_class: dict[str, list[Photograph]] = {}
    for path, found in zip(files, looked):
        reason = found if isinstance(found, str) else _copied(found, copies[found.sha256])
        if reason is not None:
            skipped.append(Skipped(path, reason))
        elif isinstance(found, Photograph):
            by_class.setdefault(found.category, []).append(found)
    for name in sorted(by_class):
        if len(by_class[name]) < fewest:
            count = len(by_class.pop(name))
            skipped.append(Skipped(name, f"has {count} usable image{'s' * (count != 1)}, {fewest} are needed"))
    if not by_class:
        why = f"; {skipped[-1].path} {skipped[-1].reason}" if skipped else ""
        raise InputError(
            f"holds no class of {fewest} usable images{why}",
            where=root,
            fix="Give a folder that holds one folder of images for each class.",
        )
    return Scan(root, {name: tuple(by_class[name]) for name in sorted(by_class)}, tuple(skipped))


def _copied(photograph: Photograph, copies: Sequence[Photograph]) -> str | None:
    """Why one of several files of the same bytes is left out; None for the one that is taken."""
    other = next((each for each in copies if each.category != photograph.category), None)
    if other is not None:
        return f"is byte for byte the same as {other.path}, of another class"
    if len(copies) > MOST_COPIES:
        return f"is byte for byte the same as {len(copies) - 1} others of its class: a placeholder"
    return None if photograph is copies[0] else f"is byte for byte the same as {copies[0].path}"


def _class_folders(
    root: Path, only: Collection[str] | None, removed: Mapping[str, str], skipped: list[Skipped]
) -> Iterator[str]:
    try:
        with watched(root):
            entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"cannot be listed ({error.strerror})",
            where=root,
            fix="Give a folder that holds one folder of images for each class.",
        ) from error
    seen = set()
    for entry in entries:
        if (entry.name not in only) if only is not None else entry.name.startswith("."):
            continue
        seen.add(entry.name)
        if _unwritable(entry.name):
            skipped.append(Skipped(ascii(entry.name), NO_NAME))
        elif not _is_folder(entry):
            skipped.append(Skipped(entry.name, "lies in no class folder"))
        elif only is None and entry.name.lower() in NO_CLASS:
            skipped.append(Skipped(entry.name, NO_CLASS[entry.name.lower()]))
        elif entry.name in removed:
            skipped.append(Skipped(entry.name, f"is a removed class: {removed[entry.name]}"))
        else:
            yield entry.name
    for name in sorted(set(only or ()) - seen):
        skipped.append(Skipped(name, "is not there"))


def _files(root: Path, name: str, skipped: list[Skipped]) -> list[str]:
    try:
        with watched(root / name):
            entries = sorted(
                (entry for entry in os.scandir(root / name) if not entry.name.startswith(".")),
                key=lambda entry: entry.name,
            )
    except OSError as error:
        skipped.append(Skipped(name, f"cannot be listed ({error.strerror})"))
        return []
    if not entries:
        skipped.append(Skipped(name, "is an empty folder"))
    files = []
    for entry in entries:
        if _unwritable(entry.name):
            skipped.append(Skipped(f"{name}/{entry.name!a}", NO_NAME))
        elif _is_folder(entry):
            skipped.append(Skipped(f"{name}/{entry.name}", "is a folder inside a class"))
        else:
            files.append(f"{name}/{entry.name}")
    return files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or into a folder that may not be entered
        return False


def _unwritable(name: str) -> bool:
    """Whether a file name is bytes that no JSON or Parquet can hold, or would steer a terminal that shows it."""
    return visible(name) != name


def _look_at(
    root: Path,
    files: Sequence[str],
    known: Mapping[str, Photograph],
    keep: Callable[[Photograph], None],
    processes: int | None,
    report: Callable[[int, int], None],
) -> list[Photograph | str]:
    """Each file's photograph, or in words why it is none."""
    new = [path for path in files if path not in known]
    found: dict[str, Photograph | str] = {path: known[path] for path in files if path in known}
    with closing(in_order(_look, new, processes_for(len(new), processes, few=200), _start, (root,))) as looked:
        for done, (path, photograph) in enumerate(zip(new, looked), start=len(files) - len(new) + 1):
            found[path] = photograph
            if isinstance(photograph, Photograph):
                keep(photograph)
            report(done, len(files))
    return [found[path] for path in files]


_root: Path


def _start(root: Path) -> None:
    global _root
    _root = root


def _look(path: str) -> Photograph | str:
    place = _root / path
    try:
        with watched(place):
            if not place.is_file():
                return "is not a file"  # a pipe or socket would be waited for forever
            content = place.read_bytes()
        image = open_image(content, name="it", most_pixels=MOST_PIXELS)
        width, height = image.size
        orientation = image_header(place).orientation
        if max(width, height) > MOST_ASPECT * min(width, height):
            return f"is a panorama, {width} x {height} pixels (the longest is {MOST_ASPECT:g} : 1)"
        if min(width, height) < SMALLEST_SIDE:
            return f"is too small, {width} x {height} pixels (the least is {SMALLEST_SIDE} a side)"
        if (colours := image.getcolors(FEWEST_COLOURS - 1)) is not None:
            return f"is no photograph: it has {len(colours)} colour{'s' * (len(colours) != 1)}"
    except InputError as error:
        return str(error).removeprefix("it: ")
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return Photograph(path, path.split("/", 1)[0], hashlib.sha256(content).hexdigest(), width, height, orientation)


# Photographs that were decoded before: a file of lines, so that an interrupted scan goes on where it was.

STATE = ("bytes", "mtime_ns", "ctime_ns")  # of a file, see ``sc_imagenet.core.files``


def scan_kept(
    root: Path,
    seen: Path,
    *,
    only: Collection[str] | None = None,
    fewest: int = FEWEST_IMAGES,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Scan, int]:
    """Scan a folder without the classes that the class list removes; what ``seen`` knows is not decoded again.

    Args:
        root: ``<folder>/<class>/<image>``.
        seen: file of lines; what is decoded now is added to it.
        only: look at these class folders alone; None: at all of them.
        fewest: classes with fewer usable photographs are left out.
        report: called with (files looked at, files in all).

    Returns:
        The scan, and how many photographs were known before.

    Raises:
        InputError: no folder, or no class is left.
    """
    known = _read_seen(seen, root)
    with _appending(seen) as write:
        found = scan_photographs(
            root,
            only=only,
            removed=removed_classes(),
            fewest=fewest,
            known=known,
            keep=lambda photograph: write(photograph, root),
            report=report,
        )
    return found, len(known)


class _appending:
    """Appends photographs to a file of lines; what a killed process left of a line is read over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Callable[[Photograph, Path], None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write here ({error.strerror})", where=self.path) from error
        self._file.write("\n")  # after what may be a part of a line
        return self._write

    def _write(self, photograph: Photograph, root: Path) -> None:
        with watched(root / photograph.path):
            state = state_of(root / photograph.path)
        if state is None:
            return
        line = {**asdict(photograph), **dict(zip(STATE, state))}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _read_seen(path: Path, root: Path) -> dict[str, Photograph]:
    """Photographs of an earlier scan whose files have not changed since."""
    if not path.exists():
        return {}
    known = {}
    names = {field.name for field in dataclasses.fields(Photograph)}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            with watched(root / row["path"]):
                state = state_of(root / row["path"])
            # Lines of earlier versions do not tell the last of the three.
            if state is not None and state == (row["bytes"], row["mtime_ns"], row.get("ctime_ns", state[2])):
                known[row["path"]] = Photograph(**{name: row[name] for name in names})
        except (ValueError, KeyError, TypeError, OSError, RecursionError):
            continue  # a part of a line, or a file that is gone
    return known
