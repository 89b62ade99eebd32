"""A stranger's file or package makes a model and a data set known; what is wrong with it is one line."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.commands.include import make_known
from benchmark.running.arguments import RunConfig
from sc_imagenet.core import plugins
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.catalog import catalog, reader
from tests import PATIENCE

ROOT = Path(__file__).parents[3]
SET = """
from sc_imagenet.sources.source import DataSet, Source

DATA_SET = DataSet(
    name="{name}", title="Theirs", paper="", licence="", homepage="", splits=("test",), pairs={{}}, images=None,
    classes=None, points="", manual="",
)


class Theirs(Source):
    name = "{reader}"
"""
MODEL = """
from baselines.nearest import Nearest
from baselines.registry import register


@register("{name}", title="Theirs", paper="", licence="", supervision="none", backbone="none")
class Theirs(Nearest):
    pass
"""


@pytest.fixture(autouse=True)
def _nothing_included(monkeypatch):
    monkeypatch.setenv(plugins.INCLUDE, "")


def write(file: Path, text: str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return str(file)


def python(code: str, *paths: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    where = os.pathsep.join(map(str, (*paths, ROOT)))
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": where, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("cut.py", "x = 1\ndef f(:\n", r"cut\.py: cannot be included \(line 2: SyntaxError: .*\)\. Mend it"),
        (
            "needs.py",
            "import json\n\nimport nowhere_to_be_had",
            "line 3: ModuleNotFoundError: No module named 'nowhere",
        ),
        ("empty.py", "x = 1", "holds neither a model nor a data set.*CONTRIBUTING.md"),
        ("two-words.py", "x = 1", "cannot be included under this name.*my_model.py"),
        ("same_model.py", MODEL.format(name="cats"), "registers a model as 'cats', as baselines.cats does"),
        ("bad_model.py", MODEL.format(name="My Model"), "a model is called 'My Model'"),
        (
            "same_set.py",
            SET.format(name="toy", reader="toy"),
            "has the name 'toy' of the one of sc_imagenet.sources.toy",
        ),
        ("no_reader.py", SET.format(name="their-set", reader="else"), "holds no reader of its data set 'their-set'"),
        ("no_set.py", "DATA_SET = {}", "holds no DATA_SET that is a DataSet"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, name, text, says):
    with pytest.raises(InputError, match=says) as error:
        make_known(write(tmp_path / name, text))
    assert str(tmp_path / name) in str(error.value) or "plugins" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_and_two_of_one_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file to include"):
        make_known(str(tmp_path / "absent.py"))
    plugins.include(write(tmp_path / "a/of_one_name.py", "x = 1"))
    with pytest.raises(InputError, match="Rename one of them"):
        plugins.include(write(tmp_path / "b/of_one_name.py", "x = 2"))


def test_an_included_data_set_is_known_here_and_in_processes_that_start_later(tmp_path):
    file = write(tmp_path / "their_set.py", SET.format(name="their-set", reader="their-set"))
    assert "their-set" not in catalog()
    make_known(file)
    assert catalog()["their-set"].title == "Theirs"
    assert plugins.origins(reader("their-set")) == {"their_set.py": hashlib.sha256(Path(file).read_bytes()).hexdigest()}
    assert plugins.origins(reader("toy")) == {}
    # As a worker that is spawned: it imports nothing of ours before it is given its task.
    there = python(f"import pickle; print(pickle.loads({pickle.dumps(reader('their-set'))!r}).name)")
    assert there.stdout == "their-set\n", there.stderr
    assert not list(tmp_path.rglob("__pycache__")), "compiled code may be of an older version of the file"


def test_another_version_of_a_file_is_another_run_and_without_one_a_run_is_called_as_before():
    plain = RunConfig(model="nearest", arguments={})
    first, second = (RunConfig(model="nearest", arguments={}, files={"a.py": digest}) for digest in ("1", "2"))
    assert len({plain.id, first.id, second.id}) == 3
    assert plain.id == "477980334f43"


def test_a_wrong_file_ends_a_command_with_one_line_and_code_2(tmp_path):
    file = write(tmp_path / "cut.py", "def f(:")
    done = python(
        "from benchmark.cli import main; import sys\n"
        f"sys.argv = ['scbench', 'check', 'nearest', '--include', {file!r}]\nmain()"
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_package_makes_its_models_and_data_sets_known_by_entry_points(tmp_path):
    write(tmp_path / "theirs/model.py", MODEL.format(name="their-model"))
    write(tmp_path / "theirs/data.py", SET.format(name="their-set", reader="their-set"))
    entries = "[sc_imagenet.models]\nm = theirs.model\n\n[sc_imagenet.sources]\nd = theirs.data\n"
    write(tmp_path / "theirs-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    file = Path(write(tmp_path / "theirs-1.0.dist-info/entry_points.txt", entries))
    code = "from baselines import registry; from sc_imagenet.data.catalog import info\n"
    code += "print(registry.card('their_model').title, info('their_set').title)"
    done = python(code, tmp_path)
    assert done.stdout == "Theirs Theirs\n", done.stderr
    file.write_text("[sc_imagenet.models]\nm = theirs.nothing\n")
    done = python(code, tmp_path)
    assert (
        "entry point m = theirs.nothing of sc_imagenet.models: cannot be imported (ModuleNotFoundError" in done.stderr
    )
    assert "Mend or uninstall the package theirs." in done.stderr
