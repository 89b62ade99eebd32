"""``scbench run``: (pre-train) -> (fine-tune) -> evaluate -> score, each part taken up where it was left."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.compute as pc
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from baselines import registry
from baselines.checkpoints import TRAINED_ON, load_checkpoint, recorded_name, weights_file
from baselines.matcher import Matcher
from baselines.protocol import PublishedProtocol
from baselines.recipe import STAGES, override, with_backbone
from baselines.registry import find_recipe
from baselines.weights import CONFIG, load_strictly
from benchmark.running.arguments import RunConfig, RunOptions, RunStage, changes_of, make_accelerator
from benchmark.running.data import NamedPairs, images_sha256
from benchmark.running.evaluate import Validation, direction_of, evaluate, selection_metric
from benchmark.running.features import MB, check_mode
from benchmark.running.folder import RunFolder, environment, peak_memory
from benchmark.running.loop import MatcherTraining
from benchmark.running.photographs import training_pairs
from benchmark.scoring.prediction_files import MARK, read_predictions
from benchmark.scoring.predictions import PredictionInfo
from benchmark.scoring.result import Result, count_of_pairs, published_pairs, read_result, write_result
from benchmark.scoring.runs import PREDICTIONS, evaluated_data, score_run
from sc_imagenet.backbones.backbone import Backbone
from sc_imagenet.backbones.named import backbone_files, is_of_timm
from sc_imagenet.backbones.pretrained import weights_kind
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import files_in, read_json, sha256_of, write_json
from sc_imagenet.core.plugins import included, origins
from sc_imagenet.core.progress import bars, say
from sc_imagenet.data.batches import loader_deaths
from sc_imagenet.data.feature_folder import FeatureFolder


class Run:
    """One run, resolved: its data, its configuration, its folder."""

    def __init__(self, options: RunOptions, accelerator: Accelerator) -> None:
        check_mode(options.features)
        self.options = options
        self.accelerator = accelerator
        root = options.data_root
        trained_on = (name for name in (options.pretrain, options.finetune) if name)
        self.trained_on = [training_pairs(name, options.model, root) for name in trained_on]
        self.evaluated_on = [NamedPairs.parse(name, "test", root) for name in options.evaluate]
        self.checkpoint = weights_file(options.checkpoint) if options.checkpoint else None
        self.config = self._resolve()
        self.folder = RunFolder.of(options.runs, self.config)

    def _resolve(self) -> RunConfig:
        options = self.options
        name = registry.card(options.model).name
        data = self.trained_on or self.evaluated_on
        if not data:
            raise InputError("nothing to do", fix="Give --finetune, --pretrain or --eval with a data set.")
        found = [find_recipe(name, pairs.dataset, options.preset) for pairs in data]
        built = [replace(recipe, model=with_backbone(recipe.model, options.backbone)) for recipe in found]
        names = [stage for stage, given in zip(STAGES, (options.pretrain, options.finetune)) if given]
        for stage in STAGES:
            if stage not in names and any(key.startswith(f"{stage}.") for key in options.settings):
                raise InputError(f"a setting concerns {stage}, but there is no --{stage}")
        recipes = [override(recipe, options.settings, stage) for recipe, stage in zip_longest(built, names)]
        training = [registry.training_arguments(name, recipe.model) for recipe in recipes]
        # One model runs through all stages: the last stage's, which is the one that is scored.
        last = recipes[len(self.trained_on) - 1].model if self.trained_on else recipes[0].model
        arguments = {key: value for key, value in last.items() if key not in training[0]}
        if self.checkpoint:  # it says how the model is built; the recipe says how it is trained
            known = registry.card(name).model.published
            concerned = (
                "recipe",
                *names[-1:],
            )  # what is typed for an earlier stage does not build the last one's model
            typed = [key.partition(".model.") for key in options.settings]
            kept = {*(known.settings if known else ()), *(name for stage, _, name in typed if stage in concerned)}
            arguments = {key: value for key, value in arguments.items() if key in kept}
        stages = tuple(
            RunStage(
                pairs.name,
                pairs.split,
                pairs.validation.split if pairs.validation else None,
                pairs.manifest(),
                replace(recipe, model=of_stage),
            )
            for pairs, recipe, of_stage in zip(self.trained_on, recipes, training)
        )
        return RunConfig(
            model=name,
            arguments=arguments,
            stages=stages,
            preset=options.preset,
            checkpoint_sha256=sha256_of(self.checkpoint) if self.checkpoint else None,
            seed=options.seed,
            precision=options.precision,
            direction=options.direction,
            limit=options.limit,
            max_steps=options.max_steps,
            files_sha256=self._files(arguments),
            files=origins(registry.card(name).model, *(pairs.defined_by for pairs in self.trained_on)),
        )

    def _files(self, arguments: Mapping[str, Any]) -> str | None:
        """A hash of the files that decide the model but for its checkpoint; None where there are none."""
        weights, backbone = arguments.get("pretrained"), arguments.get("backbone")
        files = [Path(weights).expanduser()] if isinstance(weights, str) else []
        files += backbone_files(backbone) if isinstance(backbone, str) else []
        files += [self.checkpoint.with_name(CONFIG)] if self.checkpoint else []
        hashes = [sha256_of(file) for file in files if file.is_file()]
        if isinstance(features := arguments.get("features"), str):
            hashes.append(FeatureFolder(features).sha256())
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest() if hashes else None

    def execute(self) -> Result:
        """Do what is missing; weights, predictions and result lie in the folder afterwards.

        Raises:
            InputError: the data is not here, another process works on this run, or one that loads pairs died.
        """
        with ExitStack() as held:
            held.enter_context(loader_deaths(self.options.workers))
            if self.accelerator.is_main_process:
                held.enter_context(self.folder.lock())
            matcher = self.weights(self.config.training)
            claim(self.folder, self.config, self._typed(self.config), self.accelerator)
            matcher.to(self.accelerator.device).eval()
            self._say_size(matcher)
            for pairs in self.evaluated_on:
                self._evaluate(matcher, pairs)
            result = self._result(self.config, matcher)
            if self.accelerator.is_main_process:
                write_result(self.folder.path, result)
            self.accelerator.wait_for_everyone()
        return result

    def _typed(self, config: RunConfig) -> dict[str, Any]:
        """What was typed for the run, and the included files that define its model or data."""
        typed = self.options.typed(len(config.stages))
        used = origins(
            registry.card(config.model).model, *(pairs.defined_by for pairs in (*self.trained_on, *self.evaluated_on))
        )
        here = Path.cwd()
        files = [file for file in included() if file.name in used]
        paths = [str(file.relative_to(here) if file.is_relative_to(here) else file) for file in files]
        return {**typed, "include": paths} if paths else typed

    @property
    def predictions(self) -> list[Path]:
        """The files of predictions on what the options name, each once."""
        return list(dict.fromkeys(self.folder.predictions(pairs.name, pairs.split) for pairs in self.evaluated_on))

    def weights(self, config: RunConfig) -> Matcher:
        """The model of ``config`` with its weights: loaded if its training is finished, else trained."""
        folder = RunFolder.of(self.options.runs, config)
        if not config.stages:
            return self._untrained(config)
        if folder.trained.exists():
            self._check_inputs(folder, config)
            self._say(f"{folder.path}: trained already, weights loaded")
            matcher = self._untrained(config, weights_follow=True)
            load_strictly(matcher, config.model, load_file(folder.best), folder.best)
            return matcher
        with ExitStack() as held:
            if self.accelerator.is_main_process and folder != self.folder:
                held.enter_context(folder.lock())
            matcher = self.weights(config.before)
            claim(folder, config, self._typed(config), self.accelerator)
            self._check_inputs(folder, config)
            self._train(matcher, config, folder)
            if self.accelerator.is_main_process and folder != self.folder:
                write_result(folder.path, self._result(config, matcher))
        return matcher

    def _untrained(self, config: RunConfig, weights_follow: bool = False) -> Matcher:
        torch.manual_seed(config.seed)
        if self.checkpoint:
            return load_checkpoint(config.model, self.checkpoint, config.arguments)[0]
        arguments = dict(config.arguments)
        if weights_follow:
            arguments["pretrained"] = False
        return registry.create_from_outside(config.model, arguments, "recipe.model")

    def _train(self, matcher: Matcher, config: RunConfig, folder: RunFolder) -> None:
        number = len(config.stages) - 1
        stage, data = config.stages[number], self.trained_on[number]
        rows = share_of(self._open(data), stage.recipe.share, config.seed)
        pairs = data.items(
            rows,
            matcher.size,
            matcher.mean,
            matcher.std,
            frame=matcher.frame,
            augment=stage.recipe.augmentation,
            points=stage.recipe.points,
            seed=config.seed,
        )
        validation = data.validation and Validation(
            matcher,
            self._open(data.validation),
            selection_metric(stage.recipe, data.dataset, config.model, matcher.size),
            data.dataset,
            self.accelerator,
            self.options.workers,
        )
        training = MatcherTraining(
            matcher,
            stage.recipe,
            pairs,
            folder,
            self.accelerator,
            validate=validation or None,
            seed=config.seed,
            max_steps=config.max_steps,
            workers=self.options.workers,
            features=self.options.features,
            limit=self.options.features_limit * MB,
        )
        resumed = ", resumed" if folder.resume.exists() else ""
        self._say(
            f"{folder.path}: training {config.model} on {stage.dataset}:{stage.split} "
            f"({count_of_pairs(len(rows), published_pairs(data.name, data.split, data.form))}, "
            f"{training.steps} steps){resumed}"
        )
        if cut := points_left_out(rows, stage.recipe.points):
            self._say(cut)
        if validation:
            self._say(f"the best weights are those of the highest {validation.metric} on {data.validation}")
        if self.options.tracker:
            about = {"run": config.id, "model": config.model, "data": str(data), "seed": config.seed}
            self.accelerator.init_trackers("sc-imagenet", {**about, "lr": stage.recipe.lr, "batch": stage.recipe.batch})
        with bars(quiet=not self.accelerator.is_main_process) as update:
            training.run(update)

    def _evaluate(self, matcher: Matcher, pairs: NamedPairs) -> None:
        manifest = pairs.manifest()
        path = self._predictions(pairs, manifest)
        rows = self._open(pairs)
        images = self._images(rows, pairs)
        if path.exists():
            before = read_predictions(path).info
            same_images = None in (before.images_sha256, images) or before.images_sha256 == images
            if before.manifest_sha256 == manifest and same_images:
                self._say(f"{path}: predicted already")
                return
            what = "images" if before.manifest_sha256 == manifest else "pairs"
            self._say(f"{path}: predicted anew, {pairs.name}:{pairs.split} has other {what} than before")
        prediction_info = PredictionInfo(
            dataset=pairs.name,
            form=pairs.form,
            split=pairs.split,
            model=self.config.model,
            size=matcher.size,
            run=self.config.id,
            manifest_sha256=manifest,
            images_sha256=images,
            direction=direction_of(matcher, self.config.direction),
            protocol=self._protocol(matcher),
        )
        evaluate(
            matcher,
            rows,
            path,
            prediction_info,
            self.accelerator,
            self.options.workers,
            self.options.features,
            self.options.features_limit * MB,
        )

    def _protocol(self, matcher: Matcher) -> PublishedProtocol:
        """How the model is scored in its paper; without one, in its own frame and direction."""
        return registry.card(self.config.model).protocol or PublishedProtocol(matcher.size, matcher.direction)

    def _predictions(self, pairs: NamedPairs, manifest: str) -> Path:
        """Where the predictions on a set lie: another of its name that was there before keeps its own."""
        marked = self.folder.predictions(pairs.name, pairs.split, manifest[:MARK])
        path = self.folder.predictions(pairs.name, pairs.split)
        if pairs.form is None or not path.exists():
            return path
        taken = marked.exists() or read_predictions(path).info.manifest_sha256 != manifest
        return marked if taken else path

    def _images(self, rows: datasets.Dataset, pairs: NamedPairs) -> str | None:
        # The first process reads what was never read; the others find it done.
        with self.accelerator.main_process_first(), bars(quiet=not self.accelerator.is_main_process) as update:
            return images_sha256(rows, lambda done, total: update(f"images of {pairs}", done, total))

    def _check_inputs(self, folder: RunFolder, config: RunConfig) -> None:
        """Note what a training reads that its configuration does not tell, or see that it is what it was.

        Raises:
            InputError: it is something else.
        """
        now: dict[str, str | None] = {}
        for stage, data in zip(config.stages, self.trained_on):
            rows = share_of(self._open(data), stage.recipe.share, config.seed)
            now[f"images of {stage.dataset}:{stage.split}"] = self._images(rows, data)
            if (other := data.validation) is not None:
                now[f"pairs of {stage.dataset}:{other.split}"] = other.manifest()
        then = read_json(folder.inputs) if folder.inputs.exists() else {}
        for name, value in now.items():
            if value is not None and then.get(name) not in (None, value):
                fix = "Give another --runs folder, or put them back."
                raise InputError(f"was trained when the {name} were others", where=folder.path, fix=fix)
        if self.accelerator.is_main_process and not folder.inputs.exists() and not folder.trained.exists():
            write_json(folder.inputs, now)
        self.accelerator.wait_for_everyone()

    def _result(self, config: RunConfig, matcher: Matcher) -> Result:
        folder = RunFolder.of(self.options.runs, config)
        trained_in = RunFolder.of(self.options.runs, config.training)
        model = registry.card(config.model)
        trained = read_json(trained_in.trained) if config.stages else {}
        files = sorted(files_in(folder.path / PREDICTIONS, ".parquet"), key=lambda file: file.stem)
        evaluated = [(path, read_predictions(path)) for path in files]
        metrics, per_category = score_run(folder.path) if evaluated else ({}, {})
        names = [stage.dataset for stage in config.stages]
        arguments = matcher.arguments
        pretrained = bool(self.options.pretrain)
        known = trained_on(self.checkpoint) if self.checkpoint else {}
        return Result(
            run=config.id,
            model=config.model,
            title=model.title,
            supervision=model.supervision,
            backbone=self._backbone_name(matcher),
            pretrain=names[0] if names and pretrained else None,
            finetune=names[-1] if len(names) > pretrained else None,
            preset=config.preset,
            recipe=config.as_json()["stages"][-1]["recipe"] if config.stages else {},
            seed=config.seed,
            direction=direction_of(matcher, config.direction),
            size=matcher.size,
            data=tuple(evaluated_data(path, predictions) for path, predictions in evaluated),
            metrics=metrics,
            per_category=per_category,
            seconds=trained.get("seconds", 0.0),
            checkpoint=recorded_name(self.options.checkpoint) if self.options.checkpoint else None,
            weights_sha256=sha256_of(trained_in.best) if config.stages else config.checkpoint_sha256,
            peak_memory=max(trained.get("peak_memory", 0), peak_memory()),
            changes=changes_of(self.options, self.trained_on),
            arguments=arguments,
            trained_on=known.get("name"),
            trained_with=known.get("training", {}),
            backbone_weights=self._backbone_weights(config, known),
            pretrain_recipe=config.as_json()["stages"][0]["recipe"] if len(config.stages) > 1 else {},
            protocol=self._protocol(matcher),
            files={
                **self._files_before(folder),
                **config.files,
                **origins(*(pairs.defined_by for pairs in self.evaluated_on)),
            },
        )

    def _files_before(self, folder: RunFolder) -> Mapping[str, str]:
        """The files that define the data it was evaluated on by earlier commands."""
        with suppress(InputError):
            return read_result(folder.path).files
        return {}

    def _backbone_name(self, matcher: Matcher) -> str:
        """The backbone, or where features were made."""
        if matcher.feature_folder is not None:
            return f"features of {recorded_name(matcher.feature_folder.folder)}"
        return matcher.arguments.get("backbone", registry.card(self.config.model).backbone)

    def _backbone_weights(self, config: RunConfig, known: Mapping[str, Any]) -> str | None:
        """What weights the backbone began with: those of a checkpoint as it says itself, else of the argument."""
        if self.checkpoint:
            return known.get("weights")
        parameters = inspect.signature(registry.card(config.model).model).parameters
        if "pretrained" not in parameters or config.arguments.get("features"):
            return None
        if (backbone := config.arguments.get("backbone")) and not is_of_timm(backbone):
            return None
        return weights_kind(config.arguments.get("pretrained", parameters["pretrained"].default))

    def _open(self, pairs: NamedPairs) -> datasets.Dataset:
        # The first process converts what was never converted; the others find it done.
        with self.accelerator.main_process_first():
            return pairs.open(self.config.limit)

    def _say_size(self, matcher: Matcher) -> None:
        backbone = next((part for part in matcher.modules() if isinstance(part, Backbone)), None)
        if backbone is not None and backbone.size_note is not None:
            self._say(backbone.size_note)

    def _say(self, line: str) -> None:
        if self.accelerator.is_main_process:
            say(line)


def share_of(rows: datasets.Dataset, share: float, seed: int) -> datasets.Dataset:
    """A part of the rows, drawn by the seed; with a smaller share a part of that part, in the order of the rows."""
    if share == 1:
        return rows
    drawn = np.random.default_rng(seed).permutation(len(rows))
    return rows.select(np.sort(drawn[: max(1, round(share * len(rows)))]))


def points_left_out(rows: datasets.Dataset, most: int) -> str | None:
    """A line that says how many points a training on at most ``most`` a pair leaves out; None if it takes all."""
    table = rows.select_columns("source_points").with_format("arrow")
    counts = [pc.list_value_length(part["source_points"]).to_numpy() for part in table.iter(10_000)]
    count = np.concatenate([np.zeros(0, np.int64), *counts])
    over = count[count > most] - most
    if not len(over):
        return None
    return (
        f"{over.sum():,} of {count.sum():,} points are left out: {len(over):,} of {len(count):,} pairs have more than "
        f"{most} (--set recipe.points=N)"
    )


def claim(folder: RunFolder, config: RunConfig, typed: Mapping[str, Any], accelerator: Accelerator) -> None:
    """Make the folder this configuration's own and note what was typed and where it runs."""
    if accelerator.is_main_process:
        folder.claim(config, typed)
        write_json(folder.environment, environment(accelerator.device, accelerator.num_processes))
    accelerator.wait_for_everyone()


def trained_on(weights: Path) -> Mapping[str, Any]:
    """What a file of weights was trained on and with, by the ``trained_on.json`` beside it; {} without one.

    ``name`` of the photographs, ``weights`` of the backbone, ``training`` with its options.

    Raises:
        InputError: an entry of another kind.
    """
    file = weights.parent / TRAINED_ON
    content = read_json(file) if file.exists() else {}
    kinds = {"name": str, "weights": str, "training": Mapping}
    if not isinstance(content, Mapping):
        return {}
    for name, kind in kinds.items():
        if name in content and not isinstance(content[name], kind):
            raise InputError(f"{name} is {content[name]!r:.80}", where=file, fix="Delete it, or train again.")
    return {name: content[name] for name in kinds if name in content}


def execute(options: RunOptions) -> Result:
    """Do what is missing of a run and return its result."""
    return Run(options, make_accelerator(options)).execute()
