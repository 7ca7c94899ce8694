"""What a comparison needs from a finished run: its recipe, its figures, and the predictions on the test images."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ltgc_local.comparison.method_comparison import MethodComparison
from ltgc_local.errors import ArtefactError
from ltgc_local.recipe.markers import NOT_COMPARED, iterate_fields, marker
from ltgc_local.recipe.schema import DEFAULT_METHOD, VARIANTS
from ltgc_local.runs.arrays import read_table
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.disk import redo
from ltgc_local.runs.find_runs import find_runs
from ltgc_local.runs.provenance import read_provenance_file, read_settings
from ltgc_local.runs.schemas import Metrics, ModelFile, Rivals

#: Which images are compared: the test images, or the validation images at the epoch whose weights were kept.
Split = Literal["test", "val"]


@cache
def ignored_settings() -> frozenset[str]:
    """Return the settings that do not make two rows of a comparison different."""
    fields = ((key, field) for kind in VARIANTS.values() for key, field in iterate_fields(kind))
    return frozenset({"seed", "train_seed"} | {key for key, field in fields if marker(field, NOT_COMPARED)})


@dataclass(frozen=True, eq=False)
class Run:
    """One measured run. ``settings`` is its recipe, flat; ``predicted`` is empty for runs that stored none."""

    root: Path
    method: MethodComparison
    settings: dict[str, Any]
    metrics: dict[str, dict[str, Any]]
    models: Mapping[str, ModelFile]  # by role
    data_digest: str
    labels: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    predicted: dict[str, np.ndarray] = field(default_factory=dict)
    class_counts: dict[int, int] = field(default_factory=dict)
    tail: frozenset[int] = frozenset()  # class ids; empty if the method has no head and tail
    figures: dict[str, Any] = field(default_factory=dict)  # for the method's own tables
    rivals: Rivals = field(default_factory=Rivals)

    @property
    def name(self) -> str:
        return str(self.settings["name"])

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    @property
    def train_seed(self) -> int:
        """The seed of its training."""
        found = self.settings.get("train_seed")
        return self.seed if found is None else int(found)

    @property
    def benchmark(self) -> tuple[str, str]:
        """Return the benchmark's name and the digest of its data."""
        return str(self.settings["data.benchmark"]), self.data_digest

    @property
    def identity(self) -> str:
        """Return everything that the seeds of one row have in common."""
        settings = {key: value for key, value in self.settings.items() if key not in ignored_settings()}
        models = {role: model.digest for role, model in self.models.items()}
        return json.dumps([settings, models, self.benchmark], sort_keys=True)


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
    unfinished = [root for root in roots if RunDirectory(root).manifest(_measuring_step(root, methods, split)) is None]
    runs = [read_run(root, methods, split) for root in roots if root not in unfinished]
    if not runs:
        step = _measuring_step(unfinished[0], methods, split)
        look = shlex.join(["ltgc-local", "status", str(unfinished[0])])
        raise ArtefactError(f"{unfinished[0]}: step {step} is not complete; type: {look}")
    return runs, unfinished


def _measuring_step(root: Path, methods: Mapping[str, MethodComparison], split: Split) -> str:
    """Return the step after which a run can be compared."""
    if split == "test":
        return "evaluate"
    settings = flatten(read_settings(root))
    method = methods.get(str(settings.get("method", DEFAULT_METHOD)))
    return method.validated_by(settings)[method.name] if method is not None else "evaluate"


def read_run(root: Path, methods: Mapping[str, MethodComparison], split: Split = "test") -> Run:
    """Read a measured run.

    Raises:
        ArtefactError: its method is not among ``methods``, or a file is missing or damaged.
    """
    try:
        return _read_run(RunDirectory(root), methods, split)
    except (ValueError, TypeError, LookupError, AttributeError) as problem:  # a received run may contain anything
        raise ArtefactError(
            f"{root}: its files contradict each other ({problem!r}); {redo(root, 'evaluate')}"
        ) from problem


def _read_run(run: RunDirectory, methods: Mapping[str, MethodComparison], split: Split) -> Run:
    settings = flatten(read_settings(run.root))
    method = methods[str(settings.get("method", DEFAULT_METHOD))]
    provenance = read_provenance_file(run.root)
    models, digest = (provenance.models, provenance.data_digest) if provenance else ({}, "")
    if split == "val":
        return Run(run.root, method, settings, _validation(run, method.validated_by(settings)), models, digest)
    classes = run.value("evaluate", "classes") if run.files("evaluate", "classes") else []
    stored = run.files("evaluate", "predictions")
    table = read_table(stored[0]) if stored else {"label": np.empty(0, np.int64)}
    suffix = ".predicted"
    return Run(
        run.root,
        method,
        settings,
        run.checked("evaluate", "metrics", Metrics).model_dump(),
        models,
        digest,
        table["label"],
        {name.removesuffix(suffix): column for name, column in table.items() if name.endswith(suffix)},
        {int(each["class_id"]): int(each["num_train"]) for each in classes},
        frozenset(int(each["class_id"]) for each in classes if not each.get("is_head", True)),
        method.read_figures(run),
        run.checked("evaluate", "rivals", Rivals) if run.files("evaluate", "rivals") else Rivals(),
    )


def _validation(run: RunDirectory, steps: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return each arm's accuracies on the validation images, by group, as it was kept.

    Args:
        steps: arm -> the step that measured it.
    """
    found = {}
    for arm, step in steps.items():
        if run.manifest(step) is None:
            continue
        if run.files(step, "weights"):
            found[arm] = run.value(step, "weights").get("validation", {})
        else:
            kept = run.value(step, "selected")["epoch"]
            found[arm] = next(e["validation"] for e in run.lines(step, "history") if e["epoch"] == kept)
    return found


def flatten(blocks: dict[str, Any]) -> dict[str, Any]:
    """Return {"train.lr": 0.01, "seed": 0, …}."""
    flat: dict[str, Any] = {}
    for key, value in blocks.items():
        flat |= {f"{key}.{name}": v for name, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat
