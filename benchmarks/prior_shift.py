"""How much of a gain on few-shot classes is the class prior: an arm's own logits, shifted after training.

    python -m benchmarks.prior_shift runs/shift [RUN ...] --arm control --tau 0.25

    shifted(x)_c = logits(x)_c - tau log n_c        n_c: training images of class c

No image and no training is involved, so whatever a shift does to few, medium and many comes from the prior alone. The
runs need ``evaluate.store_logits: true``. ``tau`` trades many against few; compare arms at equal many.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from ltgc_local.datasets import open_corpus
from ltgc_local.evaluation.metrics import accuracies
from ltgc_local.runs.arrays import read_arrays
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.find_runs import find_runs
from ltgc_local.runs.provenance import read_run_recipe

GROUPS = ("all", "many", "medium", "few")


def predict(logits: np.ndarray, class_counts: Mapping[int, int], tau: float) -> np.ndarray:
    """Return the predicted class ids (N,) of logits (N, C) after the shift."""
    counts = np.array([class_counts[c] for c in range(logits.shape[1])], dtype=np.float64)
    predicted: np.ndarray = (logits.astype(np.float64) - tau * np.log(counts)).argmax(axis=1)
    return predicted


def shift_run(root: Path, arm: str, tau: float) -> list[float]:
    """Return an arm's shifted accuracies of a run, in percent: all, many, medium, few, and the worst class."""
    run, corpus = RunDirectory(root), open_corpus(read_run_recipe(root).data)
    counts = corpus.class_counts()
    (file,) = run.files("evaluate", "logits")
    found: dict[str, Any] = accuracies(predict(read_arrays(file)[arm], counts, tau), corpus.test.labels, counts)
    return [*(found[group] for group in GROUPS), min(found["per_class"].values())]


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--arm", default="control", show_default=True, help="Whose logits: control, ltgc or zero_shot.")
@click.option("--tau", default=(0.0, 0.25, 0.5), show_default=True, multiple=True, type=float, help="Shift.")
def main(runs: tuple[Path, ...], arm: str, tau: tuple[float, ...]) -> None:
    """Print an arm's accuracies under shifts of the class prior: mean and standard deviation over the runs."""
    roots = [root for folder in runs for root in find_runs(folder)]
    click.echo("| tau | all | many | medium | few | worst class |\n|---:|---:|---:|---:|---:|---:|")
    for each in tau:
        values = np.array([shift_run(root, arm, each) for root in roots])
        spread = values.std(axis=0, ddof=1) if len(roots) > 1 else np.zeros(values.shape[1])
        cells = (f"{mean:.1f} ± {sd:.1f}" for mean, sd in zip(values.mean(axis=0), spread, strict=True))
        click.echo(f"| {each:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
