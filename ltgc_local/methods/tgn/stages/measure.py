"""Measure TGN's generated images: kernel distance to real ones, diversity within a class, consistency.

Real images are those of the training split; only ``evaluate`` uses test images. The same measures of the real images
are reported next to those of the generated ones, because CLIP also confuses some real images with other classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ltgc_local.backends.protocols import ClipModel
from ltgc_local.methods.stage import WholeStage, split
from ltgc_local.methods.tgn.class_data import Part, part_of
from ltgc_local.methods.tgn.classes import ClassEntry
from ltgc_local.methods.tgn.measures import consistency, diversity, kernel_distance
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.recipe import TgnRecipe
from ltgc_local.runs.files import Artefact, Json
from ltgc_local.runs.generated import GeneratedSplit


class MeasureStage(WholeStage[TgnRecipe], TgnStage):
    """Measures each tail class's images."""

    def make(self) -> list[Artefact]:
        clip: ClipModel = self.model
        texts = clip.encode_texts(self.manifest.prompts)  # (C, D)
        generated = GeneratedSplit("generated", self.run.files(self.input("generated"), "images"))
        self.progress.expect(len(self.manifest.tail))
        rows: list[dict[str, Any]] = []
        for entry in self.manifest.tail:
            row: dict[str, Any] = {"class_id": entry.class_id, "class_name": entry.class_name}
            unit: dict[str, torch.Tensor] = {}  # (N, D) unit rows
            for name, images in (("real", self.corpus.train), ("generated", generated)):
                part = self._sample(part_of(images, [entry.class_id], images.name))
                embedded = [clip.encode_images(part.images(batch)) for batch in self._batches(part)]
                unit[name] = torch.cat([texts[:0], *embedded])
                row[name] = {
                    "images": len(part),
                    "diversity": diversity(unit[name]),
                    "clip_consistency": consistency(unit[name], texts, entry.class_id),
                    "tail_network_consistency": self._agreement(part, entry),
                }
            settings, rng = self.recipe.measure, np.random.default_rng(self.seed("kernel distance", entry.class_id))
            sizes = settings.kid_subsets, settings.kid_subset_size
            row["kernel_distance"] = kernel_distance(unit["real"], unit["generated"], *sizes, rng)
            rows.append(row)
            self.progress.advance()
        distances = [row["kernel_distance"] for row in rows if row["kernel_distance"] is not None]
        summary = {
            "features": self.recipe.models.clip,
            "kernel_distance": float(np.mean(distances)) if distances else None,
            **{name: _mean_over_images(rows, name) for name in ("real", "generated")},
        }
        return [Json("measures", {"summary": summary, "classes": rows})]

    def _sample(self, part: Part) -> Part:
        """Return at most ``max_images`` of a part, chosen by seed."""
        most = self.recipe.measure.max_images
        if len(part) <= most:
            return part
        rng = np.random.default_rng(self.seed("measure", part.name))
        return Part(part.name, part.split, np.sort(rng.choice(part.rows, most, replace=False)))

    def _batches(self, part: Part) -> list[Sequence[int]]:
        return split(range(len(part)), self.recipe.measure.batch_size)

    def _agreement(self, part: Part, entry: ClassEntry) -> float | None:
        """Return the percentage of images that the tail network assigns to their class."""
        predicted = [self.tail_network.probabilities(part.images(batch)).argmax(1) for batch in self._batches(part)]
        return 100 * int((torch.cat(predicted) == entry.index).sum()) / len(part) if predicted else None


def _mean_over_images(rows: Sequence[dict[str, Any]], name: str) -> dict[str, float | None]:
    """Return the measures averaged over classes, weighted by their numbers of images."""
    found: dict[str, float | None] = {}
    for key in ("diversity", "clip_consistency", "tail_network_consistency"):
        pairs = [(row[name][key], row[name]["images"]) for row in rows if row[name][key] is not None]
        total = sum(images for _, images in pairs)
        found[key] = sum(value * images for value, images in pairs) / total if total else None
    return found
