"""What only TGN's report has: the networks before and after distillation, the budget, measures of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ltgc_local.methods.tgn.classes import read_manifest
from ltgc_local.reporting.charts import Panel, draw_panel
from ltgc_local.runs.directory import RunDirectory

DISTILL = "kmdn/distill"


@dataclass(frozen=True)
class NetworkRow:
    """One of KMDN's networks on the test images of its own classes, in percent."""

    side: str
    training: str  # alone, or distilled
    accuracy: float | None
    macro_f1: float | None


@dataclass(frozen=True)
class NetworkClass:
    """One class under its side's network: (accuracy, F1) alone and, if there was distillation, afterwards."""

    name: str
    side: str
    figures: tuple[tuple[float | None, float | None], ...]


@dataclass(frozen=True)
class TgnFacts:
    """All that the section shows. ``tail`` are class ids; ``measures`` is None where nothing was measured."""

    tail: tuple[int, ...]
    budget: tuple[dict[str, Any], ...]
    networks: tuple[NetworkRow, ...]
    network_classes: tuple[NetworkClass, ...]
    measures: dict[str, Any] | None
    panels: tuple[Panel, ...]

    @property
    def is_distilled(self) -> bool:
        return any(row.training == "distilled" for row in self.networks)


def read_tgn(run: RunDirectory, steps: Sequence[str]) -> TgnFacts:
    """Read what the steps of a TGN run wrote."""
    manifest = read_manifest(run)
    measured: dict[str, dict[str, Any]] = run.value("evaluate", "networks")
    networks = tuple(
        NetworkRow(side, training, figures["all"], figures["macro_f1"])
        for side, trained in measured.items()
        for training, figures in trained.items()
    )
    classes = tuple(
        NetworkClass(
            entry.class_name,
            side,
            tuple(
                (figures["per_class"].get(str(entry.class_id)), figures["f1"].get(str(entry.class_id)))
                for figures in measured[side].values()
            ),
        )
        for side, entries in (("head", manifest.head), ("tail", manifest.tail))
        for entry in entries
    )
    return TgnFacts(
        tuple(entry.class_id for entry in manifest.tail),
        tuple(run.value("merge", "classes")),
        networks,
        classes,
        run.value("measure", "measures") if "measure" in steps else None,
        _read_panels(run, steps),
    )


def _read_panels(run: RunDirectory, steps: Sequence[str]) -> tuple[Panel, ...]:
    """Read the networks' histories: class loss, feature loss and validation macro F1 by epoch of each."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for step in ("kmdn/head", "kmdn/tail", DISTILL):
        if step not in steps:
            continue
        for epoch in run.lines(step, "history"):
            curves.setdefault(f"{epoch['student']}{' distilled' if step == DISTILL else ' alone'}", []).append(epoch)
    found = [
        draw_panel("Class loss", {name: [e["class_loss"] for e in epochs] for name, epochs in curves.items()}),
        draw_panel(
            "Validation macro F1, %",
            {name: [e["validation"].get("macro_f1") for e in epochs] for name, epochs in curves.items()},
        ),
    ]
    if DISTILL in steps:
        distilled = {name: epochs for name, epochs in curves.items() if name.endswith("distilled")}
        found.append(
            draw_panel(
                "Feature loss", {name: [e["feature_loss"] for e in epochs] for name, epochs in distilled.items()}
            )
        )
    return tuple(panel for panel in found if panel is not None)
