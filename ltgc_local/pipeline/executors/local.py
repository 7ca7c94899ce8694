"""Start workers as processes on this machine, and wait for them.

A worker on the CPU is forked from a server that has imported the libraries (``fork_server``); one on a GPU is started
afresh, as forked processes must not inherit CUDA, and waits for its order with the libraries imported.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ltgc_local import offline
from ltgc_local.errors import ArtefactError, BackendError, DataError, LtgcError, ModelError, RecipeError, TryAgain
from ltgc_local.regular_files import MIB, read_text
from ltgc_local.runs.logs import Level

#: An idle OpenMP thread spins this often before it sleeps. Compared with libgomp's default, a step of TGN's generator
#: takes 1.2 times as long on two idle cores of a virtual machine, which wakes threads slowly, but a tenth of the time
#: where two processes share the cores. LoRA training takes the same time with either.
WAITING = {"GOMP_SPINCOUNT": "10000"}
#: By default glibc maps each large tensor anew and unmaps it when it is freed, so every result of an operation is a
#: thousand page faults. Kept and in huge pages, a step of LoRA training on a CPU takes 0.78 times as long. Tensors of
#: 64 MiB and more are still returned at once. Other systems' allocators do not read these.
MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(64 * MIB),
    "MALLOC_TRIM_THRESHOLD_": str(512 * MIB),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
ERRORS: dict[int, type[LtgcError]] = {
    kind.exit_code: kind for kind in (RecipeError, ModelError, DataError, ArtefactError, BackendError, TryAgain)
}

NO_THREAD = 127  # glibc, when there is no memory for a thread's own data
POLL_S = 0.05
GRACE_S = 60.0  # for a worker that was asked to stop, after which it is killed


@dataclass(frozen=True)
class Order:
    """A worker to start.

    Attributes:
        worker: its number among the step's.
        processes: how many train together.
        level: the lowest level that it prints to standard error.
        threads: CPU threads that it computes with.
        gpus: those that it sees; none for a worker on the CPU.
        environment: further variables.
        nice: how much lower its priority is.
        modules: what it imports, so that the server does it once for all.
    """

    root: Path
    step: str
    worker: int = 0
    processes: int = 1
    level: Level = "warning"
    threads: int = 1
    gpus: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    nice: int = 0
    modules: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """The worker's command line."""
        return [str(self.root), self.step, str(self.worker), str(self.processes), self.level]


@dataclass(frozen=True)
class Ended:
    """A worker that ended: the number that ``start`` returned, its exit code, and the CPU time that it used."""

    ticket: int
    code: int
    cpu_seconds: float


