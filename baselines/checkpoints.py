"""Weights into models, strictly: every weight of the model is found in the file and nothing is left over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines import registry
from baselines.matcher import Matcher
from baselines.weights import CONFIG, FILES, WEIGHTS, load_strictly, read_config
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json, sha256_of
from sc_imagenet.core.hub import fetch_repository
from sc_imagenet.data.tensor_files import State, read_state

# Where weights lie: what ``--checkpoint`` takes, and the one file of weights it means.

TRAINED_ON = "trained_on.json"  # beside weights of 'scbench generate train': what they were trained on
BEST = Path("checkpoints", "best.safetensors")  # of a run's folder
SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin", ".pkl")  # of files, never of a repository's name


def weights_file(given: Path | str) -> Path:
    """The file of weights that a person named.

    Args:
        given: a file; a folder of ``save_pretrained``; the folder of a run; or a repository OWNER/NAME of the
            Hub, which is fetched unless it was before.

    Raises:
        InputError: there is none.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        if path.suffix in SUFFIXES:
            raise InputError("no such file of weights", where=given)
        path = fetch_repository(given, (*FILES, TRAINED_ON))
    for name in (WEIGHTS, BEST):
        if (path / name).is_file():
            return path / name
    raise InputError(
        f"is a folder without {WEIGHTS}", where=given, fix=f"Nor is it a finished run, which would hold {BEST}."
    )


def recorded_name(given: Path | str) -> str:
    """How a result names the weights: OWNER/NAME of a repository, else the name of the file or folder.

    >>> recorded_name("me/my-cats"), recorded_name("/")
    ('me/my-cats', '')
    """
    path = Path(given).expanduser()
    return path.name if path.exists() else str(given)


# A model by its name, ready to match.


def load_model(name: str | Path, checkpoint: Path | str | None = None, *, backbone: str | None = None) -> Matcher:
    """A model with weights, in evaluation mode, on the GPU where there is one.

    >>> load_model("nearest", backbone="tf_efficientnet_lite0").size
    320

    Args:
        name: of a model, as ``scbench models`` lists them; or weights that tell their model by themselves: a folder of
            ``save_pretrained`` or of a run, or a repository OWNER/NAME of the Hub.
        checkpoint: as ``weights_file`` takes it: the authors' file, a run's folder, a saved folder, OWNER/NAME.
        backbone: any timm model in place of the model's own; without a checkpoint only.

    Raises:
        InputError: unknown model or backbone, weights that cannot be had or are another model's, or a model that must
            be trained without a checkpoint.
    """
    if backbone is not None and checkpoint is not None:
        raise InputError("a backbone and a checkpoint were both given", fix="A checkpoint has its own backbone.")
    given = str(name)
    if checkpoint is not None:
        matcher = load_checkpoint(given, checkpoint)[0]
    elif "/" in given or (Path(given).is_dir() and given not in {card.name for card in registry.cards()}):
        if backbone is not None:
            raise InputError("a backbone and saved weights were both given", where=given, fix="They have their own.")
        matcher = _self_telling(name)
    elif (card := registry.card(given)).supervision != "none":
        raise InputError(
            f"{card.name} is a trained model and no weights were given",
            fix="Give a checkpoint (a run's folder, its authors' file, OWNER/NAME of the Hub), or use nearest.",
        )
    else:
        matcher = registry.create(card.name, **({} if backbone is None else {"backbone": backbone}))
    return matcher.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _self_telling(given: Path | str) -> Matcher:
    """The model of a folder or repository that says which it is."""
    folder = Path(given).expanduser()
    if (folder / BEST).is_file():
        run = read_json(folder / CONFIG)
        if not isinstance(run, dict) or not isinstance(run.get("model"), str):
            raise InputError(f"{CONFIG} does not say which model this is", where=given)
        return load_checkpoint(run["model"], folder)[0]
    return registry.from_pretrained(given)


# Loading weights strictly: every weight of the model is found in the file and nothing is left over.


