"""The board: published and measured numbers side by side, never those of unlike protocols in one column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from benchmark.report.html import templates
from benchmark.report.leaderboard import leaderboards_of
from benchmark.report.published import OWN_TRAINING, Method, methods, published
from benchmark.running.submissions import Verified
from benchmark.scoring.protocols import protocol_named
from benchmark.scoring.result import count_of_pairs
from benchmark.scoring.runs import FoundRun
from sc_imagenet.core.files import atomic_path
from sc_imagenet.data.catalog import catalog, info

TITLE = "Semantic correspondence: what is published, what was measured"
SCORE = re.compile(r"pck@([0-9.]+)/(?:[a-z-]+/)?([a-z-]+)")
STRICT = "strict@1"
UNSTATED = "protocol not stated"
MAIN = 0.1  # the alpha that tables are ranked by, where they have it

# Which data sets hold photographs of one collection: training on one may have seen what the other tests on.
SHARED = {
    "PASCAL VOC": ("pf-pascal", "spair-71k", "spair-u", "diy-sc"),
    "AP-10K": ("ap-10k", "ap-10k-prepared", "mp-100"),
}


@dataclass(frozen=True)
class Cell:
    """A number in percent, with its interval where it was measured, or who printed it."""

    value: float
    low: float | None = None
    high: float | None = None
    source: str = ""
    confidence: str = ""


@dataclass(frozen=True)
class Row:
    """One method or run in a table; ``cells`` by alpha, None where the source names none."""

    name: str
    kind: str  # "published", "measured" or "submitted"
    about: str  # paper, or run
    supervision: str
    backbone: str
    trained_on: tuple[str, ...]
    licence: str
    speed: str
    flags: tuple[str, ...]
    cells: Mapping[float | None, Cell] = field(default_factory=dict)

    def main(self, alpha: float | None) -> Cell | None:
        """The number that the table is ranked by."""
        return self.cells.get(alpha)


@dataclass(frozen=True)
class BoardTable:
    """All numbers of one data set under one protocol."""

    key: str
    data: str
    protocol: str  # "" where it is not stated
    title: str
    pairs: str
    alphas: tuple[float | None, ...]
    rows: tuple[Row, ...]

    @property
    def main(self) -> float | None:
        """The alpha that it is ranked by."""
        return MAIN if MAIN in self.alphas else self.alphas[0]

    def place(self, row: Row) -> str:
        """``2`` or ``1-3``: between how many better ones and how many not worse ones it stands; by intervals.

        A published number has no interval and no place.
        """
        own = row.main(self.main)
        if own is None or own.low is None or own.high is None:
            return ""
        others = [c for r in self.rows if (c := r.main(self.main)) and c.low is not None and c.high is not None]
        first = 1 + sum(other.low > own.high for other in others if other.low is not None)
        last = sum(other.high >= own.low for other in others if other.high is not None)
        return str(first) if first == last else f"{first}-{last}"


def build_board(found: Sequence[FoundRun], submitted: Sequence[Verified] = ()) -> tuple[BoardTable, ...]:
    """The tables: of published numbers, of finished runs by the strict protocol, of submissions that hold."""
    tables: dict[tuple[str, str, str], dict[tuple[str, str, str], Row]] = {}

    def put(data: str, protocol: str, pairs: str, row: Row, cells: Mapping[float | None, Cell]) -> None:
        rows = tables.setdefault((data, protocol, pairs), {})
        before = rows.get((row.kind, row.name, row.about))
        merged = {**(before.cells if before else {}), **cells}
        rows[row.kind, row.name, row.about] = Row(**{**vars(row), "cells": merged})

    known = methods()
    for each in published():
        method = known[each.method]
        cell = Cell(each.value, source=each.source, confidence=each.confidence)
        put(
            each.data, each.protocol, "", _published_row(each.method, each.paper, method, each.data), {each.alpha: cell}
        )
    for board in leaderboards_of(found, {run.result.run: {} for run in found}):
        if board.form is None:
            data = board.dataset if board.split == "test" else f"{board.dataset}:{board.split}"
            whole = board.published is None or board.pairs == board.published
            pairs = "" if whole else count_of_pairs(board.pairs, board.published)
            for entry in board.entries:
                result = entry.result
                trained = tuple(name for name in (result.pretrain, result.finetune) if name)
                row = Row(
                    result.title,
                    "measured",
                    f"run {result.run}, {result.preset} preset, seed {result.seed}",
                    result.supervision,
                    result.backbone,
                    trained,
                    "",
                    f"{result.seconds / 3600:.1f} h of training" if result.seconds else "",
                    flags(trained, data),
                )
                scores = zip(board.metrics, entry.scores)
                put(data, STRICT, pairs, row, {m.alpha: Cell(s.value, s.low, s.high) for m, s in scores if s})
    for sent in submitted:
        if not sent.faults and sent.submission is not None and sent.passport is not None:
            _put_submission(sent, put)
    return tuple(sorted((_table(*key, rows.values()) for key, rows in tables.items()), key=_order))


def _put_submission(sent: Verified, put: Callable[[str, str, str, Row, Mapping[float | None, Cell]], None]) -> None:
    about, stated = sent.submission, sent.passport
    assert about is not None
    assert stated is not None
    data = stated["dataset"] if stated["split"] == "test" else f"{stated['dataset']}:{stated['split']}"
    checked = "" if sent.unchecked is None else ", pairs not checked"
    row = Row(
        about.method,
        "submitted",
        f"run {about.run}{checked}",
        about.supervision,
        about.backbone,
        about.trained_on,
        about.licence,
        "",
        flags(about.trained_on, data),
    )
    for protocol, scores in stated["scores"].items():
        average = protocol_named(protocol).averages[0]
        cells: dict[float | None, Cell] = {
            float(parts[1]): Cell(value["value"], value["low"], value["high"])
            for name, value in scores.items()
            if (parts := SCORE.fullmatch(name)) and parts[2] == average and value["value"] is not None
        }
        if cells:
            put(data, protocol, "", row, cells)


def _published_row(name: str, paper: str, method: Method, data: str) -> Row:
    trained = tuple(data.partition(":")[0] if each == OWN_TRAINING else each for each in method.trained_on)
    # A method tested on PF-WILLOW, which has no training split, was trained on PF-PASCAL.
    trained = tuple("pf-pascal" if each == "pf-willow" else each for each in trained)
    if data.startswith("ap-10k") and not {"ap-10k", "diy-sc"} & {*trained} and method.supervision == "keypoints":
        trained = ("not stated",)  # the tables that print it do not tell whether on AP-10K or on SPair-71k
    about = method.supervision, method.backbone, trained, method.licence, method.speed
    return Row(name, "published", paper, *about, flags(trained, data))


def flags(trained_on: Iterable[str], data: str) -> tuple[str, ...]:
    """What a reader should know of training data beside test data, in words; none where nothing is known to be shared.

    >>> flags(("spair-71k",), "pf-pascal:test")
    ('trained on photographs of PASCAL VOC, as spair-71k has',)
    """
    name, _, split = data.partition(":")
    found = []
    for trained in dict.fromkeys(each.partition(":")[0] for each in trained_on):
        if trained == name == "pf-pascal" and split != "test_clean":
            found.append("95 of the 299 test pairs are training pairs")
        elif trained != name:
            shared = [source for source, sets in SHARED.items() if trained in sets and name in sets]
            found += [f"trained on photographs of {source}, as {trained} has" for source in shared]
    return tuple(found)


def _table(data: str, protocol: str, pairs: str, rows: Iterable[Row]) -> BoardTable:
    rows = tuple(rows)
    alphas = sorted({alpha for row in rows for alpha in row.cells}, key=lambda alpha: alpha or 0)
    name, _, split = data.partition(":")
    title = f"{info(name).title}{f', {split}' if split and split != 'test' else ''}"
    key = re.sub("[^a-z0-9]+", "-", f"{data} {protocol or 'unstated'} {pairs}".lower()).strip("-")
    table = BoardTable(key, data, protocol, title, pairs, tuple(alphas), rows)

    def rank(row: Row) -> tuple[bool, float, str]:
        cell = row.main(table.main)
        return cell is None, -(cell.value if cell else 0), row.name

    return BoardTable(key, data, protocol, title, pairs, tuple(alphas), tuple(sorted(rows, key=rank)))


def _order(table: BoardTable) -> tuple[bool, str, str, bool, str, str]:
    name, _, split = table.data.partition(":")
    return name not in catalog(), name, split, not table.protocol, table.protocol, table.pairs


def board_page(tables: Sequence[BoardTable], problems: Sequence[str] = ()) -> str:
    """The board as one HTML file that asks for nothing; every text is escaped."""
    environment = templates()
    environment.filters["sources_of"] = lambda cells: [cell.source for cell in cells.values() if cell.source]
    assert environment.loader is not None
    style, script = (Markup(environment.loader.get_source(environment, name)[0]) for name in ("style.css", "board.js"))
    rows = [row for table in tables for row in table.rows]
    choices = {
        "data": sorted({table.data.partition(":")[0] for table in tables}),
        "protocol": sorted({table.protocol or UNSTATED for table in tables}),
        "kind": sorted({row.kind for row in rows}),
        "supervision": sorted({row.supervision for row in rows if row.supervision}),
    }
    return environment.get_template("board.html").render(
        title=TITLE, tables=tables, choices=choices, problems=problems, style=style, script=script, unstated=UNSTATED
    )


def write_board(tables: Sequence[BoardTable], folder: Path, problems: Sequence[str] = ()) -> Path:
    """Write ``board.html`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "board.html") as temporary:
        temporary.write_text(board_page(tables, problems), encoding="utf-8")
    return folder / "board.html"


def plain_row(row: Row) -> dict[str, object]:
    """A row for JSON, whose keys are text."""
    cells = {"" if alpha is None else f"{alpha:g}": vars(cell) for alpha, cell in row.cells.items()}
    return {**vars(row), "cells": cells}