class LocalExecutor:
    """Starts workers and tells which ended; a context manager, which leaves no process behind."""

    def __init__(self, imports: Sequence[str] = (), threads: int = 1) -> None:
        """Prepare; the fork server begins to import at once.

        Args:
            imports: modules that workers on the CPU will need.
            threads: of the workers that will need them.
        """
        self._tickets = 0
        self._servers: dict[int, _Server] = {}  # by the number of threads of its workers
        self._spawned: dict[int, subprocess.Popen[bytes]] = {}
        if imports:
            self._server(threads).ask({"import": list(imports)})

    def start(self, order: Order) -> int:
        """Start a worker; return its ticket."""
        self._tickets += 1
        if order.gpus:
            environment = worker_environment(order.threads) | {"CUDA_VISIBLE_DEVICES": ",".join(order.gpus)}
            command = [sys.executable, "-P", "-m", "ltgc_local.pipeline.worker", *order.arguments]
            self._spawned[self._tickets] = subprocess.Popen(command, env=environment | dict(order.environment))
        else:
            self._server(order.threads).start(self._tickets, order)
        return self._tickets

    def wait(self, timeout_s: float) -> list[Ended]:
        """Return the workers that ended, as soon as one did; none after ``timeout_s``."""
        due = time.monotonic() + timeout_s
        while True:
            pipes = {server.answers: server for server in self._servers.values()}
            left = max(0.0, due - time.monotonic())
            ready, _, _ = select.select(list(pipes), [], [], min(left, POLL_S) if self._spawned else left)
            ended = [each for pipe in ready for each in pipes[pipe].read()]
            for threads, server in list(self._servers.items()):
                if server.is_dead:
                    del self._servers[threads]
            for ticket, process in list(self._spawned.items()):
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    del self._spawned[ticket]
                    ended.append(Ended(ticket, process.returncode, usage.ru_utime + usage.ru_stime))
            if ended or time.monotonic() >= due:
                return ended

    @property
    def num_running(self) -> int:
        """How many workers run."""
        return len(self._spawned) + sum(len(server.running) for server in self._servers.values())

    def signal(self, number: int) -> None:
        """Send a signal to all workers."""
        for process in self._spawned.values():
            process.send_signal(number)
        for server in self._servers.values():
            server.signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Ask what runs to stop, and wait; also on an interrupt."""
        for process in self._spawned.values():
            process.terminate()
        for server in self._servers.values():
            server.terminate()
        due = time.monotonic() + GRACE_S
        for process in self._spawned.values():
            try:
                process.wait(max(0.0, due - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for server in self._servers.values():
            server.wait_for_workers(due)

    def _server(self, threads: int) -> _Server:
        if threads not in self._servers:
            self._servers[threads] = _Server(threads)
        return self._servers[threads]


class _Server:
    """The launcher's side of a fork server."""

    def __init__(self, threads: int) -> None:
        command = [sys.executable, "-P", "-m", "ltgc_local.pipeline.executors.fork_server"]
        # Some libraries start CUDA when they are imported, and its threads; what is forked computes on the CPU.
        environment = worker_environment(threads) | {"CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self.answers = self._process.stdin, self._process.stdout
        self._buffer = b""
        self.running: dict[int, int | None] = {}  # ticket -> pid, once it is known
        self.is_dead = False

    def ask(self, request: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # it was killed: reading its answers tells
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()

    def start(self, ticket: int, order: Order) -> None:
        self.running[ticket] = None
        facts = {"arguments": order.arguments, "environment": dict(order.environment), "nice": order.nice}
        self.ask({"id": ticket, "modules": list(order.modules), **facts})

    def read(self) -> list[Ended]:
        """Read what the server answers; if it was killed, so were its workers."""
        data = os.read(self.answers.fileno(), 1 << 16)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        ended = []
        for answer in map(json.loads, lines):
            if "pid" in answer:
                self.running[answer["id"]] = answer["pid"]
            else:
                del self.running[answer["id"]]
                ended.append(Ended(answer["id"], answer["code"], answer["cpu_seconds"]))
        if not data:
            self.is_dead = True
            _, status, usage = os.wait4(self._process.pid, 0)
            code = self._process.returncode = os.waitstatus_to_exitcode(status)
            self.wait_for_workers(time.monotonic() + GRACE_S)
            seconds = usage.ru_utime + usage.ru_stime  # tells whether it was killed at a limit of CPU time
            ended += [Ended(ticket, code or -signal.SIGKILL, seconds) for ticket in self.running]
            self.running.clear()
        return ended

    def signal(self, number: int) -> None:
        for ticket in self.running:
            self.ask({"kill": ticket, "signal": number})

    def terminate(self) -> None:
        """End the server, even while it imports something; the system sends SIGTERM to its workers."""
        self._process.terminate()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._requests.close()
        self.answers.close()

    def wait_for_workers(self, due: float) -> None:
        """Wait for the workers of a server that has ended: they were asked to stop, and may be writing their last."""
        pids = [pid for pid in self.running.values() if pid is not None]
        while time.monotonic() < due and any(map(_is_alive, pids)):
            time.sleep(POLL_S)
        for pid in filter(_is_alive, pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended may still be listed."""
    try:
        state = read_text(f"/proc/{pid}/stat", MIB).rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")


def worker_environment(threads: int) -> dict[str, str]:
    """Return the variables of a worker, or of the server that forks it."""
    numbers = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
    environment = {**WAITING, **MEMORY, **os.environ, **numbers, **offline.OFFLINE_ENVIRONMENT}
    environment |= safe_path(environment)
    with suppress(OSError):  # no room for temporary files: torch finds a place of its own
        environment.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compile_cache(Path(tempfile.gettempdir()))))
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # read when it is imported
    return environment | {"LTGC_LAUNCHER": str(os.getpid())}  # with which the worker ends


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


def explain(step: str, code: int, cpu_seconds: float, logs: Path) -> LtgcError:
    """Return the error for a worker that failed, of the kind that its exit code says."""
    return ERRORS.get(code, BackendError)(_explain(step, code, cpu_seconds, logs))


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
