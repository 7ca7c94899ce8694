"""The first test: the quickstart for real, with its own models, made small by fewer classes, drawings and epochs."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests import golden_runs
from tests.drills.flipped_bits import flip_bits, flipped

TOWERS = ("control_1", "control_2", "ltgc_1", "ltgc_2")
ARMS = ("control_1", "control_2", "control", "ltgc_1", "ltgc_2", "ltgc")


def command(out: Path, *more: str) -> list[str]:
    return golden_runs.command("quickstart", out, *more)


def run(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(out, *more), capture_output=True, text=True, cwd=out.parent, timeout=600)


def call(words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as a message gives it."""
    assert words.startswith("ltgc-local ")
    whole = [sys.executable, "-m", "ltgc_local.cli", *shlex.split(words)[1:]]
    return subprocess.run(whole, **{"capture_output": True, "text": True, "timeout": 600, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    result = run(out)
    assert result.returncode == 0, result.stderr
    assert str(out / "report" / "report.html") in result.stdout
    return out


def test_every_artefact_is_the_golden_runs(finished: Path) -> None:
    assert golden_runs.difference("quickstart", finished) == []


def test_metrics_have_every_arm_and_group_in_percent(finished: Path) -> None:
    metrics = json.loads((finished / "evaluate" / "metrics.json").read_text())
    assert list(metrics) == ["zero_shot", *ARMS]
    for arm in metrics.values():
        assert set(arm) >= {"all", "many", "medium", "few", "per_class", "worst", "harmonic", "interval"}
        low, high = arm["interval"]["all"]
        assert low <= arm["all"] <= high and high - low < 5  # of 10,000 images
        assert len(arm["per_class"]) == 10 and all(0 <= value <= 100 for value in arm["per_class"].values())
        # the test set has 1,000 images a class, so the mean over classes is the accuracy over images
        assert arm["all"] == pytest.approx(sum(arm["per_class"].values()) / 10, abs=1e-3)
    assert metrics["zero_shot"]["all"] > 30  # chance is 10


def test_the_images_that_train_open_with_datasets(finished: Path, tmp_path: Path) -> None:
    files = sorted((finished / "generated").glob("images-*.parquet"))
    rows = Dataset.from_parquet([str(file) for file in files], cache_dir=str(tmp_path))
    needed = {"image", "class_id", "class_name", "description", "score", "round", "seed"}
    assert needed <= set(rows.column_names)
    assert {row["class_name"] for row in rows} == {"dress", "coat"}
    assert all(row["image"].size == (28, 28) and row["image"].mode == "L" for row in rows)
    assert all(f"A photo of the class {row['class_name']} " in row["description"] for row in rows)
    excluded = [
        line for file in (finished / "generated").glob("excluded-*.jsonl") for line in file.read_text().splitlines()
    ]
    assert len(rows) + len(excluded) == 7 + 14
    status = call(f"ltgc-local status {finished} --json --exit-code")
    whole = json.loads(status.stdout)
    assert (whole["wanted"], whole["missing"]) == (7 + 14, len(excluded))
    assert status.returncode == (7 if excluded else 0)
    assert whole["steps"]["generated"]["costs"]["images"] == len(rows)
    assert whole["costs"]["tokens_written"] > 100 and whole["costs"]["cpu_seconds"] > 10


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
    tested = [f"{kind}/{arm}" for kind in ("predict", "validate") for arm in ARMS]
    followed = [*tested, *(f"train/{tower}" for tower in TOWERS), "weigh/control", "weigh/ltgc"]
    assert sorted(steps[:-2]) == sorted(followed) and steps[-2:] == ["evaluate", "report"]
    assert (out / "draw" / "manifest.json").stat().st_mtime_ns == drawn
    assert (out / "superseded" / "0" / "train" / "ltgc_1" / "manifest.json").is_file()


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


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def remedy(said: str) -> str:
    """Return the command that a message gives."""
    found = re.search(r"type: (ltgc-local [^\n]*)", said)
    assert found is not None, said
    return found[1]


def test_every_flipped_bit_in_any_file_that_a_step_reads_is_named(copy: Path) -> None:
    counts, silent = flip_bits(copy, 200)
    assert silent == [] and sum(counts.values()) == 200


def test_what_a_step_would_read_is_compared_when_its_worker_starts(copy: Path) -> None:
    shutil.rmtree(copy / "generated")
    path = next(iter((copy / "draw").glob("images-*.parquet")))
    arguments = [sys.executable, "-m", "ltgc_local.pipeline.worker", str(copy), "generated", "0", "1"]
    with flipped(path, 8 * 1000):
        done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 5
    assert done.stderr == (
        f"{path}: damaged: its sha256 is not the one that it was written with; type: ltgc-local repair {copy}\n"
    )


def test_a_report_that_is_gone_is_made_again_by_run_and_by_report(copy: Path) -> None:
    page = copy / "report/report.html"
    for words in (f"ltgc-local run {copy}", f"ltgc-local report {copy}"):
        for damage in (page.unlink, lambda: page.write_text("x"), lambda: shutil.rmtree(copy / "report")):
            damage()
            done = call(words)
            assert done.returncode == 0, done.stderr
            assert f"report: {page}" in done.stdout and page.stat().st_size > 10_000


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"name": "quickstart"}'])
def test_a_damaged_recipe_is_written_again_by_the_command_that_the_message_gives(copy: Path, damage: str) -> None:
    before = (copy / "recipe.json").read_text()
    (copy / "recipe.json").write_text(damage)
    refused = call(f"ltgc-local status {copy}")
    assert refused.returncode == 5 and f"{copy}/recipe.json: damaged: " in refused.stderr
    done = call(remedy(refused.stderr))
    assert done.returncode == 0, done.stderr
    assert (copy / "recipe.json").read_text() == before


@pytest.mark.parametrize("name", ["provenance.json", "model_digests.json"])
def test_damaged_facts_are_written_again_by_the_same_command(copy: Path, name: str) -> None:
    before = json.loads((copy / name).read_text())
    (copy / name).write_text("[]")
    if name == "provenance.json":
        refused = call(f"ltgc-local compare {copy}")
        assert refused.returncode == 5 and f"{copy}/{name}: damaged: " in refused.stderr
    done = call(f"ltgc-local run {copy}")
    assert done.returncode == 0, done.stderr
    after = json.loads((copy / name).read_text())
    changing = ("sha256", "date", "command")
    if name == "provenance.json":
        assert {k: v for k, v in after.items() if k not in changing} == {
            k: v for k, v in before.items() if k not in changing
        }


def test_a_damaged_manifest_is_mended_by_the_command_that_the_message_gives(copy: Path) -> None:
    manifest = copy / "leaks/compare/manifest.json"
    manifest.write_text(re.sub(r'"items": (\d+)', r'"items": 1\1', manifest.read_text(), count=1))
    refused = call(f"ltgc-local run {copy}")
    assert refused.returncode == 5 and f"{manifest}: damaged: " in refused.stderr
    assert remedy(refused.stderr) == f"ltgc-local repair {copy}"
    done = call(remedy(refused.stderr))
    assert done.returncode == 0, done.stderr
    assert call(f"ltgc-local status {copy} --check").returncode == 0


def test_a_run_resumes_by_its_own_recipe_which_it_may_also_give_to_another(copy: Path, tmp_path: Path) -> None:
    refused = call(f"ltgc-local run {copy} --set seed=1")
    assert refused.returncode == 2
    assert refused.stderr == f"seed=1: {copy} is a run, which has its own recipe; give a recipe to change something\n"
    made_by = json.loads((copy / "provenance.json").read_text())["command"]
    for words in (f"ltgc-local run {copy} --from report", f"ltgc-local run {copy} --out {copy} --from report"):
        assert call(words).returncode == 0
        assert json.loads((copy / "provenance.json").read_text())["command"] == made_by
    other = tmp_path / "other"
    done = call(f"ltgc-local run {copy} --out {other} --reuse {copy} --to describe")
    assert done.returncode == 0 and f"describe: taken from {copy}" in done.stderr
    assert json.loads((other / "provenance.json").read_text())["command"] == f"ltgc-local run {copy} --to describe"


def test_status_and_run_say_which_files_of_a_complete_step_are_gone_or_changed(copy: Path) -> None:
    shards = sorted((copy / "draw").glob("images-*.parquet"))
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-1])
    said = f"; 2 files are gone or changed, such as {shards[0].name}; type: ltgc-local repair {copy}"
    lines = call(f"ltgc-local status {copy}").stdout.splitlines()
    assert [line.startswith("draw ") for line in lines if line.endswith(said)] == [True]
    done = call(f"ltgc-local run {copy}")  # nothing reads them any more
    assert done.returncode == 0 and done.stderr == f"draw: complete{said}\n"
    checked = call(f"ltgc-local status {copy} --check")
    assert checked.returncode == 5
    assert [line.split(": ")[0] for line in checked.stderr.splitlines()] == [str(path) for path in shards[:2]]


