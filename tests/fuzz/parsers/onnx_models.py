"""ONNX models that find the object of an image; only where onnxruntime is installed.

onnxruntime is C++: what it does to its process happens in the process that a model is tried in first.
"""

from __future__ import annotations

import importlib.util
import struct
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sc_imagenet.generation import onnx_trial
from sc_imagenet.generation.features import Features
from sc_imagenet.generation.photographs import Photograph
from sc_imagenet.generation.saliency import OnnxSaliency
from tests.fuzz.parser import Parser

PHOTOGRAPH = Photograph("a.png", "cat", "0" * 64, 40, 30)
FLOAT, INTS = 1, 7  # kinds of tensors and of attributes, as ONNX numbers them


def field(number: int, value: int | str | bytes) -> bytes:
    """A field of a protobuf message: a number, a text, or another message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    digits = b""
    while value >= 128:
        digits += bytes([value & 127 | 128])
        value >>= 7
    return digits + bytes([value])


def _value(name: str, *sides: int | str) -> bytes:
    dims = b"".join(field(1, field(1, side) if isinstance(side, int) else field(2, side)) for side in sides)
    return field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, dims)))


def _node(kind: str, inputs: tuple[str, ...], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind) + attributes


def model(*sides: int | str) -> bytes:
    """A model of a 3 x 3 convolution to one channel and a sigmoid, for images of given sides."""
    padding = field(5, field(1, "pads") + b"".join(field(8, 1) for _ in range(4)) + field(20, INTS))
    weights = struct.pack("<27f", *np.linspace(-1, 1, 27))
    tensor = b"".join(field(1, size) for size in (1, 3, 3, 3)) + field(2, FLOAT) + field(8, "w") + field(9, weights)
    graph = (
        field(1, _node("Conv", ("image", "w"), "scores", padding))
        + field(1, _node("Sigmoid", ("scores",), "mask"))
        + field(2, "saliency")
        + field(5, tensor)
        + field(11, _value("image", 1, 3, *sides))
        + field(12, _value("mask", 1, 1, *sides))
    )
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


@lru_cache(maxsize=1)
def _photograph() -> Image.Image:
    return Image.radial_gradient("L").resize((PHOTOGRAPH.width, PHOTOGRAPH.height))


def _saliency(content: bytes, folder: Path) -> None:
    onnx_trial.SECONDS = 4.0
    file = folder / "model.onnx"
    file.write_bytes(content)
    _photograph().save(folder / PHOTOGRAPH.path)
    masks = OnnxSaliency(file).masks(folder, [PHOTOGRAPH], Features(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2)))
    assert masks.shape == (1, 4, 4)
    assert masks.isfinite().all()
    assert 0 <= masks.min() <= masks.max() <= 1


PARSERS = (
    [Parser("onnx-saliency", lambda: [model(32, 32), model("height", "width")], _saliency, share=0.3)]
    if importlib.util.find_spec("onnxruntime")
    else []
)
