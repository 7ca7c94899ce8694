"""TGN's part of a comparison: its arms in words, and the tables of its networks and of its generated images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ltgc_local.comparison.aggregate import Row
from ltgc_local.comparison.method_comparison import MethodComparison
from ltgc_local.comparison.table import Cell, Table, TableRow, join_seeds
from ltgc_local.evaluation.intervals import Resampling, over_seeds
from ltgc_local.runs.directory import RunDirectory

Columns = dict[str, tuple[tuple[str, ...], float]]  # heading -> (where the figure is, factor)
#: In ``evaluate/networks.json``.
NETWORKS: Columns = {
    f"{side} {training}: {title}": ((side, training, key), 1.0)
    for side in ("head", "tail")
    for training in ("alone", "distilled")
    for key, title in (("all", "accuracy"), ("macro_f1", "macro F1"))
}
#: In the summary of ``measure/measures.json``.
IMAGES: Columns = {
    "kernel distance x 1000": (("kernel_distance",), 1000.0),
    "diversity x 100": (("generated", "diversity"), 100.0),
    "of real": (("real", "diversity"), 100.0),
    "CLIP agrees": (("generated", "clip_consistency"), 1.0),
    "of real images": (("real", "clip_consistency"), 1.0),
    "tail network agrees": (("generated", "tail_network_consistency"), 1.0),
}
#: A run's figures that a table shows -> the table's kind, title, note and columns.
TABLES: dict[str, tuple[str, str, str, Columns]] = {
    "networks": (
        "networks",
        "Mutual distillation",
        "Percent of the test images of each network's own classes. 'Alone' is the network before distillation.",
        NETWORKS,
    ),
    "measures": (
        "images",
        "Generated images",
        "Means over the tail classes. Kernel distance and diversity (mean 1 - cos within a class) are of CLIP's "
        "embeddings: no KID or FID of the literature. Agreement in percent: CLIP chooses among all classes' texts, the "
        "tail network among tail classes.",
        IMAGES,
    ),
}


class TgnComparison(MethodComparison):
    """TGN's arms, and the tables of its networks and of its images."""

    name = "tgn"

    def describe_arm(self, settings: Mapping[str, Any], arm: str) -> list[str]:
        network = str(settings["classifier.architecture"])
        as_many = "as many steps as with generated images" if settings["classifier.equal_steps"] else ""
        if arm == "control":
            return [f"{network} on originals alone", *filter(None, [as_many])]
        if settings.get("generator") == "diffusion":
            return [f"{network} on originals and generated", *_of_diffusion(settings)]
        words = [f"{network} on originals and generated", f"r {settings['cdtg.r']:g}"]
        if settings["cdtg.behaviour"] == "released":
            return [*words, "generator as released"]
        left_out = {
            "no distillation": not settings["kmdn.distill"],
            "no KMDN features": not settings["cdtg.features"],
            "no class loss": not settings["cdtg.class_weight"],
            "no CLIP loss": not settings["cdtg.clip_weight"],
        }
        return [*words, *(word for word, is_so in left_out.items() if is_so)]

    def read_figures(self, run: RunDirectory) -> dict[str, Any]:
        return {
            "networks": run.value("evaluate", "networks") if run.files("evaluate", "networks") else {},
            "measures": run.value("measure", "measures")["summary"] if run.manifest("measure") else {},
        }

    def tables(self, rows: Sequence[Row], resampling: Resampling) -> list[Table]:
        found = []
        for figures, (kind, title, note, columns) in TABLES.items():
            body: list[TableRow] = [
                (
                    row.label,
                    join_seeds([run.seed for run in row.drawings]),
                    *(_cell(row, figures, path, factor, resampling.level) for path, factor in columns.values()),
                )
                for row in rows
                if any(run.figures.get(figures) for run in row.runs)
            ]
            if body:
                found.append(Table(kind, title, note, ("row", "seeds", *columns), tuple(body)))
        return found


def _of_diffusion(settings: Mapping[str, Any]) -> list[str]:
    """Say what distinguishes one "TGN-style, diffusion" from another."""
    features, strength = settings["diffusion.conditioning"] == "features", settings["diffusion.strength"]
    accept = str(settings["diffusion.accept"]).replace("_", " ")
    return [
        "TGN-style, diffusion",
        f"r {settings['diffusion.r']:g}" if features else "no KMDN features",
        *([] if strength is None else [f"strength {strength if isinstance(strength, str) else format(strength, 'g')}"]),
        *(["drawn from descriptions"] if settings["diffusion.prompts"] == "descriptions" else []),
        "no accept test" if accept == "none" else f"accepted by {accept}",
        *([] if settings["kmdn.distill"] else ["no distillation"]),
    ]


def _cell(row: Row, kind: str, path: Sequence[str], factor: float, level: float) -> Cell:
    known = [factor * value for run in row.drawings if (value := _at(run.figures[kind], path)) is not None]
    if not known:
        return Cell(None)
    summary = over_seeds(known, level)
    return Cell(summary.mean, summary.interval, summary.sd)


def _at(values: Any, path: Sequence[str]) -> float | None:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, int | float) else None
