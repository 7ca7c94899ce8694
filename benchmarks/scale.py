"""What each operation costs on a million images over 8,142 classes: CPU seconds, wall seconds and peak memory.

python -m benchmarks.scale [--share 0.1] [--folder /big/disk/scale] [--only report]

Each operation runs in a process of its own, imports included. The run is written first (minutes, 3 GB) unless it is in
the folder already. ``status``, ``plan``, resuming and collecting are the user's; the rest are parts of steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from ltgc_local.regular_files import MIB

SHARD, PHOTOGRAPHS, PHOTOGRAPH_PX = 64, 1024, 160  # 77 kB each


class Reached(BaseException):
    """The point up to which an operation is measured."""


def _stop(*_: Any, **__: Any) -> Any:
    raise Reached


def stage_of(folder: Path, name: str) -> Any:
    """Return the stage of a step of the run, as a worker makes it."""
    from ltgc_local.methods.stage import stage_class
    from ltgc_local.pipeline.plan import build_plan
    from ltgc_local.runs.directory import RunDirectory
    from ltgc_local.runs.progress import Progress
    from ltgc_local.runs.provenance import read_run_recipe

    recipe = read_run_recipe(folder)
    step = next(step for step in build_plan(recipe) if step.name == name)
    return stage_class(step)(recipe, step, RunDirectory(folder), Progress(name, with_bar=False))


def launch(folder: Path) -> None:
    """Resume a run, up to the start of the first worker, without the libraries that a server imports for it."""
    from ltgc_local.pipeline import scheduler
    from ltgc_local.pipeline.preparation import Request
    from ltgc_local.runs.provenance import read_run_recipe

    scheduler.modules_of = lambda step, recipe: ()
    scheduler.LocalExecutor.start = _stop  # type: ignore[method-assign]
    scheduler.run_pipeline(Request(read_run_recipe(folder), folder, "ltgc-local run", again=True), print)


def work(folder: Path, step: str) -> None:
    """Start a worker of a step, up to its first chunk."""
    from ltgc_local.pipeline.worker import do_work

    stage = stage_of(folder, step)
    stage.make_chunk = _stop
    do_work(stage)


def plan_chunks(folder: Path, step: str) -> None:
    """Write the plan of a step's chunks."""
    stage = stage_of(folder, step)
    stage.run.write_chunk_plan(step, stage.chunks(), stage.item)


def do_step(folder: Path, step: str) -> None:
    """Make all of a step."""
    from ltgc_local.pipeline.worker import do_work

    do_work(stage_of(folder, step))


def compare_chunk(folder: Path, pair: int) -> None:
    """Make the first chunk of the leak guard's comparison of a pair of groups, without writing it."""
    stage = stage_of(folder, "leaks/compare")
    chunk = next(chunk for chunk in stage.chunks() if chunk[0].pair == pair)
    stage.make_chunk(chunk)


