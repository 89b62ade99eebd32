"""README.md, docs/ and examples/: their Python runs, their links lead somewhere, the paper is cited alike."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
MORE = ROOT / "examples"


def run(code: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 115


def test_the_python_of_the_readme_runs(tmp_path):
    [code] = re.findall(r"```python\n(.*?)```", README, re.S)
    printed = run(code, tmp_path)
    assert printed.count("[[") >= 2
    assert 0 < float(printed.splitlines()[-1]) <= 100
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    for path in re.findall(
        r"`((?:sc_imagenet|baselines|benchmark|tests|examples|docs|cards)/[\w/.-]*\.(?:py|md))`", text
    ):
        assert (ROOT / path).exists() or "my_" in path, f"{page.name}: {path}"


def test_the_walks_name_files_that_are_there_and_count_them():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walks = re.findall(r"through (\d+) files[\s\S]*?\n\n((?:    .*\n)+)", text)
    assert len(walks) == 4
    for count, block in walks:
        named = [f"{line.split()[0]}/{name}.py" for line in block.splitlines() for name in line.split()[1:]]
        assert len(set(named)) == len(named) == int(count)
        assert not [path for path in named if not (ROOT / path).exists()]


def test_the_paper_and_this_version_are_cited_alike():
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    given = re.findall(r"given-names: (.+)\n\s+family-names: (.+)", cited)
    assert len(given) == 7
    plain = " ".join(README.split())
    title = re.search(r'preferred-citation:.*?title: "(.*?)"', cited, re.S)
    doi = re.search(r"doi: (\S+)", cited)
    version = re.search(r"^version: (\S+)", cited, re.M)
    assert title is not None
    assert doi is not None
    assert version is not None
    for told in (*(" ".join(name) for name in given), title[1], doi[1], "16254-16263", f"version {version[1]}"):
        assert told in plain
    assert f'version = "{version[1]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def cells(notebook: Path) -> list[str]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    assert not any(cell.get("outputs") for cell in content["cells"])
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_runs_on_the_embedded_set(tmp_path):
    code = "\n".join(cells(MORE / "first_hour.ipynb"))
    printed = run(code.replace("PAIRS = 40", "PAIRS = 6"), tmp_path)
    assert "PCK@0.1" in printed
    assert (tmp_path / "matches.png").stat().st_size > 10_000


def test_the_course_s_notebook_runs_and_its_head_learns(tmp_path):
    code = "\n".join(cells(MORE / "course.ipynb"))
    printed = run(code.replace("PAIRS = 60", "PAIRS = 6").replace("STEPS = 150", "STEPS = 24"), tmp_path)
    first, last = map(float, re.search(r"first ten steps ([\d.]+), of the last ten ([\d.]+)", printed).groups())
    assert last < first
    assert printed.count("PCK@0.1") == 9
    shares = [float(share) for share in re.findall(r"([\d.]+) %", printed)]
    assert abs(sum(shares) - 100) < 0.5
    assert (tmp_path / "features.png").stat().st_size > 5_000


def test_the_notebook_runs_on_two_photographs_of_a_persons_own(tmp_path):
    from PIL import Image

    for name, turned in (("one.jpg", False), ("two.png", True)):
        image = Image.radial_gradient("L").resize((320, 200)).convert("RGB")
        (image.rotate(10) if turned else image).save(tmp_path / name)
    first, second, *_ = cells(MORE / "first_hour.ipynb")
    assert "A, B = None, None" in first
    printed = run(first.replace("A, B = None, None", 'A, B = "one.jpg", "two.png"') + "\n" + second, tmp_path)
    assert "comes back within" in printed
    assert (tmp_path / "matches.png").exists()


def test_the_training_script_trains_scores_and_says_how_to_use_the_model(tmp_path):
    arguments = ["--limit", "4", "--steps", "1", "--runs", "runs"]
    done = subprocess.run(
        [sys.executable, str(MORE / "train.py"), *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [told] = re.findall(r"load_model\('(.*?)'\)", done.stdout)
    assert (tmp_path / told / "checkpoints/best.safetensors").exists()
    assert "PCK@0.1" in done.stdout
