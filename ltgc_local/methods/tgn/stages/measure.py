"""Measure the generated images of TGN: kernel distance to real ones, diversity within a class, consistency.

Real images are the training split's: test images are evaluate's alone. Beside the generated images' figures stand those
of the real ones: the CLIP takes a share of them, too, for other classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ltgc_local.backends.protocols import ClipModel
from ltgc_local.methods.stage import WholeStage, split
from ltgc_local.methods.tgn.class_data import Part
from ltgc_local.methods.tgn.classes import ClassEntry
from ltgc_local.methods.tgn.measures import consistency, diversity, kernel_distance
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.methods.tgn.tail_features import probabilities_of
from ltgc_local.recipe import TgnRecipe
from ltgc_local.runs.files import Artefact, Json
from ltgc_local.runs.generated import GeneratedSplit


class MeasureStage(WholeStage[TgnRecipe], TgnStage):
    """Measures each tail class's images."""

    def make(self) -> list[Artefact]:
        clip: ClipModel = self.model
        manifest, settings = self.manifest, self.recipe.measure
        texts = clip.encode_texts(
            [e.prompt for e in sorted(manifest.entries, key=lambda entry: entry.class_id)]
        )  # (C, D)
        drawn = GeneratedSplit("generated", self.run.files(self.input("generated"), "images"))
        self.progress.expect(len(manifest.tail))
        rows: list[dict[str, Any]] = []
        for entry in manifest.tail:
            parts = {
                "real": self._sample(Part("train", self.corpus.train, _rows_of(self.corpus.train.labels, entry))),
                "generated": self._sample(Part("generated", drawn, _rows_of(drawn.labels, entry))),
            }
            found: dict[str, Any] = {"class_id": entry.class_id, "class_name": entry.class_name}
            embedded = {name: _embed(clip, part, settings.batch_size) for name, part in parts.items() if len(part)}
            for name, part in parts.items():
                unit = embedded.get(name, texts[:0])
                found[name] = {
                    "images": len(part),
                    "diversity": diversity(unit),
                    "clip_consistency": consistency(unit, texts, entry.class_id),
                    "tail_network_consistency": self._agreement(part, entry),
                }
            found["kernel_distance"] = self._distance(embedded, entry.class_id)
            rows.append(found)
            self.progress.advance()
        distances = [row["kernel_distance"] for row in rows if row["kernel_distance"] is not None]
        summary = {
            "features": self.recipe.models.clip,
            "kernel_distance": float(np.mean(distances)) if distances else None,
            **{name: _mean_over_images(rows, name) for name in ("real", "generated")},
        }
        return [Json("measures", {"summary": summary, "classes": rows})]

    def _sample(self, part: Part) -> Part:
        """Return at most ``max_images`` of a part, drawn by seed."""
        most = self.recipe.measure.max_images
        if len(part) <= most:
            return part
        rng = np.random.default_rng(self.seed("measure", part.name))
        return Part(part.name, part.split, np.sort(rng.choice(part.rows, most, replace=False)))

    def _agreement(self, part: Part, entry: ClassEntry) -> float | None:
        """Return the percentage of images that the tail network assigns to their class."""
        if not len(part):
            return None
        right = 0
        for batch in split(range(len(part)), self.recipe.measure.batch_size):
            found = probabilities_of(self.tail_network, part.images(batch), self.device).argmax(1)
            right += int((found == entry.index).sum())
        return 100 * right / len(part)

    def _distance(self, embedded: dict[str, torch.Tensor], class_id: int) -> float | None:
        if len(embedded) < 2:
            return None
        settings = self.recipe.measure
        rng = np.random.default_rng(self.seed("kernel distance", class_id))
        real, generated = embedded["real"], embedded["generated"]
        return kernel_distance(real, generated, settings.kid_subsets, settings.kid_subset_size, rng)


def _rows_of(labels: np.ndarray, entry: ClassEntry) -> np.ndarray:
    return np.flatnonzero(labels == entry.class_id)


def _embed(clip: ClipModel, part: Part, batch_size: int) -> torch.Tensor:
    """Return unit rows (N, D)."""
    return torch.cat([clip.encode_images(part.images(batch)) for batch in split(range(len(part)), batch_size)])


def _mean_over_images(rows: Sequence[dict[str, Any]], name: str) -> dict[str, float | None]:
    """Return the classes' figures averaged, each class counting as its images do."""
    found: dict[str, float | None] = {}
    for key in ("diversity", "clip_consistency", "tail_network_consistency"):
        pairs = [(row[name][key], row[name]["images"]) for row in rows if row[name][key] is not None]
        total = sum(images for _, images in pairs)
        found[key] = sum(value * images for value, images in pairs) / total if total else None
    return found
