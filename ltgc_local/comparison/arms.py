"""What an arm of a run is, in words, and which row of the paper's tables it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SAMPLERS = {"balanced": "balanced sampling", "instance": "instance sampling"}
LOSSES = {"cross_entropy": "cross-entropy"}
VARIANTS = {"five_crop": "five crops", "zero_shot_ensemble": "with zero-shot CLIP"}


def describe_arm(settings: Mapping[str, Any], arm: str, variant: str = "") -> str:
    """Say how an arm was trained and measured."""
    if settings.get("method") == "tgn":
        return ", ".join(_of_tgn(settings, arm))
    words = {
        "zero_shot": ["CLIP zero-shot"],
        "control": ["LoRA on originals alone", *_training(settings)],
        "ltgc": [*_generated(settings), *_upstream(settings)],
    }.get(arm, [arm.replace("_", " ")])
    return ", ".join([*words, *(VARIANTS.get(part, part) for part in variant.split("+") if part)])


def _of_tgn(settings: Mapping[str, Any], arm: str) -> list[str]:
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


def _training(settings: Mapping[str, Any]) -> list[str]:
    loss = str(settings["train.loss"])
    words = [SAMPLERS[settings["train.sampler"]], LOSSES.get(loss, loss.replace("_", " "))]
    if loss != "cross_entropy" and settings.get("train.prior_scale", 1) != 1:
        words[-1] += f" x {settings['train.prior_scale']:g}"
    return words


def _generated(settings: Mapping[str, Any]) -> list[str]:
    sampling, loss = _training(settings)
    mixing = str(settings["train.mixing"])
    real = settings.get("train.real_epochs", 0)
    words = {
        "balance_mix": ["BalanceMix", loss],
        "union": ["originals and generated as one set", sampling, loss],
        "mixup": ["Mixup over originals and generated", sampling, loss],
        "none": ["LoRA on originals alone", sampling, loss],
    }.get(mixing, [mixing, sampling, loss])
    if settings.get("train.mix_form") == "mask":
        words[0] += " by masks"
    alpha, beta = (settings.get(f"train.{key}") for key in ("mix_alpha", "mix_beta"))
    if alpha is not None and beta is not None and alpha != beta:
        words[0] += f", {'the second image' if mixing == 'mixup' else 'generated images'} {beta / (alpha + beta):.0%}"
    return [*words, *([f"last {real} epochs on originals"] if real else [])]


def _upstream(settings: Mapping[str, Any]) -> list[str]:
    words = ["template prompts"] if settings.get("extend.source") == "template" else []
    if not settings["assess.enabled"]:
        return [*words, "no iterative evaluation"]
    return [*words, "detection and exclusion only"] if settings["assess.attempts"] == 1 else words


def paper_method(settings: Mapping[str, Any], arm: str, variant: str = "") -> str | None:
    """Return the key of the paper's row (``paper.ROWS``) whose settings an arm has, or None."""
    if variant or settings.get("method") == "tgn":
        return None
    if arm == "zero_shot":
        return "zero_shot"
    if arm == "vlm_zero_shot":
        return "lmm"
    plain = settings["train.loss"] == "cross_entropy"
    if arm == "control":
        return "fine_tuned" if plain and settings["train.sampler"] == "instance" else None
    if arm != "ltgc" or not plain or settings.get("extend.source") == "template":
        return None
    mixing, sampler = settings["train.mixing"], settings["train.sampler"]
    if mixing == "balance_mix":
        if not settings["assess.enabled"]:
            return "no_evaluation"
        return "exclusion" if settings["assess.attempts"] == 1 else "ltgc"
    if not settings["assess.enabled"] or settings["assess.attempts"] == 1:
        return None
    if mixing == "union":
        return "no_balance_mix" if sampler == "instance" else "balanced_sampling"
    return "mixup" if mixing == "mixup" else None
