"""Nothing in a file that is opened is ever executed."""

from __future__ import annotations

import io
import pickle
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.running.folder import resuming
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.images import open_image
from sc_imagenet.data.tensor_files import read_state
from sc_imagenet.sources.tables import read_mat

ROOT = Path(__file__).parents[2]
PACKAGES = ("sc_imagenet", "baselines", "benchmark")


class Marking:
    """Unpickled the usual way, this makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return open, (str(self.marker), "w")


def evil_files(folder: Path, marker: Path) -> dict[str, bytes]:
    """The same pickle in every wrapping that a reader of weights could open."""
    evil = pickle.dumps(Marking(marker))
    saved, legacy, arrays, archive = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": Marking(marker)}, saved)
    torch.save({"state_dict": Marking(marker)}, legacy, _use_new_zipfile_serialization=False)
    np.savez(arrays, np.array([Marking(marker)], dtype=object))
    with tarfile.open(fileobj=archive, mode="w") as tar:  # the form of the first torch versions
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(evil)
            tar.addfile(entry, io.BytesIO(evil))
    return {
        "plain": evil,
        "saved": saved.getvalue(),
        "legacy": legacy.getvalue(),
        "npz": arrays.getvalue(),
        "tar": archive.getvalue(),
    }


@pytest.mark.parametrize("wrapping", ["plain", "saved", "legacy", "npz", "tar"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".ckpt"])
def test_code_in_a_checkpoint_does_not_run(tmp_path, wrapping, suffix):
    marker, path = tmp_path / "executed", tmp_path / f"weights{suffix}"
    path.write_bytes(evil_files(tmp_path, marker)[wrapping])
    with pytest.raises(InputError):
        read_state(path)
    assert not marker.exists()


def test_the_evil_pickle_is_one(tmp_path):
    """What the tests above are worth: opened without care, these files do run."""
    marker = tmp_path / "executed"
    files = evil_files(tmp_path, marker)
    for wrapping in ("plain", "saved", "legacy"):
        if wrapping == "plain":
            pickle.loads(files[wrapping]).close()
        else:
            torch.load(io.BytesIO(files[wrapping]), weights_only=False)["state_dict"].close()
        assert marker.exists()
        marker.unlink()


@pytest.mark.parametrize("wrapping", ["plain", "npz"])
def test_code_in_an_image_or_annotation_does_not_run(tmp_path, wrapping):
    marker = tmp_path / "executed"
    content = evil_files(tmp_path, marker)[wrapping]
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(InputError):
        open_image(content)
    with pytest.raises(InputError):
        read_mat(tmp_path / "a.mat", "kps")
    assert not marker.exists()


def test_postscript_is_not_handed_to_another_program(tmp_path):
    path = tmp_path / "a.eps"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="is not an image that can be read"):
        open_image(path)


def test_a_state_to_resume_from_runs_nothing(tmp_path):
    marker, path = tmp_path / "executed", tmp_path / "resume.pt"
    torch.save({"model": Marking(marker), "position": {}}, path)
    with pytest.raises(InputError, match="nothing in it was executed"), resuming(path):
        pass
    assert not marker.exists()


def test_no_reader_that_could_run_code_is_called_in_the_packages():
    """torch.load says weights_only, np.load no pickle, YAML is safe; eval, exec and pickles are not there at all."""
    forbidden = re.compile(
        r"(?<![\w.])(?:eval|exec|compile|__import__)\(|\b(?:pickle|marshal|shelve|dill|joblib)\.(?:load|loads|Unpickler)\b"
        r"|\byaml\.(?!safe_load\(|safe_dump\(|YAMLError\b)|\bfrom yaml\b"
        r"|\bos\.(?:system|popen)\(|shell=True|\bloadmat\(|trust_remote_code=True"
        r"|weights_only=False|\.extractall\("
    )
    seen = 0
    for path in sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        text = path.read_text()
        found = [line for line in text.splitlines() if forbidden.search(line)]
        assert not found, f"{path.relative_to(ROOT)}: {found}"
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, f"{path.relative_to(ROOT)}: {call}"
            seen += 1
        for call in re.findall(r"\b(?:np|numpy)\.load\([^)]*\)", text):
            assert "allow_pickle=False" in call, f"{path.relative_to(ROOT)}: {call}"
            seen += 1
    assert seen >= 3


def test_a_zip_is_unpacked_and_not_imported(tmp_path):
    from sc_imagenet.data.archives import unpack

    archive, out, marker = tmp_path / "a.zip", tmp_path / "out", tmp_path / "executed"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("set/__init__.py", f"open({str(marker)!r}, 'w')")
        file.writestr("set/sitecustomize.py", f"open({str(marker)!r}, 'w')")
    unpack(archive, out)
    assert not marker.exists()
    assert not any(path.stat().st_mode & 0o111 for path in out.rglob("*.py"))
