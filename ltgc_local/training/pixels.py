"""Images decoded once into one uint8 array at the model's size; augmentation and normalisation happen on the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from PIL import Image


def resize_step(preprocess: Callable[[Image.Image], torch.Tensor]) -> Callable[[Image.Image], Image.Image]:
    """Return the part of a torchvision preprocessing that gives images still: all before it makes a tensor."""

    def apply(image: Image.Image) -> Image.Image:
        for step in preprocess.transforms:  # type: ignore[attr-defined]
            changed = step(image)
            if not isinstance(changed, Image.Image):
                break
            image = changed
        return image.convert("RGB")

    return apply


def normalisation(preprocess: Callable[[Image.Image], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the preprocessing's mean and std as (1, 3, 1, 1) tensors."""
    (step,) = [step for step in preprocess.transforms if type(step).__name__ == "Normalize"]  # type: ignore[attr-defined]
    return torch.tensor(step.mean).view(1, 3, 1, 1), torch.tensor(step.std).view(1, 3, 1, 1)


def decode_all(images: Iterable[Image.Image], resize: Callable[[Image.Image], Image.Image]) -> torch.Tensor:
    """Decode and resize images into (N, 3, H, W) uint8."""
    arrays = [np.asarray(resize(image)) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def augment(batch: torch.Tensor, kind: str, generator: torch.Generator) -> torch.Tensor:
    """Flip half of a float batch (B, C, H, W) left to right; ``flip_crop`` also shifts each by up to an eighth."""
    if kind == "none":
        return batch
    flipped = torch.rand(len(batch), generator=generator) < 0.5
    batch = torch.where(flipped.view(-1, 1, 1, 1).to(batch.device), batch.flip(-1), batch)
    if kind == "flip":
        return batch
    height, width = batch.shape[-2:]
    most = max(1, height // 8)
    padded = torch.nn.functional.pad(batch, (most,) * 4, mode="replicate")
    shifts = torch.randint(2 * most + 1, (len(batch), 2), generator=generator).tolist()
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, shifts, strict=True)])
