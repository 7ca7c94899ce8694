"""Assign GPUs to the workers of a step; they are counted without importing a model library."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping

from ltgc_local.errors import BackendError

RENDEZVOUS = "LTGC_RENDEZVOUS"  # variable that names the file where workers that train together meet


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


def share_gpus(gpus: list[str], workers: int, each: int) -> list[dict[str, str]]:
    """Return the environment that gives each worker ``each`` GPUs of its own.

    On a machine without GPUs the workers run on the CPU. A single worker sees all GPUs.

    Raises:
        BackendError: there are GPUs, but too few.
    """
    if workers == 1 or not gpus:
        return [{} for _ in range(workers)]
    if len(gpus) < workers * each:
        raise BackendError(
            f"models.workers is {workers} with {each} GPUs each, but {len(gpus)} GPUs are visible; type --set "
            f"models.workers={max(1, len(gpus) // each)}"
        )
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[w * each : (w + 1) * each])} for w in range(workers)]


def distributed_environments(gpus: list[str], workers: int) -> list[dict[str, str]]:
    """Return the environments of workers that train together: each sees the GPUs of all, and knows its own number.

    They meet at a file, not a port: a port is only known to be free until it is released for them to use.

    Raises:
        BackendError: there are GPUs, but too few.
    """
    if workers == 1:
        return [{}]
    seen = [each["CUDA_VISIBLE_DEVICES"] for each in share_gpus(gpus, workers, 1) if each]
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
        "WORLD_SIZE": str(workers),
        "LOCAL_WORLD_SIZE": str(workers),
        "GLOO_SOCKET_IFNAME": "lo",  # else it asks which address this machine's name has
    } | ({"CUDA_VISIBLE_DEVICES": ",".join(seen)} if seen else {})
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(workers)]
