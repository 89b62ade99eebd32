"""Engines give the same results, whatever happens to their workers."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest

from sc_imagenet.core.errors import InputError
from sc_imagenet.generation.pipeline import LocalEngine, attempt_in_ray, open_engine
from tests.sc_imagenet.cleared_pages import COUNT, FEW, cleared_pages_of, with_glibc

INSTALLED = ["local"] + (["ray"] if importlib.util.find_spec("ray") else [])


def square(task):
    return str(task[1] ** 2).encode()


def killed_at_first(task):
    folder, number = task
    mark = Path(folder) / str(number)
    if number % 3 == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(task)


def killed_always(task):
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def refuses_three(task):
    if task[1] == 3:
        raise InputError("is three")
    return square(task)


def results(engine, function, folder, count=5):
    tasks = [(str(folder), number) for number in range(count)]
    return {task[1]: result for task, result in engine.run(function, tasks)}


@pytest.mark.parametrize("name", INSTALLED)
def test_tasks_of_killed_workers_are_run_again(name, tmp_path):
    wanted = results(LocalEngine(1), square, tmp_path)
    assert results(open_engine(name, 2), killed_at_first, tmp_path) == wanted
    assert {path.name for path in tmp_path.iterdir()} == {"1", "4"}


def test_a_task_that_always_kills_its_worker_ends_in_one_error(tmp_path):
    with pytest.raises(InputError, match="a worker died 4 times"):
        results(LocalEngine(2), killed_always, tmp_path, count=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_fails_does_not_stop_the_others(workers, tmp_path):
    found = results(LocalEngine(workers), refuses_three, tmp_path)
    assert str(found.pop(3)) == "is three"
    assert found == {0: b"0", 1: b"1", 2: b"4", 4: b"16"}


def test_an_unknown_engine_is_named():
    with pytest.raises(InputError, match=r"unknown engine 'loca'\. Did you mean 'local'"):
        open_engine("loca", 1)


@with_glibc
def test_a_task_in_a_process_that_ray_started_keeps_freed_memory():
    code = f"from sc_imagenet.generation.pipeline import attempt_in_ray; attempt_in_ray(bytes, b'task')\n{COUNT}"
    assert attempt_in_ray(bytes, b"task") == b"task"
    assert cleared_pages_of(code) < FEW
