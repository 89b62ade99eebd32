"""Every command that a page, a card, a docstring or a message shows is one that the command line takes."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.report.contents import build
from benchmark.report.plan import plan
from tests.benchmark.command_line import parse
from tests.benchmark.runs import make_run

NAMED_ALONE = ("--eval", "--protocol", "--preset", "--checkpoint")  # shown without a value where an option is spoken of
ROOT = Path(__file__).parents[3]
PACKAGES = ("sc_imagenet", "baselines", "benchmark")
END = r"(?=``|`|'(?:[\s,.;:)]|$)|\[/bold\]|\s{2,}|\s#|$|\n|;|\)(?:\s|$)|, which|, or scbench|: )"
SHOWN = re.compile(
    r"(?:``|`|'|\[bold\]|^ *|: |, or )(?:scbench|python -m benchmark|-m benchmark) ([a-z][^`\n]*?)" + END, re.M
)


def shown(text: str) -> Iterator[list[str]]:
    """The commands that a text shows, word by word; "..." stands for whatever else, in <> stand places."""
    text = re.sub(r"\\\n\s*", "", text)  # continued lines
    text = re.sub(r"`[^`]*`", lambda code: code[0].replace("\n", " "), text)
    for found in SHOWN.finditer(text):
        line = re.sub(r"\s\.\.\.(?=\s|$)|\s\|\s.*$", " ", found[1]).strip().rstrip(".,")
        words = [{"N": "2"}.get(word, word) for word in shlex.split(line) if word != "..."]
        yield [*words, "VALUE"] if words[-1] in NAMED_ALONE else words


def documents() -> list[Path]:
    listed = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("cards/**/*.md")]
    return [path for path in listed if path.name != "CHANGELOG.md"]


def texts_of(path: Path) -> Iterator[str]:
    """The text of a document, or every string of a Python file; what is filled in later is FILLED."""
    if path.suffix != ".py":
        yield path.read_text(encoding="utf-8")
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(p.value if isinstance(p, ast.Constant) else "FILLED" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


FILES = [*documents(), *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))]


def test_documents_and_code_show_commands():
    assert sum(len(list(shown(text))) for path in FILES for text in texts_of(path)) > 80


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_shown_is_taken(path):
    for text in texts_of(path):
        for words in shown(text):
            try:
                parse(words)
            except Exception as error:
                reason = getattr(error, "format_message", lambda error=error: str(error))()
                pytest.fail(f"scbench {shlex.join(words)}: {reason}")


def test_every_command_of_the_report_is_taken(tmp_path):
    run = make_run(tmp_path, "r1", data=[("toy", "test", 6)], draws=2)
    report = build([run], [])
    rows = [row for table in report.tables for row in table.rows]
    commands = [command for row in rows for command in row.commands]
    assert len({str(command) for command in commands}) > 30
    for command in commands:
        parse(command.words[1:])
    assert report.details
    for details in report.details:
        parse(shlex.split(details.command)[1:])


@pytest.mark.parametrize("table", [1, 2, 3, 4, 5])
def test_every_command_of_a_plan_is_taken(table, tmp_path):
    for planned in plan(table, tmp_path, None):
        parse(planned.command.words[1:])
