"""Training: from a recipe and pairs to weights, resumable at any step to the same bits on the CPU."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from baselines.matcher import Matcher
from baselines.recipe import Recipe
from benchmark.memory import peak_memory
from benchmark.progress import bars
from benchmark.run_folder import RunFolder, RunLog
from benchmark.sampling import Batches, ProcessBatches
from sc_imagenet.errors import InputError
from sc_imagenet.files import atomic_path, write_json
from sc_imagenet.pairs import PairDataset, collate_pairs

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
        recipe: optimiser, rates, schedule, batch.
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
            InputError: the loss is not finite.
            KeyboardInterrupt: on SIGINT or SIGTERM, after the state was saved.
        """
        self._resume()
        log = RunLog(self.folder.log, self.position.step) if self.accelerator.is_main_process else None
        loader = DataLoader(
            self.pairs,
            batch_sampler=ProcessBatches(self.batches, self.position.step, self.steps, self.accelerator.process_index),
            collate_fn=collate_pairs,
            num_workers=self.workers,
        )
        start, saved = time.monotonic() - self.position.seconds, time.monotonic()
        quiet = not self.accelerator.is_main_process
        with (
            stop_signals() as stopped,
            bars(quiet=quiet) as update,
        ):
            for batch in loader:
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
                if self.validate and self._validates_after(step):
                    value = self._validate()
                    if log:
                        log.write(step=step, epoch=step / len(self.batches), validation_pck=value)
                        self.accelerator.log({"validation_pck": value}, step)
                note = f"loss {loss:.3f}  best PCK@0.1 {max(self.position.best_value, 0):.1f}"
                update("training", step, self.steps, note)
                if stopped():
                    self._save()
                    raise KeyboardInterrupt
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
        self._finish()

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

    def _validate(self) -> float:
        assert self.validate is not None
        value = self.validate()
        if value > self.position.best_value:
            self.position.best_value, self.position.best_step = value, self.position.step
            self._save_weights(self.folder.best)
        return value

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
        try:
            state = torch.load(self.folder.resume, map_location="cpu", weights_only=True)
        except Exception as error:
            raise InputError(
                "cannot be read", where=self.folder.resume, fix="Remove it to train from the start."
            ) from error
        self.matcher.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if state["scaler"] and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.position = Position(**state["position"])

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


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag, so that a step is finished and saved before the end."""
    received: list[int] = []

    def note(number: int, _: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
