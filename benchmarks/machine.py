"""What a figure was measured on: device, measured matmul peak, versions, date and commit."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "transformers", "diffusers", "accelerate", "open_clip_torch", "peft", "bitsandbytes", "vllm")


def pick_device(name: str) -> str:
    """Turn ``auto`` into ``cuda`` where torch sees a GPU, else ``cpu``."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def describe_machine(device: str) -> dict[str, Any]:
    """Return what a result must say of the machine that made it."""
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "matmul_peak_tflops": round(matmul_peak(device, dtype), 3),
        "matmul_dtype": str(dtype).removeprefix("torch."),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
    }


@lru_cache
def matmul_peak(device: str, dtype: torch.dtype) -> float:
    """Return the TFLOP/s of the best of ten large matrix products: what this device reaches, not what is advertised."""
    size = 8192 if device.startswith("cuda") else 1536
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(12):  # two to warm up
        start = time.perf_counter()
        one @ other
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return float(2 * size**3 / min(seconds[2:]) / 1e12)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "CPU"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")


def _version(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _commit() -> str:
    """Return the commit of this tree, with a plus where files differ from it; "unknown" outside a repository."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", ":/", ":!results")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