def test_a_step_that_is_damaged_elsewhere_is_not_taken_from_there(copy: Path, finished: Path, tmp_path: Path) -> None:
    path = copy / "describe/descriptions-00000.jsonl"
    with flipped(path, 80):
        done = run(tmp_path / "new", "--reuse", str(copy), "--to", "describe")
        assert f"describe: not taken from {copy}: {path}: its sha256 is not the one" in done.stderr
    assert "describe: taken from" not in done.stderr and done.returncode == 0


HOSTILE = ("random", "json", "torch", "numpy", "copy", "ltgc_local", "sitecustomize", "logging", "PIL", "pyarrow")


def test_nothing_is_imported_from_a_folder_of_hostile_names(copy: Path, tmp_path: Path) -> None:
    """Not by the program as it is installed, nor by what it starts, not even where PYTHONPATH has an empty entry."""
    place = tmp_path / "place"
    place.mkdir()
    for name in HOSTILE:
        (place / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\nraise SystemExit\n")
    program = [str(Path(sys.executable).with_name("ltgc-local")), "run", str(copy), "--from", "report"]
    done = subprocess.run(program, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p != sys.argv[1]]\n"  # this one was started there, too
        "from pathlib import Path; from ltgc_local.pipeline.executors.local import LocalExecutor, Order; import os\n"
        "os.environ['PYTHONPATH'] = os.pathsep + 'relative'\n"
        "with LocalExecutor() as executor:\n"
        "    executor.start(Order(Path(sys.argv[2]), 'report'))\n"
        "    sys.exit(executor.wait(60)[0].code)"
    )
    (copy / "report/chunks/00000.json").unlink()
    arguments = [sys.executable, "-P", "-c", code, str(place), str(copy)]
    done = subprocess.run(arguments, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_finished_run_on_a_read_only_disk_is_shown_and_not_run(copy: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        shutil.copytree(copy, disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        refused = call(f"ltgc-local run {disk}/run")
        assert (refused.returncode, refused.stderr) == (
            5,
            f"{disk}/run: cannot be written: Read-only file system; what is complete is kept: give an --out on a disk "
            "that can be written to; a finished run is shown by: ltgc-local report\n",
        )
        for words in ("report", "status --check", "compare"):
            done = call(f"ltgc-local {words} {disk}/run")
            assert (done.returncode, done.stderr) == (0, "")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def without_root(words: str) -> subprocess.CompletedProcess[str]:
    """Run a command for which modes count, though root runs the tests."""
    may_drop = os.geteuid() == 0 and shutil.which("setpriv")
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"] if may_drop else []
    return subprocess.run(
        [*drop, sys.executable, "-m", "ltgc_local.cli", *shlex.split(words)[1:]],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.mark.parametrize("place", ["recipe.json", "evaluate/metrics.json", "evaluate", "provenance.json", "."])
def test_permission_is_named_as_permission(copy: Path, place: str) -> None:
    target = copy / place
    mode = target.stat().st_mode
    target.chmod(0)
    try:
        if os.access(target, os.R_OK) and not shutil.which("setpriv"):
            pytest.skip("modes do not count for root, and setpriv is not there")
        for words in ("report", "run", "compare", "status"):
            done = without_root(f"ltgc-local {words} {copy}")
            assert done.returncode in (0, 5) and "Traceback" not in done.stderr, done.stderr
            if done.returncode:
                assert "ermission" in done.stderr and "make room" not in done.stderr, done.stderr
                assert "damaged" not in done.stderr and "--from" not in done.stderr, done.stderr
        assert without_root(f"ltgc-local report {copy}").returncode == (0 if place == "provenance.json" else 5)
    finally:
        target.chmod(mode)


def test_a_run_goes_on_without_standard_error(copy: Path) -> None:
    shutil.rmtree(copy / "report")
    line = shlex.join([sys.executable, "-m", "ltgc_local.cli", "run", str(copy)])
    done = subprocess.run(["sh", "-c", f"{line} 2>&-"], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0 and f"report: {copy}/report/report.html" in done.stdout


@pytest.mark.parametrize(
    ("number", "said", "code"), [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "asked to stop", 75)]
)
def test_a_signal_is_one_line_and_leaves_nothing(copy: Path, number: int, said: str, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ltgc_local.cli", "run", str(copy), "--from", "predict"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job's is ignored
    )  # fmt: skip
    assert process.stderr is not None
    assert re.fullmatch(r"predict/\w+ …\n", process.stderr.readline())
    time.sleep(3)  # the worker is there
    os.killpg(process.pid, number)
    *begun, last = process.stderr.read().splitlines()
    assert all(line.endswith(" …") for line in begun) and last == f"{said}; rerun the same command to resume"
    assert process.wait() == code
    assert [path.name for path in copy.rglob("*") if re.fullmatch(r"\..*|.*\.(tmp|lease)", path.name)] == []


def test_a_limit_of_memory_is_named_as_memory_and_one_of_time_as_time(copy: Path) -> None:
    shutil.rmtree(copy / "report")
    words = f"ltgc-local run {copy}"
    for kind, limit in ((resource.RLIMIT_AS, 700 * 2**20), (resource.RLIMIT_AS, 300 * 2**20)):
        # As many threads as there are cores, as users have: each needs room for its stack.
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        done = call(
            words, env=environment, preexec_fn=lambda kind=kind, limit=limit: resource.setrlimit(kind, (limit, limit))
        )
        assert done.returncode == 6 and "out of memory" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and "damaged" not in done.stderr.split("out of memory")[0]
    for step in ("predict", "evaluate"):
        shutil.rmtree(copy / step)
    done = call(words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (6, 6)))
    assert done.returncode == 6 and "the limit of 6 s of CPU time (ulimit -t)" in done.stderr, done.stderr
