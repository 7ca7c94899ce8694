"""Train adapter: SDXL's LoRA, and its map of the tail network's features, learn the tail's training images.

Every prompt is its class's (``split.prompt``). Latents and features are computed once, before the first step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ltgc_local.backends.protocols import AdapterLearner, AdapterSettings, TextToImageModel
from ltgc_local.methods.stage import WholeStage, split
from ltgc_local.methods.tgn.class_data import Part, part_of
from ltgc_local.methods.tgn.diffusion.adapter_training import AdapterTraining, TailImages
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.methods.tgn.tail_features import FeatureSpace, features_of
from ltgc_local.methods.training import train
from ltgc_local.recipe import DiffusionRecipe
from ltgc_local.runs.files import Artefact, Lines, Tensors

ENCODED_AT_ONCE = 64  # images


class TrainAdapterStage(WholeStage[DiffusionRecipe], TgnStage):
    """Trains the adapter."""

    trains_model = True

    def make(self) -> list[Artefact]:
        settings, model = self.recipe.diffusion, self.model
        entries = self.manifest.tail
        part = part_of(self.corpus.train, [entry.class_id for entry in entries], "train-diffusion")
        index = {entry.class_id: entry.index for entry in entries}
        labels = np.array([index[class_id] for class_id in part.labels.tolist()], dtype=np.int64)
        features, space = read_features(self, part, labels)
        learner = build_learner(self, model, [entry.prompt for entry in entries], features)
        data = TailImages(encode(self, learner, part), labels, features, space)
        training = AdapterTraining(settings, learner, data, self.seed("diffusion"))
        history = train(self, training, settings.checkpoint_minutes)
        weights, facts = learner.adapter()
        artefacts: list[Artefact] = [Lines("history", history), Tensors("adapter", weights, metadata=facts)]
        return artefacts + ([Tensors("features", space.tensors())] if space is not None else [])


def build_learner(
    stage: TgnStage,
    model: TextToImageModel,
    prompts: Sequence[str],
    features: torch.Tensor | None,
) -> AdapterLearner:
    """Freeze the model and add an untrained adapter, whose numbers are those of the run's seed."""
    settings = stage.recipe.diffusion
    asked = AdapterSettings(
        lora_rank=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        cross_attention=settings.lora_targets == "cross_attention",
        feature_size=None if features is None else features.shape[1],
        num_tokens=settings.tokens,
        size_px=settings.size_px,
        gradient_checkpointing=settings.gradient_checkpointing,
    )
    torch.manual_seed(stage.seed("adapter"))
    return model.learner(asked, prompts)


def read_features(stage: TgnStage, part: Part, labels: np.ndarray) -> tuple[torch.Tensor | None, FeatureSpace | None]:
    """Return the tail network's features of images (N, F), scaled, and their space; None without conditioning."""
    if stage.recipe.diffusion.conditioning == "none":
        return None, None
    device = stage.device
    network = stage.tail_network
    found = [features_of(network, part.images(batch), device) for batch in split(range(len(part)), ENCODED_AT_ONCE)]
    features = torch.cat(found)
    space = FeatureSpace.measure(features, torch.from_numpy(labels))
    return space.scale(features), space


def encode(stage: TgnStage, learner: AdapterLearner, part: Part) -> torch.Tensor:
    """Return the latents (N, 4, h, w) of images, each of its own seed's draw from the VAE's posterior."""
    seeds = [stage.seed("latents", key) for key in part.keys]
    batches = split(range(len(part)), ENCODED_AT_ONCE)
    return torch.cat([learner.encode_images(part.images(rows), [seeds[row] for row in rows]) for rows in batches])
