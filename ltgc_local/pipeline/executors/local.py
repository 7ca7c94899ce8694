"""Start a step's workers as processes on this machine, and wait for them."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ltgc_local import offline
from ltgc_local.errors import ArtefactError, BackendError, DataError, LtgcError, ModelError, RecipeError
from ltgc_local.runs.logs import Level

#: An idle OpenMP thread spins this often before it sleeps. Compared with libgomp's default, a step of TGN's generator
#: takes 1.2 times as long on two idle cores of a virtual machine, which wakes threads slowly, but a tenth of the time
#: where two processes share the cores. LoRA training takes the same time with either.
WAITING = {"GOMP_SPINCOUNT": "10000"}
ERRORS: dict[int, type[LtgcError]] = {
    kind.exit_code: kind for kind in (RecipeError, ModelError, DataError, ArtefactError, BackendError)
}


NO_THREAD = 127  # glibc, when there is no memory for a thread's own data
POLL_S = 0.05
HEARTBEAT_S = 60.0


def run_workers(
    root: Path,
    step: str,
    environments: Sequence[Mapping[str, str]] = ({},),
    level: Level = "warning",
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Run the step to its end, with one process per entry of ``environments``. Workers print to standard error.

    Args:
        environments: variables that each worker has in addition to this process's, such as its GPUs.
        level: the lowest level that a worker prints to standard error.
        beat: called every minute while the workers run.

    Raises:
        LtgcError: of the kind that belongs to the first failing worker's exit code; the others are stopped.
    """
    workers = len(environments)
    environment = {**WAITING, **_threads(workers), **os.environ, **offline.OFFLINE_ENVIRONMENT}
    environment |= safe_path(environment)
    with suppress(OSError):  # no room for temporary files: torch finds a place of its own
        environment.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compile_cache(Path(tempfile.gettempdir()))))
    environment["LTGC_LAUNCHER"] = str(os.getpid())  # with which the worker ends
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for worker, more in enumerate(environments):
            arguments = [str(root), step, str(worker), str(workers), level]
            command = [sys.executable, "-P", "-m", "ltgc_local.pipeline.worker", *arguments]
            processes.append(subprocess.Popen(command, env=environment | dict(more)))
        code = _wait(processes, beat)
    finally:  # also of an interrupt: no step leaves a process behind
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait()
    if code:
        raise ERRORS.get(code, BackendError)(_explain(step, code, _cpu_seconds_since(before), root / step / "logs"))


def _wait(processes: Sequence[subprocess.Popen[bytes]], beat: Callable[[], None] = lambda: None) -> int:
    """Return the exit code of the first process that fails, as soon as it does; 0 when all are done."""
    due = time.monotonic() + HEARTBEAT_S
    while True:
        codes = [process.poll() for process in processes]
        failed = next((code for code in codes if code), None)
        if failed is not None:
            return failed
        if None not in codes:
            return 0
        if time.monotonic() >= due:
            beat()
            due += HEARTBEAT_S
        time.sleep(POLL_S)


def _threads(workers: int) -> dict[str, str]:
    """Give each of several workers its share of the cores, as each would use all of them otherwise."""
    if workers == 1:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // workers))}


def compile_cache(temporary: Path) -> Path:
    """Return the folder for what torch compiles, on this node: on a shared file system the ranks' caches race.

    Its contents are loaded as code, and anyone may write to the system's folder for temporary files. So a folder of
    this name that belongs to another user, or that others may write to, is not used; a new one is made.
    """
    folder = temporary / f"ltgc_local_compiled_{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    state = folder.lstat()
    is_own = stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o022
    return folder if is_own else Path(tempfile.mkdtemp(prefix="ltgc_local_compiled_", dir=temporary))


def safe_path(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep a process and its children from importing modules of the current folder.

    Empty and relative entries of PYTHONPATH would do that, so they are left out.
    """
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(path)]
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(paths)}


def _cpu_seconds_since(before: resource.struct_rusage) -> float:
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime


def _explain(step: str, code: int, cpu_seconds: float, logs: Path) -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_CPU)
    if code in (-signal.SIGXCPU, -signal.SIGKILL) and limit != resource.RLIM_INFINITY and cpu_seconds >= limit - 1:
        return (
            f"step {step}: its process reached the limit of {limit} s of CPU time (ulimit -t); raise it, then "
            "rerun the same command to resume"
        )
    if code == -signal.SIGKILL:
        return f"step {step}: its process was killed (out of memory?); rerun the same command to resume"
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    if memory != resource.RLIM_INFINITY and (code < 0 or code == NO_THREAD):
        return (
            f"step {step}: its process ended, probably by the limit of {memory >> 20} MiB of memory (ulimit -v); "
            "raise it, then rerun the same command to resume"
        )
    if code < 0:
        return (
            f"step {step}: its process ended by {signal.Signals(-code).name} (where, is in {logs}); rerun the same "
            "command to resume"
        )
    return f"step {step}: failed (see above, or {logs}); once that is fixed, rerun the same command to resume"
