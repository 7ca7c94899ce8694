"""Run one step's workers as the launcher does, without a scheduler."""

from __future__ import annotations

from pathlib import Path

from ltgc_local.pipeline.executors.local import LocalExecutor, Order, explain
from ltgc_local.pipeline.executors.machine import training_environments
from ltgc_local.runs.logs import Level


def run_workers(
    root: Path, step: str, workers: int = 1, *, level: Level = "warning", processes: int = 1, threads: int = 1
) -> None:
    """Run workers of a step, or processes that train together, to their end; raise what the first failure is."""
    with LocalExecutor() as executor:
        for number, environment in enumerate(training_environments(processes) * workers):
            executor.start(Order(root, step, number, processes, level, threads, environment=environment))
        while executor.num_running:
            for ended in executor.wait(60.0):
                if ended.code:
                    raise explain(step, ended.code, ended.cpu_seconds, root / step / "logs")
