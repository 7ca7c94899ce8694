"""Start a step's workers as processes of this machine and wait for all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from ltgc_local import offline
from ltgc_local.errors import ArtefactError, BackendError, DataError, LtgcError, ModelError, RecipeError

#: Idle OpenMP threads sleep instead of spinning: on a machine that has other work, spinning made small models 50 times
#: slower; on an idle one it gains nothing.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
#: What torch compiles is kept on the node: on a shared file system the ranks' caches race. A user's own choice counts.
COMPILED = {"TORCHINDUCTOR_CACHE_DIR": str(Path(tempfile.gettempdir()) / f"ltgc_local_compiled_{os.getuid()}")}
ERRORS: dict[int, type[LtgcError]] = {
    kind.exit_code: kind for kind in (RecipeError, ModelError, DataError, ArtefactError, BackendError)
}


def run_workers(root: Path, step: str, workers: int = 1) -> None:
    """Run the step to its end. A worker's message is on standard error and in the step's log already.

    Raises:
        LtgcError: of the kind that the first failing worker's exit code names; the others are stopped.
    """
    environment = {**WAITING, **COMPILED, **os.environ, **offline.OFFLINE_ENVIRONMENT}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "ltgc_local.run.worker", str(root), step, str(worker), str(workers)],
            env=environment | ({"CUDA_VISIBLE_DEVICES": str(worker)} if workers > 1 else {}),
        )
        for worker in range(workers)
    ]
    try:
        codes = [process.wait() for process in processes]
    except BaseException:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait()
        raise
    for code in codes:
        if code:
            raise ERRORS.get(code, BackendError)(_explain(step, code))


def _explain(step: str, code: int) -> str:
    if code == -signal.SIGKILL:
        return f"step {step}: its process was killed (out of memory?); the same command goes on where it stopped"
    if code < 0:
        return (
            f"step {step}: its process ended by {signal.Signals(-code).name}; the same command goes on where it stopped"
        )
    return f"step {step}: failed (see above); when that is mended, the same command goes on where it stopped"
