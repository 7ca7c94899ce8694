"""The share of a TGN run's images that an independent judge recognises as the class they were generated for.

    python -m benchmarks.tgn_judge runs/tgn_quickstart [RUN ...] [--write]

The judge (``miniatures.judge``) was trained on the whole official train set of Fashion-MNIST and is used for nothing
else: no training, no choice of settings. So this runs on that data only. The test images of the same classes show how
good the judge is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.results import FOLDER
from ltgc_local.datasets import open_corpus
from ltgc_local.methods.tgn.classes import read_manifest
from ltgc_local.recipe import DiffusionRecipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import decode_png
from ltgc_local.runs.find_runs import find_runs
from ltgc_local.runs.provenance import read_run_recipe
from miniatures.judge import judge

SIDE = 28


def judge_run(root: Path) -> dict[str, Any]:
    """Return the percent of a run's images that the judge gives their class, and that by class.

    Raises:
        ArtefactError: the run has no generated images yet.
    """
    run, recipe = RunDirectory(root), read_run_recipe(root)
    images = run.images("generated")
    grey = np.stack([np.asarray(decode_png(i.image).convert("L").resize((SIDE, SIDE))) for i in images])
    right = judge(grey) == np.array([image.class_id for image in images])
    labels = np.array([image.class_id for image in images])
    tail = [entry for entry in read_manifest(run).tail if (labels == entry.class_id).any()]
    return {
        "run": root.name,
        "seed": recipe.seed,
        "r": (recipe.diffusion if isinstance(recipe, DiffusionRecipe) else recipe.cdtg).r,
        "images": len(images),
        "all": round(100 * float(right.mean()), 1),
        "classes": {e.class_name: round(100 * float(right[labels == e.class_id].mean()), 1) for e in tail},
    }


def judge_photographs(root: Path) -> float:
    """Return the percent of the test images of a run's tail classes that the judge gets right."""
    test = open_corpus(read_run_recipe(root).data).test
    rows = np.flatnonzero(np.isin(test.labels, [entry.class_id for entry in read_manifest(RunDirectory(root)).tail]))
    pixels = np.stack([np.asarray(image.convert("L")) for image in test.images(rows)])
    return round(100 * float((judge(pixels) == test.labels[rows]).mean()), 1)


def as_markdown(found: Sequence[dict[str, Any]], photographs: float) -> str:
    names = list(dict.fromkeys(name for each in found for name in each["classes"]))
    lines = [
        "| run | seed | r | images | all | " + " | ".join(names) + " |",
        "| :-- | --: | --: | --: | --: | " + " | ".join("--:" for _ in names) + " |",
    ]
    for each in found:
        cells = [each["run"], each["seed"], f"{each['r']:g}", each["images"], each["all"]]
        cells += [each["classes"].get(name, "–") for name in names]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, "", f"Of the test images of the tail classes the judge gets {photographs} % right."])


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--write", is_flag=True, help="Also write benchmarks/results/tgn_judge.{md,json}.")
def main(runs: tuple[Path, ...], write: bool) -> None:
    """Judge the generated images of runs. Example: python -m benchmarks.tgn_judge runs/tgn-noise"""
    roots = [root for folder in runs for root in find_runs(folder)]
    found = [judge_run(root) | {"run": str(root.relative_to(root.parents[1]))} for root in roots]
    photographs = judge_photographs(roots[0])
    text = as_markdown(found, photographs)
    click.echo(text)
    if write:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / "tgn_judge.md").write_text(f"# The judge on TGN's images\n\n{text}\n", encoding="utf-8")
        value = {"photographs": photographs, "runs": found}
        (FOLDER / "tgn_judge.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
