"""Small files that unpack to huge ones are refused in little memory."""

from __future__ import annotations

import gzip
import io
import json
import resource
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.io import savemat

from benchmark.scoring.prediction_files import METADATA_KEY, PREDICTION_SCHEMA, read_predictions
from sc_imagenet.core.errors import InputError
from sc_imagenet.data import shards
from sc_imagenet.data.archives import unpack
from sc_imagenet.data.images import MAX_PIXELS, MOST_SCANS, open_image
from sc_imagenet.data.schema import pair_features
from sc_imagenet.data.tensor_files import read_state
from sc_imagenet.sources.tables import read_mat
from tests.fuzz.parsers.tables import INFO, PAIR, PREDICTION

ROOT = Path(__file__).parents[2]
ZEROS = 80 << 20  # bytes a bomb unpacks to: beyond what its 80 KB may


@pytest.fixture(autouse=True)
def in_little_memory():
    """Every refusal takes less than 600 MB beyond what was there."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 << 10


def png(width: int, height: int, data: bytes = b"") -> bytes:
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    packed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_an_image_of_50_000_by_50_000_pixels_is_refused(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(png(50_000, 50_000, zlib.compress(bytes(1 << 20))))
    with pytest.raises(InputError, match=rf"huge.png: has too many pixels .*{MAX_PIXELS:,}"):
        open_image(path)


def test_an_image_with_a_bomb_of_text_is_refused_or_small():
    text = b"k\0\0" + zlib.compress(bytes(20 << 20))
    content = png(4, 4, zlib.compress(bytes(4 * 13)))
    bomb = (
        content[:33]
        + struct.pack(">I", len(text))
        + b"zTXt"
        + text
        + struct.pack(">I", zlib.crc32(b"zTXt" + text))
        + content[33:]
    )
    with pytest.raises(InputError, match="damaged"):
        open_image(bomb, name="text.png")


def test_a_jpeg_of_endless_scans_is_refused():
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    scan = content[content.rindex(b"\xff\xda") : -2]
    with pytest.raises(InputError, match="scans"):
        open_image(content[:-2] + scan * MOST_SCANS + content[-2:])
    assert open_image(content).size == (64, 64)


def test_a_zip_bomb_is_refused(tmp_path):
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file, file.open("zeros", "w") as entry:
        for _ in range(ZEROS >> 20):
            entry.write(bytes(1 << 20))
    with pytest.raises(InputError, match="decompression bomb"):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_gzip_bomb_in_a_tar_is_refused(tmp_path):
    archive = tmp_path / "bomb.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        entry = tarfile.TarInfo("zeros")
        entry.size = ZEROS
        tar.addfile(entry, io.BytesIO(bytes(ZEROS)))
    with pytest.raises(InputError, match="decompression bomb"):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_compressed_mat_bomb_is_refused(tmp_path):
    savemat(tmp_path / "bomb.mat", {"kps": np.zeros((500_000, 2))}, do_compression=True)
    assert (tmp_path / "bomb.mat").stat().st_size < 1 << 14
    with pytest.raises(InputError, match="unpacks to more than"):
        read_mat(tmp_path / "bomb.mat", "kps")


def test_parquet_of_absurd_sizes_is_refused(tmp_path):
    """Three million equal points pack into some kilobytes."""
    home = tmp_path / "pairs"
    home.mkdir()
    count = 3_000_000
    points = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * count, np.float32)), 2)
    one_row = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), points)
    schema = pair_features(("cat",)).arrow_schema
    table = pa.Table.from_pylist([PAIR], schema=schema)
    place = schema.get_field_index("source_points")
    bomb = table.set_column(place, schema.field("source_points"), one_row.cast(schema.field("source_points").type))
    pq.write_table(bomb, home / "train-00000-of-00001.parquet", compression="zstd")
    with pytest.raises(InputError, match="looks like a bomb"):
        shards.make_record(home, "sc-imagenet", "pairs", "train")

    table = pa.Table.from_pylist([PREDICTION], schema=PREDICTION_SCHEMA)
    place = PREDICTION_SCHEMA.get_field_index("source_points")
    column = one_row.cast(PREDICTION_SCHEMA.field(place).type)
    bomb = table.set_column(place, PREDICTION_SCHEMA.field(place), column)
    bomb = bomb.replace_schema_metadata({METADATA_KEY: json.dumps(INFO)})
    pq.write_table(bomb, tmp_path / "p.parquet", compression="zstd")
    with pytest.raises(InputError, match="looks like a bomb"):
        read_predictions(tmp_path / "p.parquet")


def packed(path: Path, content: object) -> Path:
    """What ``torch.save`` writes, packed as other programs pack."""
    saved = io.BytesIO()
    torch.save(content, saved)
    with zipfile.ZipFile(saved) as before, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as after:
        for entry in before.infolist():
            after.writestr(entry.filename, before.read(entry))
    return path


def test_weights_that_unpack_to_a_multiple_are_refused(tmp_path):
    path = packed(tmp_path / "a.pth", {"a": torch.zeros(5_000_000)})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match=r"unpacks to 20,\d+,\d+ bytes from \d+,\d+, .* decompression bomb"):
        read_state(path)


def test_weights_that_another_program_packed_are_no_bomb(tmp_path):
    weights = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    path = packed(tmp_path / "a.pth", {"a": weights})
    assert path.stat().st_size < 40_000
    assert torch.equal(read_state(path)["a"], weights)


@pytest.mark.parametrize("kind", ["stored", "packed", "tar", "tar.gz"])
def test_an_archive_of_weights_is_called_one(tmp_path, kind):
    torch.save({"a": torch.zeros(50_000)}, tmp_path / "model_best.pth")
    path = tmp_path / f"weights.{kind}"
    if kind.startswith("tar"):
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tar:
            tar.add(tmp_path / "model_best.pth", "model_best.pth")
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED) as file:
            file.write(tmp_path / "model_best.pth", "model_best.pth")
    line = (
        r"is an? (archive of model_best\.pth|packed file), not a file of weights. Unpack it and give the file inside."
    )
    with pytest.raises(InputError, match=line):
        read_state(path)


def test_weights_that_repeat_one_number_without_end_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="holds no weights that a model here could have: a"):
        read_state(tmp_path / "a.pth")


def test_deep_json_is_refused(tmp_path):
    from sc_imagenet.core.files import read_json

    (tmp_path / "a.json").write_text("[" * 1_000_000)
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "F"])
def test_the_largest_image_that_is_taken_needs_less_than_2_gb(tmp_path, mode):
    """Measured in a process of its own, on 20 megapixels: the peak grows with the pixels at most."""
    script = f"""
import resource, sys
from PIL import Image
from sc_imagenet.data.images import open_image
kind = "TIFF" if {mode!r} == "F" else "PNG"
Image.new({mode!r}, (5_000, 4_000)).save("big", kind, compress_level=1, compression="raw" if kind == "TIFF" else None)
open("/proc/self/clear_refs", "w").write("5")
assert open_image("big").size == (5_000, 4_000)
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) / 1024 * MAX_PIXELS / 20e6 < 2048
