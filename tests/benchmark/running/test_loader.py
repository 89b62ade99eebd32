"""Batches from other processes: whatever happens in those is one line here."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.batches import load_batches, loader_deaths
from tests.sc_imagenet.cleared_pages import FEW, cleared_pages, with_glibc


class Items(torch.utils.data.Dataset):
    """Items that do something at number 3."""

    def __init__(self, at_three):
        self.at_three = at_three

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 3:
            self.at_three()
        return {"index": index, "source_points": torch.zeros(1, 2)}


def refuse():
    raise InputError("is damaged", where="3.jpg", fix="Get it again.")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def ask_to_end():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_the_same_line_wherever_it_is_read(workers):
    with pytest.raises(InputError) as error:
        list(load_batches(Items(refuse), workers, batch_size=2))
    assert str(error.value) == "3.jpg: is damaged. Get it again."


def test_a_killed_loader_is_one_line():
    with pytest.raises(InputError, match=r"was killed, .*memory runs out.*fewer --workers \(2 were"), loader_deaths(2):
        list(load_batches(Items(die), 2, batch_size=2))


def test_a_signal_to_the_whole_group_is_the_main_process_to_obey():
    batches = load_batches(Items(ask_to_end), 1, batch_size=2)
    assert [batch["index"].tolist() for batch in batches] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def refuse_with_cleared_pages():
    raise InputError(str(cleared_pages()))


@with_glibc
def test_a_process_that_loads_pairs_keeps_freed_memory():
    with pytest.raises(InputError) as error:
        list(load_batches(Items(refuse_with_cleared_pages), 1, batch_size=2, multiprocessing_context="spawn"))
    assert int(str(error.value)) < FEW
