"""Several processes of one machine that train together, by accelerate: each takes its share of every batch.

The launcher starts them (``pipeline.executors.gpus.join_gpus``) and says by RANK and WORLD_SIZE who each is. Whatever
they make is the same in all of them, and the first writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from accelerate import PartialState

from ltgc_local.backends.torch_device import resolve_device
from ltgc_local.errors import BackendError

BUCKET_BYTES = 25 * 1024**2  # of gradients that are sent together, as DDP does: a message costs more than its contents


@contextmanager
def joined(device: str, processes: int) -> Iterator[None]:
    """Meet the other processes, before any model is loaded: each is given its own GPU here.

    Args:
        device: as the recipe's ``models.device``.

    Raises:
        BackendError: they did not meet, so that each would train alone and all of them on everything.
    """
    state = PartialState(cpu=resolve_device(device) == "cpu")
    if state.num_processes != processes:
        raise BackendError(
            f"{processes} processes were to train together, and accelerate sees {state.num_processes}; type "
            "--set models.workers=1"
        )
    try:
        yield
    finally:
        state.destroy_process_group()


@contextmanager
def first_process_first() -> Iterator[None]:
    """Let the first process through before the others, which then find what it wrote."""
    if not _is_joined():
        yield
        return
    if dist.get_rank() > 0:
        _wait_for_all()
    yield
    if dist.get_rank() == 0:
        _wait_for_all()


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give each gradient its mean over the processes, all of which have gradients of the same parameters."""
    if not _is_joined():
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


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _wait_for_all() -> None:
    if torch.cuda.is_available() and dist.get_backend() == "nccl":
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()
