"""Training the cascade on photographs with class names, in the loop that every model trains in.

<out>/log.jsonl                  losses by step
<out>/options.json               what it was trained with
<out>/made_of.json               hashes of the photographs, masks and weights it was trained on
<out>/earlier/                   trainings on others, which were put aside
<out>/steps/<step>/              the network on the way, where that was asked for
<out>/resume.pt                  weights, optimiser and step, while it runs
<out>/features/                  of views, and the photographs that were decoded; trainings may share another folder
<out>/model/                     the trained model, as ``save_pretrained`` writes it and ``--network`` and
                                 ``--checkpoint`` take it, and trained_on.json: the photographs' name, the
                                 backbone's weights, and what it was trained with
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn

from baselines.cascade import Cascade
from baselines.checkpoints import TRAINED_ON
from baselines.recipe import Recipe
from baselines.weights import WEIGHTS
from benchmark.running.loop import Training, rate_factor
from sc_imagenet.backbones.pretrained import weights_kind
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json, sha256_of, write_json
from sc_imagenet.core.locks import held
from sc_imagenet.core.progress import Update
from sc_imagenet.generation.cascade.alarm import closing_of, closing_of_features
from sc_imagenet.generation.cascade.labels import TrainingPairs, Windows
from sc_imagenet.generation.cascade.losses import cascade_losses, trained_parameters
from sc_imagenet.generation.cascade.network import CascadeNetwork
from sc_imagenet.generation.cascade.options import STAGES, Stage, TrainingOptions
from sc_imagenet.generation.cascade.training_pairs import HeldOutDraws, StepDraws
from sc_imagenet.generation.cascade.view_features import Step, ViewSource
from sc_imagenet.generation.cascade.view_sources import FeatureReading, WindowReader, one_at_a_time, open_views
from sc_imagenet.generation.classes import name_of_photographs
from sc_imagenet.generation.options import key_of
from sc_imagenet.generation.photographs import Scan, scan_kept
from sc_imagenet.generation.saliency import masks_key

logger = logging.getLogger(__name__)
MADE_OF = "made_of.json"
FEWEST_OF_A_PAIR = 2  # of a class: a pair
WORSE = 1.1  # of the offset that loops of the backbone's features have; less is the chance of which are held out
CLOSED = 0.05  # cells off: less is rounding


def train(
    options: TrainingOptions,
    photographs_root: Path | str,
    out: Path | str,
    *,
    features: Path | None = None,
    read: FeatureReading = "auto",
    loaders: int = 0,
    max_steps: int | None = None,
    keep_every: int = 0,
    accelerator: Accelerator | None = None,
    report: Update = lambda what, done, total, note="": None,
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
        keep_every: write the network after every so many steps into ``<out>/steps/<step>``; 0: never.
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
        return _train(options, photographs_root, out, shared, read, loaders, max_steps, keep_every, accelerator, report)


def _train(
    options: TrainingOptions,
    photographs_root: Path | str,
    out: Path,
    shared: Path,
    read: FeatureReading,
    loaders: int,
    max_steps: int | None,
    keep_every: int,
    accelerator: Accelerator,
    report: Update,
) -> Path:
    model = out / "model"
    how = {"read": read} if read == "compute" else {}  # the last bits of features depend on it
    _claim(out, {**options.as_dict(), "max_steps": max_steps, **how}, accelerator)
    with accelerator.main_process_first(), one_at_a_time(shared / "scan.lock"):
        photographs, _ = scan_kept(
            Path(photographs_root).expanduser(),
            shared / "seen.jsonl",
            fewest=FEWEST_OF_A_PAIR,
            report=lambda done, total: report("photographs", done, total, ""),
        )
    if accelerator.is_main_process:
        _put_aside_what_is_of_others(out, training_content(options, photographs), photographs.count)
    accelerator.wait_for_everyone()
    if (model / WEIGHTS).exists():
        return model
    torch.manual_seed(options.seed)
    cascade = untrained(options).to(accelerator.device)
    views = open_views(options, photographs, cascade.backbone, shared, read, loaders, accelerator, report)
    trained_on = {
        "name": name_of_photographs(photographs.root, photographs.classes, photographs.count),
        "images": photographs.count,
        "weights": weights_kind(options.pretrained),
        "training": {"options": options.as_dict(), "max_steps": max_steps},
    }
    windows = WindowReader(photographs, cascade.backbone) if options.region_features == "crop" else None
    CascadeTraining(options, views, cascade, out, accelerator, trained_on, max_steps, keep_every, windows).run(report)
    return model


def untrained(options: TrainingOptions) -> Cascade:
    """The model that a training with these options starts from, in training mode."""
    values = json.loads(json.dumps(options.as_dict()))  # lists, as the model's folder keeps them
    read = ("backbone", "layers", "size", "pooling", "standardise", "pretrained")
    return Cascade(**{name: values[name] for name in (*read, "network")})


def _accelerator() -> Accelerator:
    # Processes without a GPU know of one another only if accelerate is told that they have none.
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    waiting = InitProcessGroupKwargs(timeout=timedelta(days=2))  # for the first one's scan and features
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # the stages that are not trained at a step
    return Accelerator(cpu=several and not torch.cuda.is_available(), kwargs_handlers=[waiting, unused])


def _claim(out: Path, wanted: dict[str, Any], accelerator: Accelerator) -> None:
    path = out / "options.json"
    if path.exists():
        try:
            same = _options_of(path) == json.loads(json.dumps(wanted))
        except (InputError, TypeError, AttributeError):  # of a later version, or no options at all
            same = False
        if not same:
            raise InputError("holds a training with other options", where=out, fix="Give another --out.")
    elif accelerator.is_main_process:
        write_json(path, wanted)


def _options_of(path: Path) -> dict[str, Any]:
    """What a training was begun with."""
    then = read_json(path)
    about = {name: then.pop(name) for name in ("max_steps", "read") if name in then}
    return {**json.loads(json.dumps(TrainingOptions.from_saved(then).as_dict())), **about}


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
        told = out / "model" / TRAINED_ON
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


class CascadeLosses(nn.Module):
    """A training step as a forward pass, so that several processes share the gradients of all its passes."""

    def __init__(self, network: CascadeNetwork, options: TrainingOptions, windows: WindowReader | None = None) -> None:
        super().__init__()
        self.network, self.options, self.windows = network, options, windows
        self.stages: tuple[Stage, ...] = options.trained  # whose losses are taken

    def forward(self, read: Step, epoch: int) -> dict[str, Tensor]:
        """Losses by name of stage."""
        views = read.source_views, read.target_views
        pairs = TrainingPairs(read.source, read.target, read.between, views, self._windows(read))
        return dict(cascade_losses(self.network, pairs, self.options, self.stages))

    def _windows(self, read: Step) -> tuple[Windows, Windows] | None:
        if self.windows is None:
            return None
        source, target = (partial(self.windows, images) for images in read.images)
        return source, target


@dataclass(frozen=True)
class Phase:
    """Steps in which the same stages are trained, from ``start`` to before ``stop``."""

    stages: tuple[Stage, ...]
    start: int
    stop: int


def phases_of(options: TrainingOptions, steps: int) -> tuple[Phase, ...]:
    """How a training's steps are shared out; a phase may get none of few.

    >>> [(each.stages, each.stop) for each in phases_of(TrainingOptions(), 100)]
    [(('image',), 16), (('region',), 26), (('pixel',), 100)]
    """
    if options.order == "jointly":
        return (Phase(options.trained, 0, steps),)
    shares = dict(zip(STAGES, (options.image_share, options.region_share)))
    shares["pixel"] = 1 - sum(shares.values())
    whole = sum(shares[stage] for stage in options.trained) or 1.0
    phases, start, share = [], 0, 0.0
    for stage in options.trained:
        share += shares[stage]
        stop = steps if stage == options.trained[-1] else round(steps * share / whole)
        phases.append(Phase((stage,), start, stop))
        start = stop
    return tuple(phases)


def refreshed_at(options: TrainingOptions, phases: Sequence[Phase]) -> tuple[int, ...]:
    """The steps before which the image stage may become as the pixel stage is.

    >>> options = TrainingOptions(refreshes=3)
    >>> refreshed_at(options, phases_of(options, 100))
    (44, 63, 81)
    """
    last = phases[-1]
    if last.stages != ("pixel",) or "image" not in options.trained:
        return ()
    parts = options.refreshes + 1
    return tuple(last.start + (last.stop - last.start) * part // parts for part in range(1, parts))


class CascadeTraining(Training):
    """The training of a cascade's network.

    Args:
        options: rates, batch, epochs.
        views: features of the photographs.
        cascade: its network is trained.
        out: where the log, the state and the trained model go; a state found there is taken up.
        accelerator: device and processes.
        trained_on: what is kept of the photographs beside the model.
        max_steps: end after so many steps.
        keep_every: write the network as it is after every so many steps into ``<out>/steps/<step>``; 0: never.
        windows: reads regions as images of their own; None: they are cut from the views' features.
    """

    remedy = "Lower the rate (--set lr=...)."

    def __init__(
        self,
        options: TrainingOptions,
        views: ViewSource,
        cascade: Cascade,
        out: Path,
        accelerator: Accelerator,
        trained_on: Mapping[str, Any],
        max_steps: int | None = None,
        keep_every: int = 0,
        windows: WindowReader | None = None,
    ) -> None:
        self.views, self.cascade, self.out, self.trained_on = views, cascade, out, trained_on
        self.options, self.network, self.keep_every = options, cascade.network, keep_every
        self.draws = StepDraws(views.classes, options, accelerator.process_index, accelerator.num_processes)
        self.checked: dict[Stage, dict[str, Any]] = {}  # what loops told of each stage whose training has ended
        trained_parameters(cascade.network, options)  # the stages that nothing reads stay as they are
        self._losses = CascadeLosses(cascade.network, options, windows)
        super().__init__(
            cascade.network,
            self._losses,
            recipe_of(options),
            self.draws.epoch_steps,
            accelerator,
            log=out / "log.jsonl",
            state=out / "resume.pt",
            seed=options.seed,
            max_steps=max_steps,
        )
        self.phases = phases_of(options, self.steps)
        self._refreshed = refreshed_at(options, self.phases)

    def batches(self, start: int) -> Iterator[Step]:
        """The views of each step."""
        return iter(self.views.steps(self.draws, start, self.steps, self.accelerator.device))

    def begin(self, step: int) -> None:
        """Keep the network as it is now and then; where a stage's steps begin, end those before it."""
        if self.keep_every and step % self.keep_every == 0:
            self._keep_step(step)
        self._begin_phases(step)
        if step in self._refreshed:
            self._refresh()
        (phase,) = (each for each in self.phases if each.start <= step < each.stop)
        self._losses.stages = phase.stages
        trained_parameters(self.network, self.options, phase.stages)

    def _begin_phases(self, step: int) -> None:
        """Where a stage's steps begin, those of the one before it are over; a stage may have no steps."""
        for before, phase in zip(self.phases, self.phases[1:]):
            if phase.start == step:
                self._check(before.stages)
                for stage in phase.stages:
                    self._begin_as_before(stage)

    def rate(self, step: int) -> float:
        """Each phase has its own warm-up and decay."""
        phase = next(each for each in self.phases if each.start <= step < each.stop)
        return rate_factor(self.recipe, step - phase.start, self.epoch_steps, phase.stop - phase.start)

    def remembered(self) -> dict[str, Any]:
        """What loops told of each stage."""
        return {"checked": self.checked}

    def recall(self, values: Any) -> None:
        """Take up what loops told; see ``resuming``."""
        for stage, told in dict(values.get("checked", {})).items():
            if stage not in self.options.trained or told.keys() != {"offset", "frozen", "temperature", "reset"}:
                raise ValueError(f"what it tells of stage {stage!r:.40} is nothing that training tells")
            if type(told["temperature"]) is not float or type(told["reset"]) is not bool:
                raise ValueError(f"its temperature of the {stage} stage is {told['temperature']!r:.40}")
            if not all(type(told[name]) is float and told[name] >= 0 for name in ("offset", "frozen")):
                raise ValueError(f"its loops of the {stage} stage are off by {told['offset']!r:.40}")
            self._note(stage, told)

    def end(self) -> None:
        """Look at the stages whose training ends last."""
        self._begin_phases(self.steps)
        self._check(self.phases[-1].stages)

    def keep(self) -> None:
        """Write the model's folder."""
        write_json(self.out / "model" / TRAINED_ON, {**self.trained_on, "stages": self.checked})
        self.cascade.save_pretrained(self.out / "model")

    def _keep_step(self, step: int) -> None:
        if self.accelerator.is_main_process:
            self.cascade.save_pretrained(self.out / "steps" / str(step))

    def _begin_as_before(self, stage: Stage) -> None:
        """Let a stage begin as the one before it ended; the first as the backbone's features."""
        place = STAGES.index(stage)
        self.network.stage(stage).begin_as(self.network.stage(STAGES[place - 1]) if place else None)

    def _held(self) -> list[Step]:
        """The photographs kept from training; none may be."""
        draws = HeldOutDraws(self.draws.held_out, self.options.views)
        return [] if not draws.count else list(self.views.steps(draws, 0, draws.count, self.accelerator.device))

    def _refresh(self) -> None:
        """Let the image stage label as the pixel stage matches, where loops close better by that."""
        self.network.eval()
        held = self._held()
        options = self.network.options
        self.network.options = replace(options, joined=False)  # each as it would label
        image, pixel = (closing_of(self.network, stage, held) for stage in ("image", "pixel"))
        self.network.options = options
        if pixel.offset < image.offset or not held:
            self.network.stage("image").load_state_dict(self.network.stage("pixel").state_dict())
            if "image" in self.checked:
                self._note("image", {**self.checked["image"], **asdict(pixel)})
            logger.info(
                "%s: the image stage is refreshed, %.2f -> %.2f cells off", self.out, image.offset, pixel.offset
            )

    def _check(self, stages: Sequence[Stage]) -> None:
        """Choose how each stage is read, and undo the training of one that matches worse than the features."""
        held = self._held()
        if not held:
            return
        self.network.eval()
        frozen = closing_of_features(self.network, held)
        if not math.isfinite(frozen.offset):  # no crop shows its object
            return
        for stage in stages:
            found = closing_of(self.network, stage, held)
            worst = max(WORSE * frozen.offset, CLOSED)
            reset = found.offset > worst
            if reset:
                logger.warning(
                    "%s: loops through held-out photographs come out %.2f cells off by the %s stage, %.2f by the "
                    "features it began with: its training is undone",
                    self.out, found.offset, stage, frozen.offset,
                )  # fmt: skip
                self._begin_as_before(stage)
                found = closing_of(self.network, stage, held)
                if found.offset > worst:  # the stage before shares its attention
                    self.network.stage(stage).begin_as(None)
                    found = closing_of(self.network, stage, held)
            values = found.offset, frozen.offset, found.temperature, reset
            self._note(stage, dict(zip(("offset", "frozen", "temperature", "reset"), values)))

    def _note(self, stage: Stage, told: dict[str, Any]) -> None:
        self.checked[stage] = told
        options = self.network.options
        temperatures = list(options.temperatures or [options.temperature] * options.depth)
        temperatures[STAGES.index(stage)] = told["temperature"]
        self.network.options = replace(options, temperatures=tuple(temperatures))


def recipe_of(options: TrainingOptions) -> Recipe:
    """Optimiser, rates and schedule of a training: a linear warm-up, then as ``TrainingOptions.schedule`` says."""
    return Recipe(
        optimiser=options.optimiser,
        lr=options.lr,
        weight_decay=options.weight_decay,
        momentum=options.momentum,
        batch=options.batch,
        epochs=options.epochs,
        schedule="cosine" if options.schedule == "cosine" else "step",  # whose rate stays as it is without milestones
        warmup=options.warmup,
    )
