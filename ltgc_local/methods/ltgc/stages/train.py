"""Train: fine-tune CLIP's vision tower with LoRA; the arm ``ltgc`` with generated images, ``control`` without."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ltgc_local.backends.protocols import TrainableClip
from ltgc_local.evaluation.metrics import accuracies
from ltgc_local.evaluation.predictions import predict
from ltgc_local.methods.context import Chunk, StageContext
from ltgc_local.methods.ltgc.arm_data import ArmData
from ltgc_local.methods.ltgc.fine_tuning import FineTuning
from ltgc_local.methods.ltgc.prompts import zero_shot_text
from ltgc_local.methods.training import train
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.runs.files import Artefact, Json, Lines, Tensors
from ltgc_local.runs.generated import GeneratedSplit
from ltgc_local.training.classifier import Classifier, CosineHead
from ltgc_local.training.distributed import main_process_first
from ltgc_local.training.images import ImageCache, ImageSet, Source
from ltgc_local.training.lora import adapter_state, add_lora

NUMBERED = False


def plan_chunks(context: StageContext[LtgcRecipe]) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext[LtgcRecipe], chunk: Sequence[str]) -> list[Artefact]:
    recipe, corpus = context.recipe, context.corpus
    corpus.check_selection(recipe.train.select)
    clip: TrainableClip = context.model
    seed = context.seed("train")  # the same for every arm: they start from the same adapters
    torch.manual_seed(seed)
    if recipe.train.gradient_checkpointing:
        clip.visual.set_grad_checkpointing(True)  # type: ignore[operator]
    classifier = build_classifier(clip, corpus.class_names, recipe)
    mixing = recipe.train.mixing if context.step.reads else "none"  # the control reads nothing
    drawn = context.run.files("generated", "images") if mixing != "none" else []
    with main_process_first(recipe.models.device):  # which decodes for all
        original = load_split(context, corpus.train)
        generated = load_split(context, GeneratedSplit("generated", drawn))
        validation = load_split(context, corpus.val)
    data = ArmData(recipe, mixing, original, generated, len(corpus.class_names), seed)
    counts = corpus.class_counts()

    def validate(model: torch.nn.Module) -> dict[str, float | None]:
        device = torch.device(clip.device)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.train.precision == "bf16"):
            predicted = predict(model, validation, clip.normalisation, recipe.evaluate.batch_size)
        measured = accuracies(predicted, validation.labels, counts)
        return {shot: value for shot, value in measured.items() if shot != "per_class"}  # type: ignore[misc]

    tuning = FineTuning(data, classifier, clip.normalisation, clip.device, validate)
    history = train(context, tuning, recipe.train.checkpoint_minutes)
    tensors = adapter_state(classifier.tower) | {"head.weight": classifier.head.weight.detach().cpu()}
    selected = Json("selected", {"select": recipe.train.select, "epoch": tuning.selection.epoch})
    return [Lines("history", history), selected, Tensors("adapter", tensors)]


def build_classifier(clip: TrainableClip, class_names: Sequence[str], recipe: LtgcRecipe) -> Classifier:
    """Wrap the vision tower in LoRA and put a cosine head of the classes' text features on it."""
    texts = clip.encode_texts([zero_shot_text(name) for name in class_names])  # (C, D)
    head = CosineHead(texts, recipe.train.head_scale, trainable=recipe.train.head == "text")
    return Classifier(add_lora(clip.visual, recipe, clip.lora_targets), head).to(clip.device)


def load_split(context: StageContext[LtgcRecipe], split: Source) -> ImageSet:
    """Decode a split at the size of CLIP's vision tower; a large one is mapped from a file in the run directory."""
    settings, clip = context.recipe.train, context.model
    preprocessing = f"{clip.preprocessing}\0{context.recipe.data.pixels_by}"
    images = ImageCache(
        clip.resize, preprocessing, context.run.decoded, settings.in_memory_mib, settings.decode_workers
    )
    return ImageSet((images.load(split),), split.labels)
