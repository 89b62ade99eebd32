"""Cards of models in the Hub's form: of a model as it is here, and of weights that somebody saved."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Protocol

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined
from torch import nn

from baselines.recipe import ListedRecipe
from sc_imagenet.core.command import Command
from sc_imagenet.core.hub import LIBRARY
from sc_imagenet.data.catalog import catalog, embedded

TASK = "keypoint-detection"  # the nearest of the Hub's own
DIRECTIONS = {"forward": "source to target", "backward": "target to source"}
SUPERVISION = {
    "none": "none; nothing is trained",
    "self": "photographs alone",
    "weak": "class labels",
    "keypoints": "keypoints",
    "pseudo": "pseudo-labels, of class labels, masks and viewpoints",
    "semi": "keypoints, and pseudo-labels for what has none",
}


class Registered(Protocol):
    """What the registry knows of a model, as far as cards tell it; see ``baselines.registry.ModelCard``."""

    @property
    def name(self) -> str:
        """As typed on the command line."""

    @property
    def title(self) -> str:
        """As the paper's tables print it."""

    @property
    def paper(self) -> str:
        """Authors, venue, year."""

    @property
    def licence(self) -> str:
        """Of the authors' code and weights."""

    @property
    def supervision(self) -> str:
        """A key of ``SUPERVISION``."""


class Described(Protocol):
    """What a card reads of a model; every ``baselines.matcher.Matcher`` has it, which writes its card with this."""

    size: int
    keep_aspect: bool
    backbone: nn.Module | None

    @property
    def direction(self) -> str:
        """A key of ``DIRECTIONS``."""

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Of its constructor."""

    @classmethod
    def registered(cls) -> Registered | None:
        """What the registry knows of it."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights that are trained or could be."""


@dataclass(frozen=True)
class Trained:
    """One training of some weights."""

    dataset: str  # as runs name it
    split: str
    manifest_sha256: str
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """What some weights reached."""

    dataset: str
    split: str
    metric: str
    value: float  # percent
    low: float
    high: float
    pairs: int
    published: int | None = None  # pairs of the whole split


def model_card(
    matcher: Described,
    *,
    repo_id: str,
    licence: str = "unknown",
    trainings: Sequence[Trained] = (),
    scores: Sequence[Score] = (),
    departs: Sequence[str] = (),
    seed: int | None = None,
) -> str:
    """The card of a model's weights.

    Args:
        matcher: the model.
        repo_id: what it is loaded from.
        licence: the Hub's identifier of the licence that the weights are given under.
        trainings: in order; none where nothing is known.
        scores: of a run, under the strict protocol.
        departs: what the trainings changed of their recipes.
        seed: of the run.
    """
    card = matcher.registered()
    title = card.title if card else type(matcher).__name__
    name = card.name if card else title
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=score.dataset,
            dataset_name=_title(score.dataset),
            dataset_split=score.split,
            metric_type="pck",
            metric_name=score.metric,
            metric_value=round(score.value, 2),
        )
        for score in scores
    ]
    names = list(dict.fromkeys(training.dataset for training in trainings))
    return _filled(
        data=_front_matter(name, licence, names, model_name=title if results else None, eval_results=results or None),
        title=title,
        name=name,
        description=_description(matcher),
        facts=model_facts(matcher),
        repo_id=repo_id,
        trained=_trained(trainings, departs, seed),
        scores=_scores(scores),
    )


def architecture_card(matcher: Described, recipes: Sequence[ListedRecipe], checkpoints: str, trains: bool) -> str:
    """The card of a registered model as this repository has it, without weights.

    Args:
        matcher: built as its paper has it; its weights are not read, it may lie on the meta device.
        recipes: all of its own.
        checkpoints: what is to be had of published weights, a sentence.
        trains: whether it has anything to train.
    """
    card = matcher.registered()
    assert card is not None
    data = embedded().name
    options = {"preset": "tiny", "finetune": data if trains else None, "eval": data}
    names = [each.dataset for each in recipes if each.dataset in catalog()] if trains else []
    return _filled(
        data=_front_matter(card.name, "apache-2.0", list(dict.fromkeys(names))),
        title=card.title,
        name=card.name,
        description=_description(matcher),
        facts=model_facts(matcher),
        repo_id=None,
        commands=[str(Command("run", (card.name,), options))],
        weights=checkpoints,
        recipes=_recipe_table(recipes, trains),
        notes="\n\n".join(f"**{each.preset}, {each.about}.** {each.text}" for each in recipes),
    )


