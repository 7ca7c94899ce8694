"""LTGC's part of a comparison: its arms in words, the paper's row that each corresponds to, and the 2 x 2."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ltgc_local.comparison.aggregate import Line, Row, list_lines
from ltgc_local.comparison.method_comparison import MethodComparison
from ltgc_local.comparison.read import ignored_settings
from ltgc_local.comparison.table import Cell, Table, TableRow
from ltgc_local.evaluation.intervals import Resampling
from ltgc_local.methods.ltgc.paper import TABLES
from ltgc_local.recipe.learning import Ensemble

#: Settings that may differ between the runs of one 2 x 2.
VARIED = {
    "name", "train.mixing", "train.sampler", "train.mix_alpha", "train.replace_share", "train.joint_share",
}  # fmt: skip


class LtgcComparison(MethodComparison):
    """LTGC's arms, the paper's tables, and the 2 x 2 of data and sampler."""

    name = "ltgc"
    paper_tables = TABLES

    def describe_arm(self, settings: Mapping[str, Any], arm: str) -> list[str]:
        if arm == "zero_shot":
            return ["CLIP zero-shot"]
        side, _, part = arm.partition("_")
        if side not in ("control", "ltgc"):
            return super().describe_arm(settings, arm)
        if part.isdecimal():
            return _tower(of_tower(settings, int(part)), side)
        number = settings.get("ensemble.towers", 1)
        more = ["zero-shot CLIP averaged in"] if settings.get("ensemble.zero_shot") else []
        more += ["tau chosen on validation"] if settings.get("ensemble.tilt") else []
        if number == 1 and not settings.get("ensemble.distill"):
            return [*_tower(settings, side), *more]
        towers = ["; ".join(", ".join(_tower(of_tower(settings, i), side)) for i in range(1, min(number, 2) + 1))]
        if side == "ltgc" and not part and settings.get("ensemble.distill"):
            return ["one model distilled from the ensemble", *towers, *more]
        if settings.get("ensemble.combine") == "towers":
            parts = ["each on a less imbalanced part of the originals"] if settings.get("ensemble.subsets") else []
            return [f"{number} towers averaged into one", *towers, *parts, *more]
        return [f"ensemble of {number}", *towers, *more]

    def validated_by(self, settings: Mapping[str, Any]) -> dict[str, str]:
        number, distills = settings.get("ensemble.towers", 1), settings.get("ensemble.distill")
        if not (number > 1 or settings.get("ensemble.tilt") or settings.get("ensemble.zero_shot")):
            return super().validated_by(settings)
        found = {f"{side}_{i}": f"train/{side}_{i}" for side in ("control", "ltgc") for i in range(1, number + 1)}
        if settings.get("ensemble.combine") == "towers":
            return super().validated_by(settings) | found
        found["control"] = "weigh/control"
        if not distills:
            return found | {"ltgc": "weigh/ltgc"}
        return found | {"ltgc_ensemble": "weigh/ltgc", "ltgc": "train/ltgc"}

    def paper_row(self, settings: Mapping[str, Any], arm: str) -> str | None:
        if arm == "zero_shot":
            return "zero_shot"
        if arm == "vlm_zero_shot":
            return "lmm"
        if any(settings.get(f"ensemble.{key}") for key in ("zero_shot", "tilt")):
            return None
        if settings.get("ensemble.towers", 1) > 1 or settings.get("train.max_imbalance") is not None:
            return None
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

    def tables(self, rows: Sequence[Row], resampling: Resampling) -> list[Table]:
        """Return data against sampler under plain cross-entropy, for each set of rows that are otherwise alike."""
        alike: dict[str, dict[tuple[str, str], Line]] = {}
        varied = VARIED | ignored_settings()
        for row in rows:
            settings = row.settings
            if settings.get("train.loss") != "cross_entropy":
                continue
            rest = json.dumps({key: settings[key] for key in settings.keys() - varied}, sort_keys=True)
            cells = alike.setdefault(rest, {})
            for line in list_lines([row], resampling):
                data = {"control": "originals", "ltgc": "originals and generated"}.get(line.arm)
                if data and not line.variant and (line.arm == "control" or settings["train.mixing"] == "union"):
                    cells.setdefault((data, settings["train.sampler"]), line)
        return [_two_by_two(cells) for cells in alike.values() if len({sampler for _, sampler in cells}) == 2]


def of_tower(settings: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return a recipe's flat settings as a tower, numbered from 1, trains by them."""
    block = {key: settings.get(f"ensemble.{key}") for key in Ensemble.model_fields if f"ensemble.{key}" in settings}
    changed = Ensemble.model_construct(**block).settings_of(number - 1)
    changed |= {"max_imbalance": 2.0 ** (number - 1)} if block.get("subsets") else {}
    return {**settings, **{f"train.{key}": value for key, value in changed.items()}}


