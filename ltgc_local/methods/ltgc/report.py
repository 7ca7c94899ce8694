"""LTGC's part of the report: the descriptions, the scorer in words, and how each arm was trained."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from ltgc_local.datasets import Corpus
from ltgc_local.methods.ltgc.texts import count_reasons, read_class_texts
from ltgc_local.recipe import LtgcRecipe, Recipe
from ltgc_local.recipe.learning import Train
from ltgc_local.records import ClassTemplate, Description, Score
from ltgc_local.reporting.method_report import Assessment, Caption, GalleryWords, Judged, MethodReport, Section
from ltgc_local.reporting.pictures import without_opening
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.generated import GeneratedRow


class LtgcReport(MethodReport[LtgcRecipe]):
    """LTGC's words and sections."""

    name = "ltgc"
    templates = Path(__file__).parent
    control_hint = "Write 'train.control: true' to train the same LoRA without them."
    gallery = GalleryWords(
        "Real images, with the vision-language model's descriptions",
        "Generated",
        "Captions leave out the opening “A photo of the class …”.",
    )

    def title(self, settings: Mapping[str, Any]) -> str:
        return "LTGC"

    def describe_arm(self, arm: str, recipe: LtgcRecipe, measured: Mapping[str, Any]) -> tuple[str, str]:
        if arm == "vlm_zero_shot":
            images, unnamed, nearest = (measured[key] for key in ("images", "unnamed", "nearest"))
            wrong = f"{nearest} of them taken for the nearest name by CLIP, the others" if nearest else "which are"
            detail = f"asked for the class of {images} test images; {unnamed} replies name none, {wrong} wrong"
            return "Vision-language model", detail
        if arm == "zero_shot":
            return "Zero-shot", "CLIP as it is, by class names"
        side, _, part = arm.partition("_")
        if side not in ("ltgc", "control"):
            return arm, ""
        title = "LTGC" if side == "ltgc" else "Control"
        if part.isdecimal():
            settings = recipe.train.model_copy(update=recipe.ensemble.settings_of(int(part) - 1))
            return f"{title} {part}", describe_training(settings, side == "ltgc")
        if recipe.ensemble.is_soup:
            head = f"then the head alone for {recipe.ensemble.head_epochs} epochs on originals"
            return title, f"{recipe.ensemble.towers} towers averaged into one model, {head}"
        if "chosen" in measured:
            return f"{title}{' ensemble' if part else ''}", describe_ensemble(measured["chosen"])
        if recipe.ensemble.distill and side == "ltgc":
            return title, "one model, trained to predict as the LTGC ensemble does"
        return title, describe_training(recipe.train, side == "ltgc")

    def sections(
        self, run: RunDirectory, recipe: Recipe, corpus: Corpus, steps: Sequence[str], tail: Sequence[int]
    ) -> tuple[Section, ...]:
        texts = read_class_texts(run, corpus.class_names, corpus.class_counts(), tail) if "extend" in steps else []
        reasons = count_reasons(run, steps)
        facts, figures = {"texts": texts, "reasons": reasons}, {"descriptions": texts, "rejected": reasons}
        return (Section("descriptions", "Descriptions", "descriptions.html", facts, figures),)

    def assessment(self, recipe: LtgcRecipe) -> Assessment | None:
        settings = recipe.assess
        if not settings.enabled:
            return None
        base = "last text" if settings.refine_from == "last" else "original text"
        text = (
            f"CLIP compares each generated image with its class's template text. It is accepted if "
            f"{describe_scorer(recipe)}. Otherwise its description is refined from the {base} and another image is "
            f"generated, up to {settings.attempts} images per description; what misses then is excluded."
        )
        return Assessment(text, settings.attempts, "refined and generated again")

    def judging_steps(self, steps: Sequence[str]) -> list[str]:
        return [step for step in steps if step.endswith("detect")]

    def read_templates(self, run: RunDirectory, steps: Sequence[str]) -> list[ClassTemplate]:
        step = "assess/template"
        return run.records(step, "templates", ClassTemplate) if step in steps else []

    def real_texts(self, run: RunDirectory, steps: Sequence[str], keys: Container[str]) -> dict[str, str]:
        found = run.iterate("describe", "descriptions", Description) if "describe" in steps else ()
        return {description.image_key: description.text for description in found if description.image_key in keys}

    def describe_image(
        self, row: GeneratedRow, made_from: str, class_name: str, judged: Judged | None, recipe: LtgcRecipe
    ) -> Caption:
        state = "not assessed" if judged is None else "accepted" if judged.accepted else "missed"
        fact = describe_score(judged, recipe) if isinstance(judged, Score) else ""
        alt = f"Generated image of the class {class_name}, round {row.round}, {state}: {row.description}"
        return Caption(alt, without_opening(row.description, class_name), fact)


def describe_training(settings: Train, with_generated: bool) -> str:
    """Say how one tower was trained."""
    sampling = "balanced sampling" if settings.sampler == "balanced" else "every image equally often"
    if settings.max_imbalance is not None:
        sampling += f", no class with more than {settings.max_imbalance:g} times the smallest one's originals"
    loss = "" if settings.loss == "cross_entropy" else f", {settings.loss.replace('_', ' ')}"
    if not with_generated:
        return f"LoRA, {sampling}, no generated data{loss}"
    replaced = f"{settings.replace_share:.0%} of originals replaced by generated images of their class"
    mixed = {
        "balance_mix": "LoRA, BalanceMix of original and generated images",
        "mixup": f"LoRA, Mixup of original and generated images, {sampling}",
        "union": f"LoRA, original and generated images as one set, {sampling}",
        "replace": f"LoRA, {replaced}, {sampling}",
        "joint": f"LoRA, {settings.joint_share:.0%} of each batch: {replaced}, {sampling}; the rest: BalanceMix",
        "none": f"LoRA, {sampling}, no generated data",
    }
    return mixed[settings.mixing] + loss


def describe_ensemble(chosen: Mapping[str, Any]) -> str:
    """Say how the towers of an ensemble are weighed."""
    weights = chosen["weights"]
    text = f"{len(weights)} models averaged, weights {', '.join(f'{weight:.2f}' for weight in weights)}"
    text = text if len(weights) > 1 else "one model"
    text += f", tau {chosen['tau']:.2f}" if chosen["tau"] else ""
    return text if chosen.get("within_limit", True) else f"{text}; no choice kept the limit on many-shot classes"


def describe_scorer(recipe: LtgcRecipe) -> str:
    """Say what an image must do to be accepted."""
    settings = recipe.assess
    rules = {
        "offset": f"cosine + 0.5 with the template is at least μ = {settings.threshold:g}",
        "cosine": f"the cosine S with the template is at least μ = {settings.threshold:g}",
        "percentile": "the cosine S with the template is at least "
        f"percentile {settings.percentile:g} of those of the class's own training images",
        "margin": f"the template is among the {settings.margin_rank} closest of all classes'"
        if settings.margin_rank
        else "the template ranks as high among all classes' as it does for "
        f"{100 - settings.percentile:g} % of the class's own training images",
    }
    return ", and ".join(rules[name] for name in settings.scorer.split("+"))


def describe_score(score: Score, recipe: LtgcRecipe) -> str:
    """Say in which round an image was generated and how it scored, in lines short enough for a caption."""
    place = f"round {score.round}"
    if score.cosine is None:
        return f"{place}\nCLIP gave no number"
    if "margin" in recipe.assess.scorer or score.threshold is None:
        place += f", rank {score.rank}"
        limit = f" > {recipe.assess.margin_rank}" if recipe.assess.margin_rank else ", too low"
        place += limit if "margin" in score.failed else ""
    if score.threshold is None:
        return place
    sign = "<" if set(score.failed) - {"margin"} else "≥"
    digits = 5 if f"{score.cosine:.3f}" == f"{score.threshold:.3f}" else 3
    return f"{place}\nS {score.cosine:.{digits}f} {sign} {score.threshold:.{digits}f}"
