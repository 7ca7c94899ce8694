"""The predictions of several classifiers for a split, whose images are read once, in batches that are not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL.Image import Image

from ltgc_local.backends.protocols import ClipModel, ImageReader
from ltgc_local.backends.torch_device import to_device
from ltgc_local.evaluation.tilt import TAUS, tilted_classes
from ltgc_local.prefetch import map_batches
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.training.images import ImageSet
from ltgc_local.training.tta import five_crops

PLAIN, FIVE_CROP = "", "five_crop"
View = Callable[[Image], list[Image]]  # one image -> the images whose logits are averaged


class Images(Protocol):
    """Images by row: a split."""

    def images(self, rows: Iterable[int]) -> list[Image]: ...


def build_views(clip: ClipModel, recipe: LtgcRecipe) -> dict[str, View]:
    """Return the views of an image: plain, as CLIP preprocesses it, and five crops if the recipe asks for them."""
    still = clip.resize

    def crops(image: Image) -> list[Image]:
        return five_crops(image, still(image).width, recipe.evaluate.five_crop_margin)

    return {PLAIN: lambda image: [still(image)]} | ({FIVE_CROP: crops} if recipe.evaluate.five_crop else {})


@torch.inference_mode()
def iterate_logits(
    reader: ImageReader,
    split: Images,
    rows: Sequence[int],
    models: Mapping[str, torch.nn.Module],
    views: Mapping[str, View],
    batch_size: int,
    decode_threads: int,
) -> Iterator[tuple[slice, dict[tuple[str, str], torch.Tensor]]]:
    """Yield (places (B) in ``rows``, {(model, view): logits (B, C) on the CPU}) over ``rows`` of a split.

    Args:
        reader: the device and normalisation of the models.
    """
    mean, std = (tensor.to(reader.device) for tensor in reader.normalisation)
    starts = range(0, len(rows), batch_size)
    batches = [rows[start : start + batch_size] for start in starts]

    def pixels_of(some: Sequence[int]) -> dict[str, np.ndarray]:
        images = split.images(some)
        return {
            view: np.stack([np.asarray(i) for image in images for i in show(image)]) for view, show in views.items()
        }

    for start, blocks in zip(starts, map_batches(pixels_of, batches, decode_threads, reader.device), strict=True):
        places, logits = slice(start, min(start + batch_size, len(rows))), {}
        for view in views:
            arrays = np.concatenate([block[view] for block in blocks])  # (B * P, H, W, 3)
            pixels = torch.from_numpy(arrays).permute(0, 3, 1, 2)
            for name, model in models.items():
                parts = [
                    model((to_device(part, mean.device).float() / 255 - mean) / std)
                    for part in torch.split(pixels, batch_size)
                ]
                found = torch.cat(parts).float().cpu()  # (B * P, C)
                logits[name, view] = found.view(places.stop - start, -1, found.shape[-1]).mean(1)
        yield places, logits


class Predictions:
    """The predicted class and its probability for images (N,), by the classifier's name.

    ``tilted`` has the classes (N, T) at the taus of ``tilt.TAUS``, for the classifiers that were tilted.
    """

    def __init__(self, num_images: int) -> None:
        self._num_images = num_images
        self.predicted: dict[str, np.ndarray] = {}
        self.confidence: dict[str, np.ndarray] = {}
        self.tilted: dict[str, np.ndarray] = {}

    def add(self, name: str, places: slice, logits: torch.Tensor) -> None:
        """Record the predictions for some of the images from their logits (B, C)."""
        if name not in self.predicted:
            self.predicted[name] = np.full(self._num_images, -1, dtype=np.int32)
            self.confidence[name] = np.zeros(self._num_images, dtype=np.float32)
        confidence, predicted = logits.softmax(-1).max(-1)
        self.predicted[name][places] = predicted.numpy()
        self.confidence[name][places] = confidence.numpy()

    def add_tilted(self, name: str, places: slice, logits: torch.Tensor, log_counts: torch.Tensor) -> None:
        """Record the classes that a classifier predicts for other class priors."""
        if name not in self.tilted:
            self.tilted[name] = np.zeros((self._num_images, len(TAUS)), dtype=np.int32)
        self.tilted[name][places] = tilted_classes(logits, log_counts)

    def columns(self, keys: Sequence[str], labels: np.ndarray) -> dict[str, Any]:
        """Return what is stored for every image: its key and label, and each classifier's prediction and confidence."""
        columns: dict[str, Any] = {"key": list(keys), "label": labels}
        for name, predicted in self.predicted.items():
            columns |= {f"{name}.predicted": predicted, f"{name}.confidence": self.confidence[name]}
        return columns

    @classmethod
    def of_columns(cls, columns: Mapping[str, np.ndarray]) -> Predictions:
        """Return the predictions that ``columns`` stored."""
        found = cls(len(columns["label"]))
        for name in (key.removesuffix(".predicted") for key in columns if key.endswith(".predicted")):
            found.predicted[name], found.confidence[name] = columns[f"{name}.predicted"], columns[f"{name}.confidence"]
        return found


@torch.inference_mode()
def predict(
    model: torch.nn.Module, images: ImageSet, norm: tuple[torch.Tensor, torch.Tensor], batch_size: int
) -> np.ndarray:
    """Return the class (N,) that a classifier gives each image."""
    device = next(model.parameters()).device
    mean, std = (tensor.to(device) for tensor in norm)
    parts = []
    for rows in np.array_split(np.arange(len(images)), range(batch_size, len(images), batch_size)):
        pixels = to_device(images.gather(rows), device)
        parts.append(model((pixels.float() / 255 - mean) / std).argmax(1))
    return torch.cat(parts).cpu().numpy()
