"""An archive is unpacked whole and inside its folder, or refused in one line with nothing left behind."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.archives import Limits, kind_of, unpack

FILES = {"set/a.txt": b"alpha", "set/deep/b.txt": b"beta" * 1000}


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    mode = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in extra:
            archive.addfile(entry)
    return path


def special(name: str, kind: bytes, to: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, to
    return entry


def refused(archive: Path, folder: Path, message: str, **options) -> None:
    with pytest.raises(InputError, match=message) as caught:
        unpack(archive, folder, **options)
    assert "\n" not in str(caught.value)
    assert str(archive) in str(caught.value)
    assert list(folder.iterdir()) == []
    assert sorted(p.name for p in folder.parent.iterdir()) == sorted({archive.name, folder.name})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["s.zip", "s.tar", "s.tar.gz", "s.tar.bz2", "s.tar.xz"])
def test_good_archive_is_unpacked_without_desktop_junk(tmp_path, out, name):
    files = {**FILES, "__MACOSX/set/._a.txt": b"x", "set/.DS_Store": b"x"}
    archive = (make_zip if name.endswith("zip") else make_tar)(tmp_path / name, files)
    assert kind_of(archive) == ("zip" if name.endswith("zip") else "tar")
    assert unpack(archive, out) == [out / "set"]
    found = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert found == FILES


@pytest.mark.parametrize("top", ["SPair-71k/", ""])
def test_folder_around_what_is_expected_is_left_out(tmp_path, out, top):
    archive = make_zip(tmp_path / "s.zip", {f"{top}Layout/l.txt": b"l", f"{top}README": b"r"})
    assert unpack(archive, out, holds="Layout") == [out / "Layout", out / "README"]
    assert (out / "Layout" / "l.txt").read_bytes() == b"l"
    assert [p.name for p in sorted(out.iterdir())] == ["Layout", "README"]


def test_links_that_stay_inside_are_kept(tmp_path, out):
    entries = [
        special("set/soft", tarfile.SYMTYPE, "deep/b.txt"),
        special("set/hard", tarfile.LNKTYPE, "set/a.txt"),
    ]
    unpack(make_tar(tmp_path / "s.tar", FILES, *entries), out)
    assert (out / "set/soft").read_bytes() == FILES["set/deep/b.txt"]
    assert (out / "set/hard").read_bytes() == b"alpha"


@pytest.mark.parametrize("name", ["../evil", "set/../../evil", "/tmp/evil", "..\\evil", "C:/evil", "C:\\evil"])
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_names_that_lead_out_are_refused(tmp_path, out, name, suffix):
    make = make_zip if suffix == ".zip" else make_tar
    refused(make(tmp_path / f"s{suffix}", {**FILES, name: b"x"}), out, r"absolute path|'\.\.'")


@pytest.mark.parametrize(
    "entries",
    [
        [special("set/l", tarfile.SYMTYPE, "/etc/passwd")],
        [special("set/l", tarfile.SYMTYPE, "../../etc/passwd")],
        [special("set/l", tarfile.LNKTYPE, "../etc/passwd")],
        [special("set/l", tarfile.LNKTYPE, "/etc/passwd")],
        [special("set/l", tarfile.LNKTYPE, "set/missing")],
        [special("set/null", tarfile.CHRTYPE)],
        [special("set/pipe", tarfile.FIFOTYPE)],
        # Each alone stays inside; the second bends the first out of the folder.
        [special("set/one", tarfile.SYMTYPE, "y/../.."), special("set/y", tarfile.SYMTYPE, "..")],
        [special("set/a.txt", tarfile.SYMTYPE, "deep/b.txt")],
    ],
)
def test_links_out_devices_and_doubles_are_refused(tmp_path, out, entries):
    refused(make_tar(tmp_path / "s.tar", FILES, *entries), out, "entry '")


def test_writing_through_a_link_stays_inside(tmp_path, out):
    """A link to the folder above, then a file 'through' it, is the classic way out."""
    archive = tmp_path / "s.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(special("set/up", tarfile.SYMTYPE, "../.."))
        entry = tarfile.TarInfo("set/up/evil")
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    refused(archive, out, "leads out")


def test_zip_link_out_and_encrypted_entry_are_refused(tmp_path, out):
    archive = tmp_path / "s.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        link = zipfile.ZipInfo("set/l")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, "../../etc/passwd")
    refused(archive, out, "link that leads out")
    archive.unlink()

    content = bytearray(make_zip(tmp_path / "e.zip", {"a": b"x"}).read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the "encrypted" flag of both headers
        content[content.index(magic) + offset] |= 1
    (tmp_path / "e.zip").write_bytes(content)
    refused(tmp_path / "e.zip", out, "is encrypted")


@pytest.mark.parametrize("name", ["s.zip", "s.tar.gz"])
def test_bombs_are_refused(tmp_path, out, name):
    archive = (make_zip if name == "s.zip" else make_tar)(tmp_path / name, {"set/zeros": bytes(3_000_000)})
    assert archive.stat().st_size < 10_000
    refused(archive, out, "bomb", limits=Limits(ratio=50, ratio_from=100_000))
    refused(archive, out, "bomb", limits=Limits(size=1_000_000))
    assert unpack(archive, out)[0].joinpath("zeros").stat().st_size == 3_000_000


@pytest.mark.parametrize("name", ["s.zip", "s.tar"])
def test_too_many_entries_are_refused(tmp_path, out, name):
    files = {f"set/{i}": b"" for i in range(11)}
    archive = (make_zip if name == "s.zip" else make_tar)(tmp_path / name, files)
    refused(archive, out, "bomb", limits=Limits(members=10))


def test_bomb_in_a_tar_header_is_refused(tmp_path, out):
    """A header that claims a gigantic extended name must not be read into memory."""
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 50_000_000
    archive = tmp_path / "s.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(entry, io.BytesIO(bytes(50_000_000)))
    refused(archive, out, "bomb", limits=Limits(ratio=10, ratio_from=1_000_000))


@pytest.mark.parametrize("name", ["s.zip", "s.tar", "s.tar.gz", "s.tar.bz2", "s.tar.xz"])
@pytest.mark.parametrize("keep", [0.3, 0.8])
def test_truncated_archive_is_refused(tmp_path, out, name, keep):
    import random

    files = {f"set/{i}": random.Random(i).randbytes(20_000) for i in range(5)}
    archive = (make_zip if name == "s.zip" else make_tar)(tmp_path / name, files)
    archive.write_bytes(archive.read_bytes()[: int(keep * archive.stat().st_size)])
    refused(archive, out, "truncated or damaged")


@pytest.mark.parametrize("name", ["s.zip", "s.tar.gz", "s.tar.xz"])
def test_one_changed_byte_is_noticed(tmp_path, out, name):
    import random

    archive = (make_zip if name == "s.zip" else make_tar)(
        tmp_path / name, {"set/a": random.Random(0).randbytes(50_000)}
    )
    content = bytearray(archive.read_bytes())
    content[25_000] ^= 0xFF
    archive.write_bytes(content)
    refused(archive, out, "truncated or damaged")


@pytest.mark.parametrize("content", [b"", b"<html>Sign in to continue</html>", b"\x1f\x8b" + b"junk" * 50])
def test_what_is_no_archive_is_refused(tmp_path, out, content):
    archive = tmp_path / "page.zip"
    archive.write_bytes(content)
    refused(archive, out, "not a zip or tar|truncated or damaged")


def test_another_archive_than_expected_is_refused(tmp_path, out):
    refused(make_zip(tmp_path / "s.zip", FILES), out, "does not hold 'SPair-71k' but 'set'", holds="SPair-71k")


def test_what_is_there_is_never_overwritten(tmp_path, out):
    (out / "set").mkdir()
    (out / "set" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="which is there already"):
        unpack(make_zip(tmp_path / "s.zip", FILES), out)
    assert [p.name for p in out.rglob("*")] == ["set", "mine.txt"]


def test_missing_archive(tmp_path, out):
    with pytest.raises(InputError, match="No such file"):
        unpack(tmp_path / "none.zip", out)
