"""What a run costs: processor time, GPU time and energy, tokens, images, bytes; per chunk, per step and in all.

A chunk's costs stand in its own file, so they survive whatever happens to its worker; a step's are in its manifest.
They are in no fingerprint and in no digest. Work that was lost with a killed process is not counted.
"""

from __future__ import annotations

import ctypes
import resource
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Any

from ltgc_local.runs.files import Artefact, Images, ImageTable
from ltgc_local.runs.schemas import Chunk, Costs

NVML = "libnvidia-ml.so.1"  # comes with NVIDIA's driver


def add_costs(parts: Iterable[Costs]) -> Costs:
    """Add costs up; energy only where every part that held a GPU knows it."""
    found = list(parts)
    on_gpus = [each for each in found if each.gpu_seconds]
    joules = [each.gpu_joules for each in on_gpus if each.gpu_joules is not None]
    return Costs(
        cpu_seconds=round(sum(each.cpu_seconds for each in found), 3),
        gpu_seconds=round(sum(each.gpu_seconds for each in found), 3),
        gpu_joules=round(sum(joules), 1) if on_gpus and len(joules) == len(on_gpus) else None,
        tokens_read=sum(each.tokens_read for each in found),
        tokens_written=sum(each.tokens_written for each in found),
        images=sum(each.images for each in found),
        bytes=sum(each.bytes for each in found),
    )


def costs_of(chunks: Iterable[Chunk]) -> Costs:
    """Return the costs of a step whose chunks are these."""
    found = list(chunks)
    written = sum(facts.bytes for chunk in found for facts in chunk.files.values())
    return add_costs([*(chunk.costs for chunk in found if chunk.costs is not None), Costs(bytes=written)])


class Meter:
    """Measures a worker's costs from when it is made, or from the chunk before."""

    def __init__(self, processes: int = 1) -> None:
        """Begin to measure.

        Args:
            processes: that train together and take as much as this one, which writes for all.
        """
        self._processes = processes
        self._time, self._cpu, self._joules, self._tokens = time.monotonic(), _cpu_seconds(), read_joules(), (0, 0)

    def read(self, artefacts: Iterable[Artefact], tokens: tuple[int, int]) -> Costs:
        """Return the costs since the last call.

        Args:
            artefacts: what was made.
            tokens: that the worker's models have read and written so far.
        """
        now, cpu, joules = time.monotonic(), _cpu_seconds(), read_joules()
        gpus = _gpus_in_use()
        used = [joules[gpu] - self._joules[gpu] for gpu in gpus if gpu in joules and gpu in self._joules]
        costs = Costs(
            cpu_seconds=round(self._processes * (cpu - self._cpu), 3),
            gpu_seconds=round(self._processes * len(gpus) * (now - self._time), 3),
            gpu_joules=round(self._processes * max(0.0, sum(used)), 1) if gpus and len(used) == len(gpus) else None,
            tokens_read=tokens[0] - self._tokens[0],
            tokens_written=tokens[1] - self._tokens[1],
            images=sum(map(_count_images, artefacts)),
        )
        self._time, self._cpu, self._joules, self._tokens = now, cpu, joules, tokens
        return costs


def _count_images(artefact: Artefact) -> int:
    if isinstance(artefact, Images):
        return len(artefact.rows)
    return int(artefact.table.num_rows) if isinstance(artefact, ImageTable) else 0


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _gpus_in_use() -> list[str]:
    """Return the ids of this process's GPUs if it uses them; torch is not imported for it."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not (torch.cuda.is_initialized() or ("vllm" in sys.modules and torch.cuda.is_available())):
        return []
    return [str(torch.cuda.get_device_properties(number).uuid) for number in range(torch.cuda.device_count())]


def read_joules() -> dict[str, float]:
    """Return the energy that each GPU of this machine has used since its driver was loaded, by the GPU's id.

    GPUs whose driver does not tell are left out: old ones, parts of one, and all where there is no driver.
    """
    library, found = _load_nvml(), {}
    if library is None:
        return {}
    count = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return {}
    for number in range(count.value):
        device, name, millijoules = ctypes.c_void_p(), ctypes.create_string_buffer(96), ctypes.c_ulonglong()
        if not (
            library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(number), ctypes.byref(device))
            or library.nvmlDeviceGetUUID(device, name, ctypes.c_uint(96))
            or library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules))
        ):
            found[name.value.decode().removeprefix("GPU-")] = millijoules.value / 1000
    return found


@cache
def _load_nvml() -> Any:
    """Return the driver's own library, ready to be asked; None where there is none."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(NVML)
        return library if library.nvmlInit_v2() == 0 else None
    return None
