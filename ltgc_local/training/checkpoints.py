"""Checkpoints of a training: one safetensors file with the numbers as its metadata, written whole; never a pickle.

It holds what the algorithm keeps, the states of the optimisers and of the random number generators, the losses and the
history, and the sha256 of all that. Which images a batch holds depends on seed and step alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ltgc_local.errors import ArtefactError
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.disk import Damaged, repair_file
from ltgc_local.runs.files import Tensors, write_atomically

Groups = Mapping[str, Mapping[str, torch.Tensor]]


def write_checkpoint(path: Path, groups: Groups, facts: Mapping[str, Any]) -> None:
    """Write groups of named tensors and JSON values, replacing what ``path`` holds."""
    tensors = {
        f"{group}/{name}": tensor.detach().cpu() for group, named in groups.items() for name, tensor in named.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    sealed = json.dumps({"facts": facts, "sha256": _digest(tensors, facts)})
    write_atomically(Tensors("checkpoint", tensors, metadata={"sealed": sealed}), path)


def read_checkpoint(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]] | None:
    """Return the tensors by group and the facts, or None where there is no checkpoint.

    Raises:
        Damaged: it is not what was written; without it, the training begins anew.
    """
    if not path.is_file():
        return None
    again = repair_file(path)
    try:
        tensors, sealed = read_tensors(path, "sealed")
        facts: dict[str, Any] = sealed["facts"]
        is_whole = _digest(tensors, facts) == sealed["sha256"]
    except (ArtefactError, KeyError, TypeError) as problem:
        raise Damaged(path, str(problem.__cause__ or problem), again) from None
    if not is_whole:
        raise Damaged(path, "its sha256 is not the one that it was written with", again)
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = tensor
    return groups, facts


def _digest(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the optimiser's state as tensors, named "<number of the parameter>.<what it is>"."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, of_parameter in state.items()
        for name, value in of_parameter.items()
        if value is not None
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load what ``optimizer_tensors`` returned into a fresh optimiser of the same parameters.

    A tensor of a parameter's shape also gets the parameter's memory layout: files store rows only, and a fused
    optimiser walks through both in memory order.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        parameter = parameters[int(number)]
        if tensor.shape == parameter.shape:
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def random_states() -> dict[str, torch.Tensor]:
    """Return the states of torch's own generators, which dropout uses."""
    return {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def set_random_states(states: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
