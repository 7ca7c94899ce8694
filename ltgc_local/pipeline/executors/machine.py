"""What this machine has, counted without importing a model library, and how processes that train together meet."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ltgc_local.errors import BackendError
from ltgc_local.pipeline.placement import Machine
from ltgc_local.prefetch import num_cpus
from ltgc_local.regular_files import MIB, read_text

RENDEZVOUS = "LTGC_RENDEZVOUS"  # variable that names the file where workers that train together meet


def this_machine(gpus: Sequence[str]) -> Machine:
    """Return what this process may use of the machine."""
    return Machine(num_cpus(), tuple(gpus), _memory_mib())


def _memory_mib() -> int:
    """Return the memory that is free for us, within the limit of our control group."""
    fields = dict(line.split(":", 1) for line in read_text("/proc/meminfo", MIB).splitlines())
    free = int(fields["MemAvailable"].split()[0]) // 1024
    with suppress(OSError, ValueError):
        limit, used = (int(read_text(f"/sys/fs/cgroup/memory.{name}", MIB)) for name in ("max", "current"))
        free = min(free, (limit - used) // MIB)
    return free


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the GPUs that this process may use: those in CUDA_VISIBLE_DEVICES, else the numbers of all."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in (part.strip() for part in named.split(",")) if name and name != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    return [str(number) for number, line in enumerate(_gpu_lines(listed.stdout))] if listed.returncode == 0 else []


def _gpu_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("GPU ")]  # MIG slices are indented below their GPU


def training_environments(processes: int) -> list[dict[str, str]]:
    """Return the variables of processes that train together, by which each knows its number.

    They meet at a file, not a port: a port is only known to be free until it is released for them to use.

    Raises:
        BackendError: there is no folder for that file.
    """
    if processes == 1:
        return [{}]
    try:
        folder = tempfile.mkdtemp(prefix="ltgc_local_")
    except OSError as problem:
        raise BackendError(
            f"workers that train together meet in the folder for temporary files: {problem.strerror}; set TMPDIR to a "
            "folder on this machine that may be written to"
        ) from problem
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shared = {
        RENDEZVOUS: os.path.join(folder, "store"),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "GLOO_SOCKET_IFNAME": "lo",  # else it asks which address this machine's name has
    }
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
