"""Classes: the manifest of head and tail, by which every later step numbers and names the classes."""

from __future__ import annotations

from collections.abc import Sequence

from ltgc_local.artefacts.files import Artefact, Lines
from ltgc_local.stages.context import Chunk, StageContext
from ltgc_local.tgn.class_manifest import build_manifest

NUMBERED = False


def plan_chunks(context: StageContext) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext, chunk: Sequence[str]) -> list[Artefact]:
    corpus = context.corpus
    manifest = build_manifest(corpus.class_names, corpus.class_counts(), context.recipe.split)
    context.progress.advance()
    return [Lines("classes", manifest.entries)]
