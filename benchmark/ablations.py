"""Tables 4 and 5 in miniature: trainings of the cascade with one thing changed, measured and printed beside the paper.

Each case is trained for each seed and measured by ``scbench run`` into folders of its own; what is there already is
not done again, and the table is made from the folders alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.progress import bars, say
from benchmark.run_options import Options, make_accelerator
from sc_imagenet.errors import InputError, unknown_name
from sc_imagenet.files import read_json, write_json
from sc_imagenet.generation.train import train
from sc_imagenet.generation.training_options import TrainingOptions

PAPER_WILLOW = "PF-WILLOW @.05 / @.10"


@dataclass(frozen=True)
class Case:
    """One row.

    name      as typed after --only
    paper     its row in the paper's Tables 4 and 5 and PCK@.05, @.10 on PF-WILLOW there; None: not in it
    changes   options of the training; ``network`` holds those of the network
    stage     the stage that is read; None: the last one
    trained   False reads the untrained network
    nearest   no Hough scores, no mutual filter: nearest neighbours of the refined features
    """

    name: str
    paper: tuple[str, float, float] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    stage: str | None = None
    trained: bool = True
    nearest: bool = False


LITERAL = {"hough_scales": [1.0], "mutual": False, "votes": "relu"}

CASES = (
    Case("untrained-nearest", changes={"network": {"hough": False, "mutual": False}}, trained=False),
    Case("untrained-hough", changes={"network": LITERAL}, trained=False),
    Case("untrained-full", trained=False),
    Case("trained-nearest", nearest=True),
    Case("full", ("4 (I)", 57.6, 85.3)),
    Case("image-stage", stage="image"),
    Case("region-stage", stage="region"),
    Case("without-saliency", ("4 (II)", 56.4, 84.7), {"network": {"saliency": False}}),
    Case("without-hough", ("4 (III)", 56.1, 84.0), {"network": {"hough": False}}),
    Case("length-3", ("4 (IV)", 56.7, 84.9), {"network": {"hough_length": 3}}),
    Case("length-7", ("4 (VI)", 56.8, 85.0), {"network": {"hough_length": 7}}),
    Case("shared-attention", ("4 (VII)", 53.6, 78.5), {"network": {"shared_attention": True}}),
    Case("160px", ("5 (II)", 55.7, 84.6), {"size": 160}),
    Case("240px", ("5 (III)", 54.7, 84.4), {"size": 240}),
    Case("without-stage-3", ("5 (V)", 57.0, 84.6), {"network": {"stages": "region"}}),
    Case("without-stages-2-3", ("5 (VI)", 55.2, 83.0), {"network": {"stages": "image"}}),
)


def run_ablations(
    photographs: Path,
    data_root: Path | None,
    out: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    only: Sequence[str] = (),
    base: Mapping[str, Any] | None = None,
    max_steps: int | None = None,
    evaluate: str = "pf-willow",
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Train and measure what is missing.

    Args:
        photographs: ``<folder>/<class>/<image>``, to train on.
        data_root: holds the data set to measure on; None: $SC_DATA_ROOT.
        out: ``<case>-<seed>/`` for each training, ``features/`` that they share, ``runs/`` of the measurements.
        seeds: of the trainings.
        only: names of cases; none: all.
        base: options that all trainings share, as ``TrainingOptions.from_dict`` takes them.
        max_steps: of each training.
        evaluate: the data set to measure on.
        limit: measure on so many pairs of it; None: all.

    Returns:
        A row a case: its name, the paper's row and figures, and for each metric the values of all seeds.

    Raises:
        InputError: no case is called so, or data that is not here.
    """
    names = [case.name for case in CASES]
    for name in only:
        if name not in names:
            raise unknown_name("case", name, names)
    rows = []
    for case in CASES:
        if only and case.name not in only:
            continue
        measured = []
        for seed in seeds if case.trained else seeds[:1]:
            path = out / "measured" / f"{case.name}-{seed}.json"
            if not path.exists():
                options = merged(dict(base or {}), {**case.changes, "seed": seed})
                say(f"{case.name}, seed {seed}")
                write_json(path, _measure(case, options, photographs, data_root, out, max_steps, evaluate, limit))
            measured.append(read_json(path))
        rows.append(row_of(case, measured))
    return rows


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options with changes, those of the network one by one.

    >>> merged({"size": 64, "network": {"fold": 2}}, {"network": {"heads": 1}})
    {'size': 64, 'network': {'fold': 2, 'heads': 1}}
    """
    network = {**base.get("network", {}), **changes.get("network", {})}
    return {**base, **changes, **({"network": network} if network else {})}


def _measure(
    case: Case,
    values: Mapping[str, Any],
    photographs: Path,
    data_root: Path | None,
    out: Path,
    max_steps: int | None,
    evaluate: str,
    limit: int | None,
) -> dict[str, float]:
    """PCK in percent by metric name."""
    from benchmark.running import Run

    options = TrainingOptions.from_dict(values)
    run = Options(
        model="cascade", evaluate=(evaluate,), data_root=data_root, runs=out / "runs" / case.name, limit=limit
    )
    read = {"hough": False, "mutual": False} if case.nearest else {}
    if case.trained:
        trained = out / "trainings" / _training_name(values)
        with bars() as update:
            folder = train(options, photographs, trained, features=out / "features", max_steps=max_steps, report=update)
        folder = _read_as(folder, case, read)
        run = replace(run, checkpoint=folder)
    else:
        settings = {
            "recipe.model.size": str(options.size),
            "recipe.model.backbone": options.backbone,
            "recipe.model.network": json.dumps(values.get("network", {})),
        }
        run = replace(run, settings=settings)
    result = Run(run, make_accelerator(run)).execute()
    return {
        name: metric["value"] if isinstance(metric, dict) else metric.value
        for name, metric in next(iter(result.metrics.values())).items()
    }


def _training_name(values: Mapping[str, Any]) -> str:
    """Cases that differ in what is read alone share a training."""
    from sc_imagenet.generation.options import key_of

    return key_of(dict(values))


def _read_as(folder: Path, case: Case, read: Mapping[str, Any]) -> Path:
    """The trained network with another stage or read-out: a folder beside it, the weights linked."""
    if case.stage is None and not read:
        return folder
    changed = folder.parent / f"model-{case.name}"
    config = read_json(folder / "config.json")
    config["stage"] = case.stage
    config["network"] = {**config["network"], **read}
    write_json(changed / "config.json", config)
    weights = changed / "model.safetensors"
    if not weights.exists():
        weights.symlink_to((folder / "model.safetensors").resolve())
    return changed


def row_of(case: Case, measured: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """A case's row: values of all seeds by metric."""
    if not measured:
        raise InputError(f"{case.name} was not measured")
    return {
        "case": case.name,
        "paper": case.paper,
        "seeds": len(measured),
        "metrics": {name: [values[name] for values in measured] for name in measured[0]},
    }


