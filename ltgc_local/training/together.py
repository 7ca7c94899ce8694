"""Several processes of one machine that train together, by accelerate: each takes its share of every batch.

The launcher starts them (``launch.gpus.join_gpus``) and says by RANK and WORLD_SIZE who each is. Whatever they make is
the same in all of them, and the first writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from accelerate import PartialState

from ltgc_local.backends.torch_device import resolve_device
from ltgc_local.errors import BackendError


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
    if not (dist.is_available() and dist.is_initialized()):
        yield
        return
    if dist.get_rank() > 0:
        _wait_for_all()
    yield
    if dist.get_rank() == 0:
        _wait_for_all()


def _wait_for_all() -> None:
    if torch.cuda.is_available() and dist.get_backend() == "nccl":
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()
