"""Time contenders in turns, so that a slow moment of the machine hits all of them alike."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch


@dataclass(frozen=True)
class Contender:
    """``run`` does ``items`` units of work from beginning to end; ``flop`` is what one of them costs, if known."""

    run: Callable[[], object]
    items: int
    flop: float | None = None


@dataclass(frozen=True)
class Timing:
    """Items per second (the median of the rounds, and the slowest and fastest), and achieved TFLOP/s if known."""

    name: str
    items_per_s: float
    slowest: float
    fastest: float
    tflops: float | None
    ratio: float  # of the baseline's median


def time_in_turns(contenders: Mapping[str, Contender], device: str, rounds: int = 3) -> list[Timing]:
    """Run every contender once to warm it up, then all of them ``rounds`` times in turns; print how long each took.

    Args:
        contenders: by name; the first is the baseline of the ratios.
        device: ``cuda`` waits for the GPU before a clock is read.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-1, rounds):
        for name, contender in contenders.items():
            _wait(device)
            start = time.perf_counter()
            contender.run()
            _wait(device)
            took = time.perf_counter() - start
            print(f"{name}: {'warm-up' if turn < 0 else f'round {turn}'}, {took:.1f} s", file=sys.stderr, flush=True)
            if turn >= 0:
                seconds[name].append(took)
    medians = {name: contender.items / statistics.median(seconds[name]) for name, contender in contenders.items()}
    baseline = next(iter(medians.values()))
    return [
        Timing(
            name,
            medians[name],
            contender.items / max(seconds[name]),
            contender.items / min(seconds[name]),
            contender.flop * medians[name] / 1e12 if contender.flop else None,
            medians[name] / baseline,
        )
        for name, contender in contenders.items()
    ]


def count_flop(work: Callable[[], object]) -> float:
    """Return the floating-point operations of one call, as torch's counter sees them (two a multiply-add)."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def as_rows(timings: list[Timing]) -> list[dict[str, object]]:
    return [asdict(timing) for timing in timings]


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
