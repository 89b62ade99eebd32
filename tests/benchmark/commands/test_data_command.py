"""``scbench data``: what it prints, what it writes, and one line with exit code 2 where it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat


@pytest.fixture
def root(tmp_path: Path, monkeypatch) -> Path:
    """A data root with two classes of three images in PF-WILLOW's layout; caches of its own."""
    rng = np.random.default_rng(0)
    for category in ("car(G)", "duck(S)"):
        folder = tmp_path / "data" / "pf-willow" / category
        folder.mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(folder / f"i{i}.png")
            savemat(folder / f"i{i}.mat", {"pts_coord": rng.uniform(1, 28, (2, 10))})
    monkeypatch.setenv("SC_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("SC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hf"))
    return tmp_path / "data"


def refused(result: tuple[int, str, str], words: str) -> None:
    code, _, err = result
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def test_list_says_what_is_on_this_machine(scbench, root):
    code, out, _ = scbench("data", "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["pf-willow"]["place"] == str(root / "pf-willow")
    assert rows["spair-71k"]["place"] is None
    assert rows["spair-71k"]["pairs"]["test"] == 12234
    assert rows["toy"]["place"] == "built in"
    assert "spair-71k" in scbench("data", "list")[1]


@pytest.mark.parametrize("name", ["sc_imagenet", "pf-pascal", "pf-willow", "spair_71k", "diy-sc", "toy"])
def test_info_tells_how_to_get_every_data_set(scbench, root, name):
    code, out, _ = scbench("data", "info", name, "--json")
    row = json.loads(out)
    assert code == 0
    assert row["by_hand"]
    assert row["layout"]
    assert row["licence"]
    assert all(url.startswith("https://") for url in row["download"])
    table = " ".join(scbench("data", "info", name)[1].split())
    assert row["by_hand"][0].split(";")[0] in table


def test_info_of_an_unknown_name(scbench, root):
    refused(scbench("data", "info", "spair-71"), "unknown data set 'spair-71'. Did you mean 'spair-71k'?")


def test_download_without_mirrors_prints_the_steps(scbench, root):
    result = scbench("data", "download", "sc-imagenet")
    refused(result, "cannot be downloaded by a program")
    assert "1. Sign the agreement" in result[1]
    assert "cat SC-IMAGENET.tar.gz.part.* > SC-IMAGENET.tar.gz" in result[1]


def test_download_keeps_what_is_there(scbench, root):
    code, out, _ = scbench("data", "download", "pf-willow")
    assert code == 0
    assert "PF-dataset.zip: already here" in out


def test_verify_of_a_part_ends_well_and_of_damage_with_2(scbench, root):
    code, out, _ = scbench("data", "verify", "pf-willow:test")
    assert code == 0
    assert "partial: 12 of 900" in out
    (root / "pf-willow" / "duck(S)" / "i1.png").unlink()
    result = scbench("data", "verify", "pf_willow:test", "--json")
    refused(result, "pf-willow: is damaged: 1 missing images")
    assert json.loads(result[1])["damaged"] is True


def test_convert_says_what_it_wrote(scbench, root):
    code, out, _ = scbench("data", "convert", "pf-willow:test", "--json")
    (row,) = json.loads(out)
    assert code == 0
    assert (row["pairs"], row["images"], row["points"]) == (12, 6, 120)
    assert list(Path(row["place"]).glob("test-*.parquet"))


def test_show_draws_pairs_of_a_class(scbench, root, tmp_path):
    out = tmp_path / "pairs.png"
    code, text, _ = scbench("data", "show", "pf-willow", "--pairs", 3, "--category", "duck(S)", "--out", out)
    assert (code, text) == (0, f"3 pairs in {out}\n")
    with Image.open(out) as picture:
        assert picture.width > 900
        assert picture.height > 1200
    again = tmp_path / "again.png"
    scbench("data", "show", "pf-willow", "--pairs", 3, "--category", "duck(S)", "--out", again)
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "pf-willow:tset"], "unknown split of pf-willow 'tset'. Did you mean 'test'?"),
        (["verify", "spair-71k"], "has no folder 'spair-71k'"),
        (["convert", "pf-pascal"], "has no folder 'pf-pascal'"),
        (["show", "pf-willow", "--out", "pairs.xyz"], "does not end like a picture"),
        (["show", "pf-willow", "--out", "p.png", "--category", "duck"], "unknown class of pf-willow 'duck'"),
        (["show", "pf-willow", "--out", "p.png", "--data-root", "/nonexistent"], "no such folder"),
    ],
)
def test_bad_input_is_one_line(scbench, root, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    refused(scbench("data", *arguments), words)
    assert not list(tmp_path.glob("p*.png"))


def test_show_of_a_zero_byte_image_names_image_and_pair(scbench, root, tmp_path):
    scbench("data", "convert", "pf-willow:test")
    for path in (root / "pf-willow").glob("*/*.png"):
        path.write_bytes(b"")
    result = scbench("data", "show", "pf-willow:test", "--out", tmp_path / "x.png")
    refused(result, "is empty (0 bytes)")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['scbench', 'data', '--help']\n"
        "from benchmark.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'datasets', 'pyarrow', 'PIL', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "verify" in done.stdout


def test_lists_are_written_and_compared(scbench, root, tmp_path):
    code, out, _ = scbench("data", "lists", "pf-willow", "--out", tmp_path / "lists", "--json")
    assert code == 0
    assert {row["split"]: row["pairs"] for row in json.loads(out)}["test"] == 12
    whole = tmp_path / "lists" / "test.txt"
    code, out, _ = scbench("data", "compare-lists", whole, whole)
    assert (code, out.startswith("equal: 12 pairs")) == (0, True)
    part = tmp_path / "part.txt"
    part.write_text("\n".join(whole.read_text().splitlines()[:9]))
    code, out, _ = scbench("data", "compare-lists", whole, part)
    assert "9 in both, of 12 and 9" in out
    refused(scbench("data", "lists", "pf-willow", "--order", part), "hang on no order of files")
    refused(scbench("data", "compare-lists", whole, tmp_path / "none.txt"), "no such file")