def load_checkpoint(
    model_name: str, path: Path | str, settings: Mapping[str, Any] | None = None
) -> tuple[Matcher, str]:
    """Build the model that a checkpoint was made with and load it.

    Args:
        model_name: as in the registry.
        path: as ``weights_file`` takes it: the authors' file; a folder of ``save_pretrained`` or of a run; OWNER/NAME
            of the Hub; or a ``.safetensors`` file, its ``config.json`` beside it or in the run's folder above it.
        settings: arguments of the model that hold whatever the checkpoint says, such as those that training reads; of
            an argument that is an object, those of its values that are given.

    Returns:
        The model in evaluation mode, and the SHA-256 of the file of weights.

    Raises:
        InputError: missing, truncated or of another model; the message says what does not fit.
    """
    name = registry.card(model_name).name
    file = weights_file(path)
    state = _ours(name, read_state(file))
    saved, complete = _saved_arguments(name, file), True
    arguments = None if saved is None else registry.card(name).model.as_saved(saved)
    if arguments is None:
        published = registry.card(name).model.published
        if published is None:
            raise InputError("has no config.json beside it that says how the model is built", where=path)
        complete = published.backbone
        try:
            arguments = published.arguments(state)
        except InputError as error:
            raise InputError(str(error), where=path) from error
    given = {
        key: {**arguments[key], **value}
        if isinstance(value, Mapping) and isinstance(arguments.get(key), Mapping)
        else value
        for key, value in (settings or {}).items()
    }
    arguments = {**arguments, **given, "pretrained": not complete}
    matcher = registry.create_from_outside(name, arguments, path)
    _load(matcher, name, state, path)
    return matcher.eval(), sha256_of(file)


def load_weights(matcher: Matcher, path: Path | str) -> str:
    """Load a checkpoint into a model that is built already; returns the SHA-256 of the file of weights.

    The model is unchanged if anything does not fit.

    Raises:
        InputError: as ``load_checkpoint``.
    """
    name = registry.name_of(matcher)
    file = weights_file(path)
    _load(matcher, name, _ours(name, read_state(file)), path)
    return sha256_of(file)


def _saved_arguments(name: str, file: Path) -> dict[str, Any] | None:
    """Constructor arguments kept by ``save_pretrained`` beside the weights, or by a run above them."""
    beside, above = file.parent / CONFIG, file.parent.parent / CONFIG
    if file.suffix != ".safetensors":
        return None
    if beside.is_file():
        model, arguments = read_config(beside)
        if model is not None and not _takes(name, model):
            raise InputError(f"holds weights of {model}, not of {name}", where=file, fix=f"Name the model {model}.")
        return arguments
    if file.parent.name == "checkpoints" and above.is_file():
        run = read_json(above)
        if isinstance(run, dict) and isinstance(run.get("arguments"), dict):
            if not _takes(name, str(run.get("model"))):
                model = run.get("model")
                raise InputError(f"holds weights of {model}, not of {name}", where=file, fix=f"Name the model {model}.")
            return run["arguments"]
    return None


def _takes(name: str, other: str) -> bool:
    """Whether a model is another one or a way to train it, and so takes its weights."""
    return name == other or issubclass(registry.card(name).model, registry.card(other).model)


def _ours(name: str, state: State) -> State:
    """The state under our keys, whoever wrote it."""
    published = registry.card(name).model.published
    if published is None or not any(key.startswith(published.marker) for key in state):
        return state
    return published.convert(state)


def _load(matcher: Matcher, name: str, state: Mapping[str, Tensor], path: Path | str) -> None:
    published = registry.card(name).model.published
    optional = published.optional if published else ()
    if published and not published.backbone:
        optional = (*optional, "backbone.")
    load_strictly(matcher, f"{name} with backbone {_backbone_of(matcher)}", state, path, optional)


def _backbone_of(matcher: Matcher) -> str:
    return str(getattr(matcher.backbone, "name", "none"))


# Weights from outside into our models: published checkpoints, and what we saved ourselves.
#
# matcher, sha256 = load_checkpoint("cats", "model_best.pth")  # or a folder, or OWNER/NAME of the Hub
