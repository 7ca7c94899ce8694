"""Drawing against stock diffusers, as ratios: for a machine that has nothing else to do (pytest -m benchmark)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.contest import Timing
from benchmarks.t2i import CPU, run

MINIMUM = {"ours, the same pictures": 3.0, "ours, distilled": 9.0}


@pytest.fixture(scope="module")
def timings() -> list[Timing]:
    found, checked = run(replace(CPU, loop_images=8), "cpu", None, rounds=2)
    assert checked["ours against the stock loop, same seeds"].startswith(("largest 0,", "largest 1,"))
    return found


@pytest.mark.benchmark
@pytest.mark.parametrize("name", MINIMUM)
def test_drawing_is_several_times_faster_than_the_stock_loop(timings: list[Timing], name: str) -> None:
    (timing,) = (timing for timing in timings if timing.name.startswith(name))
    assert timing.ratio >= MINIMUM[name]
