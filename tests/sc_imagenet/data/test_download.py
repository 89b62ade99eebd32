"""A file comes whole and checked from the first mirror that has it; what broke off is gone on with."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.download import download, fetch_all, fetch_file
from sc_imagenet.sources.source import DataSet, Mirror

CONTENT = bytes(range(256)) * 4000  # about 1 MB
SHA = hashlib.sha256(CONTENT).hexdigest()


class Shelf(BaseHTTPRequestHandler):
    """Serves ``files``; can cut the line, lack ranges, or answer with an error, as the test sets."""

    files: dict[str, bytes]
    cuts: list[int]  # send only so many bytes in each of the first answers
    ranges = True
    errors: list[int]  # status of the first answers
    asked: list[tuple[str, str | None]]
    etag = '"v1"'

    def do_GET(self):
        self.asked.append((self.path, self.headers.get("Range")))
        if self.errors:
            self.send_error(self.errors.pop(0))
            return
        if self.path in self.moved:
            self.send_response(302)
            self.send_header("Location", self.moved[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path not in self.files:
            self.send_error(404)
            return
        body, first = self.files[self.path], 0
        wanted = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, self.etag)
        if wanted and self.ranges and same:
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
            if first >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if self.etag:
            self.send_header("ETag", self.etag)
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        upto = first + self.cuts.pop(0) if self.cuts else len(body)
        self.wfile.write(body[first:upto])

    def log_message(self, *_):
        pass


@pytest.fixture
def shelf():
    """A handler class whose attributes a test sets, with ``url`` of its server."""
    handler = type("One", (Shelf,), {"files": {"/a.bin": CONTENT}, "moved": {}, "cuts": [], "errors": [], "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def test_download_is_checked_recorded_and_reported(shelf, tmp_path):
    seen = []
    mirror = Mirror(f"{shelf.url}/a.bin", sha256=SHA)
    path = fetch_file([mirror], tmp_path / "new", report=lambda *row: seen.append(row))
    assert path.read_bytes() == CONTENT
    assert left(path.parent) == ["a.bin", "a.bin.sha256.json"]
    record = json.loads((path.parent / "a.bin.sha256.json").read_text())
    assert (record["url"], record["size"], record["sha256"]) == (mirror.url, len(CONTENT), SHA)
    assert record["date"].startswith("20")
    assert seen[0] == ("a.bin", 0, len(CONTENT))
    assert seen[-1] == ("a.bin", len(CONTENT), len(CONTENT))


def test_cut_connection_is_resumed_within_one_call(shelf, tmp_path):
    shelf.cuts[:] = [300_000, 200_000]
    assert fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path, pause=0).read_bytes() == CONTENT
    assert [r for _, r in shelf.asked] == [None, "bytes=300000-", "bytes=500000-"]


def test_partial_file_of_an_earlier_call_is_resumed(shelf, tmp_path):
    shelf.cuts[:] = [300_000, 0, 0]
    with pytest.raises(InputError, match=r"closed after 300,000 of 1,024,000 bytes, tried 3 times"):
        fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path, pause=0)
    assert (tmp_path / ".a.bin.part").stat().st_size == 300_000
    shelf.asked.clear()
    assert fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path, pause=0).read_bytes() == CONTENT
    assert shelf.asked == [("/a.bin", "bytes=300000-")]


def test_file_that_was_whole_but_not_yet_renamed_is_finished(shelf, tmp_path):
    (tmp_path / ".a.bin.part").write_bytes(CONTENT)
    (tmp_path / ".a.bin.part.json").write_text(json.dumps({"url": f"{shelf.url}/a.bin", "same": '"v1"'}))
    assert fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path, pause=0).read_bytes() == CONTENT
    assert len(shelf.asked) == 1


def test_server_without_ranges_is_read_from_the_start(shelf, tmp_path):
    shelf.ranges = False
    shelf.cuts[:] = [300_000]
    assert fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path, pause=0).read_bytes() == CONTENT


def test_nothing_is_appended_to_another_version(shelf, tmp_path):
    shelf.cuts[:] = [300_000, 0, 0]
    with pytest.raises(InputError):
        fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path, pause=0)
    newer = CONTENT[::-1]
    shelf.files["/a.bin"], shelf.etag = newer, '"v2"'
    assert fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path, pause=0).read_bytes() == newer


def test_server_that_names_no_version_is_not_resumed(shelf, tmp_path):
    shelf.etag = ""
    shelf.cuts[:] = [300_000]
    assert fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path, pause=0).read_bytes() == CONTENT
    assert [r for _, r in shelf.asked] == [None, None]


def test_busy_server_is_tried_again(shelf, tmp_path):
    shelf.errors[:] = [503, 429]
    assert fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path, pause=0).read_bytes() == CONTENT


def test_second_mirror_serves_where_the_first_is_dead(shelf, tmp_path):
    mirrors = [
        Mirror("http://127.0.0.1:1/a.bin"),
        Mirror(f"{shelf.url}/gone.bin", name="a.bin"),
        Mirror("ftp://127.0.0.1/a.bin"),
        Mirror(f"{shelf.url}/a.bin"),
    ]
    assert fetch_file(mirrors, tmp_path, pause=0).read_bytes() == CONTENT
    assert [path for path, _ in shelf.asked] == ["/gone.bin", "/a.bin"]


def test_all_mirrors_dead_names_each_reason(shelf, tmp_path):
    mirrors = [
        Mirror(f"{shelf.url}/b.bin"),
        Mirror("http://127.0.0.1:1/b.bin"),
        Mirror("ftp://127.0.0.1/b.bin"),
    ]
    with pytest.raises(InputError, match=r"404.*refused.*only https and file") as caught:
        fetch_file(mirrors, tmp_path, pause=0)
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


@pytest.mark.parametrize("url", ["http://example.org/a.bin", "http://127.0.0.1.example.org/a.bin", "http://[x/a.bin"])
def test_plain_http_of_other_machines_is_not_asked(tmp_path, url):
    with pytest.raises(InputError, match="only https and file addresses are downloaded"):
        fetch_file([Mirror(url, name="a.bin")], tmp_path, pause=0)


@pytest.mark.parametrize("to", ["http://example.org/a.bin", "file:///etc/passwd", "ftp://127.0.0.1/a.bin"])
def test_a_redirect_to_what_is_not_safe_is_not_followed(shelf, tmp_path, to):
    shelf.moved = {"/a.bin": to}
    with pytest.raises(InputError, match=r"answered 302 leads to|not allowed"):
        fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path, pause=0)
    assert left(tmp_path) == []


@pytest.mark.parametrize("record", ["[]", "{}", '{"sha256": 5}'])
def test_a_record_that_is_none_is_named(shelf, tmp_path, record):
    (tmp_path / "a.bin.sha256.json").write_text(record)
    with pytest.raises(InputError, match=r"a.bin.sha256.json: is not the record of a download"):
        fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path, pause=0)


def test_wrong_checksum_is_refused_and_removed(shelf, tmp_path):
    with pytest.raises(InputError, match=f"SHA-256 {SHA} is not the one expected, {'0' * 64}; removed"):
        fetch_file([Mirror(f"{shelf.url}/a.bin", sha256="0" * 64)], tmp_path, pause=0)
    assert left(tmp_path) == []


def test_wrong_checksum_of_one_mirror_leads_to_the_next(shelf, tmp_path):
    shelf.files["/bad/a.bin"] = b"other"
    mirrors = [Mirror(f"{shelf.url}/bad/a.bin", sha256=SHA), Mirror(f"{shelf.url}/a.bin", sha256=SHA)]
    assert fetch_file(mirrors, tmp_path, pause=0).read_bytes() == CONTENT


def test_file_that_changed_since_it_was_recorded_is_refused(shelf, tmp_path):
    path = fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path)
    path.unlink()
    shelf.files["/a.bin"] = b"something else"
    with pytest.raises(InputError, match=f"is not the one recorded on .*, {SHA}; removed"):
        fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path, pause=0)


def test_sign_in_page_instead_of_an_archive_is_refused(shelf, tmp_path):
    shelf.files["/a.zip"] = b"<html>Please sign in</html>"
    with pytest.raises(InputError, match="not a zip archive but perhaps a sign-in"):
        fetch_file([Mirror(f"{shelf.url}/a.zip", archive="zip")], tmp_path, pause=0)
    assert left(tmp_path) == []


def test_full_disk_is_noticed_before_anything_is_written(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr("sc_imagenet.data.download.SPARE", 1 << 60)
    with pytest.raises(InputError, match=r"needs 1,024,000 bytes more, .* are free"):
        fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path)
    assert left(tmp_path) == []


def test_file_address(tmp_path):
    (tmp_path / "from.bin").write_bytes(CONTENT)
    path = fetch_file([Mirror((tmp_path / "from.bin").as_uri(), sha256=SHA)], tmp_path / "to")
    assert path.read_bytes() == CONTENT
    with pytest.raises(InputError, match="No such file"):
        fetch_file([Mirror((tmp_path / "none.bin").as_uri())], tmp_path / "to")


def test_two_processes_do_not_fetch_the_same_file(shelf, tmp_path):
    from filelock import FileLock

    with FileLock(tmp_path / ".a.bin.lock"), pytest.raises(InputError, match="by another process"):
        fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path)


def test_unwritable_folder_gives_one_line(shelf, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        fetch_file([Mirror(f"{shelf.url}/a.bin")], tmp_path / "file")


def entry(*mirrors: Mirror) -> DataSet:
    return DataSet("made", "Made", "", "none", "", ("test",), {}, None, None, "", "", mirrors)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_data_set_of_an_archive_and_a_list_is_fetched_once(shelf, tmp_path):
    shelf.files |= {"/set.zip": zipped({"Set-1/images/a.png": b"a"}), "/pairs.csv": b"a,b\n"}
    made = entry(Mirror(f"{shelf.url}/set.zip", archive="zip", holds="images"), Mirror(f"{shelf.url}/pairs.csv"))
    parts = fetch_all(made, tmp_path)
    assert [(p.file, p.state) for p in parts] == [("set.zip", "downloaded"), ("pairs.csv", "downloaded")]
    assert left(tmp_path) == ["images", "pairs.csv", "pairs.csv.sha256.json", "set.zip.sha256.json"]
    shelf.asked.clear()
    assert [p.state for p in fetch_all(made, tmp_path)] == ["kept", "kept"]
    assert shelf.asked == []


def test_own_copy_is_never_overwritten(shelf, tmp_path):
    (tmp_path / "pairs.csv").write_text("mine")
    fetch_all(entry(Mirror(f"{shelf.url}/pairs.csv")), tmp_path)
    assert (tmp_path / "pairs.csv").read_text() == "mine"


def test_data_set_without_mirrors_names_its_steps(tmp_path):
    with pytest.raises(InputError, match=r"cannot be downloaded by a program .*scbench data info sc-imagenet"):
        download("sc_imagenet", tmp_path)


def test_download_without_a_root(monkeypatch):
    monkeypatch.delenv("SC_DATA_ROOT", raising=False)
    with pytest.raises(InputError, match="no data root"):
        download("spair-71k")
