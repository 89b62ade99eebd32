"""The one training loop: from a recipe and what its steps read to weights, resumable to the same bits on the CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn

from baselines.matcher import Matcher
from baselines.recipe import Recipe
from baselines.weights import write_weights
from benchmark.running.encoding import EncodedPairs
from benchmark.running.features import LIMIT, MB
from benchmark.running.folder import (
    RunFolder,
    RunLog,
    peak_memory,
    resume_optimiser,
    resume_weights,
    resuming,
    whole_number,
)
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path, write_json
from sc_imagenet.core.processes import InterruptedAgain, StopRequest, any_process, stop_request
from sc_imagenet.core.progress import Update
from sc_imagenet.data.batches import Batches, ProcessBatches, load_batches
from sc_imagenet.data.pairs import PairDataset

SAVE_SECONDS = 60.0
LOG_STEPS = 10

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": lambda groups, recipe: torch.optim.AdamW(groups, weight_decay=recipe.weight_decay),
    "adam": lambda groups, recipe: torch.optim.Adam(groups, weight_decay=recipe.weight_decay),
    "sgd": lambda groups, recipe: torch.optim.SGD(
        groups, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    ),
}


@dataclass
class Position:
    """How far a training has come."""

    step: int = 0
    best_step: int = 0
    best_value: float = -1.0  # validation PCK in percent
    seconds: float = 0.0
    validated_step: int = 0


class Training:
    """The steps of a training. A child says what a step reads (``batches``) and what is kept at the end (``keep``).

    Args:
        model: what is trained, its starting weights in place; the state of a training holds its weights.
        losses: a step as a forward pass, (batch, epoch from 0) -> losses by name, whose sum is minimised.
        recipe: optimiser, rates, schedule, epochs.
        epoch_steps: steps of an epoch.
        log: where losses are written.
        state: where an unfinished training is kept; one found there is taken up again.
        seed: of every draw of torch in a step.
        max_steps: end after so many steps, whatever the recipe says.
        validate: gives the validation PCK@0.1 in percent of the weights as they are; None for no validation.
        best: where the best weights of a validated training are kept.
    """

    remedy = "Lower the rate (--set recipe.lr=...) or set recipe.clip_gradient."  # of a loss that is not finite

    def __init__(
        self,
        model: nn.Module,
        losses: nn.Module,
        recipe: Recipe,
        epoch_steps: int,
        accelerator: Accelerator,
        *,
        log: Path,
        state: Path,
        seed: int,
        max_steps: int | None = None,
        validate: Callable[[], float] | None = None,
        best: Path | None = None,
    ) -> None:
        self.model, self.recipe, self.epoch_steps, self.accelerator = model, recipe, epoch_steps, accelerator
        self.log, self.state, self.seed, self.validate, self.best = log, state, seed, validate, best
        self.steps = max_steps or recipe.epochs * epoch_steps
        self._frozen_here = frozen_parameters(model, recipe)
        for parameter in self._frozen_here:
            parameter.requires_grad_(False)
        optimiser = OPTIMISERS[recipe.optimiser](parameter_groups(model, recipe), recipe=recipe)
        self.losses, self.optimiser = accelerator.prepare(losses, optimiser)
        self.position = Position()

    def batches(self, start: int) -> Iterator[Any]:
        """What this process reads at each step from ``start`` to the last, on its device."""
        raise NotImplementedError(f"{type(self).__name__} must define batches")

    def share(self, batch: Any) -> float:
        """What a step's gradient in this process is multiplied by, before the mean over all processes is taken."""
        return 1.0

    def begin(self, step: int) -> None:
        """What comes before a step, in every process; the state is never kept between this and the step."""

    def rate(self, step: int) -> float:
        """What every rate is multiplied by at a step."""
        return rate_factor(self.recipe, step, self.epoch_steps, self.steps)

    def remembered(self) -> dict[str, Any]:
        """What the state holds beside weights, optimiser and position: plain values."""
        return {}

    def recall(self, values: Any) -> None:
        """Take up what ``remembered`` gave; see ``resuming``."""

    def end(self) -> None:
        """What comes after the last step, in every process."""

    def keep(self) -> None:
        """Write what a finished training leaves, in the main process."""
        raise NotImplementedError(f"{type(self).__name__} must define keep")

    def run(self, report: Update = lambda what, done, total, note="": None) -> None:
        """Train to the end.

        Raises:
            InputError: the loss is not finite, or a process that loads pairs died.
            KeyboardInterrupt: on SIGINT or SIGTERM, after the state was saved.
        """
        self._resume()
        log = RunLog(self.log, self.position.step) if self.accelerator.is_main_process else None
        with stop_request() as stop:
            try:
                self._take_steps(log, stop, report)
            except InterruptedAgain:
                raise
            except KeyboardInterrupt:  # only ever between two steps
                self._save()
                raise
        self.end()
        if self.accelerator.is_main_process:
            self.keep()
            self.state.unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        for parameter in self._frozen_here:  # a later stage may train them
            parameter.requires_grad_(True)

    def _take_steps(self, log: RunLog | None, stop: StopRequest, report: Update) -> None:
        start, saved = time.monotonic() - self.position.seconds, time.monotonic()
        if self.position.step:  # stopped or killed before it was validated
            self._validate(log, stop)
        for batch in self._read(stop):
            losses = self._step(batch)
            self.position.step += 1
            step = self.position.step
            self.position.seconds = time.monotonic() - start
            if log and (step % LOG_STEPS == 0 or step == self.steps):
                rates = [group["lr"] for group in self.optimiser.param_groups]
                seconds = round(self.position.seconds, 2)
                log.write(step=step, epoch=step / self.epoch_steps, **losses, lr=rates, seconds=seconds)
                self.accelerator.log({**losses, "lr": rates[0]}, step)
            if any_process(bool(stop), self.accelerator):
                raise stop.error()
            if time.monotonic() - saved > SAVE_SECONDS:
                self._save()
                saved = time.monotonic()
            self._validate(log, stop)
            best = f"  best PCK@0.1 {max(self.position.best_value, 0):.1f}" if self.validate else ""
            report("training", step, self.steps, f"loss {sum(losses.values()):.3f}{best}")

    def _read(self, stop: StopRequest) -> Iterator[Any]:
        """What the steps that are left read; a signal does not wait for the next one's."""
        batches = iter(self.batches(self.position.step))
        # Several processes end after the same step, or the others would wait for this one's gradients.
        alone = self.accelerator.num_processes == 1
        while True:
            with stop.at_once() if alone else nullcontext():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _step(self, batch: Any) -> dict[str, float]:
        step = self.position.step
        self.begin(step)
        torch.manual_seed(hash((self.seed, step)) % 2**63)  # dropout and the like, by step
        self.losses.train()
        factor = self.rate(step)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        losses: Mapping[str, Tensor] = self.losses(batch, step // self.epoch_steps)
        values = {name: loss.item() for name, loss in losses.items()}
        total = sum(values.values())
        if not math.isfinite(total):
            raise InputError(f"the loss is {total} at step {step}", where=self.log.parent, fix=self.remedy)
        self.accelerator.backward(sum(losses.values()) * self.share(batch))
        if self.recipe.clip_gradient:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip_gradient)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return values

    def _validates_after(self, step: int) -> bool:
        return step == self.steps or step % (self.recipe.validate_every * self.epoch_steps) == 0

    def _validate(self, log: RunLog | None, stop: StopRequest) -> None:
        """Validate the present weights where it is time to and it was not done; a signal ends it."""
        step = self.position.step
        if self.validate is None or self.position.validated_step == step or not self._validates_after(step):
            return
        with stop.at_once():
            value = self.validate()
        if value > self.position.best_value:
            self.position.best_value, self.position.best_step = value, step
            if self.best is not None and self.accelerator.is_main_process:
                write_weights(self.best, self.model)
        self.position.validated_step = step
        if log:
            log.write(step=step, epoch=step / self.epoch_steps, validation_pck=value)
            self.accelerator.log({"validation_pck": value}, step)

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            state = {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
                "position": asdict(self.position),
                "remembered": self.remembered(),
            }
            with atomic_path(self.state) as temporary:
                torch.save(state, temporary)

    def _resume(self) -> None:
        if not self.state.exists():
            return
        with resuming(self.state) as state:
            if "network" in state:  # as trainings of the cascade left it before they had this loop
                position = {"step": state["step"]}
                state = {**state, "model": state["network"], "scaler": None, "position": position}
            self.position = self._position(state["position"])
            resume_weights(self.model, state["model"])
            resume_optimiser(self.optimiser, state["optimiser"])
            self.recall(state.get("remembered", {}))
            if state["scaler"] and self.accelerator.scaler:
                self.accelerator.scaler.load_state_dict(state["scaler"])

    def _position(self, values: Any) -> Position:
        """The position that a file holds; see ``resuming``."""
        position = Position(**values)
        for name in ("step", "best_step", "validated_step"):
            whole_number(name, getattr(position, name), self.steps)
        for name, least, most in (("best_value", -1.0, 100.0), ("seconds", 0.0, math.inf)):
            value = getattr(position, name)
            if type(value) not in (int, float) or not least <= value <= most or value == math.inf:
                raise ValueError(f"its {name} is {value!r:.40}")
        if position.best_step or position.validated_step:
            if self.best is None:
                raise ValueError("it was validated, which this training is not")
            if not self.best.exists():
                raise ValueError(f"{self.best.name} beside it is gone")
        return position