def collect_photographs(folder: Path) -> None:
    """Collect from shards with images of the size of photographs, and print the rate in MB/s."""
    import numpy as np
    from PIL import Image

    from ltgc_local.methods.stage import stage_class
    from ltgc_local.pipeline.plan import build_plan
    from ltgc_local.runs.directory import RunDirectory
    from ltgc_local.runs.files import GeneratedImage, Images, encode_png
    from ltgc_local.runs.progress import Progress
    from ltgc_local.runs.provenance import read_run_recipe

    recipe = read_run_recipe(folder)
    recipe = recipe.model_copy(update={"assess": recipe.assess.model_copy(update={"enabled": False})})
    step = next(step for step in build_plan(recipe) if step.name == "generated")
    facts = {"items": SHARD, "seconds": 0.0, "peak_mib": 0}
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        run = RunDirectory(Path(place))
        for number in range(PHOTOGRAPHS // SHARD):
            pixels = rng.integers(0, 255, (SHARD, PHOTOGRAPH_PX, PHOTOGRAPH_PX, 3), dtype=np.uint8)
            pngs = [encode_png(Image.fromarray(each)) for each in pixels]
            ids = range(number * SHARD, (number + 1) * SHARD)
            images = [GeneratedImage(png, 0, "one", i, "text", 0, 0) for png, i in zip(pngs, ids, strict=True)]
            run.write_chunk("draw", number, [Images("images", images)], facts)
        run.write_manifest("draw", {}, PHOTOGRAPHS // SHARD, 0.0)
        stage = stage_class(step)(recipe, step, run, Progress(step.name, with_bar=False))
        start = time.process_time()
        for number, chunk in enumerate(stage.chunks()):
            run.write_chunk("generated", number, stage.make_chunk(chunk), facts)
        size = sum(path.stat().st_size for path in run.folder("generated").glob("images-*"))
        print(f"{size / 1e6 / (time.process_time() - start):.0f} MB/s", file=sys.stderr)


def merge(folder: Path) -> None:
    """List the images that train TGN's classifier."""
    do_step(folder.parent / "tgn", "merge")


OPERATIONS: dict[str, tuple[str, Callable[..., None], tuple[Any, ...]]] = {
    # what it is called: (state of the run, what is measured, arguments)
    "resume: launcher": ("judged", launch, ()),
    "draw: plan of chunks": ("judged", plan_chunks, ("draw",)),
    "detect: plan of chunks": ("judged", plan_chunks, ("assess/0/detect",)),
    "refine: plan of chunks": ("judged", plan_chunks, ("assess/0/refine",)),
    "collect: plan of chunks": ("judged", plan_chunks, ("generated",)),
    "collect: all": ("judged", do_step, ("generated",)),
    "collect: photographs": ("judged", collect_photographs, ()),
    "resume: worker": ("half collected", work, ("generated",)),
    "leak guard: plan of fingerprints": ("collected", plan_chunks, ("leaks/generated",)),
    "leak guard: plan of comparisons": ("fingerprinted", plan_chunks, ("leaks/compare",)),
    "leak guard: 65,536 images among the test images": ("fingerprinted", compare_chunk, (0,)),
    "leak guard: 65,536 images among the training images": ("fingerprinted", compare_chunk, (1,)),
    "TGN's merge": ("fingerprinted", merge, ()),
    "report": ("trained", do_step, ("report",)),
}


#: Run by a Python without any package: a child's peak memory counts from its parent's.
_SHIM = """
import json, os, sys, time
start = time.monotonic()
child = os.fork()
if not child:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
_, state, used = os.wait4(child, 0)
wall = time.monotonic() - start
print(json.dumps([os.waitstatus_to_exitcode(state), used.ru_utime + used.ru_stime, wall, used.ru_maxrss // 1024]))
"""


def measure(arguments: list[str]) -> dict[str, float]:
    """Run Python with arguments; return its CPU and wall seconds and its peak memory."""
    command = [sys.executable, "-S", "-E", "-c", _SHIM, *arguments]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True)
    code, cpu, wall, peak = json.loads(done.stdout)
    if code:
        raise SystemExit(f"{' '.join(arguments)}: ended with {code}")
    return {"CPU s": round(cpu, 1), "wall s": round(wall, 1), "peak MiB": peak}


@click.command()
@click.option("--share", default=1.0, show_default=True, help="Of the million images and the 8,142 classes.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/tmp/scale"), show_default=True)
@click.option("--only", multiple=True, help="Measure these operations alone.")
@click.option("--operation", hidden=True, help="What a measured process does.")
@click.option("--write/--no-write", default=True, help="Write the result under benchmarks/results.")
def main(share: float, folder: Path, only: tuple[str, ...], operation: str | None, write: bool) -> None:
    """Print a table of all operations."""
    root = folder / "run"
    if operation is not None:
        _, function, more = OPERATIONS[operation]
        with suppress(Reached):
            function(root, *more)
        return
    from benchmarks.results import report  # here, as they load torch, which the measured processes may not need
    from benchmarks.scale_run import ScaleRun, Size

    scale = ScaleRun(folder, Size(share))
    rows = []
    for name in ["plan", "status", *OPERATIONS]:
        if only and name not in only:
            continue
        scale.bring_to(OPERATIONS[name][0] if name in OPERATIONS else "judged")
        arguments = ["-m", "benchmarks.scale", "--folder", str(folder), "--operation", name]
        if name in ("plan", "status"):
            arguments = ["-m", "ltgc_local.cli", name, str(folder / "scale.yaml" if name == "plan" else root), "--json"]
        if name == "resume: launcher":
            (root / "model_digests.json").unlink(missing_ok=True)
        found = measure(arguments)
        rows.append({"operation": name, **found})
        print(json.dumps(rows[-1]), flush=True)
    size = sum(path.stat().st_size for path in (root / "draw").glob("images-*.parquet"))
    images = f"{scale.size.generated:,} of {scale.size.classes:,} classes, drawn in {size / MIB:.0f} MiB"
    report(
        "scale",
        "cpu",
        {},
        unit="images",
        weights="no",
        command=f"python -m benchmarks.scale --share {share:g}",
        facts={"images": images},
        tables={"A process each": rows},
        write=write,
    )


if __name__ == "__main__":
    main()