def model_facts(matcher: Described) -> str:
    """What the code says of a model, as a table."""
    card = matcher.registered()
    lines: list[tuple[str, object]] = []
    if card is not None:
        lines = [("paper", card.paper), ("supervision", SUPERVISION[card.supervision])]
    lines += [
        ("backbone", getattr(matcher.backbone, "name", None) or matcher.arguments.get("backbone", "none")),
        ("input", f"{matcher.size} x {matcher.size} px" + (", proportions kept" if matcher.keep_aspect else "")),
        ("transfers points", DIRECTIONS[matcher.direction]),
        ("parameters", f"{sum(parameter.numel() for parameter in matcher.parameters()):,}"),
    ]
    if card is not None:
        lines.append(("licence of the authors' code and weights", card.licence))
    lines.append(("licence of the code here", "Apache-2.0"))
    return "\n".join(["| | |", "|---|---|", *(f"| {label} | {value} |" for label, value in lines)])


def _front_matter(name: str, licence: str, datasets: list[str], **results: Any) -> str:
    data = ModelCardData(
        license=licence,
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=["semantic-correspondence", "keypoint-matching", name],
        datasets=datasets or None,
        metrics=["pck"],
        **results,
    )
    return data.to_yaml()


def _description(matcher: Described) -> str:
    text = inspect.getdoc(sys.modules[type(matcher).__module__]) or inspect.getdoc(type(matcher)) or ""
    return text.replace("``", "`")


def _title(dataset: str) -> str:
    """The title of a data set; of one that is not known, its name."""
    entry = catalog().get(dataset)
    return dataset if entry is None else entry.title


def _trained(trainings: Sequence[Trained], departs: Sequence[str], seed: int | None) -> str:
    if not trainings:
        return "What these weights were trained on was not told."
    lines = []
    for number, training in enumerate(trainings, start=1):
        recipe = ", ".join(f"{key} {value}" for key, value in sorted(training.recipe.items()) if value not in ({}, []))
        lines.append(
            f"{number}. {_title(training.dataset)}, {training.split} split "
            f"(manifest `{training.manifest_sha256}`): {recipe}."
        )
    if departs:
        lines.append(f"\nWhat departs from the recipe: {', '.join(departs)}.")
    if seed is not None:
        lines.append(f"\nSeed {seed}.")
    return "\n".join(lines)


def _scores(scores: Sequence[Score]) -> str:
    if not scores:
        return "Not measured."
    head = ["| data | metric | percent | 95 % interval over pairs | pairs |", "|---|---|---|---|---|"]
    rows = [
        f"| {score.dataset}, {score.split} | `{score.metric}` | {score.value:.1f} "
        f"| {score.low:.1f} to {score.high:.1f} | {_pairs(score)} |"
        for score in scores
    ]
    return "\n".join([*head, *rows])


def _pairs(score: Score) -> str:
    of = f" of {score.published:,}" if score.published is not None and score.pairs < score.published else ""
    return f"{score.pairs:,}{of}"


def _recipe_table(recipes: Sequence[ListedRecipe], trains: bool) -> str:
    if not trains:
        head = ["| preset | data | arguments |", "|---|---|---|"]
        return "\n".join([*head, *(f"| {each.preset} | {each.about} | {_arguments(each)} |" for each in recipes)])
    head = ["| preset | data | optimiser | rate, of the backbone | batch | epochs | arguments |", "|---" * 7 + "|"]
    rows = []
    for each in recipes:
        recipe = each.recipe
        rates = f"{recipe.lr:g}, {f'{recipe.backbone_lr:g}' if recipe.backbone_lr else 'frozen'}"
        rows.append(
            f"| {each.preset} | {each.about} | {recipe.optimiser} | {rates} | {recipe.batch} | {recipe.epochs} "
            f"| {_arguments(each)} |"
        )
    return "\n".join([*head, *rows])


def _arguments(each: ListedRecipe) -> str:
    return ", ".join(f"{key} {value}" for key, value in each.recipe.model.items() if key != "layers") or "defaults"


def _filled(**parts: Any) -> str:
    template = Environment(undefined=StrictUndefined, trim_blocks=True, autoescape=False).from_string(
        (files("baselines") / "model_card.md").read_text(encoding="utf-8")
    )
    return template.render(**parts).strip() + "\n"
