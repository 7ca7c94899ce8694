"""Evaluated runs on disk, without models: a stated number of each class's test images is classified correctly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltgc_local.datasets.groups import shot_of
from ltgc_local.evaluation.metrics import measure
from ltgc_local.recipe import Recipe
from ltgc_local.records import EpochMetrics
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Json, Lines, Table
from ltgc_local.runs.find_runs import write_row_order
from ltgc_local.runs.provenance import write_run_recipe
from tests.provenances import write_provenance

COUNTS = {0: 500, 1: 50, 2: 5}  # training images: many, medium, few
IMAGES_PER_CLASS = 20
WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> WriteRun:
    """A function (folder, {arm: correct images per class}, *options) -> the folder of an evaluated run."""

    def write(
        name: str,
        right: Mapping[str, tuple[int, int, int]],
        *overrides: str,
        digest: str = "d1",
        rivals: Mapping[str, Any] | None = None,
    ) -> Path:
        run = RunDirectory(tmp_path / name)
        labels = np.repeat(list(COUNTS), IMAGES_PER_CLASS)
        columns: dict[str, Any] = {"key": [f"test/{row}" for row in range(len(labels))], "label": labels}
        metrics = {}
        for arm, numbers in right.items():
            predicted = np.concatenate(
                [np.where(np.arange(IMAGES_PER_CLASS) < n, c, (c + 1) % 3) for c, n in enumerate(numbers)]
            )
            confidence = np.full(len(labels), 0.5)
            base, _, variant = arm.partition(".")
            figures = measure(predicted, confidence, labels, COUNTS)
            if variant:
                metrics[base][variant] = figures
            else:
                metrics[arm] = figures
            columns |= {f"{arm}.predicted": predicted, f"{arm}.confidence": confidence}
        classes = [{"class_id": c, "name": f"c{c}", "num_train": n, "shot": shot_of(n)} for c, n in COUNTS.items()]
        artefacts = [Json("metrics", metrics), Json("classes", classes), Table("predictions", columns)]
        artefacts += [Json("rivals", rivals)] if rivals is not None else []
        facts = {"items": 1, "seconds": 0.0, "peak_mib": 0}
        run.write_chunk("evaluate", 0, artefacts, facts, numbered=False)
        run.write_manifest("evaluate", {}, 1, 0)
        write_run_recipe(run.root, make_recipe(*overrides))
        write_provenance(run.root, "miniature", digest=digest)
        return run.root

    return write


@pytest.fixture
def trained_run(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> Callable[..., Path]:
    """A function (folder, {arm: (few of every epoch)}, kept epoch, *options) -> a run that was trained, not tested."""

    def write(name: str, few: Mapping[str, Sequence[float]], kept: int, *overrides: str) -> Path:
        run = RunDirectory(tmp_path / name)
        for arm, values in few.items():
            measured = [{"all": 50.0, "many": 60.0, "medium": None, "few": value} for value in values]
            history = [EpochMetrics(epoch, "", 10, {"loss": 1.0}, 0.1, groups) for epoch, groups in enumerate(measured)]
            artefacts = [Lines("history", history), Json("selected", {"select": "last", "epoch": kept})]
            run.write_chunk(f"train/{arm}", 0, artefacts, {"items": 1, "seconds": 0, "peak_mib": 0}, numbered=False)
            run.write_manifest(f"train/{arm}", {}, 1, 0)
        write_run_recipe(run.root, make_recipe(*overrides))
        write_provenance(run.root, "miniature", digest="d1")
        return run.root

    return write


@pytest.fixture
def table(write_run: WriteRun, tmp_path: Path) -> Path:
    """A small Table 5: two samplers with the union, and BalanceMix with two seeds."""
    zero, instance, balanced = (10, 10, 10), (18, 12, 4), (17, 13, 8)
    write_run(
        "t/no_balance_mix/seed-0",
        {"zero_shot": zero, "control": instance, "ltgc": (18, 12, 10)},
        "name=no_balance_mix", "train.mixing=union", "train.sampler=instance",
    )  # fmt: skip
    write_run(
        "t/balanced_sampling/seed-0",
        {"zero_shot": zero, "control": balanced, "ltgc": (17, 13, 12)},
        "name=balanced_sampling", "train.mixing=union", "train.sampler=balanced",
    )  # fmt: skip
    for seed, few in ((0, 14), (1, 16)):
        write_run(
            f"t/balance_mix/seed-{seed}",
            {"zero_shot": zero, "control": balanced, "ltgc": (15, 13, few)},
            "name=balance_mix", f"seed={seed}",
        )  # fmt: skip
    write_row_order(tmp_path / "t", ["no_balance_mix", "balanced_sampling", "mixup", "balance_mix"])
    return tmp_path / "t"
