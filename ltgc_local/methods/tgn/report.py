"""TGN's part of the report: the networks before and after distillation, the budget, measures of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltgc_local.datasets import Corpus
from ltgc_local.datasets.groups import SHOTS
from ltgc_local.methods.ltgc.report import LtgcReport
from ltgc_local.methods.tgn.classes import read_manifest
from ltgc_local.recipe import DiffusionRecipe, GanRecipe, TgnRecipe
from ltgc_local.records import Acceptance
from ltgc_local.reporting.charts import Panel, draw_panel
from ltgc_local.reporting.method_report import Assessment, Caption, GalleryWords, Judged, MethodReport, Section
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.generated import GeneratedRow

DISTILL = "kmdn/distill"


class TgnReport(MethodReport[TgnRecipe]):
    """TGN's words and sections, including those of its diffusion variant."""

    judgement = Acceptance
    name = "tgn"
    templates = Path(__file__).parent
    groups = ("all", "head", "tail", *SHOTS)
    control_hint = "Write 'classifier.control: true' to train the same network without them."
    gallery = GalleryWords(note="Captions name the training image that each was made from.")

    def title(self, settings: Mapping[str, Any]) -> str:
        # SDXL is not the paper's generator.
        return "TGN-style, diffusion" if settings.get("generator") == "diffusion" else "TGN"

    def describe_arm(self, arm: str, recipe: TgnRecipe, measured: Mapping[str, Any]) -> tuple[str, str]:
        images = {"control": "originals alone", self.name: "originals and generated images"}.get(arm, "")
        title, _ = super().describe_arm(arm, recipe, measured)
        return title, f"{recipe.classifier.architecture}, {images}"

    def sections(
        self, run: RunDirectory, recipe: TgnRecipe, corpus: Corpus, steps: Sequence[str], tail: Sequence[int]
    ) -> tuple[Section, ...]:
        distillation = _read_distillation(run, steps)
        networks = {"networks": distillation["networks"]}
        measures = run.value("measure", "measures") if "measure" in steps else None
        figures = {"budget": run.value("merge", "classes"), "measures": measures}
        facts = {"how": _describe_generation(recipe), **figures}
        return (
            Section("distillation", "Distillation", "distillation.html", distillation, networks),
            *(LtgcReport().sections(run, recipe, corpus, steps, tail) if "extend" in steps else ()),
            Section("generated", "Generated images", "generated.html", facts, figures),
        )

    def assessment(self, recipe: TgnRecipe) -> Assessment | None:
        if not isinstance(recipe, DiffusionRecipe) or recipe.diffusion.accept == "none":
            return None
        text = (
            f"A generated image is accepted if {describe_test(recipe)}. Otherwise another is generated from other "
            f"noise, up to {recipe.diffusion.attempts} in all; what misses then is left out. So what the same judges "
            "say of the generated images afterwards is by selection."
        )
        return Assessment(text, recipe.diffusion.attempts, "generated again")

    def judging_steps(self, steps: Sequence[str]) -> list[str]:
        return [step for step in steps if step.endswith("/accept")]

    def describe_image(
        self, row: GeneratedRow, made_from: str, class_name: str, judged: Judged | None, recipe: TgnRecipe
    ) -> Caption:
        origin = f"from {made_from}" if made_from else "from noise alone"
        alt = f"Generated image {row.description_id} of the class {class_name}, made {origin}"
        alt += "" if judged is None else ", accepted" if judged.accepted else ", missed"
        return Caption(alt, origin, describe_acceptance(judged) if isinstance(judged, Acceptance) else "")


def describe_test(recipe: DiffusionRecipe) -> str:
    """Say what an image must do to be accepted."""
    settings = recipe.diffusion
    by_clip = "CLIP finds its class's prompt the closest of all classes'"
    by_network = f"the tail network gives its class at least {settings.accept_probability:g} among the tail classes"
    rules = {"clip": by_clip, "tail_network": by_network, "either": f"{by_clip}, or {by_network}", "none": ""}
    return rules[settings.accept]


def describe_acceptance(score: Acceptance) -> str:
    """Say in which round an image was generated and how it was judged, in lines short enough for a caption."""
    ranked = [] if score.rank is None else [f"CLIP rank {score.rank}"]
    likely = [] if score.probability is None else [f"tail network {score.probability:.2f}"]
    return "\n".join([f"round {score.round}", *ranked, *likely])


def _describe_generation(recipe: TgnRecipe) -> str:
    if isinstance(recipe, GanRecipe):
        text = f"with a share r = {recipe.cdtg.r} of noise."
        if recipe.cdtg.behaviour == "released":
            text += " The generator was trained as the released code trains it: text and class losses do not reach it."
        return text
    assert isinstance(recipe, DiffusionRecipe)
    settings = recipe.diffusion
    steered = (
        f"The tail network's features of the real image steer each, with a share r = {settings.r} of noise"
        if settings.conditioning == "features"
        else "No features steer them"
    )
    start = (
        "each is generated from noise alone"
        if settings.strength is None
        else f"each starts from its real image, strength {settings.strength}"
    )
    return f"by SDXL with a LoRA on the tail classes: this is TGN-style, not the paper's generator. {steered}; {start}."


def _read_distillation(run: RunDirectory, steps: Sequence[str]) -> dict[str, Any]:
    """Return the section's facts: KMDN's networks on the test images of their own classes, overall and by class."""
    sides = read_manifest(run).sides
    measured: dict[str, dict[str, Any]] = run.value("evaluate", "networks")
    networks = [
        {"side": side, "training": training, "accuracy": figures["all"], "macro_f1": figures["macro_f1"]}
        for side, trained in measured.items()
        for training, figures in trained.items()
    ]
    classes = [
        {
            "name": entry.class_name,
            "side": side,
            "figures": [  # alone and, after distillation, distilled
                (trained["per_class"].get(str(entry.class_id)), trained["f1"].get(str(entry.class_id)))
                for trained in measured[side].values()
            ],
        }
        for side, entries in sides.items()
        for entry in entries
    ]
    return {
        "num_head": len(sides["head"]),
        "num_tail": len(sides["tail"]),
        "networks": networks,
        "is_distilled": any(network["training"] == "distilled" for network in networks),
        "classes": classes,
        "panels": _read_panels(run, steps),
    }


def _read_panels(run: RunDirectory, steps: Sequence[str]) -> tuple[Panel, ...]:
    """Draw the networks' class loss, feature loss and validation macro F1 by epoch."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for step in ("kmdn/head", "kmdn/tail", DISTILL):
        if step not in steps:
            continue
        for epoch in run.lines(step, "history"):
            curves.setdefault(f"{epoch['network']}{' distilled' if step == DISTILL else ' alone'}", []).append(epoch)
    distilled = {name: epochs for name, epochs in curves.items() if name.endswith("distilled")}

    def losses(of: dict[str, list[dict[str, Any]]], loss: str) -> dict[str, list[Any]]:
        return {name: [epoch["losses"][loss] for epoch in epochs] for name, epochs in of.items()}

    scores = {name: [epoch["validation"].get("macro_f1") for epoch in epochs] for name, epochs in curves.items()}
    found = [draw_panel("Class loss", losses(curves, "class_loss")), draw_panel("Validation macro F1, %", scores)]
    if DISTILL in steps:
        found.append(draw_panel("Feature loss", losses(distilled, "feature_loss")))
    return tuple(panel for panel in found if panel is not None)
