"""CDTG's two consistency losses, which keep a generated image in its class; both reach the generator through pixels.

    L_class = -log softmax(C(x))_y                          C: KMDN's frozen tail network
    L_clip  = -log softmax_k(s <E_I(x), E_T(t_k)>)_y        t_k: "A photo of a {name_k}", in the manifest's order

Differs from the released code, which only logs them: there CLIP sees images that went through uint8 and no gradient,
with a softmax too many and prompts in another order than the labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

from ltgc_local.backends.protocols import ClipModel


class ClipJudge(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] -> logits (B, K) over prompts; frozen, and differentiable by the images."""

    def __init__(self, clip: ClipModel, prompts: Sequence[str]) -> None:
        super().__init__()
        self.tower = clip.visual.requires_grad_(False).eval()
        self.scale = clip.logit_scale
        self.size_px, _ = clip.resize(Image.new("RGB", (64, 64))).size
        mean, std = clip.normalisation
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.texts: torch.Tensor
        self.register_buffer("mean", mean.to(clip.device))
        self.register_buffer("std", std.to(clip.device))
        # A clone: what inference mode made can take no part in a gradient.
        self.register_buffer("texts", clip.encode_texts(prompts).clone().to(clip.device))  # (K, E)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size = (self.size_px, self.size_px)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
        features = self.tower((images / 2 + 0.5 - self.mean) / self.std)
        return self.scale * F.normalize(features.float(), dim=-1) @ self.texts.T


def consistency_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of logits (B, K) over the images whose label is below K; 0 if there is none.

    Labels of K and above are head classes', which the tail network and the tail's prompts know nothing of.
    """
    known = labels < logits.shape[1]
    losses = F.cross_entropy(logits.float(), torch.where(known, labels, 0), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)
