"""The jobs of a run: what is written down about them, what SLURM prints, and what people are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from ltgc_local.cli import main
from ltgc_local.errors import ArtefactError, BackendError, RecipeError
from ltgc_local.recipe import Recipe
from ltgc_local.runs.sealed import write_sealed
from ltgc_local.slurm import queue
from ltgc_local.slurm.chain import PREPARE
from ltgc_local.slurm.profile import Profile
from ltgc_local.slurm.queue import QueuedJob, parse_number, parse_queue
from ltgc_local.slurm.records import SentJob, logs, read_chain, read_sent, write_sent
from ltgc_local.slurm.run_files import render_run
from ltgc_local.slurm.submit import _with_inputs, submit
from ltgc_local.slurm.view import describe_jobs, find_failed, find_logs, parse_states, summarize

#: What ``squeue --noheader --array --format='%F|%K|%T|%r|%N'`` prints.
SQUEUE = """\
66|0|RUNNING|None|n1
66|1|RUNNING|None|n2
85|2|PENDING|Resources|
85|3|PENDING|Resources|
79|N/A|PENDING|Dependency|
"""
SENT = (
    SentJob(id="66", name="draw", tasks=2, sent="2026-11-28T22:00:00+0000"),
    SentJob(id="85", name="draw", tasks=4, sent="2026-11-28T22:01:00+0000"),
    SentJob(id="79", name="report", tasks=None, sent="2026-11-28T22:00:01+0000"),
)


@pytest.fixture
def run(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> Path:
    """A run that was rendered."""
    render_run(make_recipe(), tmp_path / "run", "ltgc-local run plain.yaml", Profile(), workers=3)
    return tmp_path / "run"


def test_the_queue_is_read_task_by_task() -> None:
    jobs = parse_queue(SQUEUE + "squeue: error: something\n")
    assert [job.full_id for job in jobs] == ["66_0", "66_1", "85_2", "85_3", "79"]
    assert jobs[0] == QueuedJob("66", 0, "RUNNING", "None", "n1") and jobs[4].is_pending


def test_the_number_of_a_job_is_read_with_or_without_the_cluster() -> None:
    assert parse_number("123\n") == "123" and parse_number("warning: x\n123;juno\n") == "123"
    with pytest.raises(BackendError, match="where the number of a job was expected"):
        parse_number("Submitted batch job")


def test_a_step_s_jobs_are_told_beside_the_run_s_own_view(tmp_path: Path) -> None:
    jobs = summarize(SENT, parse_queue(SQUEUE))
    states = {"describe": "complete", "draw": "running", "report": "waiting"}
    assert describe_jobs(states, jobs, tmp_path) == {
        "draw": "SLURM: job 66, 85: 2 running on n1, n2, 2 waiting (Resources)",
        "report": "SLURM: job 79: 1 waiting (Dependency)",
    }
    late = describe_jobs({"draw": "complete"}, jobs, tmp_path)
    assert late["draw"].endswith("the step is complete, so they end at once")
    gone = describe_jobs({"describe": "complete", "draw": "stopped", "report": "waiting"}, {}, tmp_path)
    assert list(gone) == ["draw"] and "to send what is left, type: ltgc-local slurm submit" in gone["draw"]


def test_jobs_that_a_node_could_not_start_are_named_and_released(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    lines = "66|0|RUNNING|None|n1\n66|1|PENDING|launch failed requeued held|\n66|2|PENDING|JobHeldUser|\n"

    def call(command: list[str], timeout_s: float = 0) -> str:
        calls.append(command)
        return lines if command[0] == "squeue" else f"{len(calls) + 100}\n"

    monkeypatch.setattr(queue, "call", call)
    write_sent(run, SENT)
    said = describe_jobs({"draw": "running"}, summarize(SENT, parse_queue(lines)), run)["draw"]
    assert "1 held, as a node could not start them; to release them, type: ltgc-local slurm submit" in said
    messages: list[str] = []
    submit(run, messages.append, "draw")
    assert ["scontrol", "release", "66_1"] in calls and "draw: released 66_1, which a node could not start" in messages


def test_a_job_that_slurm_took_without_saying_so_is_not_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[list[str]] = []
    waits: list[float] = []

    def call(command: list[str], timeout_s: float = 0) -> str:
        sent.append(command)
        raise BackendError("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")

    monkeypatch.setattr(queue, "call", call)
    monkeypatch.setattr(queue, "ask", lambda command: "" if len(sent) < 2 else "7\n9\n")
    assert queue.send(["x.sbatch"], "run-draw", ["7"], waits.append) == "9"
    assert len(sent) == 2 and waits == [5.0, 15.0]


def test_a_job_that_slurm_refuses_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(command: list[str], timeout_s: float = 0) -> str:
        raise BackendError("sbatch: error: invalid partition specified: gpu")

    monkeypatch.setattr(queue, "call", call)
    with pytest.raises(BackendError, match="invalid partition"):
        queue.send(["x.sbatch"], "run-draw", [], lambda seconds: pytest.fail("waited"))


def test_a_rendered_run_knows_its_chain_and_its_command(run: Path) -> None:
    chain = read_chain(run)
    assert chain.command == "ltgc-local run plain.yaml" and chain.jobs[0].name == PREPARE
    assert chain.find("draw").arrays == (3,)
    assert {path.name for path in (run / "slurm").iterdir()} == {
        *(job.file for job in chain.jobs),
        *("submit.sh", "chain.json", "logs"),
    }
    with pytest.raises(RecipeError, match="did you mean 'draw'"):
        chain.find("drew")


def test_only_what_a_step_reads_is_sent_with_it(run: Path) -> None:
    assert _with_inputs(read_chain(run).jobs, ["draw"]) == {PREPARE, "describe", "extend", "draw"}
    assert _with_inputs(read_chain(run).jobs, ["train/control"]) == {PREPARE, "train/control"}


def test_a_run_that_was_begun_with_other_settings_is_not_rendered(
    run: Path, make_recipe: Callable[..., Recipe]
) -> None:
    other = make_recipe("seed=1")
    render_run(other, run, "", Profile())  # nothing was begun yet
    (run / "describe").mkdir()
    write_sealed(run / "describe/begun.json", {"seed": 1})
    with pytest.raises(ArtefactError, match=r"was begun with other settings \(describe\)"):
        render_run(make_recipe(), run, "", Profile())


def test_a_damaged_or_foreign_record_is_refused(run: Path) -> None:
    with pytest.raises(ArtefactError, match="has no sbatch files yet; type: ltgc-local slurm render"):
        read_chain(run.parent)
    (run / "slurm/chain.json").write_text("{}")
    with pytest.raises(ArtefactError, match="damaged"):
        read_chain(run)
    write_sealed(run / "slurm/jobs.json", {"jobs": [{"id": "1; rm -rf /", "name": "draw", "tasks": 1, "sent": ""}]})
    with pytest.raises(ArtefactError, match="damaged"):
        read_sent(run)


def test_a_step_of_a_foreign_chain_cannot_lead_out_of_the_run(run: Path) -> None:
    chain = read_chain(run)
    values = [
        {"name": "../x", "number": 1, "kind": "cpu", "after": [], "tasks": 1, "arrays": [1]}
        | {"nodes": 1, "per_node": 1, "gpus": 0}
    ]
    write_sealed(run / "slurm/chain.json", {"jobs": values, "max_array_size": 4, "command": chain.command})
    with pytest.raises(ArtefactError, match="damaged"):
        read_chain(run)


def test_logs_tell_which_jobs_failed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # no SLURM: the logs alone tell
    write_sent(run, SENT)
    for name, text in {
        "draw.66_0.log": "draw: ended with exit code 75 after SIGUSR1\ndraw: back into the queue\n"
        "draw: ended with exit code 0\n",
        "draw.66_1.log": "x: error\ndraw: ended with exit code 5\n",
        "draw.85_2.log": "draw: complete already; ended with exit code 0\n",
        "report.79.log": "half a line",
        "notes.txt": "",
    }.items():
        (logs(run) / name).write_text(text)
    assert [log.code for log in find_logs(run)] == [0, 5, None, 0]
    assert [str(log) for log in find_failed(run)] == [
        "draw, job 66_1: exit code 5",
        "report, job 79: ended before its end",
    ]
    assert parse_states("66_1|NODE_FAIL\n79|CANCELLED by 0\n85_2|COMPLETED\n") == {
        "66_1": "NODE_FAIL",
        "79": "CANCELLED by 0",
    }
    shown = CliRunner().invoke(main, ["slurm", "logs", str(run), "--failed"])
    assert "    x: error" in shown.output and "66_0" not in shown.output


def test_without_slurm_every_command_says_where_to_type_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    done = CliRunner().invoke(main, ["slurm", "submit", str(run)])
    assert done.exit_code == 6 and "squeue: not on this machine; type this where SLURM's commands are" in done.output
    write_sent(run, SENT)
    assert "SLURM: squeue: not on this machine" in CliRunner().invoke(main, ["status", str(run)]).output


def test_a_profile_is_written_once_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def profile(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["slurm", "profile", *words])
        return done.exit_code, done.output

    assert profile("--check")[0] == 2
    assert profile()[0] == 0 and profile("--check") == (0, f"{tmp_path}/ltgc-local/site.yaml: fine (cluster site)\n")
    assert profile()[0] == 2  # not overwritten
    assert profile("--out", "-")[1].startswith("# Site profile of ltgc-local")


def test_a_table_is_rendered_row_by_row_or_not_at_all(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["slurm", "render", "recipes/paper/table5.yaml", "--out", str(tmp_path / "t")])
    assert done.exit_code == 2 and "a table of recipes" in done.output and not (tmp_path / "t").exists()