def print_ablations(rows: Sequence[Mapping[str, Any]], metric: str, as_json: bool) -> None:
    """Print the rows: PCK@.05, .10 and .15 of a metric, mean and spread over the seeds, beside the paper's."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(title=f"PCK, {metric}", title_justify="left", box=None, pad_edge=False)
    alphas = ("0.05", "0.1", "0.15")
    for heading in ("case", *alphas, "seeds", "paper's row", PAPER_WILLOW):
        table.add_column(
            heading, justify="left" if heading in ("case", "paper's row") else "right", no_wrap=heading == "case"
        )
    for row in rows:
        found = [_spread(row["metrics"], metric, alpha) for alpha in alphas]
        paper = row["paper"]
        theirs = (paper[0], f"{paper[1]} / {paper[2]}") if paper else ("", "")
        table.add_row(row["case"], *found, str(row["seeds"]), *theirs)
    Console().print(table)


def _spread(metrics: Mapping[str, Sequence[float]], metric: str, alpha: str) -> str:
    """Mean and standard deviation over the seeds, in percent.

    >>> _spread({"pck@0.1/bbox-kp/image": [60.0, 62.0]}, "bbox-kp/image", "0.1")
    '61.0 ± 1.4'
    """
    values = metrics.get(f"pck@{alpha}/{metric}")
    if values is None:
        return ""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")
