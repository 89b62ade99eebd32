"""Training the cascaded network on photographs with class names, resumable at any step to the same bits.

<out>/log.jsonl                  losses by step
<out>/options.json               what it was trained with
<out>/resume.pt                  weights, optimiser and step, while it runs
<out>/model/                     the trained network: config.json and model.safetensors, as ``--checkpoint`` takes it
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sc_imagenet.errors import InputError
from sc_imagenet.files import atomic_path, read_json, sha256_of, write_json
from sc_imagenet.generation.cascade_loss import TrainingPairs, cascade_losses, warp_loss
from sc_imagenet.generation.generator import Generator
from sc_imagenet.generation.photographs import Scan, scan
from sc_imagenet.generation.saliency import open_saliency
from sc_imagenet.generation.training_options import TrainingOptions
from sc_imagenet.generation.training_pairs import PairSampler
from sc_imagenet.generation.view_features import ViewFeatures, Views, draw_numbers
from sc_imagenet.locks import held
from sc_imagenet.stopping import StopRequest, any_process, stop_request

SAVE_SECONDS = 60.0
LOG_STEPS = 10
FEWEST_IMAGES = 2  # of a class: a pair

Report = Callable[[str, int, int, str], None]  # (what, done, of how many, note)


def train(
    options: TrainingOptions,
    photographs_root: Path | str,
    out: Path | str,
    *,
    features: Path | None = None,
    max_steps: int | None = None,
    accelerator: Accelerator | None = None,
    report: Report = lambda what, done, total, note: None,
) -> Path:
    """Train a network; one that is finished is not trained again, one that was interrupted goes on.

    Args:
        options: everything the weights depend on, beside the photographs.
        photographs_root: ``<folder>/<class>/<image>``; only the folders' names are known of an image.
        out: folder of this training.
        features: where features of views are kept; None: below ``out``. Trainings may share it.
        max_steps: end after so many steps.
        accelerator: device and processes; None makes one.
        report: shows progress.

    Returns:
        The folder of the trained network.

    Raises:
        InputError: no photographs to train on, another training or process in ``out``, or a loss that is not finite.
        KeyboardInterrupt: on SIGINT or SIGTERM, after the state was saved.
    """
    out = Path(out)
    accelerator = accelerator or Accelerator()
    with held(out, "training") if accelerator.is_main_process else nullcontext():
        return _train(options, photographs_root, out, features or out / "features", max_steps, accelerator, report)


def _train(
    options: TrainingOptions,
    photographs_root: Path | str,
    out: Path,
    features: Path,
    max_steps: int | None,
    accelerator: Accelerator,
    report: Report,
) -> Path:
    model = out / "model"
    _claim(out, {**options.as_dict(), "max_steps": max_steps}, accelerator)
    if (model / "model.safetensors").exists():
        return model
    photographs = scan(
        photographs_root, fewest=FEWEST_IMAGES, report=lambda done, total: report("photographs", done, total, "")
    )
    torch.manual_seed(options.seed)
    generator = Generator(options.backbone, options.layers, options.size, options.pretrained, options.network)
    generator.to(accelerator.device)
    views = _views(options, photographs, generator, features, accelerator, report)
    training = CascadeTraining(options, views, generator, out, accelerator, max_steps)
    training.run(report)
    if accelerator.is_main_process:
        generator.save(model)
        (out / "resume.pt").unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return model


def _claim(out: Path, wanted: dict[str, Any], accelerator: Accelerator) -> None:
    path = out / "options.json"
    if path.exists():
        if read_json(path) != json.loads(json.dumps(wanted)):
            raise InputError("holds a training with other options", where=out, fix="Give another --out.")
    elif accelerator.is_main_process:
        write_json(path, wanted)


def _views(
    options: TrainingOptions,
    photographs: Scan,
    generator: Generator,
    folder: Path,
    accelerator: Accelerator,
    report: Report,
) -> ViewFeatures:
    weights = sha256_of(options.pretrained) if isinstance(options.pretrained, str) else str(options.pretrained)
    if options.pretrained is False:
        weights = f"random {options.seed}"
    reader = generator.backbone
    identity = f"{options.backbone} {weights} {reader.backbone.layers} {options.size}"
    with accelerator.main_process_first():
        return ViewFeatures(
            photographs,
            reader,
            identity,
            open_saliency(options.saliency),
            options.views,
            0,  # not of the training's seed: trainings of several seeds share the files
            folder,
            lambda done, total: report("features", done, total, ""),
        )


class CascadeStep(nn.Module):
    """A training step as a forward pass, so that several processes share the gradients of all its passes."""

    def __init__(self, generator: Generator, options: TrainingOptions) -> None:
        super().__init__()
        self.network, self.options = generator.network, options

    def forward(self, pairs: TrainingPairs, warps: tuple[Views, Views] | None, seed: int) -> dict[str, Tensor]:
        """Losses by name."""
        losses = dict(cascade_losses(self.network, pairs, self.options))
        if warps is not None:
            draw = torch.Generator().manual_seed(seed)
            placements = warps[0].placements, warps[1].placements
            losses["warp"] = warp_loss(
                self.network, warps[0].features, warps[1].features, placements, self.options, draw
            )
        return losses


class CascadeTraining:
    """The steps of a training.

    Args:
        options: rates, batch, epochs.
        views: features of the photographs.
        generator: its network is trained.
        out: where the log and the state go; a state found there is taken up.
        accelerator: device and processes.
        max_steps: end after so many steps.
    """

    def __init__(
        self,
        options: TrainingOptions,
        views: ViewFeatures,
        generator: Generator,
        out: Path,
        accelerator: Accelerator,
        max_steps: int | None = None,
    ) -> None:
        self.options, self.views, self.generator = options, views, generator
        self.out, self.accelerator = out, accelerator
        processes = accelerator.num_processes
        self.sampler = PairSampler(views.classes, max(2, options.batch // processes), options.seed)
        self.epoch_steps = max(1, len(self.sampler.epoch(0)) // processes)
        self.steps = max_steps or options.epochs * self.epoch_steps
        parameters = generator.network.parameters()
        optimiser: torch.optim.Optimizer
        if options.optimiser == "sgd":
            optimiser = torch.optim.SGD(
                parameters, options.lr, momentum=options.momentum, weight_decay=options.weight_decay
            )
        else:
            optimiser = torch.optim.AdamW(parameters, options.lr, weight_decay=options.weight_decay)
        self.module, self.optimiser = accelerator.prepare(CascadeStep(generator, options), optimiser)
        self.step = 0
        self._batches: tuple[int, list[np.ndarray]] = (-1, [])

    def run(self, report: Report) -> None:
        """Train to the end.

        Raises:
            InputError: the loss is not finite.
            KeyboardInterrupt: on SIGINT or SIGTERM, after the state was saved.
        """
        self._resume()
        with stop_request() as stop:
            self._take_steps(report, stop)

    def _take_steps(self, report: Report, stop: StopRequest) -> None:
        saved = time.monotonic()
        while self.step < self.steps:
            losses = self._take_step()
            self.step += 1
            total = sum(losses.values())
            if not math.isfinite(total):
                raise InputError(f"the loss is {total} at step {self.step}", where=self.out, fix="Lower the rate.")
            if self.accelerator.is_main_process and (self.step % LOG_STEPS == 0 or self.step == self.steps):
                line = {"step": self.step, "epoch": self.step / self.epoch_steps, **losses}
                with open(self.out / "log.jsonl", "a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")
            report("training", self.step, self.steps, f"loss {total:.3f}")
            if any_process(bool(stop), self.accelerator):
                self.save()
                raise stop.error()
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()

    def _take_step(self) -> dict[str, float]:
        factor = rate_factor(self.step, self.steps, self.options.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.lr * factor
        process = self.accelerator.process_index
        draw = np.random.default_rng([self.options.seed, self.step, process])
        pairs = self._pairs(draw)
        warps = self._warps(draw, len(pairs.source_saliency)) if self._takes_warps else None
        losses = self.module(pairs, warps, int(draw.integers(2**62)))
        self.accelerator.backward(sum(losses.values()))
        self.optimiser.step()
        self.optimiser.zero_grad()
        return {name: loss.item() for name, loss in losses.items()}

    @property
    def _takes_warps(self) -> bool:
        pixel = self.options.network.stages == "pixel"
        return pixel and self.options.warp_weight > 0 and self.options.views > 2

    def _pairs(self, draw: np.random.Generator) -> TrainingPairs:
        epoch, within = divmod(self.step, self.epoch_steps)
        if self._batches[0] != epoch:
            self._batches = epoch, self.sampler.epoch(epoch)
        place = within * self.accelerator.num_processes + self.accelerator.process_index
        batch = self._batches[1][place % len(self._batches[1])]
        numbers = draw_numbers(draw, len(batch), self.options.views)
        source, target = (
            self.views.read(batch[:, side].tolist(), numbers[:, side].tolist(), self.accelerator.device)
            for side in (0, 1)
        )
        return TrainingPairs(source.features, target.features, source.saliency, target.saliency)

    def _warps(self, draw: np.random.Generator, count: int) -> tuple[Views, Views]:
        """Two views of the same images, a half as many as there are pairs."""
        images = draw.integers(0, len(self.views.classes), max(1, count // 2))
        # The whole image, or the first mirrored view if there is another one to go with it.
        first = draw.integers(0, 2 if self.options.views > 3 else 1, len(images))
        second = first + 2 * draw.integers(1, (self.options.views - first + 1) // 2)
        device = self.accelerator.device
        seen = images.tolist()
        return self.views.read(seen, first.tolist(), device), self.views.read(seen, second.tolist(), device)

    def save(self) -> None:
        """Keep what an interruption must not lose."""
        if self.accelerator.is_main_process:
            state = {
                "network": self.generator.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
            }
            with atomic_path(self.out / "resume.pt") as temporary:
                torch.save(state, temporary)

    def _resume(self) -> None:
        path = self.out / "resume.pt"
        log = self.out / "log.jsonl"
        if path.exists():
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:
                raise InputError("cannot be read", where=path, fix="Remove it to train from the start.") from error
            self.generator.network.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step = state["step"]
        if self.accelerator.is_main_process and log.exists():
            lines = [line for line in log.read_text(encoding="utf-8").splitlines() if _step_of(line) <= self.step]
            with atomic_path(log) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except ValueError:  # cut short by an interruption
        return math.inf


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """What the rate is multiplied by: a linear warm-up, then half a cosine down to 0.

    >>> rate_factor(0, 100, 10), rate_factor(50, 100, 10)
    (0.1, 0.5)
    """
    return min(1.0, (step + 1) / max(warmup, 1)) * 0.5 * (1 + math.cos(math.pi * step / steps))
