"""What real steps say while they run: live metrics, a heartbeat where there is no terminal, warnings that last."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.errors import BackendError, RecipeError
from ltgc_local.pipeline.status import StepStatus, read_progress, run_status
from ltgc_local.recipe import Recipe
from ltgc_local.records import Description
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Lines
from ltgc_local.runs.logs import read_warnings
from ltgc_local.runs.metrics import MetricsLine, metrics_path, read_metrics
from ltgc_local.runs.provenance import write_run_recipe
from ltgc_local.runs.reuse import take_step
from tests import golden_runs
from tests.working import run_workers

MakeRecipe = Callable[..., Recipe]
#: A language model that may write eight tokens per ask completes no sentence.
MUTE = (
    "describe.tail_below=20", "extend.max_descriptions=4", "extend.max_asks=1", "extend.batch_size=1",
    "extend.max_new_tokens=8", "extend.reply_form=free",
)  # fmt: skip


def write_run(root: Path, recipe: Recipe) -> RunDirectory:
    run = RunDirectory(root)
    root.mkdir()
    write_run_recipe(root, recipe)
    return run


def has(lines: list[MetricsLine], name: str) -> list[float]:
    return [line.values[name] for line in lines if name in line.values]


@pytest.mark.slow
def test_metrics_grow_while_a_training_runs_and_its_log_has_times_and_levels(
    tmp_path: Path, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe("train.epochs=2", "train.lora_rank=4", "train.lora_blocks=1", "train.batch_size=32")
    run = write_run(tmp_path / "run", recipe)
    folder = run.folder("train/control")
    command = [sys.executable, "-m", "ltgc_local.pipeline.worker", str(run.root), "train/control", "0", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    seen = []  # numbers of lines at which the file was found while the process was at work
    while process.poll() is None:
        losses = has(read_metrics(metrics_path(folder)), "loss")
        if process.poll() is None and losses and len(losses) not in seen:
            seen.append(len(losses))
        time.sleep(0.02)
    assert process.communicate()[1] == "" and process.returncode == 0
    assert len(seen) >= 3 and seen == sorted(seen)
    lines = read_metrics(metrics_path(folder))
    assert all(value > 0 for name in ("loss", "images_per_second") for value in has(lines, name))
    assert has(lines, "lr")[-1] < has(lines, "lr")[0]
    assert len(has(lines, "validation/few")) == 2
    images = [line.values for line in lines if line.values.get("total", 0) > 1]
    assert images[-1]["items"] == images[-1]["total"] > 4000
    log = (folder / "logs/worker-00.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} INFO ", line) for line in log)
    assert "train/control: loading the model of role clip" in log[1] and log[-1].endswith("train/control: done")
    assert not (folder / "logs/messages-00.jsonl").exists()


@pytest.mark.slow
def test_redirected_output_has_a_heartbeat_and_quiet_output_has_not(tmp_path: Path) -> None:
    code = (
        "import sys; from ltgc_local.pipeline import scheduler; scheduler.HEARTBEAT_S = 0.3\n"
        "from ltgc_local.cli import main; main(sys.argv[1:])"
    )
    said = {}
    for option in ("-q", "-v"):
        words = golden_runs.command("quickstart", tmp_path / option.strip("-"), "--to", "describe", option)[3:]
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        said[option] = done.stderr.splitlines()
    assert said["-q"] == []
    lines = said["-v"]
    assert lines[0] == "describe …" and re.fullmatch(r"describe: 27 items, [\d.]+ s, \d+ MiB", lines[-1])
    heartbeat = r"describe: (starting for|\d+ of 27 items after) \d+\.\d s(, [\d.]+ items/s)?(, \d+\.\d s left)?"
    assert sum(bool(re.fullmatch(heartbeat, line)) for line in lines) >= 3
    assert any(re.fullmatch("describe: 0 of 27 items after .*", line) for line in lines)
    assert "info: describe: loading the model of role vlm" in lines


@pytest.fixture
def mute(tmp_path: Path, make_recipe: MakeRecipe) -> Callable[..., RunDirectory]:
    """A function (options) -> a run whose tail has two descriptions of dress and none of coat, and a mute llm."""

    def write(*options: str) -> RunDirectory:
        recipe = make_recipe(*MUTE, *options)
        run = RunDirectory(tmp_path / "run")
        if run.root.exists():
            write_run_recipe(run.root, recipe)
            return run
        write_run(run.root, recipe)
        texts = [Description(3, i, 0, f"A photo of the class dress with a belt and {i}.", "existing") for i in range(2)]
        run.write_chunk("describe", 0, [Lines("descriptions", texts)], {"items": 1, "seconds": 0.0, "peak_mib": 0})
        run.write_manifest("describe", {}, 1, 0)
        run.begin("extend", {})
        return run

    return write


def extend_of(run: RunDirectory, recipe: Recipe) -> StepStatus:
    return next(step for step in run_status(recipe, run.root) if step.name == "extend")


def test_an_llm_that_gives_nothing_stops_the_run_where_that_is_asked_for(
    mute: Callable[..., RunDirectory], make_recipe: MakeRecipe, capfd: pytest.CaptureFixture[str]
) -> None:
    run = mute("extend.min_descriptions=3")
    with pytest.raises(BackendError, match="step extend: failed"):
        run_workers(run.root, "extend")
    said = capfd.readouterr().err
    assert re.search(r"extend: 1 of 1 classes have fewer than 3 descriptions \(extend\.min_descriptions\): ", said)
    assert "add --set extend.min_descriptions=0; to ask again and more often, add --set extend.max_asks=2 " in said
    assert list(run.complete_chunks("extend")) == [0]  # what the llm replied is there to be looked at
    found = extend_of(run, make_recipe(*MUTE))
    assert found.state == "stopped" and found.problem in said
    exchanges = run.folder("extend") / "exchanges-00000.jsonl"
    before = exchanges.stat().st_mtime_ns
    with pytest.raises(BackendError):  # again, and at once: not even the model is loaded
        run_workers(run.root, "extend")
    assert exchanges.stat().st_mtime_ns == before and list(run.complete_chunks("extend")) == [0]

    mute("extend.min_descriptions=0")
    capfd.readouterr()
    run_workers(run.root, "extend", level="error")
    assert capfd.readouterr().err == ""
    assert exchanges.stat().st_mtime_ns == before and list(run.complete_chunks("extend")) == [0, 1]
    assert read_warnings(run.folder("extend"))[-1].startswith("extend: found nothing for 2 of 2 classes: 'coat' 0")


def test_warnings_are_said_at_once_and_stay_with_the_step_wherever_it_is_taken(
    mute: Callable[..., RunDirectory], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = mute()
    run_workers(run.root, "extend", 2)
    warning = "extend: found nothing for 2 of 2 classes: 'coat' 0, 'dress' 2"
    assert f"warning: {warning}\n" in capfd.readouterr().err
    progress = read_progress(run, "extend")
    assert progress is not None and (progress.items, progress.total) == (2, 2)
    assert metrics_path(run.folder("extend"), 1).is_file()
    run.write_manifest("extend", {}, 2, 1.0)
    other = RunDirectory(tmp_path / "other")
    take_step("extend", run, other)
    manifest = other.manifest("extend")
    assert manifest is not None and manifest.warnings == [warning]
    names = {path.name for path in other.folder("extend").iterdir()}
    assert "logs" not in names and "metrics.jsonl" not in names
    assert not any("metrics" in name or "log" in name for name in manifest.files)
    run.supersede(["extend"])
    kept = run.root / "superseded/0/extend"
    assert (kept / "logs/worker-01.log").is_file() and (kept / "metrics.jsonl").is_file()


def test_a_number_that_no_class_can_reach_is_an_error_of_the_recipe(make_recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match=r"min_descriptions: 5 is more than max_descriptions, 4, so every run"):
        make_recipe("extend.max_descriptions=4", "extend.min_descriptions=5")
