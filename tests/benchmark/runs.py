"""Synthetic run folders, written by the functions that real runs use."""

from pathlib import Path

import numpy as np

from benchmark.report.paper_tables import table_3
from benchmark.scoring.prediction_files import read_predictions, write_predictions
from benchmark.scoring.predictions import PredictionInfo
from benchmark.scoring.protocol import published_protocol
from benchmark.scoring.result import Result, write_result
from benchmark.scoring.runs import FoundRun, evaluated_data, score_run

SPAIR = [column.category for column in table_3().columns if column.category]


def make_run(
    runs: Path,
    run: str,
    *,
    data=(("toy", "test", 60),),
    noise: float = 15.0,
    categories=("cube", "chair"),
    model: str = "cats",
    title: str = "CATs",
    draws: int = 50,
    pair_ids=None,
    **fields,
) -> FoundRun:
    """A finished run whose predictions miss by ``noise`` pixels on 200 x 150 images.

    Runs of one ``data`` have the same pairs and truth.
    """
    folder = runs / model / run
    known = published_protocol(model)
    direction = known.direction if known else "forward"
    entries = []
    for dataset, split, pairs in data:
        truth, random = np.random.default_rng(pairs), np.random.default_rng(list(run.encode()))
        names = SPAIR if dataset == "spair-71k" else categories
        rows = []
        for i in range(pairs):
            points = truth.random((5, 2)) * (200, 150)
            missed = points + random.normal(0, noise, points.shape)
            rows.append(
                {
                    "pair_id": pair_ids[i] if pair_ids else f"p{i}",
                    "category": names[i % len(names)],
                    "source_size": (200, 150),
                    "target_size": (200, 150),
                    "source_bbox": (0, 0, 150, 150),
                    "target_bbox": (0, 0, 150, 150),
                    "source_points": points,
                    "target_points": points,
                    "predicted_points": missed,
                    "direction": direction,
                }
            )
        info = PredictionInfo(dataset, split, model, 256, run, "m" * 64, direction)
        file = folder / "predictions" / f"{dataset}-{split}.parquet"
        write_predictions(file, rows, info)
        entries.append(evaluated_data(file, read_predictions(file)))
    metrics, per_category = score_run(folder, draws=draws) if data else ({}, {})
    values = {
        "supervision": "keypoints",
        "backbone": "resnet101",
        "pretrain": None,
        "finetune": "toy",
        "preset": "paper",
        "recipe": {"lr": 3e-5},
        "seed": 0,
        "seconds": 372.0,
        **fields,
    }
    result = Result(
        run=run,
        model=model,
        title=title,
        direction=direction,
        size=256,
        data=tuple(entries),
        metrics=metrics,
        per_category=per_category,
        **values,
    )
    write_result(folder, result)
    return FoundRun(folder, result)
