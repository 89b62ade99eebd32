"""Training the cascaded network on photographs with class names, resumable at any step to the same bits.

<out>/log.jsonl                  losses by step
<out>/options.json               what it was trained with
<out>/made_of.json               hashes of the photographs, masks and weights it was trained on
<out>/earlier/                   trainings on others, which were put aside
<out>/resume.pt                  weights, optimiser and step, while it runs
<out>/features/                  of views, and the photographs that were decoded; trainings may share another folder
<out>/model/                     the trained network: config.json and model.safetensors, as ``--checkpoint`` takes it,
                                 and trained_on.json: the photographs' name, the backbone's
                                 weights, and what it was trained with
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import Tensor, nn

from sc_imagenet.backbones.pretrained import weights_kind
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path, read_json, sha256_of, write_json
from sc_imagenet.core.locks import held
from sc_imagenet.core.processes import Hurried, StopRequest, any_process, stop_request
from sc_imagenet.data.resuming import resume_optimiser, resume_weights, resuming, shorten_log, whole_number
from sc_imagenet.generation.cascade.losses import TrainingPairs, cascade_losses, trained_parameters
from sc_imagenet.generation.cascade.network import Generator
from sc_imagenet.generation.cascade.options import TrainingOptions
from sc_imagenet.generation.cascade.training_pairs import StepDraws
from sc_imagenet.generation.cascade.view_features import Step, ViewSource
from sc_imagenet.generation.cascade.view_sources import FeatureReading, one_at_a_time, open_views
from sc_imagenet.generation.classes import name_of_photographs
from sc_imagenet.generation.options import key_of
from sc_imagenet.generation.photographs import Scan, scan_kept
from sc_imagenet.generation.saliency import masks_key

logger = logging.getLogger(__name__)
MADE_OF = "made_of.json"
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
    read: FeatureReading = "auto",
    loaders: int = 0,
    max_steps: int | None = None,
    accelerator: Accelerator | None = None,
    report: Report = lambda what, done, total, note: None,
) -> Path:
    """Train a network; one that is finished is not trained again, one that was interrupted goes on.

    One of other photographs, masks or weights than are there now is put aside, and the network is trained anew.

    Args:
        options: everything the weights depend on, beside the photographs.
        photographs_root: ``<folder>/<class>/<image>``; only the folders' names are known of an image.
        out: folder of this training.
        features: where features of views are kept; None: below ``out``. Trainings may share it.
        read: "keep" reads features once into files; "compute" reads images at each step; "auto" keeps up to
            ``KEPT_BYTES``.
        loaders: processes that decode images ahead where they are read at each step; 0: none.
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
    accelerator = accelerator or _accelerator()
    with held(out, "training") if accelerator.is_main_process else nullcontext():
        shared = features or out / "features"
        return _train(options, photographs_root, out, shared, read, loaders, max_steps, accelerator, report)


def _train(
    options: TrainingOptions,
    photographs_root: Path | str,
    out: Path,
    shared: Path,
    read: FeatureReading,
    loaders: int,
    max_steps: int | None,
    accelerator: Accelerator,
    report: Report,
) -> Path:
    model = out / "model"
    how = {"read": read} if read == "compute" else {}  # the last bits of features depend on it
    _claim(out, {**options.as_dict(), "max_steps": max_steps, **how}, accelerator)
    with accelerator.main_process_first(), one_at_a_time(shared / "scan.lock"):
        photographs, _ = scan_kept(
            Path(photographs_root).expanduser(),
            shared / "seen.jsonl",
            fewest=FEWEST_IMAGES,
            report=lambda done, total: report("photographs", done, total, ""),
        )
    if accelerator.is_main_process:
        _put_aside_what_is_of_others(out, training_content(options, photographs), photographs.count)
    accelerator.wait_for_everyone()
    if (model / "model.safetensors").exists():
        return model
    torch.manual_seed(options.seed)
    generator = Generator(options.backbone, options.layers, options.size, options.pretrained, options.network)
    generator.to(accelerator.device)
    views = open_views(options, photographs, generator.backbone, shared, read, loaders, accelerator, report)
    training = CascadeTraining(options, views, generator, out, accelerator, max_steps)
    training.run(report)
    if accelerator.is_main_process:
        name = name_of_photographs(photographs.root, photographs.classes, photographs.count)
        used = {"options": options.as_dict(), "max_steps": max_steps}
        about = {"name": name, "images": photographs.count, "weights": weights_kind(options.pretrained)}
        write_json(model / "trained_on.json", {**about, "training": used})
        generator.save(model)
        (out / "resume.pt").unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    return model


def _accelerator() -> Accelerator:
    # Processes without a GPU know of one another only if accelerate is told that they have none.
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    waiting = InitProcessGroupKwargs(timeout=timedelta(days=2))  # for the first one's scan and features
    return Accelerator(cpu=several and not torch.cuda.is_available(), kwargs_handlers=[waiting])


def _claim(out: Path, wanted: dict[str, Any], accelerator: Accelerator) -> None:
    path = out / "options.json"
    if path.exists():
        if read_json(path) != json.loads(json.dumps(wanted)):
            raise InputError("holds a training with other options", where=out, fix="Give another --out.")
    elif accelerator.is_main_process:
        write_json(path, wanted)


