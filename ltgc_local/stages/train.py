"""Train: fine-tune CLIP's vision tower with LoRA; the arm ``ltgc`` with generated images, ``control`` without."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL.Image import Image

from ltgc_local.artefacts.files import Artefact, Lines, Tensors, decode_png
from ltgc_local.backends.open_clip_vit import OpenClipVit
from ltgc_local.corpora import Split
from ltgc_local.metrics import accuracies
from ltgc_local.prompts import zero_shot_text
from ltgc_local.recipe import Recipe
from ltgc_local.stages.context import Chunk, StageContext
from ltgc_local.training.classifier import Classifier, CosineHead
from ltgc_local.training.loop import ImageSet, Trainer, train
from ltgc_local.training.lora import adapter_state, add_lora
from ltgc_local.training.pixels import decode_all, normalisation, resize_step

NUMBERED = False


def plan_chunks(context: StageContext) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext, chunk: Sequence[str]) -> list[Artefact]:
    recipe, corpus, arm = context.recipe, context.corpus, context.step.name.rpartition("/")[2]
    clip: OpenClipVit = context.model
    seed = context.seed("train")  # the same for every arm: they start from the same adapters
    torch.manual_seed(seed)
    classifier = build_classifier(clip, corpus.class_names, recipe)
    original = load_split(clip, corpus.train)
    drawn = context.run.images("generated") if arm == "ltgc" else []
    labels = np.array([image.class_id for image in drawn], dtype=np.int64)
    generated = image_set(clip, (decode_png(image.image) for image in drawn), labels)
    mixing = recipe.train.mixing if arm == "ltgc" else "none"
    trainer = Trainer(recipe, mixing, original, generated, len(corpus.class_names), seed)
    validation = load_split(clip, corpus.val)
    counts = corpus.class_counts()
    norm = normalisation(clip.preprocess)

    def validate(model: torch.nn.Module) -> dict[str, float | None]:
        measured = accuracies(predict(model, validation, norm, recipe.evaluate.batch_size), validation.labels, counts)
        return {shot: value for shot, value in measured.items() if shot != "per_class"}  # type: ignore[misc]

    context.progress.expect(recipe.train.epochs * trainer.steps_per_epoch * recipe.train.batch_size)
    history = train(trainer, classifier, norm, clip.device, validate, context.progress.advance)
    tensors = adapter_state(classifier.tower) | {"head.weight": classifier.head.weight.detach().cpu()}
    return [Lines("history", history), Tensors("adapter", tensors)]


def build_classifier(clip: OpenClipVit, class_names: Sequence[str], recipe: Recipe) -> Classifier:
    """Wrap the vision tower in LoRA and put a cosine head of the classes' text features on it."""
    texts = clip.encode_texts([zero_shot_text(name) for name in class_names])  # (C, D)
    head = CosineHead(texts, recipe.train.head_scale, trainable=recipe.train.head == "text")
    return Classifier(add_lora(clip.visual, recipe), head).to(clip.device)


def image_set(clip: OpenClipVit, images: Iterable[Image], labels: np.ndarray) -> ImageSet:
    """Decode images at the size of CLIP's vision tower."""
    pixels = decode_all(images, resize_step(clip.preprocess)) if len(labels) else torch.empty(0, 3, 1, 1)
    return ImageSet(pixels, labels)


def load_split(clip: OpenClipVit, split: Split) -> ImageSet:
    """Decode a whole split."""
    return image_set(clip, split.images(range(len(split))), split.labels)


@torch.inference_mode()
def predict(
    model: torch.nn.Module, images: ImageSet, norm: tuple[torch.Tensor, torch.Tensor], batch_size: int
) -> np.ndarray:
    """Return the class (N,) that a classifier gives each image."""
    device = next(model.parameters()).device
    mean, std = (tensor.to(device) for tensor in norm)
    batches = torch.split(images.pixels, batch_size)
    parts = [model((batch.to(device).float() / 255 - mean) / std).argmax(1) for batch in batches]
    return torch.cat(parts).cpu().numpy()
