"""Classify: ask the vision-language model which class a test image shows (LTGC, Table 3's models as classifiers).

Differs from the paper, which does not show its question: up to ``evaluate.vlm_names_in_prompt`` classes are listed in
the prompt. With more, the model answers freely, and if its answer is not a class name, CLIP's text tower picks the
nearest one. An answer to a list that names no class is wrong. The images are a seeded sample of each class's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltgc_local.backends.protocols import ChatModel, ClipModel, Message, Sampling
from ltgc_local.evaluation.metrics import accuracies
from ltgc_local.methods.ltgc.answers import ClassNameParser
from ltgc_local.methods.ltgc.prompts import fill_classify, zero_shot_text
from ltgc_local.methods.stage import ChunkedStage, Stage, split
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.records import Answer, Exchange
from ltgc_local.runs.files import Artefact, Lines

NO_CLASS = -1


class ClassifyStage(ChunkedStage[LtgcRecipe, int]):
    """Asks the model about batches of test images."""

    def chunks(self) -> list[Sequence[int]]:
        """Return batches of rows of the test split: a seeded sample of each class's images."""
        test, most = self.corpus.test, self.recipe.evaluate.vlm_images_per_class
        rows: list[int] = []
        for class_id in range(len(self.corpus.class_names)):
            of_class = np.flatnonzero(test.labels == class_id).tolist()
            rows += sorted(sorted(of_class, key=lambda row: self.seed("classify", test.keys[row]))[:most])
        return split(rows, self.recipe.describe.batch_size)

    def make_chunk(self, chunk: Sequence[int]) -> list[Artefact]:
        model: ChatModel = self.model
        test, names = self.corpus.test, self.corpus.class_names
        prompt = fill_classify(listed_names(self))
        turn: Message = {"role": "user", "content": prompt}
        sampling = Sampling(self.recipe.describe.max_new_tokens, seed=self.seed("classify", chunk[0]))
        replies = model.reply([[turn]] * len(chunk), sampling, images=test.images(chunk))
        parser = ClassNameParser(names)
        answers = [
            Answer(test.keys[row], int(test.labels[row]), reply, *parser.parse(reply))
            for row, reply in zip(chunk, replies, strict=True)
        ]
        self.progress.advance(len(chunk))
        exchanges = [Exchange("classify", (answer.image_key,), prompt, answer.reply) for answer in answers]
        return [Lines("exchanges", exchanges), Lines("answers", answers)]


def listed_names(stage: Stage[LtgcRecipe]) -> Sequence[str]:
    """Return the class names that the prompt lists: all, or none if there are too many."""
    names = stage.corpus.class_names
    return names if len(names) <= stage.recipe.evaluate.vlm_names_in_prompt else ()


def measure_answers(stage: Stage[LtgcRecipe]) -> dict[str, Any]:
    """Return the accuracies of the recorded answers, as ``metrics.accuracies`` does, and three counts.

    They are the ``images`` asked about, the answers that name no class (``unnamed``), and how many of those CLIP's text
    tower assigned to a class (``nearest``).
    """
    answers = stage.run.records(stage.input("answers"), "answers", Answer)
    predicted = np.array([NO_CLASS if a.predicted is None else a.predicted for a in answers], dtype=np.int64)
    counts = {"images": len(answers), "unnamed": int((predicted == NO_CLASS).sum()), "nearest": 0}
    free = [i for i, answer in enumerate(answers) if answer.predicted is None and answer.reply.strip()]
    if free and not listed_names(stage):
        clip: ClipModel = stage.model
        names = clip.encode_texts([zero_shot_text(name) for name in stage.corpus.class_names])  # (C, D)
        said = clip.encode_texts([zero_shot_text(answers[i].reply.strip().rstrip(".")) for i in free])
        predicted[free] = (said @ names.T).argmax(1).numpy()
        counts["nearest"] = len(free)
    labels = np.array([answer.class_id for answer in answers], dtype=np.int64)
    return accuracies(predicted, labels, stage.corpus.class_counts()) | counts
