"""Classes: the manifest of head and tail, by which every later step numbers and names the classes."""

from __future__ import annotations

from collections.abc import Sequence

from ltgc_local.methods.context import Chunk, StageContext
from ltgc_local.methods.tgn.classes import build_manifest
from ltgc_local.recipe import TgnRecipe
from ltgc_local.runs.files import Artefact, Lines

NUMBERED = False


def plan_chunks(context: StageContext[TgnRecipe]) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext[TgnRecipe], chunk: Sequence[str]) -> list[Artefact]:
    corpus = context.corpus
    manifest = build_manifest(corpus.class_names, corpus.class_counts(), context.recipe.split)
    context.progress.advance()
    return [Lines("classes", manifest.entries)]
