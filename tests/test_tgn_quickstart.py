"""TGN's quickstart for real, from the command line, made small; and killed in the middle of its GAN."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import golden_runs


def command(out: Path, *more: str) -> list[str]:
    return golden_runs.command("tgn_quickstart", out, *more)


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
def test_every_artefact_is_the_golden_runs(finished: Path) -> None:
    assert golden_runs.difference("tgn_quickstart", finished) == []


@pytest.mark.slow
def test_by_diffusion_every_artefact_is_the_golden_runs(tmp_path: Path) -> None:
    name = "tgn_diffusion_quickstart"
    subprocess.run(golden_runs.command(name, tmp_path / "run"), cwd=tmp_path, check=True, timeout=1200)
    assert golden_runs.difference(name, tmp_path / "run") == []


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
