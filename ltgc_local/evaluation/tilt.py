"""The same classifier for other class priors: tau log n_c is subtracted from the logit of class c.

    tilted(x)_c = logit(x)_c - tau log n_c,   n_c = training images of class c

A greater tau gives the rare classes more and the frequent ones less, without any training (Menon et al. 2021, post-hoc
logit adjustment). So a classifier is a curve of accuracy on rare classes against accuracy on frequent ones, and two can
be compared where they do as well on the frequent ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ltgc_local.training.tta import tilt

#: The taus of a curve; ours. 0 is the classifier as it is.
TAUS: tuple[float, ...] = tuple(round(-1 + 0.05 * i, 2) for i in range(61))
PLAIN_TAU = TAUS.index(0.0)


def log_counts(class_counts: Mapping[int, int]) -> torch.Tensor:
    """Return log n_c (C,) by class id; a class without training images counts as one with a single image."""
    return torch.tensor([max(class_counts[c], 1) for c in sorted(class_counts)], dtype=torch.float64).log().float()


def tilted_classes(logits: torch.Tensor, log_counts: torch.Tensor, taus: Sequence[float] = TAUS) -> np.ndarray:
    """Return the class (B, T) that is predicted at each of ``taus``, from logits (B, C)."""
    found = torch.stack([tilt(logits, log_counts, tau).argmax(-1) for tau in taus], dim=1)
    return found.numpy().astype(np.int32)
