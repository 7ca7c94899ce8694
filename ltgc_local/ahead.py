"""Work done ahead of its use, in threads: the next batch is decoded and gathered while a model works on this one.

Threads, not processes: Pillow's decoders and resampling, numpy's and torch's copies let go of Python's lock, and what
a thread makes need not be sent to another process.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def num_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def map_ahead(function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int) -> Generator[R, None, None]:
    """Yield ``function(item)`` in the items' order; up to ``ahead`` results are made, or being made, before their use.

    An exception comes out where its result would have. What was begun and is not asked for any more is awaited or
    dropped when the iterator is closed.
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
