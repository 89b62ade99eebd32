"""Results that others send: the files of a submission, each spoilt while every hash fits; rows of numbers."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from benchmark.report.board import board_page, build_board
from benchmark.report.published import PUBLISHED_COLUMNS, read_published, rows_of
from benchmark.running.hub_results import SCORES, write_scores
from benchmark.running.submissions import FILES, PASSPORT, PREDICTIONS, SUBMISSION, key_of, submit, verify
from sc_imagenet.core.errors import InputError
from tests.benchmark.runs import make_run
from tests.fuzz.mutations import spoilt_json, spoilt_text
from tests.fuzz.parser import Parser
from tests.fuzz.parsers.tables import _spoilt_table

DATA = ("spair-u", "test")  # of which no copy is on any machine that these run on


@cache
def _sent() -> Mapping[str, bytes]:
    """The files of a submission."""
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), "r1", data=[(*DATA, 4)], draws=5)
        (place,) = submit(run.folder, Path(folder) / "results", "strict@1,geoaware@1", "MIT", 200)
        return {name: (place / name).read_bytes() for name in (*FILES, SCORES)}


def _verified(name: str, content: bytes, folder: Path) -> None:
    """A folder of results is looked through, whatever a file of it holds, and what holds stands on the board."""
    files = {**_sent(), name: content}
    if name not in (SUBMISSION, SCORES):
        about = json.loads(files[SUBMISSION])
        about["predictions_sha256"] = hashlib.sha256(files[PREDICTIONS]).hexdigest()
        about["passport_sha256"] = hashlib.sha256(files[PASSPORT]).hexdigest()
        files[SUBMISSION] = json.dumps(about).encode()
    results = folder / "results"
    shutil.rmtree(results, ignore_errors=True)
    place = results / DATA[0] / DATA[1] / "here"
    place.mkdir(parents=True)
    for each, inside in files.items():
        (place / each).write_bytes(inside)
    place = place.rename(place.parent / key_of(place))
    if name != SCORES:
        with suppress(KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            write_scores(place, place, json.loads(files[SUBMISSION]), json.loads(files[PASSPORT]))
    (found,) = verify(results, folder / "no-data")
    page = board_page(build_board([], [found]), found.faults)
    HTMLParser().feed(page)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    page.encode()
    if found.faults:
        assert all(fault.splitlines() == [fault] for fault in found.faults)
        raise InputError(found.faults[0])


def _published(content: bytes, folder: Path) -> None:
    file = folder / "published.csv"
    file.write_bytes(content)
    read_published(rows_of(file, PUBLISHED_COLUMNS))


def _published_seeds() -> list[bytes]:
    rows = (
        '"Me et al., 2026",Mine,spair-71k,strict@1,0.1,60.3,"Table 2",paper',
        "You,Yours,ap-10k:test,,,50,x,secondary",
    )
    return ["\n".join((",".join(PUBLISHED_COLUMNS), *rows, "")).encode()]


PARSERS = [
    Parser("submission", lambda: [_sent()[SUBMISSION]], lambda c, f: _verified(SUBMISSION, c, f), spoilt_json, 0.3),
    Parser("submitted-passport", lambda: [_sent()[PASSPORT]], lambda c, f: _verified(PASSPORT, c, f), spoilt_json, 0.3),
    Parser(
        "submitted-predictions",
        lambda: [_sent()[PREDICTIONS]],
        lambda c, f: _verified(PREDICTIONS, c, f),
        _spoilt_table,
        0.3,
    ),
    Parser("submitted-scores", lambda: [_sent()[SCORES]], lambda c, f: _verified(SCORES, c, f), _spoilt_table, 0.3),
    Parser("published-csv", _published_seeds, _published, spoilt_text, 2),
]
