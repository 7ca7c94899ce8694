"""What a comparison needs of a finished run: its recipe, its figures, what was said of each test image."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ltgc_local.comparison.compared import MethodComparison
from ltgc_local.errors import ArtefactError
from ltgc_local.recipe.markers import UNTELLING, iterate_fields, marker
from ltgc_local.recipe.schema import DEFAULT_METHOD, VARIANTS
from ltgc_local.reporting.provenance import Provenance, read_provenance
from ltgc_local.runs.arrays import read_table
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.disk import redo
from ltgc_local.runs.find_runs import find_runs
from ltgc_local.runs.provenance import read_settings
from ltgc_local.runs.schemas import Metrics

#: Whose images the figures are of: the test images, or the validation images at the epoch whose weights were kept.
Split = Literal["test", "val"]
#: Settings that do not tell two rows of a comparison apart.
NOT_TELLING = {"seed"} | {
    key for kind in VARIANTS.values() for key, field in iterate_fields(kind) if marker(field, UNTELLING)
}


@dataclass(frozen=True, eq=False)
class Run:
    """One measured run. ``settings`` is its recipe, flat; ``predicted`` is empty for runs that stored none."""

    root: Path
    method: MethodComparison  # whose name is also what its own arm is called
    settings: dict[str, Any]
    metrics: dict[str, dict[str, Any]]
    labels: np.ndarray
    predicted: dict[str, np.ndarray]
    class_counts: dict[int, int]
    tail: frozenset[int]  # class ids; empty where the method has no head and tail
    figures: dict[str, Any]  # what the method's own tables need
    provenance: Provenance

    @property
    def name(self) -> str:
        return str(self.settings["name"])

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    @property
    def benchmark(self) -> tuple[str, str]:
        """Return the benchmark's name and the digest of its data."""
        return str(self.settings["data.benchmark"]), self.provenance.facts.get("data_digest", "")

    @property
    def identity(self) -> str:
        """Return all that two seeds of one row have in common."""
        telling = {key: value for key, value in self.settings.items() if key not in NOT_TELLING}
        models = {model.role: model.digest for model in self.provenance.models}
        return json.dumps([telling, models, self.benchmark], sort_keys=True)


def read_runs(
    folders: Sequence[Path], methods: Mapping[str, MethodComparison], split: Split = "test"
) -> tuple[list[Run], list[Path]]:
    """Return the measured runs in ``folders``, each once, and those that are not measured yet.

    Raises:
        ArtefactError: a folder holds no run, or none is measured, or one is damaged.
    """
    roots: dict[Path, None] = {}
    for folder in folders:
        found = find_runs(folder)
        if not found:
            raise ArtefactError(
                f"{folder}: no run directory here; ltgc-local run RECIPE --out {shlex.quote(str(folder))} makes one"
            )
        roots |= dict.fromkeys(found)
    unfinished = [root for root in roots if RunDirectory(root).manifest(_measured_by(root, split)) is None]
    runs = [read_run(root, methods, split) for root in roots if root not in unfinished]
    if not runs:
        step = _measured_by(unfinished[0], split)
        look = shlex.join(["ltgc-local", "status", str(unfinished[0])])
        raise ArtefactError(f"{unfinished[0]}: step {step} is not complete; type: {look}")
    return runs, unfinished


def _measured_by(root: Path, split: Split) -> str:
    """Return the step that measures a run: after it the run can be compared."""
    if split == "test":
        return "evaluate"
    return f"train/{_method_name(read_settings(root))}"


def _method_name(settings: Mapping[str, Any]) -> str:
    return str(settings.get("method", DEFAULT_METHOD))


def read_run(root: Path, methods: Mapping[str, MethodComparison], split: Split = "test") -> Run:
    """Read a measured run.

    Raises:
        ArtefactError: it is of a method that is not among ``methods``, or a file is missing or damaged.
    """
    try:
        return _read_run(RunDirectory(root), methods, split)
    except (ValueError, TypeError, LookupError, AttributeError) as problem:  # a received run may say anything
        raise ArtefactError(
            f"{root}: what its files say does not fit together ({problem!r}); {redo(root, 'evaluate')}"
        ) from problem


def _read_run(run: RunDirectory, methods: Mapping[str, MethodComparison], split: Split) -> Run:
    root = run.root
    settings = flatten(read_settings(root))
    method = methods[_method_name(settings)]
    if split == "val":
        metrics = _validation(run, method)
        nothing = np.empty(0, np.int64)
        return Run(root, method, settings, metrics, nothing, {}, {}, frozenset(), {}, read_provenance(run))
    metrics = run.checked("evaluate", "metrics", Metrics).model_dump()
    classes = run.value("evaluate", "classes") if run.files("evaluate", "classes") else []
    stored = run.files("evaluate", "predictions")
    table = read_table(stored[0]) if stored else {"label": np.empty(0, np.int64)}
    suffix = ".predicted"
    return Run(
        root,
        method,
        settings,
        metrics,
        table["label"],
        {name.removesuffix(suffix): column for name, column in table.items() if name.endswith(suffix)},
        {int(each["class_id"]): int(each["num_train"]) for each in classes},
        frozenset(int(each["class_id"]) for each in classes if not each.get("is_head", True)),
        method.read_figures(run),
        read_provenance(run),
    )


def _validation(run: RunDirectory, method: MethodComparison) -> dict[str, dict[str, Any]]:
    """Return each trained arm's accuracies on the validation images, by group, at the epoch that was kept."""
    found = {}
    for arm in ("control", method.name):
        step = f"train/{arm}"
        if run.manifest(step) is not None:
            kept = run.value(step, "selected")["epoch"]
            found[arm] = next(e["validation"] for e in run.lines(step, "history") if e["epoch"] == kept)
    return found


def flatten(blocks: dict[str, Any]) -> dict[str, Any]:
    """Return {"train.lr": 0.01, "seed": 0, …}."""
    flat: dict[str, Any] = {}
    for key, value in blocks.items():
        flat |= {f"{key}.{name}": v for name, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat
