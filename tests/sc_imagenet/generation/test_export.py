"""From selected pairs to a set: every photograph by an id of its own, found again where it or the set was moved."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.running.data import NamedPairs
from benchmark.running.generate import export_release
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.load import load_dataset
from sc_imagenet.data.shards import open_parquet, write_pairs
from sc_imagenet.generation.export import Exported, export
from sc_imagenet.generation.labelling import BINS, LABELS, SELECTED, to_bytes
from sc_imagenet.generation.options import GenerationOptions
from sc_imagenet.generation.photographs import Scan, scan_photographs

pytestmark = pytest.mark.usefixtures("own_caches")


def photographs(root: Path, names: list[str]) -> Scan:
    """Photographs of these names, no two alike."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return scan_photographs(root, fewest=2)


def exported(out: Path, found: Scan) -> Exported:
    """A set in which each photograph is the source of a pair with the next of its class."""
    labels, selected = {}, {}
    for name, group in found.classes.items():
        count = len(group)
        rows = [
            {
                "source": number,
                "target": (number + 1) % count,
                "source_points": [[5, 6]],
                "target_points": [[7, 8]],
                "confidence": [1],
                "loop_offset": [0],
                "pair_score": 0,
            }
            for number in range(count)
        ]
        nothing = [0] * (len(BINS) - 1)
        about = {"left_out": None, "matchings": 0, "offsets": {"matched": nothing, "selected": nothing}}
        about |= {"shortfalls": [], "images": count, "single": count}
        states = [{"path": each.path, "objects": 1, "area": 0.5, "score": 1.0} for each in group]
        for shards, rows_of, schema in ((labels, states, LABELS), (selected, rows, SELECTED)):
            shards[name] = out / "work" / f"{len(labels)}-{schema is LABELS}.parquet"
            shards[name].parent.mkdir(parents=True, exist_ok=True)
            shards[name].write_bytes(to_bytes(pa.Table.from_pylist(rows_of, schema=schema), about))
    return export(out, found, labels, selected, GenerationOptions(size=192))


def test_two_wnids_and_two_endings_in_one_class_are_different_photographs_in_the_release_layout(tmp_path):
    names = [f"n02084071/n02084071_{number}.JPEG" for number in (5, 6)]
    names += ["n02084071/n02084071_5.png", "n02084071/n02085620_5.JPEG", "n02084071/n02085620_6.JPEG"]
    names += [f"pets/{wnid}_{number}.JPEG" for wnid in ("n02084071", "n02085620") for number in (5, 6)]
    found = photographs(tmp_path / "photographs", names)
    exported(tmp_path / "set", found)
    export_release(tmp_path / "set", None)
    ours = load_dataset("sc_imagenet", root=tmp_path / "set")
    theirs = load_dataset("sc_imagenet", root=tmp_path / "set" / "spair")
    seen = set()
    for split in ("train", "validation"):
        for one, other in zip(ours[split], theirs[split], strict=True):
            assert one["pair_id"] == other["pair_id"]
            for side in ("source", "target"):
                assert one[side].tobytes() == other[side].tobytes()
                seen.add(one[side].tobytes())
    assert len(seen) == len(names)
    own = tmp_path / "set/spair/JPEGImages/n02084071/n02084071_5.JPEG"  # ImageNet's name means ImageNet's image
    assert own.resolve() == tmp_path / "photographs" / names[0]


def test_a_set_whose_ids_are_not_unique_is_refused_with_both_names(tmp_path):
    found = photographs(tmp_path / "photographs", ["pets/n02084071_5.JPEG", "pets/n02085620_5.JPEG"])
    made = exported(tmp_path / "set", found)
    for split, record in made.records.items():  # as earlier versions wrote them
        rows = [row for file in record.files for row in open_parquet(file).read().to_pylist()]
        rows = [{**row, "pair_id": f"{number}-5-5:pets"} for number, row in enumerate(rows)]
        write_pairs(tmp_path / "set", split, rows, record.categories, len(rows))
    with pytest.raises(InputError, match=r"pets/n0208\d+_5.JPEG and pets/n0208\d+_5.JPEG are both pets_5.JPEG"):
        export_release(tmp_path / "set", None)


def test_photographs_that_are_not_called_as_imagenets_are_told(tmp_path, monkeypatch, capsys):
    names = [f"n02084071/ILSVRC2012_val_0000029{number}.JPEG" for number in (1, 2)]
    exported(tmp_path / "set", photographs(tmp_path / "photographs", [*names, "n02084071/n02084071_5.JPEG"]))
    assert export_release(tmp_path / "set").others == tuple(names)
    monkeypatch.setattr("sys.argv", ["scbench", "generate", "export", "--out", str(tmp_path / "set")])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err.replace("\n", " ")
    assert f"2 photographs, {names[0]} first, are not called as ImageNet's" in said


def test_photographs_that_were_moved_are_found_by_their_new_folder_and_never_in_the_working_one(
    tmp_path, monkeypatch, capsys
):
    found = photographs(tmp_path / "photographs", ["a/1.png", "a/2.png", "b/1.png", "b/2.png"])
    exported(tmp_path / "set", found)
    before = load_dataset("sc_imagenet", root=tmp_path / "set", split="train")[0]["source"].tobytes()
    export_release(tmp_path / "set", None)
    (tmp_path / "photographs").rename(tmp_path / "moved")
    out = (tmp_path / "set").rename(tmp_path / "elsewhere")
    decoy = photographs(tmp_path / "decoy", ["a/3.png", "a/1.png", "b/1.png", "a/2.png"])
    monkeypatch.chdir(decoy.root)  # other images under the same relative paths
    monkeypatch.setenv("IMAGENET_ROOT", str(decoy.root))
    with pytest.raises(InputError, match="elsewhere/JPEGImages/"):
        load_dataset("sc_imagenet", root=out, split="train")[0]
    with pytest.raises(InputError, match=r"photographs are not where they were: JPEGImages leads to .*photographs"):
        NamedPairs.parse(str(out), "train", None).open()
    with pytest.raises(
        InputError, match=r"JPEGImages leads to .*photographs, which is not there.*--photographs FOLDER"
    ):
        export_release(out, None)
    for streaming in (False, True):
        rows = load_dataset(
            "sc_imagenet", root=out, split="train", imagenet_dir=tmp_path / "moved", streaming=streaming
        )
        assert next(iter(rows))["source"].tobytes() == before
    with pytest.raises(InputError, match=r"decoy: holds no b/2\.png"):
        export_release(out, decoy.root)
    export_release(out, tmp_path / "moved")
    for root in (out, out / "spair"):
        assert load_dataset("sc_imagenet", root=root, split="train")[0]["source"].tobytes() == before
    assert len(NamedPairs.parse(str(out), "train", None).open()) == 3
    shutil.copytree(out, tmp_path / "copy", symlinks=True)
    assert os.path.samefile(tmp_path / "copy/spair/JPEGImages/a/a_00000.JPEG", tmp_path / "moved/a/1.png")


def test_a_set_of_imagenets_classes_finds_its_images_in_imagenet_root_where_its_link_leads_nowhere(
    tmp_path, monkeypatch
):
    found = photographs(tmp_path / "photographs", [f"n02084071/n02084071_{number}.JPEG" for number in range(3)])
    exported(tmp_path / "set", found)
    (tmp_path / "photographs").rename(tmp_path / "imagenet")
    monkeypatch.setenv("IMAGENET_ROOT", str(tmp_path / "imagenet"))
    assert load_dataset("sc_imagenet", root=tmp_path / "set", split="train")[0]["source"].size == (48, 40)


def test_a_folder_of_photographs_is_not_replaced_by_a_link(tmp_path):
    found = photographs(tmp_path / "photographs", ["a/1.png", "a/2.png"])
    exported(tmp_path / "set", found)
    (tmp_path / "set/JPEGImages").unlink()
    shutil.copytree(found.root, tmp_path / "set/JPEGImages")
    export_release(tmp_path / "set", None)
    with pytest.raises(InputError, match="is no link but a folder of photographs"):
        export_release(tmp_path / "set", tmp_path / "photographs")
    assert replace(found, root=tmp_path / "set/JPEGImages").count == 2
