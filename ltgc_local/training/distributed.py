"""Processes of one machine that train together, by accelerate: each takes its share of every batch.

The launcher starts them (``pipeline.executors.machine.training_environments``); RANK and WORLD_SIZE tell each which it
is. Whatever they make is the same in all of them, and the main process writes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState

from ltgc_local.backends.torch_device import resolve_device
from ltgc_local.errors import BackendError

BUCKET_BYTES = 25 * 1024**2  # of gradients sent in one message, as in DDP: a message costs more than its contents


@contextmanager
def process_group(device: str, processes: int, store: str | None = None) -> Iterator[None]:
    """Meet the other processes, before any model is loaded: each is given its own GPU here.

    Args:
        device: as the recipe's ``models.device``.
        store: file to meet at, which does not exist yet; None: as the environment says.

    Raises:
        BackendError: they did not meet, so each would train alone on everything.
    """
    meeting: dict[str, Any] = {}
    if store is not None:
        # Not "file://…": a path with "#" or "?" would be cut there, and two runs could meet.
        meeting = {"rank": int(os.environ["RANK"]), "world_size": processes}
        meeting["store"] = dist.FileStore(store, processes)  # type: ignore[attr-defined]
    state = PartialState(cpu=resolve_device(device) == "cpu", **meeting)
    if state.num_processes != processes:
        raise BackendError(
            f"{processes} processes were to train together, and accelerate sees {state.num_processes}; type "
            "--set models.training_processes=1"
        )
    try:
        yield
    finally:
        state.destroy_process_group()


def is_main_process(device: str) -> bool:
    """Return whether this process writes what several make together."""
    return bool(PartialState(cpu=resolve_device(device) == "cpu").is_main_process)


def check_shares(block: str, batch_size: int, processes: int) -> None:
    """Check that a batch can be shared out evenly.

    Args:
        block: the recipe's block that ``batch_size`` is a key of.

    Raises:
        BackendError: it cannot.
    """
    if batch_size % processes:
        raise BackendError(
            f"{block}: {batch_size} images per step cannot be shared evenly by {processes} processes; "
            f"type --set {block}.batch_size={processes * -(-batch_size // processes)}"
        )


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes, all of which have gradients of the same parameters."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    buckets: list[list[torch.Tensor]] = [[]]
    for gradient in (parameter.grad for parameter in parameters if parameter.grad is not None):
        if sum(each.nbytes for each in buckets[-1]) >= BUCKET_BYTES:
            buckets.append([])
        buckets[-1].append(gradient)
    for bucket in filter(None, buckets):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for gradient, values in zip(bucket, torch.split(flat, [each.numel() for each in bucket]), strict=True):
            gradient.copy_(values.view_as(gradient))
