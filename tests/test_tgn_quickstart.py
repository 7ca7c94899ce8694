"""TGN's quickstart for real, from the command line, made small; and killed in the middle of its GAN."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SMALLER = [
    "kmdn.stem=full",
    "kmdn.size_px=16",
    "kmdn.epochs=1",
    "kmdn.distill_epochs=2",
    "kmdn.distill_interval=1",
    "kmdn.batch_size=128",
    "cdtg.steps=6",
    "cdtg.sample_every=2",
    "cdtg.shard_size=40",
    "merge.budget=number",
    "merge.images=30",
    "classifier.stem=full",
    "classifier.size_px=16",
    "classifier.epochs=1",
    "classifier.batch_size=128",
    "classifier.equal_steps=false",
    "leaks.max_embedded=20",
    "measure.max_images=20",
]


def command(out: Path, *more: str) -> list[str]:
    sets = [word for key in SMALLER for word in ("--set", key)]
    recipe = str(ROOT / "recipes/tgn_quickstart.yaml")
    return [sys.executable, "-m", "ltgc_local.cli", "run", recipe, *sets, "--out", str(out), *more]


def run(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(out, *more), cwd=out.parent, capture_output=True, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    result = run(out)
    assert result.returncode == 0, result.stderr
    assert str(out / "report" / "report.html") in result.stdout
    return out


@pytest.mark.slow
def test_every_step_is_done_and_the_table_has_head_and_tail(finished: Path) -> None:
    metrics = json.loads((finished / "evaluate" / "metrics.json").read_text())
    assert set(metrics) == {"tgn", "control"}
    assert all(0 <= metrics[arm][group] <= 100 for arm in metrics for group in ("all", "head", "tail", "macro_f1"))
    classes = json.loads((finished / "merge/classes.json").read_text())
    generated = {each["class_name"]: each["generated"] for each in classes if each["generated"]}
    assert generated == {"sandal": 2, "dress": 13, "coat": 20}
    page = (finished / "report" / "report.html").read_text()
    assert "TGN − control" in page and "from random weights" in page
    again = run(finished)
    assert again.returncode == 0 and "…" not in again.stderr, "a finished run does nothing"


@pytest.mark.slow
def test_a_kill_in_the_middle_of_the_gan_changes_nothing_in_the_end(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    more = ("--to", "cdtg/train", "--reuse", str(finished), "--set", "cdtg.checkpoint_minutes=0")
    whole = finished / "cdtg/train"
    (out.parent / "elsewhere").mkdir()
    process = subprocess.Popen(
        command(out, *more, "--set", "cdtg.sample_every=1"), cwd=tmp_path, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    checkpoint = out / "cdtg/train/checkpoint.safetensors"
    deadline = time.monotonic() + 600
    while not checkpoint.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "cdtg/train/manifest.json").exists(), "it was killed too late to show anything"
    result = run(out, *more, "--set", "cdtg.sample_every=1")
    assert result.returncode == 0, result.stderr
    weights = [(folder / "generator.safetensors").read_bytes() for folder in (out / "cdtg/train", whole)]
    assert weights[0] == weights[1]
