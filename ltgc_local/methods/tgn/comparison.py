"""What only TGN's runs are compared by: their networks alone and distilled, and the measures of what they generate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ltgc_local.comparison.aggregate import Row
from ltgc_local.comparison.method_comparison import MethodComparison
from ltgc_local.comparison.read import Run
from ltgc_local.comparison.table import Cell, Table, TableRow, join_seeds
from ltgc_local.evaluation.intervals import Resampling, over_seeds
from ltgc_local.runs.directory import RunDirectory

#: Heading -> where the figure is in ``evaluate/networks.json``.
NETWORKS = {
    f"{side} {training}: {title}": (side, training, key)
    for side in ("head", "tail")
    for training in ("alone", "distilled")
    for key, title in (("all", "accuracy"), ("macro_f1", "macro F1"))
}
#: Heading -> where the figure is in the summary of ``measure/measures.json``, and by what it is multiplied.
IMAGES: dict[str, tuple[tuple[str, ...], float]] = {
    "kernel distance x 1000": (("kernel_distance",), 1000.0),
    "diversity x 100": (("generated", "diversity"), 100.0),
    "of real": (("real", "diversity"), 100.0),
    "CLIP agrees": (("generated", "clip_consistency"), 1.0),
    "of real images": (("real", "clip_consistency"), 1.0),
    "tail network agrees": (("generated", "tail_network_consistency"), 1.0),
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
        return tgn_tables(rows, resampling.level)


def _of_diffusion(settings: Mapping[str, Any]) -> list[str]:
    """Say what tells one "TGN-style, diffusion" from another."""
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


def tgn_tables(rows: Sequence[Row], level: float) -> list[Table]:
    """Return both tables, each where some run has such figures."""
    networks = _table(
        "networks",
        "Mutual distillation",
        "Percent of the test images of each network's own classes. 'Alone' is the network before distillation.",
        [row for row in rows if any(run.figures.get("networks") for run in row.runs)],
        {title: lambda run, path=path: _at(run.figures["networks"], path) for title, path in NETWORKS.items()},  # type: ignore[misc]
        level,
    )
    images = _table(
        "images",
        "Generated images",
        "Means over the tail classes. Kernel distance and diversity (mean 1 - cos within a class) are of CLIP's "
        "embeddings: no KID or FID of the literature. Agreement in percent: CLIP chooses among all classes' texts, the "
        "tail network among tail classes.",
        [row for row in rows if any(run.figures.get("measures") for run in row.runs)],
        {
            title: lambda run, path=path, factor=factor: _scaled(_at(run.figures["measures"], path), factor)  # type: ignore[misc]
            for title, (path, factor) in IMAGES.items()
        },
        level,
    )
    return [*networks, *images]


def _table(
    kind: str,
    title: str,
    note: str,
    rows: Sequence[Row],
    columns: Mapping[str, Callable[[Run], float | None]],
    level: float,
) -> list[Table]:
    body: tuple[TableRow, ...] = tuple(
        (row.label, join_seeds([run.seed for run in row.runs]), *(_cell(row, get, level) for get in columns.values()))
        for row in rows
    )
    return [Table(kind, title, note, ("row", "seeds", *columns), body)] if body else []


def _cell(row: Row, get: Callable[[Run], float | None], level: float) -> Cell:
    known = [value for run in row.runs if (value := get(run)) is not None]
    if not known:
        return Cell(None)
    summary = over_seeds(known, level)
    return Cell(summary.mean, summary.interval, summary.sd)


def _at(values: Any, path: Sequence[str]) -> float | None:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, int | float) else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value
