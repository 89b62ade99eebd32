"""The validation that chooses the best weights: PCK@0.1 under the recipe's protocol, over all processes."""

from __future__ import annotations

import datasets
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from baselines.matcher import Matcher
from baselines.recipe import Recipe
from benchmark.running.evaluation import predict_rows
from benchmark.scoring.bundles import bundle
from benchmark.scoring.pck import Metric, score
from benchmark.scoring.prediction_files import predictions_of
from benchmark.scoring.predictions import PredictionInfo
from sc_imagenet.data.pairs import PairDataset


def selection_metric(recipe: Recipe, dataset: str, model: str, size: int) -> Metric:
    """The PCK@0.1 that chooses the best weights of a training.

    >>> print(selection_metric(Recipe(), "spair-71k", "cats", 256))
    pck@0.1/bbox/image
    >>> print(selection_metric(Recipe(validation="paper"), "spair-71k", "cats", 256))
    pck@0.1/bbox@256/image
    """
    return next(metric for metric in bundle(recipe.validation, dataset, model, size) if metric.alpha == 0.1)


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
        self.pairs = PairDataset(rows, matcher.size, matcher.mean, matcher.std, keep_aspect=matcher.keep_aspect)
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
        return score(predictions_of(predicted, self.info), [self.metric], draws=1)[str(self.metric)].value
