"""Train adapter: SDXL's LoRA, and its map of the tail network's features, learn the tail's training images.

Every prompt is its class's (``split.prompt``). Latents and features are computed once, before the first step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ltgc_local.backends.protocols import AdapterLearner, AdapterSettings, TextToImageModel
from ltgc_local.backends.torch_device import resolve_device
from ltgc_local.methods.context import Chunk, StageContext, split
from ltgc_local.methods.tgn.class_data import Part, part_of
from ltgc_local.methods.tgn.classes import read_manifest
from ltgc_local.methods.tgn.diffusion.adapter_training import AdapterTraining, TailImages
from ltgc_local.methods.tgn.network import load_tail_network
from ltgc_local.methods.tgn.tail_features import FeatureSpace, features_of
from ltgc_local.methods.training import train
from ltgc_local.recipe import DiffusionRecipe
from ltgc_local.runs.files import Artefact, Lines, Tensors

NUMBERED = False
ENCODED_AT_ONCE = 64  # images


def plan_chunks(context: StageContext[DiffusionRecipe]) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext[DiffusionRecipe], chunk: Sequence[str]) -> list[Artefact]:
    settings, model = context.recipe.diffusion, context.model
    entries = read_manifest(context.run).tail
    part = part_of(context.corpus.train, [entry.class_id for entry in entries], "train-diffusion")
    index = {entry.class_id: entry.index for entry in entries}
    labels = np.array([index[class_id] for class_id in part.labels.tolist()], dtype=np.int64)
    features, space = read_features(context, part, labels)
    learner = build_learner(context, model, [entry.prompt for entry in entries], features)
    data = TailImages(encode(context, learner, part), labels, features, space)
    training = AdapterTraining(settings, learner, data, context.seed("diffusion"))
    history = train(context, training, settings.checkpoint_minutes)
    weights, facts = learner.adapter()
    artefacts: list[Artefact] = [Lines("history", history), Tensors("adapter", weights, metadata=facts)]
    return artefacts + ([Tensors("features", space.tensors())] if space is not None else [])


def build_learner(
    context: StageContext[DiffusionRecipe],
    model: TextToImageModel,
    prompts: Sequence[str],
    features: torch.Tensor | None,
) -> AdapterLearner:
    """Freeze the model and add an untrained adapter, whose numbers are those of the run's seed."""
    settings = context.recipe.diffusion
    asked = AdapterSettings(
        lora_rank=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        cross_attention=settings.lora_targets == "cross_attention",
        feature_size=None if features is None else features.shape[1],
        num_tokens=settings.tokens,
        size_px=settings.size_px,
        gradient_checkpointing=settings.gradient_checkpointing,
    )
    torch.manual_seed(context.seed("adapter"))
    return model.learner(asked, prompts)


def read_features(
    context: StageContext[DiffusionRecipe], part: Part, labels: np.ndarray
) -> tuple[torch.Tensor | None, FeatureSpace | None]:
    """Return the tail network's features of images (N, F), scaled, and their space; None without conditioning."""
    if context.recipe.diffusion.conditioning == "none":
        return None, None
    device = resolve_device(context.recipe.models.device)
    network = load_tail_network(context.run, context.step.reads, device)
    found = [features_of(network, part.images(batch), device) for batch in split(range(len(part)), ENCODED_AT_ONCE)]
    features = torch.cat(found)
    space = FeatureSpace.measure(features, torch.from_numpy(labels))
    return space.scale(features), space


def encode(context: StageContext[DiffusionRecipe], learner: AdapterLearner, part: Part) -> torch.Tensor:
    """Return the latents (N, 4, h, w) of images, each of its own seed's draw from the VAE's posterior."""
    seeds = [context.seed("latents", key) for key in part.keys]
    batches = split(range(len(part)), ENCODED_AT_ONCE)
    return torch.cat([learner.encode_images(part.images(rows), [seeds[row] for row in rows]) for rows in batches])
