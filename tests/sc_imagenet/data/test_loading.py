"""The names work with and without the hook, from an empty working directory, streaming and offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_data import imagenet, sc_release, spair

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.load import load_dataset

REPOSITORY = Path(__file__).parents[3]


def run(code: str, folder: Path, **environment: str) -> str:
    """Run Python in an empty working directory; its standard output, or its error's last line."""
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    settings = {
        **{name: value for name, value in os.environ.items() if name not in ("SC_DATA_ROOT", "IMAGENET_ROOT")},
        "PYTHONPATH": str(REPOSITORY),
        "SC_CACHE": str(folder / "cache"),
        "HF_HOME": str(folder / "hf"),
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=empty, env=settings, capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("order", ["sc_imagenet, datasets", "datasets, sc_imagenet"])
def test_the_hook_works_whichever_is_imported_first(tmp_path: Path, order: str) -> None:
    spair(tmp_path / "spair-71k")
    out = run(
        f"""
import {order}
print(datasets.get_dataset_config_names("sc_imagenet"), datasets.get_dataset_config_names("spair-71k"))
print(datasets.get_dataset_split_names("spair_71k"))
print(len(datasets.load_dataset("spair_71k", split="test", num_proc=2)))
print(next(iter(datasets.load_dataset("spair-71k", split="train", streaming=True)))["source"].size)
import importlib; importlib.reload(sc_imagenet)
print(datasets.load.dataset_module_factory.__wrapped__.__name__, hasattr(
    datasets.load.dataset_module_factory.__wrapped__, "__wrapped__"))
""",
        tmp_path,
        SC_DATA_ROOT=str(tmp_path),
        HF_HUB_OFFLINE="1",
    )
    assert out.splitlines() == [
        "['pairs', 'images', 'toy'] ['pairs']",
        "['train', 'validation', 'test']",
        "2",
        "(40, 30)",
        "dataset_module_factory False",
    ]


def test_other_names_are_left_alone(tmp_path: Path) -> None:
    out = run(
        """
import sc_imagenet, datasets
open("rows.csv", "w").write("a,b\\n1,2\\n")
print(datasets.load_dataset("csv", data_files="rows.csv", split="train")[0])
datasets.load_dataset("toy")
""",
        tmp_path,
        HF_HUB_OFFLINE="1",
    )
    assert "toy" in out
    assert "InputError" not in out


def test_without_data_one_error_says_how_to_get_it(tmp_path: Path) -> None:
    message = run("import sc_imagenet, datasets; datasets.load_dataset('sc_imagenet')", tmp_path)
    assert message.startswith("sc_imagenet.core.errors.InputError: the data of SC-ImageNet is not here")
    assert "scbench data download sc-imagenet" in message
    assert "load_dataset('sc_imagenet', 'toy')" in message


def test_importing_the_package_imports_neither_datasets_nor_torch(tmp_path: Path) -> None:
    code = "import sys, sc_imagenet; print(sorted({'datasets', 'torch', 'numpy'} & set(sys.modules)))"
    assert run(code, tmp_path).strip() == "[]"


@pytest.mark.usefixtures("own_caches")
def test_names_and_splits_in_every_way_of_writing(tmp_path: Path) -> None:
    root = spair(tmp_path / "spair-71k")
    assert len(load_dataset("spair-71k:test", root=tmp_path)) == 2
    assert len(load_dataset("spair_71k", split="train+validation", root=root)) == 4
    assert len(load_dataset("spair_71k", split="test[:1]", root=root)) == 1
    assert len(list(load_dataset("spair_71k:validation", root=root, streaming=True))) == 2
    for wrong in (
        {"name": "spair_71"},
        {"name": "spair_71k", "split": "trn"},
        {"name": "spair_71k", "config": "images"},
        {"name": "spair_71k:test", "split": "train"},
    ):
        with pytest.raises(InputError):
            load_dataset(**wrong, root=root)  # type: ignore[arg-type]


@pytest.mark.usefixtures("own_caches")
def test_the_cache_follows_the_content_and_the_images_not_the_path(tmp_path: Path) -> None:
    root = sc_release(tmp_path / "a" / "sc-imagenet")
    without = load_dataset("sc_imagenet", split="train", root=root)
    images = imagenet(tmp_path / "in")
    joined = load_dataset("sc_imagenet", split="train", root=root, imagenet_dir=images)
    moved = root.rename(tmp_path / "b")
    again = load_dataset("sc_imagenet", split="train", root=moved, imagenet_dir=images)
    files = [data.cache_files[0]["filename"] for data in (without, joined, again)]
    assert files[0] != files[1] == files[2]


@pytest.mark.usefixtures("own_caches")
def test_a_stream_is_shared_out_by_shards(tmp_path: Path) -> None:
    root = sc_release(tmp_path / "sc-imagenet")
    stream = load_dataset("sc_imagenet", split="train", root=root, streaming=True)
    names = [name for name in stream.column_names if name not in ("source", "target")]
    stream = stream.select_columns(names)
    parts = [[row["pair_id"] for row in stream.shard(2, index)] for index in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(row["pair_id"] for row in stream)
    assert len(parts[0]) == len(parts[1]) == 3
