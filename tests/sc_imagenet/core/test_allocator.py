"""Commands and their processes keep freed memory; programs of others, and what a user has set, stay as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import get_context

import pytest

from benchmark.scoring.prediction_files import read_predictions
from sc_imagenet.core.processes import OWN_TUNABLES, OWN_VARIABLES, process_pool
from tests.sc_imagenet.cleared_pages import ALL, COUNT, FEW, ROOT, cleared_pages, cleared_pages_of, with_glibc

COMMAND = f"""
import sys
from benchmark.cli import main
sys.argv = ["scbench", "--help"]
try:
    main()
except SystemExit:
    {COUNT}
"""

pytestmark = with_glibc


def test_a_program_that_imports_the_package_keeps_its_own_allocator():
    imports = "import sc_imagenet, sc_imagenet.core.processes, sc_imagenet.data.load, benchmark.cli\n"
    assert cleared_pages_of(imports + COUNT) > 0.9 * ALL


def test_a_command_keeps_freed_memory():
    assert cleared_pages_of(COMMAND) < FEW


def test_tests_run_as_commands_do():
    assert cleared_pages() < FEW


@pytest.mark.parametrize("name", [*OWN_VARIABLES, "GLIBC_TUNABLES"])
def test_what_the_user_sets_stays(name):
    # Nearly what glibc does by itself, and not at all what a command would set.
    values = {"MALLOC_MMAP_MAX_": "65536", "GLIBC_TUNABLES": f"{OWN_TUNABLES[1]}=65536"}
    assert cleared_pages_of(COMMAND, **{name: values.get(name, "131072")}) > 0.9 * ALL


def test_what_the_user_sets_of_other_things_does_not_matter():
    other = {"MALLOC_ARENA_MAX": "2", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}
    assert cleared_pages_of(COMMAND, **other) < FEW


def test_a_worker_keeps_freed_memory_though_it_is_no_fork_of_a_command():
    with process_pool(1, get_context("spawn")) as pool:
        assert pool.submit(cleared_pages).result() < FEW


def test_predictions_are_the_same_bits_whoever_sets_the_allocator(tmp_path):
    found = []
    for name, variables in (("kept", {}), ("given-back", {"MALLOC_MMAP_THRESHOLD_": "131072"})):
        command = [sys.executable, "-m", "benchmark", "run", "nearest", "--preset", "tiny", "--eval", "toy"]
        command += ["--limit", "8", "--runs", str(tmp_path / name)]
        subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, check=True)
        found.append(read_predictions(next((tmp_path / name).glob("*/*/predictions/*.parquet"))))
    kept, given_back = found
    assert kept.predicted.tobytes() == given_back.predicted.tobytes()
    assert len(kept) == 8
