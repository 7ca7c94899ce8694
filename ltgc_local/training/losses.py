"""The losses, all on soft labels: cross-entropy of logits to which a log prior may be added.

    loss = -sum_c y~_c log softmax(logits + tau log pi)_c

| loss | tau | pi | source |
|---|---|---|---|
| cross_entropy | 0 | - | LTGC states none: ours |
| logit_adjustment, prior: effective | prior_scale | what the batches draw (``balance_mix.effective_prior``) | ours |
| logit_adjustment, prior: counts | prior_scale | n_c / sum(n) of the arm's images | Menon et al. 2021 |
| balanced_softmax | 1 | n_c, whose sum the softmax cancels | Ren et al. 2020 |

Both papers add the term while training and leave it out in tests, and define it for hard labels: a mixed label is an
expectation over two of them, and the loss is linear in the label.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

SMALLEST_PRIOR = 1e-8  # of a class without images; 0 would make its loss 0 * -inf


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, log_prior: torch.Tensor | None) -> torch.Tensor:
    """Return the mean over the batch of -sum_c y~_c log softmax(logits + log_prior)_c.

    Args:
        logits: (B, C).
        targets: (B, C), rows that sum to 1.
        log_prior: (C,) tau log pi, or None for plain cross-entropy.
    """
    adjusted = logits if log_prior is None else logits + log_prior
    return -(targets * F.log_softmax(adjusted, dim=-1)).sum(-1).mean()


def scaled_log(prior: np.ndarray, scale: float = 1.0) -> torch.Tensor:
    """Return tau log pi, (C,), finite for a class without images."""
    return scale * torch.from_numpy(np.maximum(prior, SMALLEST_PRIOR)).float().log()
