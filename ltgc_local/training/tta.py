"""Test-time options for trained classifiers: five crops, ensembles, and other class priors.

The paper uses none. Nothing here is chosen on test images: weights are recipe fields or chosen on validation images,
and priors are estimated on training images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from PIL import Image

SMALLEST_PRIOR = 1e-8  # of a class that zero-shot CLIP never predicts; 0 would make its correction infinite


def five_crops(image: Image.Image, size_px: int, margin: float) -> list[Image.Image]:
    """Enlarge an image and crop its corners and its centre at the model's input size (LIFT's test-time ensembling).

    The shorter side becomes ``size_px`` + round(``margin`` * ``size_px``), but at least ``size_px`` + 1, so that the
    crops of a small image differ too: at LIFT's 24 / 224, 248 for a model of 224 and 31 for one of 28.
    """
    target = size_px + max(1, round(margin * size_px))
    scale = target / min(image.size)
    width, height = (max(target, round(side * scale)) for side in image.size)
    enlarged = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    right, bottom = width - size_px, height - size_px
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 2)]
    return [enlarged.crop((x, y, x + size_px, y + size_px)) for x, y in corners]


def ensemble(
    logits: torch.Tensor, zero_shot_logits: torch.Tensor, log_prior: torch.Tensor | None, weight: float
) -> torch.Tensor:
    """Return (1 - w) log p(c | x) + w (log p_zs(c | x) - log pi_zs(c)), which is used as logits.

    Generalised logit adjustment subtracts this prior (Zhu et al. 2023): CLIP favours the classes that its pre-training
    saw often, whatever the long tail at hand.

    Args:
        logits, zero_shot_logits: (B, C).
        log_prior: (C,) log pi_zs, or None to leave the zero-shot classifier as it is.
        weight: w in [0, 1].
    """
    zero_shot = zero_shot_logits.log_softmax(-1)
    if log_prior is not None:
        zero_shot = zero_shot - log_prior
    return (1 - weight) * logits.log_softmax(-1) + weight * zero_shot


def combine(
    logits: Sequence[torch.Tensor], weights: Sequence[float], tau: float, log_counts: torch.Tensor
) -> torch.Tensor:
    """Return sum_k w_k log p_k(c | x) - tau log n_c, which is used as logits (B, C).

    Args:
        logits: of each classifier, (B, C).
        log_counts: log n_c (C,).
    """
    parts = [w * each.float().log_softmax(-1) for w, each in zip(weights, logits, strict=True) if w]
    return tilt(torch.stack(parts).sum(0), log_counts, tau)


def tilt(logits: torch.Tensor, log_counts: torch.Tensor, tau: float) -> torch.Tensor:
    """Return logits (B, C) for other class priors: logit_c - tau log n_c (post-hoc adjustment, Menon et al. 2021)."""
    return logits - tau * log_counts if tau else logits


class PredictedPrior:
    """pi_zs: a classifier's average prediction, with every class of images weighted equally."""

    def __init__(self, num_classes: int) -> None:
        self.sums = torch.zeros(num_classes, num_classes, dtype=torch.float64)  # by class, over its images
        self.counts = torch.zeros(num_classes, dtype=torch.float64)

    def add(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count the predictions (B, C) for images of these classes (B,)."""
        self.sums.index_add_(0, labels, logits.softmax(-1).double())
        self.counts += torch.bincount(labels, minlength=len(self.counts))

    def state(self) -> dict[str, torch.Tensor]:
        """Return what was counted."""
        return {"sums": self.sums, "counts": self.counts}

    def add_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Add what was counted of other images."""
        self.sums += state["sums"]
        self.counts += state["counts"]

    def log(self) -> torch.Tensor:
        """Return log pi_zs (C,), over the classes that have images."""
        seen = self.counts > 0
        prior = (self.sums[seen] / self.counts[seen, None]).mean(0)
        return prior.clamp_min(SMALLEST_PRIOR).log().float()
