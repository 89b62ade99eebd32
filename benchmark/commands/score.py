"""``scbench score``: PCK of stored predictions under every protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.commands.options import DATA, EVALUATION, OUTPUT, DataRoot, Draws, Json, Metrics
from benchmark.commands.protocols import print_protocol_scores
from benchmark.running.score import ScoredFile, disagreements, score_file
from benchmark.scoring import passport as passports
from benchmark.scoring import pck
from benchmark.scoring.bootstrap import Score
from benchmark.scoring.foreign import ENDINGS
from benchmark.scoring.joining import opened
from benchmark.scoring.pck import BUNDLES, Metric
from benchmark.scoring.prediction_files import mark_of, read_predictions
from benchmark.scoring.predictions import PredictionInfo, Predictions
from benchmark.scoring.protocol import published_protocol
from benchmark.scoring.protocols import NAMES, is_protocol, protocols_named
from benchmark.scoring.result import count_of_pairs, published_pairs
from benchmark.scoring.runs import metrics_of, prediction_files
from sc_imagenet.core.command import several
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.files import read_text
from sc_imagenet.core.progress import print_json, say

app = typer.Typer(add_completion=False)


@app.command()
def score(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PREDICTIONS|RUN",
            help="A run's folder, its Parquet file, or predictions of your own: .npz, .csv, .jsonl, .pkl, .pt.",
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="Protocols, comma-separated, as geoaware@1,strict@1 ('scbench protocols' lists them); or of a run "
            "paper (what the tables used), strict, or all side by side.",
            rich_help_panel=EVALUATION,
        ),
    ] = "all",
    metric: Metrics = [],
    per_category: Annotated[
        bool,
        typer.Option("--per-category", help="Each category's values are given, too.", rich_help_panel=EVALUATION),
    ] = False,
    subset: Annotated[
        Path | None,
        typer.Option(help="Only the pairs whose ids this file lists, one a line, are scored.", rich_help_panel=DATA),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Predictions of your own are of this data set.", rich_help_panel=DATA)
    ] = None,
    split: Annotated[str, typer.Option(help="They are of this split of it.", rich_help_panel=DATA)] = "test",
    data_root: DataRoot = None,
    frame: Annotated[
        str | None,
        typer.Option(
            help="Their points are in this frame: original, letterbox-840, stretch-768, ...", rich_help_panel=DATA
        ),
    ] = None,
    detail: Annotated[
        list[str],
        typer.Option(
            help="Under protocols also these: curve, subsets, groups, keypoints, errors, geco, categories.",
            rich_help_panel=EVALUATION,
        ),
    ] = [],
    draws: Draws = 1000,
    passport: Annotated[
        Path | None,
        typer.Option(help="Scores, protocols and hashes are written to this JSON file.", rich_help_panel=OUTPUT),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            help="What this passport tells of is scored again; it is said whether it agrees.",
            rich_help_panel=EVALUATION,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """PCK of predictions under every published protocol, with 95 % intervals; needs no GPU, no model and no images.

    [bold]scbench score runs/cats/3f2a91 --protocol strict --per-category[/bold]

    [bold]scbench score mine.npz --dataset spair-71k --protocol geoaware@1,strict@1 --passport mine.json[/bold]

    NPZ holds predicted (pairs, points, 2) in pixels and pair_id, or source and target names of images; and ids of the
    keypoints where the points are not those that both images show, in order. CSV has a line a point: pair_id, x, y
    and id. JSONL has a line a pair: pair_id, points and ids. The frame is original pixels unless --frame tells.
    """
    if check is not None:
        if not print_check(check, path, data_root):
            raise typer.Exit(1)
        return
    if path is None:
        raise InputError("no predictions are given", fix="Give a file of predictions or a run's folder.")
    foreign = path.suffix.lower() in ENDINGS
    pairs = pair_list(subset) if subset else None
    if foreign or not set(several([protocol])) & set(BUNDLES):
        if metric:
            raise InputError("--metric and protocols exclude each other", fix="Leave one of them out.")
        if not foreign and (unknown := [name for name in several([protocol]) if not is_protocol(name)]):
            raise unknown_name("protocol", unknown[0], [*BUNDLES, *NAMES])
        chosen = protocols_named(protocol)  # refuse a version before the work, not after
        details = [*several(detail), *(["categories"] if per_category else [])]
        files = [path] if foreign else prediction_files(path)
        if passport is not None and len(files) > 1:
            raise InputError(f"{path} holds {len(files)} files of predictions", fix="A passport is of one: name it.")
        for file in files:
            found = score_file(file, opened(file, dataset, split, data_root, frame), chosen, details, pairs, draws)
            print_protocol_scores(found.scores, _headline(found), found.notes, found.passport, as_json)
            if passport is not None:
                passports.write(passport, found.passport)
                say(f"wrote {passport}")
        return
    if draws < 1 or passport is not None or detail:
        raise InputError(
            "--passport, --detail and no draws go with protocols", fix="Name them: --protocol strict@1,geoaware@1."
        )
    metrics = [Metric.parse(name) for name in several(metric)]
    tables = [scored(file, protocol, metrics, pairs, draws) for file in prediction_files(path)]
    print_tables(tables, per_category, as_json)


def print_check(check: Path, path: Path | None, data_root: Path | None) -> bool:
    """Score again what a passport tells of, print whether all of it agrees, and return it."""
    path, lines = disagreements(check, path, data_root)
    if not lines:
        print(f"equal: {path.name} gives every score of {check.name}")
        return True
    more = [f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    print("\n".join([f"not equal: {path.name} and {check.name}", *lines[:SHOWN], *more]))
    return False


def _headline(found: ScoredFile) -> str:
    info = found.predictions.info
    return f"{found.path.name}: {info.dataset}:{info.split}, points in {found.predictions.frame}"


SHOWN = 8  # differences from a passport that are printed one by one

# The tables of ``scbench score``: all protocols of one file of predictions side by side.

DIRECTION_IN_WORDS = {
    "forward": "source -> target, predictions lie in the target",
    "backward": "target -> source, predictions lie in the source",
}


@dataclass(frozen=True)
class Scored:
    """One file of predictions, scored."""

    file: Path
    info: PredictionInfo
    pairs: int
    points: int
    of: int  # pairs in the file; more than ``pairs`` when only a subset was scored
    without_box: int  # of the pairs, those that bbox-kp leaves out
    draws: int
    scores: dict[Metric, Score]
    per_category: dict[Metric, dict[str, float]]
    category_pairs: dict[str, int]
    labels: dict[str, str]  # protocol: "strict", "paper", "paper, legacy", ...
    notes: tuple[str, ...]

    @property
    def published(self) -> int | None:
        """Pairs of the split as published, None where no number is."""
        return published_pairs(self.info.dataset, self.info.split, self.info.form)


def pair_list(file: Path) -> list[str]:
    """The pair ids of a text file, one a line.

    Raises:
        InputError: the file is missing or is not text.
    """
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def scored(file: Path, protocol: str, metrics: Sequence[Metric], pairs: Sequence[str] | None, draws: int) -> Scored:
    """Score a file by ``metrics``, or by the bundle ``protocol`` when there are none.

    Raises:
        InputError: the file is damaged, the bundle unknown, or a metric cannot be computed on it.
    """
    predictions = read_predictions(file)
    info, of = predictions.info, len(predictions)
    if pairs is not None:
        predictions = predictions.subset(pairs)
    wanted = list(dict.fromkeys(metrics)) or metrics_of(predictions, protocol)
    found = pck.score_metrics(predictions, wanted, draws)
    named = {name: set(metrics_of(predictions, name)) for name in ("strict", "paper")}
    labels = {
        metric.protocol: ", ".join(
            [
                *(name for name, bundle in named.items() if metric in bundle),
                *(["legacy"] if metric.legacy else []),
            ]
        )
        for metric in wanted
    }
    # Of everything, show the categories of the two bundles alone: 50 columns are no table.
    narrow = [m for m in wanted if metrics or protocol != "all" or any(m in b for b in named.values())]
    return Scored(
        file,
        info,
        len(predictions),
        len(predictions.true),
        of,
        pck.pairs_without_box(predictions),
        draws,
        {metric: found[str(metric)] for metric in wanted},
        {metric: pck.per_category(predictions, metric) for metric in narrow},
        pck.category_pairs(predictions),
        labels,
        _notes(predictions, wanted, labels, pairs is not None),
    )


def print_tables(tables: Sequence[Scored], per_category: bool, as_json: bool) -> None:
    """Print to standard output, as tables or as one JSON list."""
    if as_json:
        print_json([_plain(entry, per_category) for entry in tables])
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    for entry in tables:
        _print(console, entry, per_category)


def _notes(
    predictions: Predictions, metrics: Sequence[Metric], labels: dict[str, str], is_subset: bool
) -> tuple[str, ...]:
    info, notes = predictions.info, []
    without_box = pck.pairs_without_box(predictions)
    if without_box and any(metric.threshold == "bbox-kp" for metric in metrics):
        notes.append(
            f"bbox-kp: {without_box:,} of the {len(predictions):,} pairs have one point, or all in one place, and so "
            "no box around them; they are in none of its averages."
        )
    if any("legacy" in label for label in labels.values()):
        notes.append(
            "legacy: the points were padded before their box was taken, so d is the largest coordinate; "
            "kept only to compare with published PF-WILLOW figures."
        )
    known = info.protocol or published_protocol(info.model)
    if known and known.direction != info.direction and any("paper" in label for label in labels.values()):
        notes.append(f"paper: its authors predict {known.direction}, these predictions are {info.direction}.")
    if info.direction != "forward" and any("strict" in label for label in labels.values()):
        notes.append(
            "strict: it is meant forward, these predictions are backward; 'scbench run ... --direction forward' "
            "predicts the other way."
        )
    if info.dataset == "pf-pascal" and info.split == "test" and not is_subset:
        notes.append(
            "PF-PASCAL: 95 of the 299 test pairs are also training pairs; the split pf-pascal:test_clean is "
            "without them."
        )
    return tuple(notes)


def _print(console: Console, entry: Scored, per_category: bool) -> None:
    info = entry.info
    counted = count_of_pairs(entry.pairs, entry.published)
    subset = f", a subset of the {entry.of:,} predicted" if entry.pairs < entry.of else ""
    mark = mark_of(entry.file, info)
    data = f"{escape(info.dataset)} {escape(info.split)}{f' @{mark}' if mark else ''}"
    console.print(f"\n[bold]{data}[/]   {escape(info.model)}, run {escape(info.run)}")
    console.print(f"{DIRECTION_IN_WORDS[info.direction]}   {counted}{subset}, {entry.points:,} points")
    alphas = sorted({metric.alpha for metric in entry.scores})
    table = Table("threshold", "frame", "average")
    for alpha in alphas:
        table.add_column(f"PCK@{alpha:g}", justify="right")
    table.add_column("", style="dim")
    rows: dict[tuple[str, int | None, str], dict[float, Score]] = {}
    for metric, score in entry.scores.items():
        rows.setdefault((metric.threshold, metric.frame, metric.average), {})[metric.alpha] = score
    previous = None
    for (threshold, frame, average), scores in rows.items():
        if previous not in (None, average):
            table.add_section()
        previous = average
        protocol = Metric(alphas[0], threshold, frame, average).protocol
        table.add_row(
            threshold,
            f"{frame} x {frame}" if frame else "original",
            average,
            *(_cell(scores.get(alpha)) for alpha in alphas),
            entry.labels[protocol],
            style="dim" if "legacy" in entry.labels[protocol] else None,
        )
    console.print(table)
    console.print(f"[dim]Percent; in brackets 95 % intervals over pairs, {entry.draws:,} bootstrap draws.[/]")
    for note in entry.notes:
        console.print(f"[dim]{escape(note)}[/]")
    if per_category:
        _print_categories(console, entry)


def _print_categories(console: Console, entry: Scored) -> None:
    table = Table("category", title="by category")
    table.add_column("pairs", justify="right")
    for metric in entry.per_category:
        table.add_column(str(metric).replace("/", "\n"), justify="right")
    for name, pairs in entry.category_pairs.items():
        values = (column.get(name) for column in entry.per_category.values())
        cells = ("" if value is None else f"{value:.1f}" for value in values)
        table.add_row(escape(name), f"{pairs:,}", *cells)
    console.print(table)


def _cell(score: Score | None) -> str:
    return f"{score.value:.1f} [dim]\\[{score.low:.1f}, {score.high:.1f}][/]" if score else ""


def _plain(entry: Scored, per_category: bool) -> dict[str, object]:
    plain: dict[str, object] = {
        "file": str(entry.file),
        **asdict(entry.info),
        "pairs": entry.pairs,
        "pairs_in_file": entry.of,
        "pairs_published": entry.published,
        "pairs_without_bbox_kp": entry.without_box,
        "points": entry.points,
        "draws": entry.draws,
        "metrics": {str(metric): {**asdict(score), "legacy": metric.legacy} for metric, score in entry.scores.items()},
        "notes": entry.notes,
    }
    if per_category:
        plain["per_category"] = {str(metric): values for metric, values in entry.per_category.items()}
    return plain
