"""The folder in which a model travels, strict loading, and what must be known of published checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from sc_imagenet.backbones.backbone import with_positions_of
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path, read_json, write_json
from sc_imagenet.data.tensor_files import State, shortened, wrapper_of

# The folder that holds a model: how it is built, its weights, its card; the form in which models travel.
#
# config.json        {"model": its name, and its constructor's arguments}
# model.safetensors  every weight, the backbone's too
# README.md          the card, for people

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FILES = (CONFIG, WEIGHTS, CARD)


def write_model(folder: Path, model: nn.Module, name: str | None, arguments: Mapping[str, Any]) -> None:
    """Write how a model is built, then its weights; ``name`` is None for one that is not registered."""
    write_json(folder / CONFIG, {**({"model": name} if name else {}), **arguments})
    write_weights(folder / WEIGHTS, model)


def write_weights(path: Path, model: nn.Module) -> None:
    """Write the weights of a model to a ``.safetensors`` file; modules may share theirs, the file has them twice."""
    written: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, value in model.state_dict().items():
        own = value.detach().cpu().contiguous()
        written[key] = own.clone() if own.data_ptr() in seen else own
        seen.add(own.data_ptr())
    with atomic_path(path) as temporary:
        save_file(written, temporary)


def read_config(file: Path) -> tuple[str | None, dict[str, Any]]:
    """The model's name, None where the file does not say, and its constructor's arguments.

    Raises:
        InputError: missing or damaged.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        raise InputError("does not hold the arguments of a model", where=file)
    name = content.pop("model", None)
    return (str(name) if name else None), content


def load_strictly(
    model: nn.Module, label: str, state: Mapping[str, Tensor], where: object, optional: tuple[str, ...] = ()
) -> None:
    """Load weights, all of them and no others; the model is unchanged if anything does not fit.

    Position embeddings of a vision transformer saved for another size of images are interpolated.

    Args:
        model: built already.
        label: what the message calls it.
        state: weights under the model's own keys, as ``read_state`` gives them: without what looks like a wrapper.
        where: the file to name in the message.
        optional: beginnings or ends of keys that may be missing.

    Raises:
        InputError: weights are missing, unknown or of another shape.
    """
    own = model.state_dict()
    prefix = wrapper_of(own)  # of a model all of whose weights lie in its own ``net`` or ``model``
    if wrapper_of(state) != prefix:
        state = {prefix + key: value for key, value in state.items()}
    state = with_positions_of(model, state)
    absent = [key for key in own if key not in state]
    missing = [key for key in absent if not key.startswith(optional) and not key.endswith(optional)]
    extra = [key for key in state if key not in own]
    unlike = [
        f"{key} is {'x'.join(map(str, state[key].shape))}, not {'x'.join(map(str, own[key].shape))}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if missing or extra or unlike:
        problems = [
            f"{len(missing)} of {len(own)} weights missing ({shortened(missing)})" if missing else "",
            f"{len(extra)} unknown ({shortened(extra)})" if extra else "",
            f"{len(unlike)} of another shape ({shortened(unlike, 2)})" if unlike else "",
        ]
        raise InputError(f"does not fit {label}: " + "; ".join(filter(None, problems)), where=where)
    model.load_state_dict({**{key: own[key] for key in absent}, **state})


# What has to be known of a model's published checkpoints to load them.


@dataclass(frozen=True)
class PublishedWeights:
    """How the authors' files differ from ours.

    about        what the files are, in a sentence
    marker       a key that starts so, or in one of these ways, tells the authors' file from ours
    convert      the authors' state -> ours, keys and layouts; raises InputError
    arguments    constructor arguments read off the shapes of the converted weights; raises InputError
    optional     beginnings or ends of our keys that a file may lack: weights that nothing reads
    backbone     whether the file holds the backbone; if not, the backbone's own weights are taken
    settings     constructor arguments that no file tells of, though results depend on them; a recipe sets them
    """

    about: str
    marker: str | tuple[str, ...]
    convert: Callable[[State], State]
    arguments: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    optional: tuple[str, ...] = (".num_batches_tracked", "backbone.net.fc.")
    backbone: bool = True
    settings: tuple[str, ...] = ()
