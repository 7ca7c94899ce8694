"""The first test: the quickstart for real, with its own models, made small by fewer classes, drawings and epochs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from datasets import Dataset

ROOT = Path(__file__).resolve().parent.parent
SMALLER = [
    "describe.tail_below=20",  # dress (17 photographs) and coat (10)
    "extend.max_descriptions=24",  # 7 + 14 drawings
    "draw.steps=6",
    "draw.shard_size=4",
    "draw.batch_size=4",
    "assess.attempts=2",
    "train.epochs=1",
]


def command(out: Path, *more: str) -> list[str]:
    sets = [word for key in SMALLER for word in ("--set", key)]
    return [
        sys.executable,
        "-m",
        "ltgc_local.cli",
        "run",
        str(ROOT / "recipes/quickstart.yaml"),
        *sets,
        "--out",
        str(out),
        *more,
    ]


def run(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(out, *more), capture_output=True, text=True, cwd=out.parent, timeout=600)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    result = run(out)
    assert result.returncode == 0, result.stderr
    assert str(out / "report" / "report.html") in result.stdout
    return out


def test_metrics_have_every_arm_and_group_in_percent(finished: Path) -> None:
    metrics = json.loads((finished / "evaluate" / "metrics.json").read_text())
    assert list(metrics) == ["zero_shot", "control", "ltgc"]
    for arm in metrics.values():
        assert set(arm) >= {"all", "many", "medium", "few", "per_class", "worst", "harmonic", "interval"}
        low, high = arm["interval"]["all"]
        assert low <= arm["all"] <= high and high - low < 5  # of 10,000 images
        assert len(arm["per_class"]) == 10 and all(0 <= value <= 100 for value in arm["per_class"].values())
        # the test set has 1,000 images a class, so the mean over classes is the accuracy over images
        assert arm["all"] == pytest.approx(sum(arm["per_class"].values()) / 10, abs=1e-3)
    assert metrics["zero_shot"]["all"] > 30  # chance is 10


def test_the_images_that_train_open_with_datasets(finished: Path) -> None:
    files = sorted((finished / "generated").glob("images-*.parquet"))
    rows = Dataset.from_parquet([str(file) for file in files], cache_dir=str(finished / "cache"))
    needed = {"image", "class_id", "class_name", "description", "score", "round", "seed"}
    assert needed <= set(rows.column_names)
    assert {row["class_name"] for row in rows} == {"dress", "coat"}
    assert all(row["image"].size == (28, 28) and row["image"].mode == "L" for row in rows)
    assert all(f"A photo of the class {row['class_name']} " in row["description"] for row in rows)
    excluded = [
        line for file in (finished / "generated").glob("excluded-*.jsonl") for line in file.read_text().splitlines()
    ]
    assert len(rows) + len(excluded) == 7 + 14


def test_the_report_is_one_page_that_needs_no_network(finished: Path) -> None:
    page = (finished / "report" / "report.html").read_text()
    assert "miniature" in page and "data:image/" in page
    assert not any(f'{attribute}="http' in page for attribute in ("src", "href"))


def test_running_it_again_does_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    result = run(finished)
    assert result.returncode == 0, result.stderr
    changed = {p.name for p in finished.rglob("*") if p.is_file() and before.get(p) != p.stat().st_mtime_ns}
    assert changed == set()


def test_a_changed_key_is_an_error_whose_command_redoes_only_what_follows(finished: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "changed")
    drawn = (out / "draw" / "manifest.json").stat().st_mtime_ns
    refused = run(out, "--set", "train.lr=0.004")
    assert refused.returncode == 5
    assert "train.lr" in refused.stderr and "--from train" in refused.stderr
    redone = run(out, "--set", "train.lr=0.004", "--from", "train")
    assert redone.returncode == 0, redone.stderr
    steps = [line.split(":")[0] for line in redone.stderr.splitlines() if "items," in line]
    assert steps == ["train/ltgc", "train/control", "evaluate", "report"]
    assert (out / "draw" / "manifest.json").stat().st_mtime_ns == drawn
    assert (out / "superseded" / "0" / "train" / "ltgc" / "manifest.json").is_file()


def test_a_kill_in_the_middle_of_draw_changes_nothing_in_the_end(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = subprocess.Popen(command(out), cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while not list((out / "draw" / "chunks").glob("*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "draw" / "manifest.json").exists(), "it was killed too late to show anything"
    result = run(out)
    assert result.returncode == 0, result.stderr
    shards = [file.relative_to(finished) for file in (finished / "generated").glob("images-*.parquet")]
    assert shards
    for file in ("evaluate/metrics.json", *shards):
        assert (out / file).read_bytes() == (finished / file).read_bytes()