def _tower(settings: Mapping[str, Any], side: str) -> list[str]:
    if side == "control":
        return ["LoRA on originals alone", *_training(settings)]
    return [*_generated(settings), *_upstream(settings)]


def _training(settings: Mapping[str, Any]) -> list[str]:
    loss = str(settings["train.loss"])
    words = [f"{settings['train.sampler']} sampling", loss.replace("_", "-" if loss == "cross_entropy" else " ")]
    if loss != "cross_entropy" and settings.get("train.prior_scale", 1) != 1:
        words[-1] += f" x {settings['train.prior_scale']:g}"
    if (most := settings.get("train.max_imbalance")) is not None:
        words[0] += f" of a part with imbalance {most:g}"
    return words


def _generated(settings: Mapping[str, Any]) -> list[str]:
    sampling, loss = _training(settings)
    mixing = str(settings["train.mixing"])
    real = settings.get("train.real_epochs", 0)
    if settings.get("train.prior") == "originals":
        loss += " by the originals' shares"
    replaced = f"{settings.get('train.replace_share', 0):.0%} of originals replaced by generated images of their class"
    joint = f"{settings.get('train.joint_share', 0):.0%} of each batch: {replaced}"
    words = {
        "balance_mix": ["BalanceMix", loss],
        "union": ["originals and generated as one set", sampling, loss],
        "mixup": ["Mixup over originals and generated", sampling, loss],
        "replace": [replaced, sampling, loss],
        "joint": [joint, sampling, loss, "the rest: BalanceMix"],
        "none": ["LoRA on originals alone", sampling, loss],
    }.get(mixing, [mixing, sampling, loss])
    mixed = -1 if mixing == "joint" else 0  # the phrase about what is mixed
    if settings.get("train.mix_form") == "mask":
        words[mixed] += " by masks"
    alpha, beta = (settings.get(f"train.{key}") for key in ("mix_alpha", "mix_beta"))
    if alpha is not None and beta is not None and alpha != beta:
        words[mixed] += (
            f", {'the second image' if mixing == 'mixup' else 'generated images'} {beta / (alpha + beta):.0%}"
        )
    return [*words, *_loss_of_pairs(settings), *([f"last {real} epochs on originals"] if real else [])]


def _loss_of_pairs(settings: Mapping[str, Any]) -> list[str]:
    """Say how much of the adjustment the BalanceMix part of ``joint`` has, where it is not that of the other part."""
    scale = settings.get("train.mix_prior_scale")
    if scale is None:
        return []
    return ["cross-entropy" if scale == 0 else f"logit adjustment x {scale:g}"]


def _upstream(settings: Mapping[str, Any]) -> list[str]:
    words = ["template prompts"] if settings.get("extend.source") == "template" else []
    if not settings["assess.enabled"]:
        return [*words, "no iterative evaluation"]
    return [*words, "detection and exclusion only"] if settings["assess.attempts"] == 1 else words


def _two_by_two(cells: Mapping[tuple[str, str], Line]) -> Table:
    shown, samplers = ("all", "many", "few"), ("instance", "balanced")
    body: list[TableRow] = []
    for data in ("originals", "originals and generated"):
        lines = [cells.get((data, sampler)) for sampler in samplers]
        body.append((data, *(line.cells[group] if line else Cell(None) for line in lines for group in shown)))
    heading = ("data", *(f"{sampler}: {group}" for sampler in samplers for group in shown))
    note = "LoRA with cross-entropy, everything else alike; generated images as one set with the originals, not mixed."
    return Table("two_by_two", "Data and sampler", note, heading, tuple(body))
