"""Golden runs: what three small runs wrote, by sha256, so that a rebuild that changes a byte of a result is seen.

    python -m tests.golden_runs record  [NAME ...]      run the recipes and write tests/golden/NAME.json
    python -m tests.golden_runs compare [NAME ...]      run them and print what differs from it

A step's files count, but for what says how long something took. Reports are pages about the others, and are left out.
Arithmetic differs between processors and versions of torch, so sums are compared only where both are as recorded;
which files there are is compared everywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import torch

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
_TGN = (
    "kmdn.stem=full",
    "kmdn.size_px=16",
    "kmdn.epochs=1",
    "kmdn.distill_epochs=2",
    "kmdn.distill_interval=1",
    "kmdn.batch_size=128",
    "merge.budget=number",
    "merge.images=30",
    "classifier.stem=full",
    "classifier.size_px=16",
    "classifier.epochs=1",
    "classifier.batch_size=128",
    "classifier.equal_steps=false",
    "leaks.max_embedded=20",
    "measure.max_images=20",
)
#: Recipe -> the settings that make it small.
SMALL: dict[str, tuple[str, ...]] = {
    "quickstart": (
        "describe.tail_below=20",  # dress (17 images) and coat (10)
        "extend.max_descriptions=24",  # 7 + 14 generated images
        "draw.steps=6",
        "draw.shard_size=4",
        "draw.batch_size=4",
        "assess.attempts=2",
        "train.epochs=1",
    ),
    "tgn_quickstart": (*_TGN, "cdtg.steps=6", "cdtg.sample_every=2", "cdtg.shard_size=40"),
    "tgn_diffusion_quickstart": (
        *_TGN,
        "diffusion.steps=4",
        "diffusion.log_every=2",
        "diffusion.draw_steps=6",
        "diffusion.attempts=2",
        "diffusion.shard_size=20",
    ),
}
_NO_RESULT = {"report", "chunks", "logs", "superseded", "decoded", "slurm"}  # folders
_NO_RESULT |= {"manifest.json", "begun.json", "verified.json", "metrics.jsonl", "checkpoint.safetensors"}
_OF_TIME = {"images_per_second", "seconds", "sha256", "time"}  # keys; sha256 is that of the file which holds the others


def command(name: str, out: Path, *more: str, small: bool = True) -> list[str]:
    """Return the command that runs a recipe, made small or as it is."""
    sets = [word for key in SMALL[name] for word in ("--set", key)] if small else []
    return [
        *(sys.executable, "-m", "ltgc_local.cli", "run"),
        *(str(ROOT / f"recipes/{name}.yaml"), *sets, "--out", str(out), *more),
    ]


def sums(run: Path) -> dict[str, str]:
    """Return sha256 of each file of each step that says what was made, by its name in the run."""
    found = {}
    for path in sorted(run.glob("*/**/*")):
        name = path.relative_to(run)
        if path.is_file() and not _NO_RESULT & set(name.parts):
            found[str(name)] = hashlib.sha256(without_times(path)).hexdigest()
    return found


def difference(name: str, run: Path) -> list[str]:
    """Return a line for each file of a run that is not as recorded."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    made = sums(run)
    lines = [f"{file}: not made" for file in golden["files"].keys() - made.keys()]
    lines += [f"{file}: not in the golden run" for file in made.keys() - golden["files"].keys()]
    if golden["machine"] == machine():
        both = golden["files"].keys() & made.keys()
        lines += [f"{file}: differs" for file in both if golden["files"][file] != made[file]]
    return sorted(lines)


def machine() -> str:
    """Return what the last bits of a sum depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def without_times(path: Path) -> bytes:
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(path.read_text()))).encode()
    if path.suffix == ".jsonl":
        lines = [line for line in path.read_text().split("\n") if line]
        return "\n".join(json.dumps(_timeless(json.loads(line))) for line in lines).encode()
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in _OF_TIME}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


@click.command()
@click.argument("action", type=click.Choice(["record", "compare"]))
@click.argument("names", nargs=-1, type=click.Choice(list(SMALL)))
def main(action: str, names: tuple[str, ...]) -> None:
    """Run recipes made small; record what they wrote, or compare it with what was recorded."""
    failed = False
    for name in names or SMALL:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            subprocess.run(command(name, run), check=True, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"})
            if action == "record":
                golden = {"machine": machine(), "files": sums(run)}
                (GOLDEN / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")
                continue
            lines = difference(name, run)
            click.echo("\n".join(lines) or f"{name}: as recorded")
            failed |= bool(lines)
    sys.exit(failed)


if __name__ == "__main__":
    main()
