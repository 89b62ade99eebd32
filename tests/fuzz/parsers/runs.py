"""A run's folder as a report reads it, and the names in it as every format prints them."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

from benchmark.report.contents import build
from benchmark.report.html import to_html
from benchmark.report.tables import curves_table, figures_table, runs_table
from benchmark.report.writers import console, csv_of, lines_of, to_latex, to_markdown
from benchmark.scoring.result import read_result
from benchmark.scoring.runs import find_runs
from tests.benchmark.runs import make_run
from tests.fuzz.mutations import NAMES, spoilt_json, spoilt_text
from tests.fuzz.parser import Parser

FILES = ("result.json", "config.json", "environment.json", "curves.json", "log.jsonl")


@lru_cache(maxsize=1)
def _run() -> dict[str, bytes]:
    """The files of a finished run."""
    with tempfile.TemporaryDirectory() as runs:
        run = make_run(Path(runs), "r1", data=[("toy", "test", 4)], draws=5)
        folder = run.folder
        stage = {
            "dataset": "toy",
            "split": "train",
            "validation": "validation",
            "manifest_sha256": "m" * 64,
            "recipe": {},
        }
        (folder / "config.json").write_text(json.dumps({"model": "cats", "stages": [stage], "precision": "no"}))
        (folder / "environment.json").write_text(
            json.dumps({"device": "cpu", "threads": 1, "versions": {"torch": "2"}, "git": "abc"})
        )
        log = [{"step": n, "loss": 1 / n, "lr": [0.1]} for n in range(1, 5)] + [{"step": 4, "validation_pck": 30.0}]
        (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in log))
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _in_a_run(name: str, content: bytes, folder: Path) -> Path:
    """A folder of runs whose only run has one file exchanged."""
    run = folder / "runs" / "cats" / "r1"
    if not run.exists():
        for each, inside in _run().items():
            (run / each).parent.mkdir(parents=True, exist_ok=True)
            (run / each).write_bytes(inside)
    for each in FILES:
        (run / each).write_bytes(content if each == name else _run()[each])
    return folder / "runs"


def _result(content: bytes, folder: Path) -> None:
    file = folder / "result.json"
    file.write_bytes(content)
    read_result(file)


def _report(name: str, content: bytes, folder: Path) -> None:
    """Every format is written, whatever the file holds."""
    found, problems = find_runs(_in_a_run(name, content, folder))
    assert all(line.splitlines() == [line] for line in problems)
    report = build(found, problems)
    page = to_html(report)
    HTMLParser().feed(page)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    page.encode()
    for text in (to_markdown(report), to_latex(report)):
        assert "<script>" not in text
        text.encode()
    for sheet in (csv_of(figures_table(report)), csv_of(runs_table(report)), csv_of(curves_table(report))):
        rows = list(csv.reader(io.StringIO(sheet)))
        assert len({len(row) for row in rows if row}) <= 2
    for part in lines_of(report):
        console().print(part)


def _named(content: bytes, folder: Path) -> None:
    """A name in every place of a result that takes one."""
    name = content.decode("utf-8", "surrogatepass")
    values: dict[str, Any] = json.loads(_run()["result.json"])
    for field in ("run", "model", "title", "backbone", "pretrain", "finetune", "preset", "checkpoint"):
        values[field] = name
    values["changes"], values["arguments"], values["recipe"] = [name, f"--set {name}"], {name: name}, {name: name}
    metrics = values["per_category"]["toy"]
    for metric in metrics:
        metrics[metric] = {name: 50.0}
    _report("result.json", json.dumps(values).encode(), folder)


def _spoilt_name(rng: Random, seeds: Any) -> bytes:
    parts = [rng.choice((*NAMES, "a", "b c")) for _ in range(rng.choice((1, 2, 3)))]
    return "".join(parts)[:3000].encode("utf-8", "surrogatepass")


PARSERS = [
    Parser("result-json", lambda: [_run()["result.json"]], _result, spoilt_json, 8),
    *(
        Parser(
            f"report-{name.split('.')[0]}",
            lambda name=name: [_run()[name]],  # type: ignore[misc]
            lambda content, folder, name=name: _report(name, content, folder),  # type: ignore[misc]
            spoilt_text if name.endswith("l") else spoilt_json,
            0.2,
        )
        for name in FILES
    ),
    Parser("report-names", lambda: [b"plain"], _named, _spoilt_name, 0.3),
]
