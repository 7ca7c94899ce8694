"""Output streams and exit codes; a user's mistake becomes one message."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from traceback import format_exc
from typing import Any

import click

from ltgc_local import stopping
from ltgc_local.errors import ArtefactError, BackendError, LtgcError
from ltgc_local.out_of_memory import describe_lack, is_out_of_memory
from ltgc_local.printable import printable


class Commands(click.Group):
    """Print a user's mistake as one message and exit with its code; ``--traceback`` shows where it was raised."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        open_missing_streams()
        try:
            return super().main(*arguments, **options)
        except OSError as error:  # click's own output, such as help
            if error.filename is not None:  # a file, not a stream
                raise
            log(str(_output_problem(error)))
            sys.exit(ArtefactError.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as problem:
            error = _error_of(problem)
            if error is None:
                raise
            log(format_exc().rstrip() if ctx.params.get("traceback") else str(error))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            log("interrupted; rerun the same command to resume")
            ctx.exit(130)
        except stopping.Stopped as stop:
            log("asked to stop; rerun the same command to resume")
            ctx.exit(stop.exit_code)


def _error_of(problem: Exception) -> LtgcError | None:
    """Return the error to report; None for a bug in the program, or what click handles itself."""
    if isinstance(problem, click.ClickException | click.exceptions.Exit | BrokenPipeError):
        return None
    if is_out_of_memory(problem) and not isinstance(problem, BackendError):
        return BackendError(describe_lack(problem))
    if isinstance(problem, LtgcError):
        return problem
    from ltgc_local.runs.disk import explain

    return explain(problem)


def write(text: str, end: str = "\n") -> None:
    """Write to standard output with control characters made visible: names of files may contain any.

    Raises:
        ArtefactError: it is closed, or its disk is full.
    """
    if sys.stdout is None:
        raise ArtefactError("standard output is closed, and the result cannot be written")
    try:
        click.echo(printable(text) + end, nl=False)
    except BrokenPipeError:
        raise  # click exits quietly: the reader has seen enough
    except OSError as error:
        raise _output_problem(error) from None


def write_json(value: Any) -> None:
    """Write a value to standard output for a script."""
    write(json.dumps(value, indent=1))


def write_file(path: Path, text: str) -> None:
    """Write a file that the user named.

    Raises:
        ArtefactError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise ArtefactError(f"{path}: cannot be written ({problem.strerror})") from None


def log(line: str) -> None:
    """Write a line to standard error with control characters made visible; if that fails, nothing can be reported."""
    with suppress(OSError):
        click.echo(printable(line), err=True)


def open_missing_streams() -> None:
    """Open streams that the shell closed (``2>&-``) on the null device, or the next opened file would become one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _output_problem(error: OSError) -> ArtefactError:
    """Return the error for a failing standard output, and detach it: Python would try again at exit."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    return ArtefactError(f"standard output cannot be written: {error.strerror}")
