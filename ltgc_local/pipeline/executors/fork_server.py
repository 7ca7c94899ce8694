"""A process that has imported the model libraries and forks a worker per request: there in a hundredth of a second.

    python -P -m ltgc_local.pipeline.executors.fork_server

Requests come as JSON lines on standard input: ``{"import": [module, …]}`` names modules, which are imported while there
is nothing else to do; ``{"id": 7, "arguments": […], "environment": {…}, "nice": 10}`` asks for a worker. Answers go to
standard output: ``{"id": 7, "pid": 123}``, and at its end ``{"id": 7, "code": 0, "cpu_seconds": 1.5}``.

It starts no thread and touches no GPU, so its children can do both. A step's memory still goes with its process.
"""

from __future__ import annotations

from ltgc_local import offline

offline.set_environment()

import gc  # noqa: E402 (the environment comes before every other import)
import importlib  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402
from collections import deque  # noqa: E402
from contextlib import suppress  # noqa: E402
from typing import Any  # noqa: E402

from ltgc_local.pipeline import worker  # noqa: E402

MAX_REQUEST = 1 << 20


class ForkServer:
    """The server's loop."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests, self._answers = requests, answers
        self._modules: deque[str] = deque()
        self._children: dict[int, int] = {}  # pid -> id
        self._buffer = b""
        self._wake, alarm = os.pipe()
        os.set_blocking(alarm, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def run(self) -> None:
        """Serve until standard input is closed. The system sends SIGTERM to the children of a process that ends."""
        while True:
            idle = 0.0 if self._modules else None
            ready, _, _ = select.select([self._requests, self._wake], [], [], idle)
            if self._wake in ready:
                with suppress(BlockingIOError):
                    os.read(self._wake, 4096)
                self._bury()
            if self._requests in ready:
                if not self._read():
                    break
            elif not ready:
                _import(self._modules.popleft())

    def _read(self) -> bool:
        data = os.read(self._requests, MAX_REQUEST)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "import" in request:
                self._modules.extend(request["import"])
            elif "kill" in request:
                for pid, number in self._children.items():
                    if number == request["kill"]:
                        os.kill(pid, request["signal"])
            else:
                self._fork(request)
        return bool(data)

    def _fork(self, request: dict[str, Any]) -> None:
        for module in request["modules"]:
            _import(module)
        gc.freeze()  # what is there now is shared by all children, and stays so
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be_worker(request, server)
        self._children[pid] = request["id"]
        self._answer({"id": request["id"], "pid": pid})

    def _be_worker(self, request: dict[str, Any], server: int) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self._requests, self._answers, self._wake):
                os.close(descriptor)
            os.environ.update(request["environment"])
            os.environ["LTGC_LAUNCHER"] = str(server)  # with which it ends, even if that has ended already
            with suppress(OSError):
                os.nice(request["nice"])
            code = worker.main(request["arguments"])
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as problem:
            sys.excepthook(type(problem), problem, problem.__traceback__)
        finally:
            os._exit(code)

    def _bury(self) -> None:
        while self._children:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in self._children:
                seconds = round(usage.ru_utime + usage.ru_stime, 3)
                code = os.waitstatus_to_exitcode(status)
                self._answer({"id": self._children.pop(pid), "code": code, "cpu_seconds": seconds})

    def _answer(self, values: dict[str, Any]) -> None:
        os.write(self._answers, json.dumps(values).encode() + b"\n")


def _import(module: str) -> None:
    """Import a module; a worker that needs one that fails says why."""
    logging.disable(logging.WARNING)
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(module)
    logging.disable(logging.NOTSET)


def main() -> None:
    """Serve the launcher that started this process, and end with it."""
    if launcher := os.environ.get("LTGC_LAUNCHER"):
        worker.end_with(int(launcher))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts all; the launcher ends this one
    for number in (signal.SIGUSR1, signal.SIGHUP):  # which a cluster or a terminal sends to all; the workers heed them
        signal.signal(number, lambda number, frame: None)
    requests, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(2, 1)  # what libraries print does not mix with the answers
    with suppress(BrokenPipeError):  # the launcher is gone
        ForkServer(requests, answers).run()


if __name__ == "__main__":
    main()
