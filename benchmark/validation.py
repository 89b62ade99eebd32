"""The validation that chooses the best weights: PCK@0.1 by the data set's strict protocol, over all processes."""

from __future__ import annotations

import datasets
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from baselines.matcher import Matcher
from benchmark.evaluation import predict_rows
from benchmark.pck import score
from benchmark.predictions import PredictionInfo, predictions_of
from benchmark.protocols import strict
from sc_imagenet.pairs import PairDataset


class Validation:
    """Scores a model's present weights on a validation split; call it for the value in percent."""

    def __init__(
        self, matcher: Matcher, rows: datasets.Dataset, dataset: str, accelerator: Accelerator, workers: int
    ) -> None:
        self.matcher = matcher
        self.pairs = PairDataset(rows, matcher.size, matcher.mean, matcher.std, keep_aspect=matcher.keep_aspect)
        self.metric = next(metric for metric in strict(dataset) if metric.alpha == 0.1)
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
        return score(predictions_of(predicted, self.info), [self.metric], draws=1)[str(self.metric)].value
