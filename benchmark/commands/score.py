"""``scbench score``: PCK of stored predictions under every protocol."""

from __future__ import annotations

from pathlib import Path

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("score")(score)


def score(
    path: Path | None = typer.Argument(
        None,
        metavar="PREDICTIONS|RUN",
        help="A run's folder, its Parquet file, or predictions of your own: .npz, .csv, .jsonl, .pkl, .pt.",
    ),
    protocol: str = typer.Option(
        "all",
        help="Protocols, comma-separated, as geoaware@1,strict@1 ('scbench protocols' lists them); or of a run paper "
        "(what the tables used), strict, or all side by side.",
    ),
    metric: list[str] = typer.Option(
        [], help="Score by these instead, as pck@0.1/bbox/image; repeated or comma-separated."
    ),
    per_category: bool = typer.Option(False, "--per-category", help="Also each category's values."),
    subset: Path | None = typer.Option(None, help="Score only the pairs whose ids this file lists, one a line."),
    dataset: str | None = typer.Option(None, help="The data set that predictions of your own are of."),
    split: str = typer.Option("test", help="Its split."),
    data_root: Path | None = typer.Option(None, help="Where the data sets lie; else SC_DATA_ROOT."),
    frame: str | None = typer.Option(None, help="What their points are in: original, letterbox-840, stretch-768, ..."),
    detail: list[str] = typer.Option(
        [],
        help="Under protocols also: curve, subsets, groups, keypoints, errors, geco, categories.",
    ),
    draws: int = typer.Option(1000, min=0, help="Bootstrap draws behind the 95 % intervals."),
    passport: Path | None = typer.Option(None, help="Write scores, protocols and hashes to this JSON file."),
    check: Path | None = typer.Option(None, help="Score again what this passport tells of; say whether it agrees."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
) -> None:
    """PCK of predictions under every published protocol, with 95 % intervals; needs no GPU, no model and no images.

    Example: scbench score runs/cats/3f2a91 --protocol strict --per-category

    Example: scbench score mine.npz --dataset spair-71k --protocol geoaware@1,strict@1 --passport mine.json

    NPZ holds predicted (pairs, points, 2) in pixels and pair_id, or source and target names of images; and ids of the
    keypoints where the points are not those that both images show, in order. CSV has a line a point: pair_id, x, y
    and id. JSONL has a line a pair: pair_id, points and ids. The frame is original pixels unless --frame tells.
    """
    from benchmark.running.options import several
    from benchmark.score_table import pair_list
    from benchmark.scoring.results import prediction_files
    from sc_imagenet.core.errors import InputError

    if check is not None:
        from benchmark.running.scoring_files import check_passport

        if not check_passport(check, path, data_root):
            raise typer.Exit(1)
        return
    if path is None:
        raise InputError("no predictions are given", fix="Give a file of predictions or a run's folder.")
    from benchmark.scoring.bundles import BUNDLES
    from benchmark.scoring.foreign import ENDINGS

    foreign = path.suffix.lower() in ENDINGS
    pairs = pair_list(subset) if subset else None
    if foreign or not set(several([protocol])) & set(BUNDLES):
        from benchmark.running.scoring_files import opened, score_file
        from benchmark.scoring.protocols import several as protocols_of

        if metric:
            raise InputError("--metric and protocols exclude each other", fix="Leave one of them out.")
        chosen = protocols_of(protocol)  # refuse a name before the work, not after
        details = [*several(detail), *(["categories"] if per_category else [])]
        files = [path] if foreign else prediction_files(path)
        if passport is not None and len(files) > 1:
            raise InputError(f"{path} holds {len(files)} files of predictions", fix="A passport is of one: name it.")
        for file in files:
            found = opened(file, dataset, split, data_root, frame)
            score_file(file, found, chosen, details, pairs, draws, passport, as_json)
        return
    if draws < 1 or passport is not None or detail:
        raise InputError(
            "--passport, --detail and no draws go with protocols", fix="Name them: --protocol strict@1,geoaware@1."
        )
    from benchmark.score_table import print_tables, scored
    from benchmark.scoring.pck import Metric

    metrics = [Metric.parse(name) for name in several(metric)]
    tables = [scored(file, protocol, metrics, pairs, draws) for file in prediction_files(path)]
    print_tables(tables, per_category, as_json)
