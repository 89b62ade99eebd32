"""Decoding images ahead in threads, while the network reads those before them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Place = TypeVar("Place")
Image = TypeVar("Image")

AHEAD = 2  # batches in memory beside the one that is read


def decode_ahead(batches: Iterable[Sequence[Place]], decode: Callable[[Place], Image]) -> Iterator[list[Image]]:
    """What ``decode`` makes of each batch, in order; as many threads as torch computes with.

    Raises:
        whatever ``decode`` raises, when the batch's turn comes.

    >>> list(decode_ahead([[1, 2], [3]], str))
    [['1', '2'], ['3']]
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        waiting: deque[list[Future[Image]]] = deque()
        try:
            for batch in batches:
                waiting.append([threads.submit(decode, place) for place in batch])
                if len(waiting) > AHEAD:
                    yield [image.result() for image in waiting.popleft()]
            while waiting:
                yield [image.result() for image in waiting.popleft()]
        finally:
            for future in (each for batch in waiting for each in batch):
                future.cancel()
