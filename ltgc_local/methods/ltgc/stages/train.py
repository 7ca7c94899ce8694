"""Train: fine-tune CLIP's vision tower with LoRA; the arm ``ltgc`` with generated images, ``control`` without."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ltgc_local.backends.protocols import ClipModel
from ltgc_local.evaluation.metrics import accuracies
from ltgc_local.evaluation.predictions import predict
from ltgc_local.methods.ltgc.arm_data import ArmData
from ltgc_local.methods.ltgc.fine_tuning import FineTuning
from ltgc_local.methods.ltgc.prompts import zero_shot_text
from ltgc_local.methods.stage import Stage, WholeStage
from ltgc_local.methods.training import train
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.runs.files import Artefact, Json, Lines, Tensors
from ltgc_local.runs.generated import GeneratedSplit
from ltgc_local.training.classifier import Classifier, CosineHead
from ltgc_local.training.distributed import main_process_first
from ltgc_local.training.images import ImageCache, ImageSet, Source
from ltgc_local.training.lora import adapter_state, add_lora


class TrainStage(WholeStage[LtgcRecipe]):
    """Trains one arm."""

    def make(self) -> list[Artefact]:
        recipe, corpus = self.recipe, self.corpus
        corpus.check_selection(recipe.train.select)
        clip: ClipModel = self.model
        seed = self.seed("train")  # the same for every arm: they start from the same adapters
        torch.manual_seed(seed)
        if recipe.train.gradient_checkpointing:
            clip.visual.set_grad_checkpointing(True)  # type: ignore[operator]
        classifier = build_classifier(clip, corpus.class_names, recipe)
        mixing = recipe.train.mixing if self.inputs("generated") else "none"  # the control reads nothing
        drawn = self.run.files(self.input("generated"), "images") if mixing != "none" else []
        with main_process_first(recipe.models.device):  # which decodes for all
            original = load_split(self, corpus.train)
            generated = load_split(self, GeneratedSplit("generated", drawn))
            validation = load_split(self, corpus.val)
        data = ArmData(recipe, mixing, original, generated, len(corpus.class_names), seed)
        counts = corpus.class_counts()

        def validate(model: torch.nn.Module) -> dict[str, float | None]:
            device = torch.device(clip.device)
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.train.precision == "bf16"):
                predicted = predict(model, validation, clip.normalisation, recipe.evaluate.batch_size)
            measured = accuracies(predicted, validation.labels, counts)
            return {shot: value for shot, value in measured.items() if shot != "per_class"}  # type: ignore[misc]

        tuning = FineTuning(data, classifier, clip.normalisation, clip.device, validate)
        history = train(self, tuning, recipe.train.checkpoint_minutes)
        tensors = adapter_state(classifier.tower) | {"head.weight": classifier.head.weight.detach().cpu()}
        selected = Json("selected", {"select": recipe.train.select, "epoch": tuning.selection.epoch})
        return [Lines("history", history), selected, Tensors("adapter", tensors)]


def build_classifier(clip: ClipModel, class_names: Sequence[str], recipe: LtgcRecipe) -> Classifier:
    """Wrap the vision tower in LoRA and put a cosine head of the classes' text features on it."""
    texts = clip.encode_texts([zero_shot_text(name) for name in class_names])  # (C, D)
    head = CosineHead(texts, recipe.train.head_scale, trainable=recipe.train.head == "text")
    return Classifier(add_lora(clip.visual, recipe, clip.lora_targets), head).to(clip.device)


def load_split(stage: Stage[LtgcRecipe], split: Source) -> ImageSet:
    """Decode a split at the size of CLIP's vision tower; a large one is mapped from a file in the run directory."""
    settings, clip = stage.recipe.train, stage.model
    preprocessing = f"{clip.preprocessing}\0{stage.recipe.data.pixels_by}"
    images = ImageCache(clip.resize, preprocessing, stage.run.decoded, settings.in_memory_mib, settings.decode_workers)
    return ImageSet((images.load(split),), split.labels)
