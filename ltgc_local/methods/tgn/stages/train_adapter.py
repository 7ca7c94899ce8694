"""Train adapter: SDXL's LoRA, and its map of the tail network's features, learn the tail's training images.

Each image's prompt is its class's (``split.prompt``). Latents and features are computed once, before the first step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ltgc_local.backends.protocols import AdapterLearner, AdapterSettings, TextToImageModel
from ltgc_local.methods.stage import WholeStage, split
from ltgc_local.methods.tgn.adapter_training import AdapterTraining, TailImages
from ltgc_local.methods.tgn.class_data import Part, index_labels, part_of
from ltgc_local.methods.tgn.feature_space import FeatureSpace
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.methods.training import train
from ltgc_local.recipe import DiffusionRecipe
from ltgc_local.runs.files import Artefact, Lines, Tensors

ENCODED_AT_ONCE = 64  # images


class TrainAdapterStage(WholeStage[DiffusionRecipe], TgnStage):
    """Trains the adapter."""

    trains_model = True

    def make(self) -> list[Artefact]:
        settings = self.recipe.diffusion
        class_ids = [entry.class_id for entry in self.manifest.tail]
        part = part_of(self.corpus.train, class_ids, "train-diffusion")
        labels = index_labels(part.labels, class_ids)
        features, space = self._features(part, labels)
        learner = self._learner(None if features is None else features.shape[1])
        data = TailImages(self._latents(learner, part), labels, features, space)
        training = AdapterTraining(settings, learner, data, self.seed("diffusion"))
        history = train(self, training, settings.checkpoint_minutes)
        weights, facts = learner.adapter()
        artefacts: list[Artefact] = [Lines("history", history), Tensors("adapter", weights, metadata=facts)]
        return artefacts + ([Tensors("features", space.tensors())] if space is not None else [])

    def _learner(self, feature_size: int | None) -> AdapterLearner:
        """Freeze the model and add an untrained adapter, initialised from the run's seed."""
        settings = self.recipe.diffusion
        model: TextToImageModel = self.model
        asked = AdapterSettings(
            lora_rank=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            cross_attention=settings.lora_targets == "cross_attention",
            feature_size=feature_size,
            num_tokens=settings.tokens,
            size_px=settings.size_px,
            gradient_checkpointing=settings.gradient_checkpointing,
        )
        torch.manual_seed(self.seed("adapter"))
        return model.learner(asked, [entry.prompt for entry in self.manifest.tail])

    def _features(self, part: Part, labels: np.ndarray) -> tuple[torch.Tensor | None, FeatureSpace | None]:
        """Return the tail network's features of images (N, F), scaled, and their space; None without conditioning."""
        if self.recipe.diffusion.conditioning == "none":
            return None, None
        features = torch.cat([self.tail_network.pooled_features(part.images(rows)) for rows in _batches(part)])
        space = FeatureSpace.measure(features, torch.from_numpy(labels))
        return space.scale(features), space

    def _latents(self, learner: AdapterLearner, part: Part) -> torch.Tensor:
        """Return the latents of images (N, 4, h, w), sampled from the VAE's posterior with a seed per image."""
        seeds = [self.seed("latents", key) for key in part.keys]
        return torch.cat(
            [learner.encode_images(part.images(rows), [seeds[row] for row in rows]) for rows in _batches(part)]
        )


def _batches(part: Part) -> list[Sequence[int]]:
    return split(range(len(part)), ENCODED_AT_ONCE)
