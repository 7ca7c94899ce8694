"""Work done ahead of its use, in threads: the next batch is decoded and gathered while a model works on this one.

Threads, not processes: Pillow's decoders and resampling and the copies of numpy and torch release Python's lock, and a
thread's results need not be sent to another process.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def num_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def prefetch(function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int) -> Generator[R, None, None]:
    """Yield ``function(item)`` in the items' order, working on up to ``ahead`` results before their use.

    An exception is raised in place of its result. Closing the iterator waits for what has begun and drops the rest.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    remaining = iter(items)
    pending: deque[Future[R]] = deque()
    try:
        pending.extend(pool.submit(function, item) for item in islice(remaining, max(1, ahead)))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(remaining, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


BLOCK = 8  # items that a thread takes at a time: starting one costs as much as decoding a very small image
BLOCKS_AHEAD = 64  # 512 images of 224 px are 77 MB


def map_batches(
    function: Callable[[Sequence[T]], R], batches: Iterable[Sequence[T]], workers: int, device: str
) -> Generator[list[R], None, None]:
    """Yield, for each batch, the results of its blocks of 8 in order.

    While a GPU uses a batch, the next ones are prepared. A CPU does one after the other: decoding large images at the
    same time slows down a model whose threads wait for each other by more than it saves (with 28 px images it would
    save a tenth).

    Args:
        batches: none of them empty; consumed in the caller's thread, as far ahead as the results.
        device: where the batches are used.
    """
    if device == "cpu":
        with ThreadPoolExecutor(workers, thread_name_prefix="blocks") as pool:
            for batch in batches:
                yield list(pool.map(function, _blocks(batch)))
        return
    blocks_of: deque[int] = deque()

    def blocks() -> Iterator[Sequence[T]]:
        for batch in batches:
            cut = _blocks(batch)
            blocks_of.append(len(cut))
            yield from cut

    with closing(prefetch(function, blocks(), workers, BLOCKS_AHEAD)) as results:
        for first in results:
            yield [first, *islice(results, blocks_of.popleft() - 1)]


def _blocks(batch: Sequence[T]) -> list[Sequence[T]]:
    return [batch[start : start + BLOCK] for start in range(0, len(batch), BLOCK)]
