"""``scbench speed``: what a forward pass and a training step cost, beside the bare backbone on the same pair."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn

from baselines import registry
from baselines.matcher import Matcher
from baselines.recipe import Recipe, override, with_backbone
from baselines.registry import find_recipe
from benchmark.running.check import warped_pairs
from benchmark.running.folder import process_memory
from benchmark.running.loop import StepLoss, frozen_parameters
from sc_imagenet.backbones.backbone import Backbone
from sc_imagenet.backbones.named import is_of_timm
from sc_imagenet.backbones.pretrained import create_network
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.processes import keep_freed_memory

PRECISIONS = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}
WARM_UP = 2  # passes before the clock is read; compilation happens there
POINTS = 12  # of a pair


@dataclass(frozen=True)
class Setup:
    """What is measured, and how; the fields are the options of ``scbench speed``."""

    model: str
    preset: str = "paper"
    data: str = "spair-71k"  # whose recipe is taken
    backbone: str | None = None
    device: str = "cpu"
    precision: str = "no"
    compiled: bool = False
    threads: int = 2
    batch: int = 1
    rounds: int = 5
    settings: Mapping[str, str] = field(default_factory=dict)  # of the recipe, as 'scbench run --set' takes them


@dataclass(frozen=True)
class Cost:
    """The cost of one pass."""

    what: str  # "model", "its backbone", "whole network"
    mode: str  # "forward", "encode" and "match" (of features to points) of a model that has them, or "step"
    seconds: float  # median of the rounds
    fastest: float
    slowest: float
    peak_memory: int  # bytes; on the CPU of a process that did nothing else, forked from one that had imported all


@dataclass(frozen=True)
class Speed:
    """All costs of a model, and how far its points move against float32 without compilation."""

    setup: Setup
    device: str
    backbone: str | None
    trains_backbone: bool
    costs: tuple[Cost, ...]
    moved_mean: float  # pixels of the model's frame
    moved_most: float


class Passes:
    """The model, its backbone alone and the whole network it is taken from, on one batch of made pairs.

    A step is forward, loss and backward; the optimiser, the same for everyone, is left out. A backbone that
    the recipe freezes is run forward only.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        torch.manual_seed(0)
        card = registry.card(setup.model)
        self.recipe: Recipe = override(find_recipe(card.name, setup.data, setup.preset), setup.settings)
        arguments = {**with_backbone(self.recipe.model, setup.backbone), "pretrained": False}
        self.matcher: Matcher = registry.create(card.name, **arguments).to(setup.device)
        for parameter in frozen_parameters(self.matcher, self.recipe):
            parameter.requires_grad_(False)
        batch = warped_pairs(self.matcher, setup.batch, POINTS, torch.Generator().manual_seed(0))
        self.batch = {key: value.to(setup.device) for key, value in batch.items()}
        self.name = arguments.get("backbone", card.backbone) if self.matcher.backbone is not None else None
        # A model may have a backbone for each image or each of its networks: one of them, and both images.
        self.backbone = next((part for part in self.matcher.modules() if isinstance(part, Backbone)), None)
        parameters = list(self.backbone.parameters()) if self.backbone is not None else []
        self.trains_backbone = any(parameter.requires_grad for parameter in parameters)

    def kinds(self) -> list[tuple[str, str]]:
        """What can be run, and in which mode."""
        parts = ["model"] if self.name is None else ["model", "its backbone"]
        parts += ["whole network"] if self.name is not None and is_of_timm(self.name) else []
        modes = ["forward", "step"] if is_trained(self.matcher) else ["forward"]
        halves = [("model", "encode"), ("model", "match")] if self.matcher.encodes_alone else []
        return [(what, mode) for mode in modes for what in parts] + halves

    def pass_of(self, what: str, mode: str) -> Callable[[], None]:
        """One of ``kinds`` as a function; only what it needs is built."""
        if what == "model":
            parts = {"step": self._model_step, "encode": self._encode, "match": self._match}
            return parts[mode]() if mode in parts else self._forward(self.matcher)
        if what == "its backbone":
            module: Any = self.backbone
        else:
            module = create_network(str(self.name), False, self.matcher.size).to(self.setup.device)
        trained = mode == "step" and self.trains_backbone
        return self._bare_step(module) if trained else self._forward(module)

    def _compiled(self, module: Any) -> Any:
        return torch.compile(module) if self.setup.compiled else module

    def _autocast(self) -> torch.autocast:
        kind = PRECISIONS[self.setup.precision]
        return torch.autocast(self.setup.device, dtype=kind or torch.bfloat16, enabled=kind is not None)

    def _forward(self, module: nn.Module) -> Callable[[], None]:
        call = self._compiled(module)
        pair = self.batch["source"], self.batch["target"]
        inputs = [pair] if isinstance(module, Matcher) else [(image,) for image in pair]

        def run() -> None:
            module.eval()
            with torch.no_grad(), self._autocast():
                for images in inputs:
                    call(*images)

        return run

    def _encode(self) -> Callable[[], None]:
        """Both images of every pair to their features."""
        call = self._compiled(self.matcher.features)

        def run() -> None:
            self.matcher.eval()
            with torch.no_grad(), self._autocast():
                call(self.batch["source"], self.batch["target"])

        return run

    def _match(self) -> Callable[[], None]:
        """Features of the pairs, which are there, to the places of their points."""
        call = self._compiled(self.matcher.match)
        points = self._points()
        with torch.no_grad(), self._autocast():
            features = self.matcher.eval().features(self.batch["source"], self.batch["target"])

        def run() -> None:
            with torch.no_grad(), self._autocast():
                self.matcher.transfer(call(*features), points)

        return run

    def _model_step(self) -> Callable[[], None]:
        step = StepLoss(self.matcher, self.recipe)
        call = self._compiled(step)

        def run() -> None:
            step.train()
            with self._autocast():
                loss = call(self.batch, 0)["loss"]
            loss.backward()
            self.matcher.zero_grad()

        return run

    def _bare_step(self, module: nn.Module) -> Callable[[], None]:
        call = self._compiled(module)

        def run() -> None:
            module.train(self.recipe.backbone_batchnorm == "train")
            total = torch.zeros((), device=self.setup.device)
            with self._autocast():
                for image in (self.batch["source"], self.batch["target"]):
                    maps = call(image)
                    for features in maps if isinstance(maps, list) else [maps]:
                        total = total + features.float().mean()
            total.backward()
            module.zero_grad()

        return run

    @torch.no_grad()
    def carried(self, as_set_up: bool) -> Tensor:
        """Where the points go, (B, K, 2): with the precision and compilation asked for, or without both."""
        matcher = self.matcher.eval()
        call = self._compiled(matcher) if as_set_up else matcher
        with torch.autocast(self.setup.device, enabled=False) if not as_set_up else self._autocast():
            return matcher.transfer(call(self.batch["source"], self.batch["target"]), self._points())

    def _points(self) -> Tensor:
        return self.batch["source_points" if self.matcher.direction == "forward" else "target_points"]