# A stage of a run: a matcher on pairs.


class MatcherTraining(Training):
    """One stage of a run; it leaves ``best`` and ``last`` in the folder, and the best weights in the matcher.

    Args:
        matcher: the model, its starting weights in place.
        recipe: see ``Training``; also batch, and the arguments of the model that only training reads.
        pairs: the training pairs.
        folder: where checkpoints and the log go.
        validate, max_steps: see ``Training``.
        seed: of the order of pairs, too.
        workers: processes that load pairs; 0 loads in this one.
        features, limit: what becomes of an image's features where the training neither changes the encoder nor the
            images, and the most bytes of them in memory, over all processes; see ``EncodedPairs``.
    """

    def __init__(
        self,
        matcher: Matcher,
        recipe: Recipe,
        pairs: PairDataset,
        folder: RunFolder,
        accelerator: Accelerator,
        *,
        validate: Callable[[], float] | None,
        seed: int,
        max_steps: int | None = None,
        workers: int = 0,
        features: str = "memory",
        limit: int = LIMIT * MB,
    ) -> None:
        self.matcher, self.pairs, self.folder, self.workers = matcher, pairs, folder, workers
        self.features, self.limit = features, limit // accelerator.num_processes
        matcher.set_training_arguments(recipe.model)
        self._batches = Batches(len(pairs), recipe.batch, seed, accelerator.num_processes)
        super().__init__(
            matcher,
            StepLoss(matcher, recipe),
            recipe,
            len(self._batches),
            accelerator,
            log=folder.log,
            state=folder.resume,
            seed=seed,
            max_steps=max_steps,
            validate=validate,
            best=folder.best,
        )

    def run(self, report: Update = lambda what, done, total, note="": None) -> None:
        """Train to the end, see ``Training``."""
        super().run(report)
        self.matcher.load_state_dict(load_file(self.folder.best))

    def batches(self, start: int) -> Iterator[dict[str, Tensor]]:
        """This process's pairs of each step, collated."""
        share = ProcessBatches(self._batches, start, self.steps, self.accelerator.process_index)
        if self.features != "off" and self._encodes_once():
            yield from self._encoded(share)
            return
        for batch in load_batches(self.pairs, self.workers, batch_sampler=share):
            yield {key: value.to(self.accelerator.device, non_blocking=True) for key, value in batch.items()}

    def _encodes_once(self) -> bool:
        """Whether an image's features are the same at every step."""
        plain = self.recipe.augmentation == "none" and self.accelerator.mixed_precision == "no"
        self.losses.train()
        return plain and self.matcher.trains_on_features and encoder_is_frozen(self.matcher)

    def _encoded(self, share: ProcessBatches) -> Iterator[dict[str, Any]]:
        encoded = EncodedPairs(
            self.matcher,
            self.pairs,
            self.matcher.direction,
            self.accelerator.device,
            features=self.features,
            limit=self.limit,
            workers=self.workers,
            quiet=not self.accelerator.is_main_process,
        )
        epoch = islice(share, self.epoch_steps)
        rows = ([row for _, row in step] for step in share)
        for batch in encoded.batches(rows, ahead=([row for _, row in step] for step in epoch)):
            yield {
                key: value.to(self.accelerator.device) if isinstance(value, Tensor) else value
                for key, value in batch.items()
            }

    def share(self, batch: Mapping[str, Tensor]) -> float:
        """By the pairs of each process, which differ where a batch does not divide evenly."""
        epoch, within = divmod(self.position.step, self.epoch_steps)
        return len(batch["valid"]) * self.accelerator.num_processes / len(self._batches.epoch(epoch)[within])

    def keep(self) -> None:
        """Write the last weights, the best ones where none were validated, and a summary."""
        write_weights(self.folder.last, self.matcher)
        if self.validate is None:
            self.position.best_step = self.position.step
            write_weights(self.folder.best, self.matcher)
        write_json(self.folder.trained, {**asdict(self.position), "peak_memory": peak_memory()})