def training_content(options: TrainingOptions, photographs: Scan) -> dict[str, str]:
    """Hashes of what a training reads besides its options, by what they are of."""
    files = [each for group in photographs.classes.values() for each in group]
    content = {"photographs": key_of("", *(f"{each.path} {each.content}" for each in files))}
    if (masks := masks_key(options.saliency, files)) is not None:
        content["masks"] = masks
    if isinstance(options.pretrained, str) and Path(options.pretrained).is_file():
        content["weights"] = sha256_of(options.pretrained)
    return content


def _put_aside_what_is_of_others(out: Path, content: dict[str, str], count: int) -> None:
    """Move a training of other photographs, masks or weights into a folder of its own, so that it begins anew."""
    path = out / MADE_OF
    if path.exists():
        then = read_json(path)
        other = [name for name in {**content, **then} if content.get(name) != then.get(name)]
    else:  # by an earlier version, which told no more than how many photographs there were
        told = out / "model" / "trained_on.json"
        images = read_json(told).get("images") if told.exists() else count
        other = [] if images == count else ["photographs"]
        if not other and (told.exists() or (out / "resume.pt").exists()):
            return  # whether of these photographs is not known
    if other:
        aside = out / "earlier" / f"{len(list((out / 'earlier').glob('*'))) + 1}"
        aside.mkdir(parents=True)
        for name in ("model", "resume.pt", "log.jsonl", MADE_OF):
            if (out / name).exists():
                os.replace(out / name, aside / name)
        what = " and ".join(other)
        logger.warning("%s: the network was trained on other %s: trained anew; that one is in %s", out, what, aside)
    write_json(path, content)


class CascadeStep(nn.Module):
    """A training step as a forward pass, so that several processes share the gradients of all its passes."""

    def __init__(self, generator: Generator, options: TrainingOptions) -> None:
        super().__init__()
        self.network, self.options = generator.network, options

    def forward(self, pairs: TrainingPairs) -> dict[str, Tensor]:
        """Losses by name."""
        return dict(cascade_losses(self.network, pairs, self.options))


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
        views: ViewSource,
        generator: Generator,
        out: Path,
        accelerator: Accelerator,
        max_steps: int | None = None,
    ) -> None:
        self.options, self.views, self.generator = options, views, generator
        self.out, self.accelerator = out, accelerator
        self.draws = StepDraws(views.classes, options, accelerator.process_index, accelerator.num_processes)
        self.steps = max_steps or options.epochs * self.draws.epoch_steps
        parameters = trained_parameters(generator.network, options)
        optimiser: torch.optim.Optimizer
        if options.optimiser == "sgd":
            optimiser = torch.optim.SGD(
                parameters, options.lr, momentum=options.momentum, weight_decay=options.weight_decay
            )
        else:
            optimiser = torch.optim.AdamW(parameters, options.lr, weight_decay=options.weight_decay)
        self.module, self.optimiser = accelerator.prepare(CascadeStep(generator, options), optimiser)
        self.step = 0

    def run(self, report: Report) -> None:
        """Train to the end.

        Raises:
            InputError: the loss is not finite.
            KeyboardInterrupt: on SIGINT or SIGTERM, after the state was saved.
        """
        self._resume()
        with stop_request() as stop:
            try:
                self._take_steps(report, stop)
            except Hurried:
                raise
            except KeyboardInterrupt:  # only ever between two steps
                self.save()
                raise

    def _steps(self, stop: StopRequest) -> Iterator[Step]:
        """The steps that are left; a signal does not wait for the next one's images."""
        steps = iter(self.views.steps(self.draws, self.step, self.steps, self.accelerator.device))
        # Several processes end after the same step, or the others would wait for this one's gradients.
        alone = self.accelerator.num_processes == 1
        while True:
            with stop.at_once() if alone else nullcontext():
                read = next(steps, None)
            if read is None:
                return
            yield read

    def _take_steps(self, report: Report, stop: StopRequest) -> None:
        saved = time.monotonic()
        for read in self._steps(stop):
            losses = self._take_step(read)
            self.step += 1
            total = sum(losses.values())
            if not math.isfinite(total):
                raise InputError(f"the loss is {total} at step {self.step}", where=self.out, fix="Lower the rate.")
            if self.accelerator.is_main_process and (self.step % LOG_STEPS == 0 or self.step == self.steps):
                line = {"step": self.step, "epoch": self.step / self.draws.epoch_steps, **losses}
                with open(self.out / "log.jsonl", "a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")
            report("training", self.step, self.steps, f"loss {total:.3f}")
            if any_process(bool(stop), self.accelerator):
                raise stop.error()
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()

    def _take_step(self, read: Step) -> dict[str, float]:
        factor = rate_factor(self.step, self.steps, self.options.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.lr * factor
        losses = self.module(
            TrainingPairs(read.source, read.target, read.between, (read.source_views, read.target_views))
        )
        self.accelerator.backward(sum(losses.values()))
        self.optimiser.step()
        self.optimiser.zero_grad()
        return dict(zip(losses, torch.stack([loss.detach() for loss in losses.values()]).tolist()))

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
            with resuming(path) as state:
                resume_weights(self.generator.network, state["network"])
                resume_optimiser(self.optimiser, state["optimiser"])
                self.step = whole_number("step", state["step"], self.steps)
        if self.accelerator.is_main_process and log.exists():
            shorten_log(log, self.step)


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """What the rate is multiplied by: a linear warm-up, then half a cosine down to 0.

    >>> rate_factor(0, 100, 10), rate_factor(50, 100, 10)
    (0.1, 0.5)
    """
    return min(1.0, (step + 1) / max(warmup, 1)) * 0.5 * (1 + math.cos(math.pi * step / steps))
