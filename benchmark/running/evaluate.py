"""From a model and pairs to stored predictions, in chunks that survive an interruption; validation in between."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from baselines import registry
from baselines.matcher import Direction, Matcher
from baselines.recipe import Recipe
from benchmark.running.encoding import EncodedPairs
from benchmark.running.features import LIMIT, MB
from benchmark.scoring.pck import Metric, bundle, score_metrics
from benchmark.scoring.prediction_files import PREDICTION_SCHEMA, all_columns, predictions_of, write_predictions
from benchmark.scoring.predictions import PredictionInfo
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.progress import bars
from sc_imagenet.data.batches import load_batches
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.data.tensor_files import shortened

# Evaluation: from a model and pairs to stored predictions, in chunks that survive an interruption.

CHUNK = 128  # pairs; what an interruption can cost
BATCH = 8  # pairs a forward pass


def direction_of(matcher: Matcher, wanted: str) -> Direction:
    """Which way points go: the model's own way ("official") or source to target for every model ("forward")."""
    return matcher.direction if wanted == "official" else "forward"


@torch.inference_mode()
def predict(matcher: Matcher, batch: Mapping[str, Any], direction: Direction) -> Tensor:
    """Predicted points (B, K, 2), in pixels of the S x S frame of the image they lie in.

    A batch has images, or ``source_features`` and ``target_features`` in their place.
    "forward" carries ``source_points`` to the target, "backward" ``target_points`` to the source. A model
    made for the other way is given the pair exchanged.
    """
    start, end = ("source", "target") if direction == "forward" else ("target", "source")
    source, target = (start, end) if matcher.direction == "forward" else (end, start)
    if "source_features" in batch:
        output = matcher.match(batch[f"{source}_features"], batch[f"{target}_features"])
    else:
        output = matcher(batch[source], batch[target])
    return matcher.transfer(output, batch[f"{start}_points"])


def not_finite(matcher: Matcher, bad: int, total: int, where: object) -> InputError:
    """The error for ``bad`` of ``total`` predicted points that are NaN or infinite; it says whose fault that is."""
    name = type(matcher).__name__
    damaged = [key for key, value in matcher.state_dict().items() if not value.isfinite().all()]
    why = f"its weights hold NaN or infinity: {shortened(damaged)}" if damaged else "its weights are finite"
    return InputError(
        f"{name} predicts no finite place for {bad:,} of {total:,} points ({why})",
        where=where,
        fix="Give other weights, or train again with a smaller rate."
        if damaged
        else "Give other weights, or predict in full precision.",
    )


