"""What a person types: options of every command, settings, metrics, points, lists of pairs."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from random import Random
from typing import Any

from benchmark.cli import main
from benchmark.commands.score import pair_list, scored
from benchmark.running.match import parse_points
from benchmark.scoring.pck import Metric
from sc_imagenet.core.command import settings_of, several
from tests.fuzz.mutations import NAMES, NUMBERS, spoilt_text
from tests.fuzz.parser import Parser
from tests.fuzz.parsers.tables import INFO, parquet, predictions_table

# Commands that end soon without data; {runs} is a folder of runs, {file} one of predictions.
COMMANDS = (
    "data list", "data list --json", "data info pf-willow", "data info toy --json",
    "data convert pf-willow --data-root {runs}", "data verify spair-71k --data-root {runs} --json",
    "data show pf-pascal:test --out x.png --data-root {runs} --pairs 3 --seed 1 --category cat",
    "data download sc-imagenet --data-root {runs}", "score {file} --protocol strict --per-category --draws 5",
    "score {file} --metric pck@0.1/bbox/image --json --draws 5", "score {file} --subset {list} --draws 5",
    "compare {file} {file} --draws 5 --pairs 2", "compare {file} {file} --metric pck@0.1/img/image --json --draws 5",
    "report --runs {runs} --format csv --json", "report --runs {runs} --out {runs}/report --format md,tex",
    "match {list} {list} --points 1,2 --out x.png", "match {list} {list} --grid 3 --model cats",
    "run cats --finetune pf-pascal --eval pf-pascal --data-root {runs} --runs {runs} --preset tiny",
    "run nearest --eval pf-willow --data-root {runs} --runs {runs} --set recipe.lr=0.1 --seed 3 --precision bf16",
    "run --table 2 --dry-run --runs {runs}", "run --table 4 --dry-run --json", "run cats --checkpoint {list}",
    "generate run {runs}/none --out {runs}/made --share 0.5 --points 3", "generate export --out {runs} --json",
    "generate train {runs}/none --out {runs}/made --steps 1 --set lr=1", "generate label {list} --out {runs}/made",
    "ablate {runs}/none --out {runs}/made --seeds 0,1 --options {list}", "check nothing", "speed nothing --json",
)  # fmt: skip
WORDS = (
    *(name.replace("\x00", "") for name in NAMES[:-12]), *(number.decode()[:400] for number in NUMBERS), "--json",
    "--help", "--", "-", "-h", "--out", "--runs", "--seed=-1", "--draws=0", "--limit", "--eval=toy:nowhere",
    "--set=recipe.lr", "--set=recipe.lr=[", "--set=recipe.model.size=" + "[" * 3000, "--set=recipe.lr=" + "9" * 5000,
    "--set=recipe.milestones=[1,[2]]", "--set=recipe.model={}", "--set=x=y", "--metric=pck@1.1.1/bbox/image",
    "--metric=pck@0.1/img@99999999999999999999/image", "--points=nan,inf", "--points=1e999,1", "--format=pdf",
    "--protocol=none", "--data-root=/dev/null", "--data-root=/proc/self/mem", "--subset=/dev/null", "--table=99",
    "--precision=fp8", "--seeds=0,x", "--backbone=../../x", "--backbone=hf-hub:../x", "--network=/dev/null", "--out=",
    "--saliency=nothing", "--counts=nothing.csv", "--loops=x", "--share=nan", "--size=0", "--engine=x", "\udcff",
)  # fmt: skip


def _prepare(folder: Path) -> dict[str, str]:
    runs, file, listed = folder / "runs", folder / "toy-test.parquet", folder / "list.txt"
    if not file.exists():
        runs.mkdir()
        file.write_bytes(parquet(predictions_table(json.dumps(INFO))))
        listed.write_text("0\n1\n")
    return {"runs": str(runs), "file": str(file), "list": str(listed)}


def _command(content: bytes, folder: Path) -> None:
    """The command in this process, from an empty folder; it must end as ``scbench`` promises."""
    words = [str(word).format(**_prepare(folder)) if "{" in word else word for word in json.loads(content)]
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    before = os.getcwd(), sys.argv
    os.chdir(empty)
    sys.argv = ["scbench", *words]
    out, errors = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(errors):
            main()
        code: Any = 0
    except SystemExit as end:
        code = end.code
    finally:
        os.chdir(before[0])
        sys.argv = before[1]
    said = errors.getvalue()
    assert code in (0, None, 2), f"exit code {code}"
    assert "Traceback" not in said
    if code == 2 and "error: " in said:
        assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1
    out.getvalue().encode(errors="surrogateescape")


def _seeds() -> list[bytes]:
    return [json.dumps(command.split()).encode() for command in COMMANDS]


def _spoilt_command(rng: Random, seeds: Any) -> bytes:
    words = json.loads(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3))):
        place, word = rng.randrange(len(words) + 1), rng.choice(WORDS)
        kind = rng.randrange(4)
        if kind == 0 and words:
            del words[place % len(words)]
        elif kind == 1:
            words.insert(place, word)
        elif words:
            words[place % len(words)] = word
    return json.dumps([word.replace("{", "(") if word in WORDS else word for word in words]).encode()


def _small_parsers(content: bytes, folder: Path) -> None:
    """Texts inside options, all of them at once."""
    from sc_imagenet.core.errors import InputError

    text = os.fsdecode(content)  # as arguments are
    for parse in (
        Metric.parse,
        parse_points,
        lambda given: several([given]),
        lambda given: _settings(given),
    ):
        with suppress(InputError):
            parse(text)


def _settings(text: str) -> None:
    from baselines.recipe import Recipe, override

    override(Recipe(), settings_of([text]))


def _subset(content: bytes, folder: Path) -> None:
    _prepare(folder)
    file = folder / "subset.txt"
    file.write_bytes(content)
    scored(folder / "toy-test.parquet", "strict", [], pair_list(file), 5)


PARSERS = [
    Parser("command", _seeds, _command, _spoilt_command, 1),
    Parser(
        "option-texts",
        lambda: [b""],
        _small_parsers,
        lambda rng, _: spoilt_text(
            rng, [b"pck@0.1/bbox-kp@256/image", b"1,2 3.5,4", b"recipe.lr=0.1,recipe.milestones=[1,2]", b"a,b"]
        ),
        6,
    ),
    Parser("pair-subset", lambda: [b"0\n1\n", b"1"], _subset, spoilt_text, 1),
]
