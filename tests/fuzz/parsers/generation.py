"""What the generator reads: counts, masks, shards of labels, photographs seen before, options."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from sc_imagenet.core.errors import InputError
from sc_imagenet.generation.cascade.options import NetworkOptions, TrainingOptions
from sc_imagenet.generation.counting import CountsFile
from sc_imagenet.generation.features import Features
from sc_imagenet.generation.labelling import ClassTask
from sc_imagenet.generation.options import GenerationOptions
from sc_imagenet.generation.photographs import Photograph, _read_seen, scan_photographs
from sc_imagenet.generation.pipeline import _changed, read_shard
from sc_imagenet.generation.saliency import SaliencyFolder
from tests.fuzz.mutations import spoilt_bytes, spoilt_json, spoilt_text
from tests.fuzz.parser import Parser
from tests.fuzz.parsers.tables import _spoilt_table, parquet

PHOTOGRAPH = Photograph("cat/a.png", "cat", "0" * 64, 40, 36)


def _counts(content: bytes, folder: Path) -> None:
    file = folder / "counts.csv"
    file.write_bytes(content)
    found = CountsFile(file).counts(folder, [PHOTOGRAPH], torch.zeros(1, 4, 4))
    assert isinstance(found[0], int)


def _picture(mode: str = "L") -> bytes:
    file = io.BytesIO()
    ramp = np.arange(40 * 36, dtype=np.uint8).reshape(36, 40)
    Image.fromarray(ramp).convert(mode).save(file, "PNG")
    return file.getvalue()


def _mask(content: bytes, folder: Path) -> None:
    place = folder / "masks" / "cat" / "a.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    saliency = SaliencyFolder(folder / "masks")
    assert saliency.identity
    assert len(saliency.content([PHOTOGRAPH])) == 1
    masks = saliency.masks(folder, [PHOTOGRAPH], Features(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2)))
    assert masks.isfinite().all()


def _photographs(content: bytes, folder: Path) -> None:
    place = folder / "photographs" / "cat"
    place.mkdir(parents=True, exist_ok=True)
    (place / "a.png").write_bytes(content)
    scan_photographs(folder / "photographs", fewest=1, processes=1)


def _label_shard(content: bytes, folder: Path) -> None:
    file = folder / "cat.parquet"
    file.write_bytes(content)
    read_shard(file)
    _changed(ClassTask(folder, "cat", (PHOTOGRAPH,), GenerationOptions(), folder), file, ())


def _label_seeds() -> list[bytes]:
    table = pa.table({"number": [0, 1], "score": [1.5, None], "area": [0.1, 0.2]})
    about = {"made_of": {"options": "a", "photographs": "b"}, "images": 2, "single": 2, "left_out": None}
    return [parquet(table.replace_schema_metadata({"about": json.dumps(about)}))]


def _seen(content: bytes, folder: Path) -> None:
    (folder / "cat").mkdir(exist_ok=True)
    (folder / "cat" / "a.png").touch()
    file = folder / "seen.jsonl"
    file.write_bytes(content)
    for name, photograph in _read_seen(file, folder).items():
        assert photograph.path == name


def _seen_seeds() -> list[bytes]:
    line = {**asdict(PHOTOGRAPH), "bytes": 0, "mtime_ns": 0}
    return [f"{json.dumps(line)}\n{json.dumps({**line, 'path': 'cat/b.png'})}\n".encode()]


def _options(content: bytes, folder: Path) -> None:
    """The options of a training as JSON, which ``scbench ablate --options`` takes."""
    file = folder / "options.json"
    file.write_bytes(content)
    from sc_imagenet.core.files import read_json

    values: Any = read_json(file)
    if not isinstance(values, dict):
        raise InputError("is no object", where=file)
    TrainingOptions.from_dict(values)


def _options_seeds() -> list[bytes]:
    return [json.dumps(asdict(TrainingOptions())).encode(), json.dumps({"network": asdict(NetworkOptions())}).encode()]


PARSERS = [
    Parser("counts-csv", lambda: [b"path,objects\ncat/a.png,1\ncat/b.png,2\n"], _counts, spoilt_text, 4),
    Parser("saliency-mask", lambda: [_picture(), _picture("1"), _picture("RGB")], _mask, spoilt_bytes, 2),
    Parser("photograph", lambda: [_picture("RGB")], _photographs, spoilt_bytes, 1),
    Parser("label-shard", _label_seeds, _label_shard, _spoilt_table, 1.5),
    Parser("seen-photographs", _seen_seeds, _seen, spoilt_text, 2),
    Parser("training-options", _options_seeds, _options, spoilt_json, 3),
]