def predict_rows(
    matcher: Matcher,
    pairs: PairDataset,
    rows: Sequence[int],
    direction: Direction,
    device: torch.device,
    workers: int = 0,
    encoded: EncodedPairs | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of ``PREDICTION_SCHEMA`` for the given rows of ``pairs``, in their order.

    ``encoded`` are the same pairs, if features of their images are to outlast this call.
    """
    matcher.eval()
    if encoded is None and matcher.encodes_alone:
        encoded = EncodedPairs(matcher, pairs, direction, device, workers=workers)
        encoded.expect(rows)
    columns = [name for name in pairs.rows.column_names if name not in ("source", "target")]
    annotations = pairs.rows.select_columns(columns)
    names = pairs.rows.features["category"].names
    end = "target" if direction == "forward" else "source"
    batches: Iterator[dict[str, Any]]
    if encoded is not None:
        batches = encoded.batches([rows[start : start + BATCH] for start in range(0, len(rows), BATCH)])
    else:
        batches = load_batches(torch.utils.data.Subset(pairs, rows), workers, batch_size=BATCH)
    for batch in batches:
        on_device = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
        points = predict(matcher, on_device, direction).float().cpu().numpy()
        for k, index in enumerate(batch["index"].tolist()):
            row = annotations[index]
            predicted = points[k][batch["valid"][k].numpy()]
            sizes = {f"{side}_size": batch[f"{side}_size"][k].tolist() for side in ("source", "target")}
            yield {
                **{name: row[name] for name in PREDICTION_SCHEMA.names if name in row},
                "category": names[row["category"]],
                **sizes,
                "predicted_points": pairs.frame.original(predicted, sizes[f"{end}_size"], row["mirrored"]),
                "direction": direction,
            }


def evaluate(
    matcher: Matcher,
    rows: datasets.Dataset,
    path: Path,
    info: PredictionInfo,
    accelerator: Accelerator,
    workers: int = 0,
    features: str = "memory",
    limit: int = LIMIT * MB,
) -> None:
    """Write the predictions of all ``rows`` to ``path``; with several processes each does its chunks.

    Chunks are kept beside ``path`` until all are there, so that an interrupted evaluation goes on where it
    was; every pair is predicted once, and every image encoded once where the model encodes it alone.

    Args:
        matcher: the model.
        rows: the pairs.
        path: of the predictions.
        info: what they are of.
        accelerator: the processes and their device.
        workers: processes that load images.
        features: what becomes of an image's features, see ``benchmark.running.features.MODES``.
        limit: most bytes of them in memory, over all processes of this run.

    Raises:
        InputError: a predicted point is NaN or infinite; nothing of its chunk is kept.
    """
    pairs = PairDataset(rows, matcher.size, matcher.mean, matcher.std, frame=matcher.frame)
    direction: Direction = "forward" if info.direction == "forward" else "backward"
    parts = path.parent / f".{path.stem}-{info.manifest_sha256[:12]}-{(info.images_sha256 or '')[:12]}"
    matcher.to(accelerator.device).eval()
    main, order, encoded = accelerator.is_main_process, list(range(len(rows))), None
    if matcher.encodes_alone:
        encoded = EncodedPairs(
            matcher,
            pairs,
            direction,
            accelerator.device,
            features=features,
            limit=limit // accelerator.num_processes,
            workers=workers,
            quiet=not main,
        )
        order = encoded.order()
    starts = range(0, len(rows), CHUNK)
    chunks = {start: parts / f"{start:08d}.parquet" for start in starts}
    # Those that follow one another see the same images.
    mine = np.array_split(np.asarray(starts), accelerator.num_processes)[accelerator.process_index].tolist()
    if encoded is not None:
        encoded.expect([row for start in mine if not chunks[start].exists() for row in order[start : start + CHUNK]])
    done, total = 0, sum(min(CHUNK, len(rows) - start) for start in mine)
    with bars(quiet=not main) as update:
        for start in mine:
            numbers = order[start : start + CHUNK]
            if not chunks[start].exists():
                predicted = []
                for row in predict_rows(matcher, pairs, numbers, direction, accelerator.device, workers, encoded):
                    predicted.append(row)
                    update(f"{info.dataset}:{info.split}", done + len(predicted), total)
                points = np.concatenate([np.asarray(row["predicted_points"]).reshape(-1, 2) for row in predicted])
                if bad := int((~np.isfinite(points).all(1)).sum()):
                    place = f"{info.dataset}:{info.split}, pairs {min(numbers) + 1} to {max(numbers) + 1}"
                    raise not_finite(matcher, bad, len(points), place)
                write_predictions(chunks[start], predicted, info)
            done += len(numbers)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        predicted_tables = [all_columns(pq.read_table(chunks[start])).cast(PREDICTION_SCHEMA) for start in starts]
        write_predictions(path, pa.concat_tables(predicted_tables).take(np.argsort(order)), info)
        shutil.rmtree(parts)
    accelerator.wait_for_everyone()


# The validation that chooses the best weights: PCK@0.1 under the recipe's protocol, over all processes.


def selection_metric(recipe: Recipe, dataset: str, model: str, size: int) -> Metric:
    """The PCK@0.1 that chooses the best weights of a training.

    >>> print(selection_metric(Recipe(), "spair-71k", "cats", 256))
    pck@0.1/bbox/image
    >>> print(selection_metric(Recipe(validation="paper"), "spair-71k", "cats", 256))
    pck@0.1/bbox@256/image
    """
    known = registry.find(model)
    metrics = bundle(recipe.validation, dataset, model, size, protocol=known.protocol if known else None)
    return next(metric for metric in metrics if metric.alpha == 0.1)


class Validation:
    """Scores a model's present weights on a validation split; call it for the value in percent."""

    def __init__(
        self,
        matcher: Matcher,
        rows: datasets.Dataset,
        metric: Metric,
        dataset: str,
        accelerator: Accelerator,
        workers: int,
    ) -> None:
        self.matcher = matcher
        self.pairs = PairDataset(rows, matcher.size, matcher.mean, matcher.std, frame=matcher.frame)
        self.metric = metric
        self.accelerator = accelerator
        self.workers = workers
        self.info = PredictionInfo(dataset, "validation", "", matcher.size, "", "", matcher.direction)

    def __call__(self) -> float:
        """PCK@0.1 in percent, the same on every process."""
        matcher, process = self.matcher, self.accelerator.process_index
        mine = range(process, len(self.pairs), self.accelerator.num_processes)
        with torch.inference_mode():
            predicted = list(
                predict_rows(matcher, self.pairs, mine, matcher.direction, self.accelerator.device, self.workers)
            )
        if self.accelerator.num_processes > 1:
            predicted = gather_object(predicted)
        return score_metrics(predictions_of(predicted, self.info), [self.metric], draws=1)[str(self.metric)].value