def measure(setup: Setup) -> Speed:
    """Measure the passes of a model in turn, so that a busy machine slows all of them alike.

    Raises:
        InputError: unknown model, precision or device, or no compiler for it.
    """
    _check(setup)
    before = torch.get_num_threads()
    torch.set_num_threads(setup.threads)
    try:
        return _measured(setup)
    finally:
        torch.set_num_threads(before)


def _measured(setup: Setup) -> Speed:
    passes = Passes(setup)
    memory = {} if setup.device == "cuda" else {key: _memory_alone(setup, key) for key in passes.kinds()}
    runs = {key: passes.pass_of(*key) for key in passes.kinds()}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for turn in range(WARM_UP + setup.rounds):
        for key, run in runs.items():
            if setup.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds = _timed(run, setup.device)
            if turn >= WARM_UP:
                times[key].append(seconds)
            elif setup.device == "cuda":  # the last of these: compilation takes memory of its own
                memory[key] = torch.cuda.max_memory_allocated()
    costs = tuple(
        Cost(what, mode, statistics.median(taken), min(taken), max(taken), memory[what, mode])
        for (what, mode), taken in times.items()
    )
    moved = (passes.carried(True).float() - passes.carried(False).float()).norm(dim=-1)
    name = torch.cuda.get_device_name() if setup.device == "cuda" else f"CPU, {setup.threads} threads"
    return Speed(setup, name, passes.name, passes.trains_backbone, costs, moved.mean().item(), moved.max().item())


def is_trained(matcher: Matcher) -> bool:
    """Whether a model has a loss."""
    return type(matcher).loss is not Matcher.loss or type(matcher).training_loss is not Matcher.training_loss


def _check(setup: Setup) -> None:
    if setup.precision not in PRECISIONS:
        raise unknown_name("precision", setup.precision, PRECISIONS)
    if setup.device == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device on this machine", fix="Leave --device out.")
    if setup.device not in ("cpu", "cuda"):
        raise unknown_name("device", setup.device, ("cpu", "cuda"))
    for name in ("threads", "batch", "rounds"):
        if getattr(setup, name) < 1:
            raise InputError(f"--{name} {getattr(setup, name)} is less than 1")


def _timed(run: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _memory_alone(setup: Setup, key: tuple[str, str]) -> int:
    """Peak memory of a pass in a process of its own, which nothing else has filled."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])  # torch is imported once for all passes
    with ProcessPoolExecutor(1, mp_context=context, initializer=keep_freed_memory) as alone:
        return alone.submit(_memory_of_pass, setup, key).result()


def _memory_of_pass(setup: Setup, key: tuple[str, str]) -> int:
    torch.set_num_threads(setup.threads)
    Passes(setup).pass_of(*key)()
    return process_memory()
