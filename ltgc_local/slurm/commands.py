"""Call SLURM's commands: lists of words, never a shell, within a time limit; the output is bounded text."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence

from ltgc_local.errors import BackendError

TIMEOUT_S = 60.0
MAX_CHARACTERS = 50_000_000


def is_here() -> bool:
    """Return whether SLURM's commands are on this machine."""
    return shutil.which("sbatch") is not None


def call(command: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
    """Call a command and return what it prints.

    Raises:
        BackendError: it is not there, fails, or takes too long.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise BackendError(
            f"{command[0]}: not on this machine; type this where SLURM's commands are, such as a login node"
        ) from None
    except (subprocess.TimeoutExpired, OSError) as problem:
        words = f"no answer for {timeout_s:.0f} s" if isinstance(problem, subprocess.TimeoutExpired) else str(problem)
        raise BackendError(f"{shlex.join(command)}: {words}; try again later") from None
    if done.returncode:
        words = " ".join(done.stderr.split())[:500] or f"exit code {done.returncode}"
        raise BackendError(f"{shlex.join(command)}: {words}")
    return done.stdout[:MAX_CHARACTERS]


def ask(command: Sequence[str]) -> str | None:
    """Call a command whose answer is welcome but not needed; None where there is none."""
    try:
        return call(command, timeout_s=10)
    except BackendError:
        return None
