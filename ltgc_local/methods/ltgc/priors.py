"""The class priors of the losses. Each loss is the cross-entropy on soft labels of logits plus a log prior.

    loss = -sum_c y~_c log softmax(logits + tau log pi)_c

| loss | tau | pi | source |
|---|---|---|---|
| cross_entropy | 0 | - | LTGC states none: ours |
| logit_adjustment, prior: effective | prior_scale | class shares in the batches (``effective_prior``) | ours |
| logit_adjustment, prior: counts | prior_scale | n_c / sum(n) of the images sampled from | Menon et al. 2021 |
| logit_adjustment, prior: originals | prior_scale | n_c / sum(n) of the originals | ours |
| balanced_softmax | 1 | n_c (the softmax cancels their sum) | Ren et al. 2020 |

Both papers add the term in training and omit it in tests. They define it for hard labels; a mixed label is an
expectation over two of them, and the loss is linear in the label.

``mixing: replace`` changes which images a class has and no class's share, so its pi is the sampler's. A batch of
``joint`` has two parts, and each image is adjusted by the pi of its own part.
"""

from __future__ import annotations

import numpy as np
import torch

SMALLEST_PRIOR = 1e-8  # for a class without images; 0 would make its loss 0 * -inf


def scaled_log(prior: np.ndarray, scale: float = 1.0) -> torch.Tensor:
    """Return tau log pi, (C,), finite for a class without images."""
    return scale * torch.from_numpy(np.maximum(prior, SMALLEST_PRIOR)).float().log()


def class_shares(labels: np.ndarray, num_classes: int, balanced: bool) -> np.ndarray:
    """Return the share (C,) of each class in a sampler's images: equal for classes with images, or by their counts."""
    counts = np.bincount(labels, minlength=num_classes)
    shares: np.ndarray = (counts > 0) / (counts > 0).sum() if balanced else counts / counts.sum()
    return shares


def effective_prior(original: np.ndarray, generated: np.ndarray, original_share: float = 0.5) -> np.ndarray:
    """Return the label marginal of mixed pairs, q(c) = E[lam] p_o(c) + (1 - E[lam]) p_g(c).

    For BalanceMix p_o is 1 / C and p_g is N_c / sum(N).

    Args:
        original, generated: (C,) class shares of the first and of the second images of the pairs.
        original_share: E[lam], a / (a + b) for Beta(a, b).
    """
    return original_share * original + (1 - original_share) * generated
