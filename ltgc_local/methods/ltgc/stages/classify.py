"""Classify: ask the vision-language model which class a test image shows (LTGC, Table 3's models as classifiers).

Differs from the paper, which does not show its question: up to ``evaluate.vlm_names_in_prompt`` classes are listed in
the prompt; with more the model answers freely, and where its answer is no class name, CLIP's text tower picks the name
nearest to it. An answer to a list that names no class is wrong. A seeded sample of each class's test images is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltgc_local.backends.protocols import ChatModel, ClipModel, Message, Sampling
from ltgc_local.evaluation.metrics import accuracies
from ltgc_local.methods.context import Chunk, StageContext, split
from ltgc_local.methods.ltgc.answers import ClassNameParser
from ltgc_local.methods.ltgc.prompts import fill_classify, zero_shot_text
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.records import Answer, Exchange
from ltgc_local.runs.files import Artefact, Lines

STEP = "classify"
NO_CLASS = -1


def plan_chunks(context: StageContext[LtgcRecipe]) -> list[Chunk]:
    """Return rows of the test split, in batches: of each class a seeded sample of its images."""
    test, most = context.corpus.test, context.recipe.evaluate.vlm_images_per_class
    rows: list[int] = []
    for class_id in range(len(context.corpus.class_names)):
        of_class = np.flatnonzero(test.labels == class_id).tolist()
        rows += sorted(sorted(of_class, key=lambda row: context.seed("classify", test.keys[row]))[:most])
    return split(rows, context.recipe.describe.batch_size)


def run_chunk(context: StageContext[LtgcRecipe], chunk: Sequence[int]) -> list[Artefact]:
    model: ChatModel = context.model
    test, names = context.corpus.test, context.corpus.class_names
    prompt = fill_classify(listed_names(context))
    turn: Message = {"role": "user", "content": prompt}
    sampling = Sampling(context.recipe.describe.max_new_tokens, seed=context.seed("classify", chunk[0]))
    replies = model.reply([[turn]] * len(chunk), sampling, images=test.images(chunk))
    parser = ClassNameParser(names)
    answers = [
        Answer(test.keys[row], int(test.labels[row]), reply, *parser.parse(reply))
        for row, reply in zip(chunk, replies, strict=True)
    ]
    context.progress.advance(len(chunk))
    exchanges = [Exchange("classify", (answer.image_key,), prompt, answer.reply) for answer in answers]
    return [Lines("exchanges", exchanges), Lines("answers", answers)]


def listed_names(context: StageContext[LtgcRecipe]) -> Sequence[str]:
    """Return the class names that the prompt lists: all, or none if they are too many."""
    names = context.corpus.class_names
    return names if len(names) <= context.recipe.evaluate.vlm_names_in_prompt else ()


def measure_answers(context: StageContext[LtgcRecipe], clip: ClipModel) -> dict[str, Any]:
    """Return the accuracies of the recorded answers, and how many named a class.

    Returns:
        what ``metrics.accuracies`` does; ``images`` that it was asked about; how many answers name no class
        (``unnamed``), and how many of those CLIP's text tower turned into one (``nearest``).
    """
    answers = context.run.records(STEP, "answers", Answer)
    predicted = np.array([NO_CLASS if a.predicted is None else a.predicted for a in answers], dtype=np.int64)
    counts = {"images": len(answers), "unnamed": int((predicted == NO_CLASS).sum()), "nearest": 0}
    free = [i for i, answer in enumerate(answers) if answer.predicted is None and answer.reply.strip()]
    if free and not listed_names(context):
        names = clip.encode_texts([zero_shot_text(name) for name in context.corpus.class_names])  # (C, D)
        said = clip.encode_texts([zero_shot_text(answers[i].reply.strip().rstrip(".")) for i in free])
        predicted[free] = (said @ names.T).argmax(1).numpy()
        counts["nearest"] = len(free)
    labels = np.array([answer.class_id for answer in answers], dtype=np.int64)
    return accuracies(predicted, labels, context.corpus.class_counts()) | counts
