"""Train: fine-tune CLIP's vision tower with LoRA; LTGC's towers with generated images, the control's without.

Distil (Hinton et al. 2015): train one more tower to predict as LTGC's towers do together. Soup (Wortsman et al. 2022):
average towers into one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from ltgc_local.backends.protocols import ClipModel
from ltgc_local.evaluation.metrics import accuracies
from ltgc_local.evaluation.predictions import predict
from ltgc_local.methods.base import Step
from ltgc_local.methods.evaluation import counts_of
from ltgc_local.methods.ltgc.arm_data import ArmData
from ltgc_local.methods.ltgc.fine_tuning import FineTuning, Teaching
from ltgc_local.methods.ltgc.prompts import zero_shot_text
from ltgc_local.methods.stage import Stage, WholeStage
from ltgc_local.methods.training import train
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.files import Artefact, Json, Lines, Tensors
from ltgc_local.runs.generated import GeneratedSplit
from ltgc_local.training.classifier import Classifier, CosineHead, Ensemble
from ltgc_local.training.distributed import is_main_process
from ltgc_local.training.images import ImageCache, ImageSet, Source
from ltgc_local.training.lora import adapter_state, add_lora, average, load_adapter, merge
from ltgc_local.training.sampling import at_most


class TrainStage(WholeStage[LtgcRecipe]):
    """Trains one arm."""

    def make(self) -> list[Artefact]:
        return self.train(None)

    def train(self, teaching: Teaching | None, start: dict[str, torch.Tensor] | None = None) -> list[Artefact]:
        """Train on the images of the arm, by their labels or by what a teacher says.

        Args:
            start: the first weights of adapters and head; None starts with CLIP's own.
        """
        recipe, settings, corpus = self.recipe, self.recipe.train, self.corpus
        corpus.check_selection(settings.select)
        clip: ClipModel = self.model
        seed = self.seed("train")  # the same for every arm: they start from the same adapters
        torch.manual_seed(seed)
        if settings.gradient_checkpointing:
            clip.visual.set_grad_checkpointing(True)  # type: ignore[operator]
        classifier = build_classifier(clip, clip.visual, corpus.class_names, recipe)
        if start is not None:
            load_weights(classifier, start)
        mixing = settings.mixing if self.inputs("generated") else "none"  # the control reads nothing
        files = self.run.files(self.input("generated"), "images") if mixing != "none" else []
        counts = corpus.class_counts()
        original = self._decode(corpus.train)
        if settings.max_imbalance is not None:
            most = round(settings.max_imbalance * min(number for number in counts.values() if number))
            original = original.choose(at_most(original.labels, most, np.random.default_rng(seed)))
        generated = self._decode(GeneratedSplit("generated", files))
        validation = self._decode(corpus.val)
        data = ArmData(settings, mixing, original, generated, len(corpus.class_names), seed)

        def validate(model: torch.nn.Module) -> dict[str, float | None]:
            device = torch.device(clip.device)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                predicted = predict(model, validation, clip.normalisation, recipe.evaluate.batch_size)
            measured = accuracies(predicted, validation.labels, counts)
            return {shot: value for shot, value in measured.items() if shot != "per_class"}  # type: ignore[misc]

        tuning = FineTuning(data, classifier, clip.normalisation, clip.device, validate, teaching)
        history = train(self, tuning, settings.checkpoint_minutes)
        tensors = adapter_state(classifier.tower) | {"head.weight": classifier.head.weight.detach().cpu()}
        selected = Json("selected", {"select": settings.select, "epoch": tuning.selection.epoch})
        return [Lines("history", history), selected, Tensors("adapter", tensors)]

    def _decode(self, split: Source) -> ImageSet:
        """Decode a split at the size of CLIP's vision tower; a large one is mapped from a file in the run directory."""
        settings, clip = self.recipe.train, self.model
        preprocessing = f"{clip.preprocessing}\0{self.recipe.data.pixels_by}"
        limits = settings.in_memory_mib, settings.decode_workers, is_main_process(self.recipe.models.device)
        images = ImageCache(clip.resize, preprocessing, self.run.decoded, *limits).load(split)
        return ImageSet((images,), split.labels)


class DistillStage(TrainStage):
    """Trains one tower to predict as the towers of an ensemble do together."""

    def make(self) -> list[Artefact]:
        settings = self.recipe.ensemble
        chosen = self.run.value(self.input("weights"), "weights")
        members: list[Step | None] = [*self.inputs("teachers"), *([None] if settings.zero_shot else [])]
        used = [(step, weight) for step, weight in zip(members, chosen["weights"], strict=True) if weight]
        towers = [
            zero_shot(self.model, self.corpus.class_names) if step is None else load_classifier(self, step)
            for step, _ in used
        ]
        weights = [weight for _, weight in used]
        ensemble = Ensemble(towers, weights, chosen["tau"], counts_of(self)).to(self.model.device)
        teaching = Teaching(ensemble, settings.distill_label_weight, settings.distill_temperature)
        if settings.distill_from == "clip":
            return self.train(teaching)
        teachers = self.inputs("teachers")
        best = teachers[int(np.argmax(chosen["weights"][: len(teachers)]))]
        return self.train(teaching, read_tensors(self.run.file_of(best.name, "adapter"))[0])


class SoupStage(TrainStage):
    """Averages the weights of several towers, and trains the head of what comes out."""

    def make(self) -> list[Artefact]:
        every = [read_tensors(self.run.file_of(step.name, "adapter"))[0] for step in self.inputs("towers")]
        start = {name: average([tensors[name] for tensors in every], name) for name in every[0]}
        return self.train(None, start)


def load_classifier(stage: Stage[LtgcRecipe], step: Step) -> Classifier:
    """Load the classifier that a training step made, with its LoRA merged."""
    clip: ClipModel = stage.model
    recipe = step.recipe(stage.recipe)
    classifier = build_classifier(clip, copy.deepcopy(clip.visual), stage.corpus.class_names, recipe)
    load_weights(classifier, read_tensors(stage.run.file_of(step.name, "adapter"))[0])
    return Classifier(merge(classifier.tower), classifier.head).eval()


def load_weights(classifier: Classifier, tensors: dict[str, torch.Tensor]) -> None:
    """Load the adapters and the head that a training step made."""
    classifier.head.weight.data.copy_(tensors["head.weight"])
    load_adapter(classifier.tower, {name: tensor for name, tensor in tensors.items() if name != "head.weight"})


def build_classifier(
    clip: ClipModel, tower: torch.nn.Module, class_names: Sequence[str], recipe: LtgcRecipe
) -> Classifier:
    """Wrap CLIP's vision tower, or a copy, in LoRA and add a cosine head, initialised from the classes' text features.

    The tower is changed in place.
    """
    texts = clip.encode_texts([zero_shot_text(name) for name in class_names])  # (C, D)
    head = CosineHead(texts, recipe.train.head_scale, trainable=recipe.train.head == "text")
    return Classifier(add_lora(tower, recipe, clip.lora_targets), head).to(clip.device)


def zero_shot(clip: ClipModel, class_names: Sequence[str]) -> Classifier:
    """Return CLIP's own classifier, with a copy of its tower, to which adapters may be added later."""
    texts = clip.encode_texts([zero_shot_text(name) for name in class_names])  # (C, D)
    return (
        Classifier(copy.deepcopy(clip.visual), CosineHead(texts, clip.logit_scale, trainable=False))
        .to(clip.device)
        .eval()
    )
