"""Several processes of one machine that train together, by accelerate: each takes its share of every batch.

The launcher starts them (``pipeline.executors.gpus.join_gpus``) and says by RANK and WORLD_SIZE who each is. Whatever
they make is the same in all of them, and the main process writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.distributed as dist
from accelerate import PartialState

from ltgc_local.backends.torch_device import resolve_device
from ltgc_local.errors import BackendError

BUCKET_BYTES = 25 * 1024**2  # of gradients sent in one message, as in DDP: a message costs more than its contents


@contextmanager
def process_group(device: str, processes: int) -> Iterator[None]:
    """Meet the other processes, before any model is loaded: each is given its own GPU here.

    Args:
        device: as the recipe's ``models.device``.

    Raises:
        BackendError: they did not meet, so that each would train alone and all of them on everything.
    """
    state = _state(device)
    if state.num_processes != processes:
        raise BackendError(
            f"{processes} processes were to train together, and accelerate sees {state.num_processes}; type "
            "--set models.workers=1"
        )
    try:
        yield
    finally:
        state.destroy_process_group()


def main_process_first(device: str) -> AbstractContextManager[None]:
    """Let the main process through before the others, which then find what it wrote."""
    first: AbstractContextManager[None] = _state(device).main_process_first()
    return first


def _state(device: str) -> PartialState:
    return PartialState(cpu=resolve_device(device) == "cpu")


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
    """Give each gradient its mean over the processes, all of which have gradients of the same parameters."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    bucket: list[torch.Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        bucket.append(parameter.grad)
        if sum(gradient.nbytes for gradient in bucket) >= BUCKET_BYTES:
            _average(bucket)
            bucket = []
    if bucket:
        _average(bucket)


def _average(gradients: list[torch.Tensor]) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, values in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(values.view_as(gradient))
