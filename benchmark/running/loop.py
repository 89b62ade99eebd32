"""Training: from a recipe and pairs to weights, resumable at any step to the same bits on the CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor

from baselines.matcher import Matcher
from baselines.recipe import Recipe
from benchmark.running.folder import RunFolder, RunLog, peak_memory
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path, write_json
from sc_imagenet.core.processes import Hurried, StopRequest, any_process, stop_request
from sc_imagenet.core.progress import bars
from sc_imagenet.data.batches import Batches, ProcessBatches, load_batches
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.data.resuming import resume_optimiser, resume_weights, resuming, whole_number

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


class StepLoss(torch.nn.Module):
    """A training step as a forward pass, so that several processes share the gradients of all its passes."""

    def __init__(self, matcher: Matcher) -> None:
        super().__init__()
        self.matcher = matcher

    def forward(self, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """The loss of one step."""
        return self.matcher.training_loss(batch, epoch)


class Training:
    """One stage of a run.

    Args:
        matcher: the model, its starting weights in place.
        recipe: optimiser, rates, schedule, batch, and the arguments of the model that only training reads.
        pairs: the training pairs.
        folder: where checkpoints and the log go; a training found there is taken up again.
        validate: gives the validation PCK@0.1 in percent of the weights as they are; None for no validation.
        seed: of the order of pairs and of every draw.
        max_steps: end after so many steps, whatever the recipe says.
        workers: processes that load pairs; 0 loads in this one.
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
    ) -> None:
        self.matcher, self.recipe, self.pairs, self.folder = matcher, recipe, pairs, folder
        matcher.set_training_arguments(recipe.model)
        self.accelerator, self.validate, self.seed, self.workers = accelerator, validate, seed, workers
        self.batches = Batches(len(pairs), recipe.batch, seed, accelerator.num_processes)
        self.steps = max_steps or recipe.epochs * len(self.batches)
        self._frozen_here = frozen_parameters(matcher, recipe)
        for parameter in self._frozen_here:
            parameter.requires_grad_(False)
        optimiser = OPTIMISERS[recipe.optimiser](parameter_groups(matcher, recipe), recipe=recipe)
        self.step_loss, self.optimiser = accelerator.prepare(StepLoss(matcher), optimiser)
        self.position = Position()

    def run(self) -> None:
        """Train to the end and leave ``best`` and ``last`` in the folder.

        Raises:
            InputError: the loss is not finite, or a process that loads pairs died.
            KeyboardInterrupt: on SIGINT or SIGTERM, after the state was saved.
        """
        self._resume()
        log = RunLog(self.folder.log, self.position.step) if self.accelerator.is_main_process else None
        with stop_request() as stop:
            try:
                self._take_steps(log, stop)
            except Hurried:
                raise
            except KeyboardInterrupt:  # only ever between two steps
                self._save()
                raise
        self._finish()

    def _take_steps(self, log: RunLog | None, stop: StopRequest) -> None:
        start, saved = time.monotonic() - self.position.seconds, time.monotonic()
        if self.position.step:  # stopped or killed before it was validated
            self._validate(log, stop)
        with bars(quiet=not self.accelerator.is_main_process) as update:
            for batch in self._batches(stop):
                loss = self._step(batch)
                self.position.step += 1
                step = self.position.step
                self.position.seconds = time.monotonic() - start
                if log and (step % LOG_STEPS == 0 or step == self.steps):
                    rates = [group["lr"] for group in self.optimiser.param_groups]
                    log.write(
                        step=step,
                        epoch=step / len(self.batches),
                        loss=loss,
                        lr=rates,
                        seconds=round(self.position.seconds, 2),
                    )
                    self.accelerator.log({"loss": loss, "lr": rates[0]}, step)
                if any_process(bool(stop), self.accelerator):
                    raise stop.error()
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
                self._validate(log, stop)
                note = f"loss {loss:.3f}  best PCK@0.1 {max(self.position.best_value, 0):.1f}"
                update("training", step, self.steps, note)

    def _batches(self, stop: StopRequest) -> Iterator[dict[str, Tensor]]:
        """The batches that are left; a signal does not wait for the next one."""
        share = ProcessBatches(self.batches, self.position.step, self.steps, self.accelerator.process_index)
        batches = load_batches(self.pairs, self.workers, batch_sampler=share)
        # Several processes end after the same step, or the others would wait for this one's gradients.
        alone = self.accelerator.num_processes == 1
        while True:
            with stop.at_once() if alone else nullcontext():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _step(self, batch: dict[str, Any]) -> float:
        torch.manual_seed(hash((self.seed, self.position.step)) % 2**63)  # dropout and the like, by step
        self.matcher.train()
        if self.matcher.backbone is not None and self.recipe.backbone_batchnorm == "eval":
            self.matcher.backbone.eval()
        factor = rate_factor(self.recipe, self.position.step, len(self.batches), self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        batch = {key: value.to(self.accelerator.device, non_blocking=True) for key, value in batch.items()}
        epoch, within = divmod(self.position.step, len(self.batches))
        loss = self.step_loss(batch, epoch)
        value = loss.item()
        if not math.isfinite(value):
            raise InputError(
                f"the loss is {value} at step {self.position.step}",
                where=self.folder.path,
                fix="Lower the rate (--set recipe.lr=...) or set recipe.clip_gradient.",
            )
        share = len(batch["valid"]) * self.accelerator.num_processes / len(self.batches.epoch(epoch)[within])
        self.accelerator.backward(loss * share)
        if self.recipe.clip_gradient:
            self.accelerator.clip_grad_norm_(self.matcher.parameters(), self.recipe.clip_gradient)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return value

    def _validates_after(self, step: int) -> bool:
        return step == self.steps or step % (self.recipe.validate_every * len(self.batches)) == 0

    def _validate(self, log: RunLog | None, stop: StopRequest) -> None:
        """Validate the present weights where it is time to and it was not done; a signal ends it."""
        step = self.position.step
        if self.validate is None or self.position.validated_step == step or not self._validates_after(step):
            return
        with stop.at_once():
            value = self.validate()
        if value > self.position.best_value:
            self.position.best_value, self.position.best_step = value, step
            self._save_weights(self.folder.best)
        self.position.validated_step = step
        if log:
            log.write(step=step, epoch=step / len(self.batches), validation_pck=value)
            self.accelerator.log({"validation_pck": value}, step)

    def _save_weights(self, path: Any) -> None:
        if self.accelerator.is_main_process:
            with atomic_path(path) as temporary:
                save_file({k: v.contiguous() for k, v in self.matcher.state_dict().items()}, temporary)

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            state = {
                "model": self.matcher.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
                "position": asdict(self.position),
            }
            with atomic_path(self.folder.resume) as temporary:
                torch.save(state, temporary)

    def _resume(self) -> None:
        if not self.folder.resume.exists():
            return
        with resuming(self.folder.resume) as state:
            self.position = self._position(state["position"])
            resume_weights(self.matcher, state["model"])
            resume_optimiser(self.optimiser, state["optimiser"])
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
        if (position.best_step or position.validated_step) and not self.folder.best.exists():
            raise ValueError(f"{self.folder.best.name} beside it is gone")
        return position

    def _finish(self) -> None:
        self._save_weights(self.folder.last)
        if self.validate is None:
            self.position.best_step = self.position.step
            self._save_weights(self.folder.best)
        if self.accelerator.is_main_process:
            write_json(self.folder.trained, {**asdict(self.position), "peak_memory": peak_memory()})
            self.folder.resume.unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        self.matcher.load_state_dict(load_file(self.folder.best))
        for parameter in self._frozen_here:  # a later stage may train them
            parameter.requires_grad_(True)


def frozen_parameters(matcher: Matcher, recipe: Recipe) -> list[torch.nn.Parameter]:
    """The parameters that could be trained but that the recipe leaves as they are."""
    frozen = (*recipe.frozen, "backbone.") if recipe.backbone_lr == 0 else recipe.frozen
    return [p for name, p in matcher.named_parameters() if p.requires_grad and name.startswith(tuple(frozen))]


def parameter_groups(matcher: Matcher, recipe: Recipe) -> list[dict[str, Any]]:
    """Two groups, head and backbone, each with its rate kept as ``base_lr``; what is frozen is in none."""
    of_backbone = {id(p) for p in matcher.backbone.parameters()} if matcher.backbone is not None else set()
    groups = []
    for rate, inside in ((recipe.lr, False), (recipe.backbone_lr, True)):
        parameters = [p for p in matcher.parameters() if p.requires_grad and (id(p) in of_backbone) == inside]
        if parameters:
            groups.append({"params": parameters, "lr": rate, "base_lr": rate})
    if not groups:
        raise InputError(f"{type(matcher).__name__} has nothing to train", fix="Leave --finetune and --pretrain out.")
    return groups


def rate_factor(recipe: Recipe, step: int, steps_per_epoch: int, steps: int) -> float:
    """What every rate is multiplied by at ``step``.

    >>> rate_factor(Recipe(milestones=(1, 2)), step=25, steps_per_epoch=10, steps=100)
    0.25
    """
    factor = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    if recipe.schedule == "cosine":
        return factor * 0.5 * (1 + math.cos(math.pi * step / steps))
    return factor * recipe.gamma ** sum(step // steps_per_epoch >= epoch for epoch in recipe.milestones)
