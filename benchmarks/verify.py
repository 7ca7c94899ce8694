"""The cost of comparing files with their sha256, against coreutils' sha256sum, one process a CPU.

python -m benchmarks.verify [--gib 10]
python -m benchmarks.verify --run runs/quickstart      # how much of a finished run's time it is

Both read the same shards, out of the page cache where memory holds them, in turns. The third contender is what a step
pays that finds them verified already.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import click

from benchmarks.contest import Contender, time_in_turns
from benchmarks.results import report
from ltgc_local.model_store.cards import find_card
from ltgc_local.model_store.folders import check_model_folder
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.prefetch import num_cpus
from ltgc_local.regular_files import digest_file
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.provenance import read_run_recipe
from ltgc_local.runs.schemas import FileFacts
from ltgc_local.runs.sealed import write_sealed
from ltgc_local.runs.verify import find_damage, remember

SHARD_MIB = 64
MIB = 2**20


def write_shards(folder: Path, gib: float) -> list[str]:
    """Write files of random bytes; return their names."""
    names = [f"images-{number:05d}.parquet" for number in range(round(gib * 1024 / SHARD_MIB))]
    for name in names:
        (folder / name).write_bytes(os.urandom(SHARD_MIB * MIB))
    return names


def share_of(root: Path) -> str:
    """Time what the steps of a finished run paid, at most: each compared every file of every step that it reads.

    And the launcher looked at each model's folder, and sealed three files a step.
    """
    recipe, seconds, wall = read_run_recipe(root), 0.0, 0.0
    for step in build_plan(recipe):
        manifest = RunDirectory(root).manifest(step.name)
        assert manifest is not None, f"{step.name} is not complete"
        wall += manifest.wall_seconds
        start = time.perf_counter()
        for name in step.reads:
            RunDirectory(root).find_damage(name, afresh=True)
        with tempfile.TemporaryDirectory() as place:
            for number in range(3):
                write_sealed(Path(place) / f"{number}.json", manifest.model_dump())
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    for role in recipe.roles:
        check_model_folder(find_card(recipe.models.cards, getattr(recipe.models, role), role), hash_files=False)
    seconds += time.perf_counter() - start
    return f"{root}: {seconds:.2f} s of {wall:.0f} s: {seconds / wall:.2%}"


@click.command()
@click.option("--gib", default=10.0, show_default=True, help="How much to check.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the files are written; a temporary folder's.")
@click.option("--run", type=click.Path(path_type=Path), help="Instead: what it costs of this finished run.")
@click.option("--write/--no-write", default=True, help="Write the result under benchmarks/results.")
def main(gib: float, rounds: int, folder: Path | None, run: Path | None, write: bool) -> None:
    """Print rates in MiB/s, or the share of a run's time."""
    if run is not None:
        print(share_of(run))
        return
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place)
        names = write_shards(root, gib)
        listed = "\0".join(names)
        command = ["xargs", "-0", "-n", "1", "-P", str(num_cpus()), "sha256sum", "--"]
        whole = {name: FileFacts(bytes=SHARD_MIB * MIB, sha256=digest_file(root / name)) for name in names}

        def sha256sum() -> None:
            subprocess.run(command, input=listed, text=True, cwd=root, stdout=subprocess.DEVNULL, check=True)

        def ours(afresh: bool) -> None:
            assert list(find_damage(root, whole, afresh=afresh)) == []

        remember(root, whole)
        mib = len(names) * SHARD_MIB
        timings = time_in_turns(
            {
                f"sha256sum, {num_cpus()} at once": Contender(sha256sum, mib),
                "find_damage, everything afresh": Contender(lambda: ours(True), mib),
                "find_damage, found whole before": Contender(lambda: ours(False), mib),
            },
            "cpu",
            rounds,
        )
    report(
        "verify",
        "cpu",
        {f"{gib:g} GiB in files of {SHARD_MIB} MiB": timings},
        unit="MiB",
        weights="no",
        command=f"python -m benchmarks.verify --gib {gib:g}",
        write=write,
    )


if __name__ == "__main__":
    main()