class StepLoss(nn.Module):
    """A matcher's training step as a forward pass, so that several processes share the gradients of all its passes."""

    def __init__(self, matcher: Matcher, recipe: Recipe) -> None:
        super().__init__()
        self.matcher, self.recipe = matcher, recipe

    def train(self, mode: bool = True) -> StepLoss:
        """Batch normalisation of the backbone stays in evaluation mode where the recipe says so."""
        super().train(mode)
        if self.matcher.backbone is not None and self.recipe.backbone_batchnorm == "eval":
            self.matcher.backbone.eval()
        return self

    def forward(self, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        """The loss of one step."""
        return {"loss": self.matcher.training_loss(batch, epoch)}


# What a recipe makes of a model's parameters, and of its rates.


def encoder_is_frozen(matcher: Matcher) -> bool:
    """Whether a model, set up for training, encodes an image in the same way at every step."""
    parts = [
        part for name, part in matcher.named_modules() if name and not f"{name}.".startswith(matcher.match_weights)
    ]
    weights = [each for name, each in matcher.named_parameters() if not name.startswith(matcher.match_weights)]
    return not any(part.training for part in parts) and not any(each.requires_grad for each in weights)


def frozen_parameters(model: nn.Module, recipe: Recipe) -> list[nn.Parameter]:
    """The parameters that could be trained but that the recipe leaves as they are."""
    frozen = (*recipe.frozen, "backbone.") if recipe.backbone_lr == 0 else recipe.frozen
    return [p for name, p in model.named_parameters() if p.requires_grad and name.startswith(tuple(frozen))]


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Two groups, head and ``backbone``, each with its rate kept as ``base_lr``; what is frozen is in none."""
    backbone = getattr(model, "backbone", None)
    of_backbone = {id(p) for p in backbone.parameters()} if backbone is not None else set()
    groups = []
    for rate, inside in ((recipe.lr, False), (recipe.backbone_lr, True)):
        parameters = [p for p in model.parameters() if p.requires_grad and (id(p) in of_backbone) == inside]
        if parameters:
            groups.append({"params": parameters, "lr": rate, "base_lr": rate})
    if not groups:
        raise InputError(f"{type(model).__name__} has nothing to train", fix="Leave --finetune and --pretrain out.")
    return groups


def rate_factor(recipe: Recipe, step: int, steps_per_epoch: int, steps: int) -> float:
    """What every rate is multiplied by at ``step``.

    >>> rate_factor(Recipe(milestones=(1, 2)), step=25, steps_per_epoch=10, steps=100)
    0.25
    """
    factor = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    if recipe.schedule == "cosine":
        return factor * 0.5 * (1 + math.cos(math.pi * step / steps))
    if recipe.schedule == "one-cycle":
        return factor * one_cycle(step, steps)
    return factor * recipe.gamma ** sum(step // steps_per_epoch >= epoch for epoch in recipe.milestones)


RISE, FIRST, LAST = 0.3, 1 / 25, 1 / 25e4  # share of the steps in which rates rise; shares of the rate at both ends


def one_cycle(step: int, steps: int) -> float:
    """The rates of torch's ``OneCycleLR`` at its defaults, as a share of the largest; momentum stays as it is.

    >>> round(one_cycle(0, 100), 6), round(one_cycle(29, 100), 6), round(one_cycle(99, 100) * 25e4, 6)
    (0.04, 1.0, 1.0)
    """
    top = max(RISE * steps - 1, 1)
    if step <= top:
        start, end, part = FIRST, 1.0, step / top
    else:
        start, end, part = 1.0, LAST, min((step - top) / max(steps - 1 - top, 1), 1)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * part))
