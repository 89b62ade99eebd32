"""Files of weights and the folders around them: torch.save, safetensors, config.json, states to resume from."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from random import Random

import torch
from safetensors.torch import save, save_file

from baselines import registry
from baselines.checkpoints import load_checkpoint
from baselines.matcher import Matcher
from sc_imagenet.data.tensor_files import read_state
from sc_imagenet.generation.cascade.network import load_network
from tests.fuzz.mutations import spoilt_bytes, spoilt_json
from tests.fuzz.parser import Parser

SMALL = "resnet10t"  # the smallest backbone that every option of the models can be tried with


def _torch_saved(value: object, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def _state() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(12.0).view(3, 4), "a.bias": torch.zeros(3), "steps": torch.tensor(7)}


def _weights(content: bytes, folder: Path, suffix: str = ".pth") -> None:
    path = folder / f"weights{suffix}"
    path.write_bytes(content)
    for name, value in read_state(path).items():
        assert isinstance(name, str)
        assert value.device.type == "cpu"
        value.clone()


def _spoilt_pickle(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """Bytes exchanged in the file, or in the pickle inside its zip, packed again with checksums that are right."""
    content = rng.choice(seeds)
    if rng.random() < 0.4 or not content.startswith(b"PK"):
        return spoilt_bytes(rng, seeds)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(packed, "w") as after:
        for entry in before.infolist():
            inside = before.read(entry)
            if entry.filename.endswith("data.pkl") or rng.random() < 0.1:
                inside = spoilt_bytes(rng, [inside])
            if rng.random() < 0.97:
                after.writestr(zipfile.ZipInfo(entry.filename), inside)
    return packed.getvalue()


def _spoilt_safetensors(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """Bytes exchanged, or another header of the right length."""
    if rng.random() < 0.4:
        return spoilt_bytes(rng, seeds)
    content = rng.choice(seeds)
    (size,) = struct.unpack("<Q", content[:8])
    header = spoilt_json(rng, [content[8 : 8 + size]])
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


@lru_cache(maxsize=1)
def _nearest() -> Matcher:
    return registry.create("nearest", backbone=SMALL, pretrained=False)


def _checkpoint_folder(content: bytes, folder: Path) -> None:
    if not (folder / "model.safetensors").exists():
        save_file({k: v.contiguous() for k, v in _nearest().state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_bytes(content)
    load_checkpoint("nearest", folder)


def _checkpoint_seeds() -> list[bytes]:
    return [json.dumps({"backbone": SMALL, "size": 64}).encode(), json.dumps({"backbone": SMALL}).encode()]


@lru_cache(maxsize=1)
def _generator_seeds() -> tuple[bytes, ...]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        _small_cascade().save_pretrained(folder)
        return ((Path(folder) / "config.json").read_bytes(),)


@lru_cache(maxsize=1)
def _small_cascade() -> Matcher:
    network = {"attention_width": 8, "heads": 2, "volume_width": 8, "volume_heads": 2, "volume_blocks": 1}
    return registry.create("cascade", backbone=SMALL, size=64, network=network, pretrained=False)


def _generator(content: bytes, folder: Path) -> None:
    if not (folder / "model.safetensors").exists():
        _small_cascade().save_pretrained(folder)
    (folder / "config.json").write_bytes(content)
    load_network(folder)


PARSERS = [
    Parser(
        "weights-pickle",
        lambda: [_torch_saved(_state()), _torch_saved({"state_dict": _state(), "epoch": 3, "args": None})],
        _weights,
        _spoilt_pickle,
        4,
    ),
    Parser("weights-legacy", lambda: [_torch_saved(_state(), legacy=True)], _weights, _spoilt_pickle, 3),
    Parser(
        "weights-plain-pickle", lambda: [_torch_saved(_state())], _weights, lambda r, s: spoilt_bytes(r, PICKLES), 1
    ),
    Parser(
        "weights-safetensors",
        lambda: [save(_state(), {"format": "pt"})],
        lambda c, f: _weights(c, f, ".safetensors"),
        _spoilt_safetensors,
        3,
    ),
    Parser("checkpoint-config", _checkpoint_seeds, _checkpoint_folder, spoilt_json, 0.3),
    Parser("generator-config", _generator_seeds, _generator, spoilt_json, 0.3),
]
PICKLES = [pickle.dumps({"a": [1, 2.5, "x", (None, True)]}, protocol) for protocol in range(5)]
