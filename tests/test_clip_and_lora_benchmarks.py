"""The benchmarks: they run without what a GPU machine may lack, and ours is not slower than the plain loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["t2i", "chat", "clip", "lora", "cdtg"])
def test_the_benchmarks_need_neither_datasets_nor_pyarrow_nor_vllm(name: str) -> None:
    absent = "import sys\nfor name in ('datasets', 'pyarrow', 'vllm'):\n    sys.modules[name] = None\n"
    started = f"import runpy\nsys.argv = ['', '--help']\nrunpy.run_module('benchmarks.{name}', run_name='__main__')"
    code = absent + started
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--device" in done.stdout


@pytest.mark.benchmark
def test_scoring_is_faster_than_a_plain_loop() -> None:
    from benchmarks.clip import MINIATURE, compare, draw
    from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
    from ltgc_local.backends.protocols import ModelOptions

    timings, apart = compare(OpenClipVit(MINIATURE, ModelOptions(device="cpu")), draw("PNG", 28, 1024), 64, 3)
    assert apart < 1e-5
    one_by_one, loader, ours = timings
    assert ours.ratio > 1.1 * loader.ratio
    assert ours.ratio > 2 * one_by_one.ratio


@pytest.mark.benchmark
def test_training_is_faster_than_a_plain_loop() -> None:
    from benchmarks.lora import SMALL, compare

    timings, _ = compare("miniature", "cpu", 1024, 128, 10, 3, SMALL)
    assert timings[1].ratio > 1.3
