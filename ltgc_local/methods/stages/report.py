"""Report: one HTML page that opens offline, and its figures as JSON. No model."""

from __future__ import annotations

from collections.abc import Sequence

from ltgc_local.errors import ArtefactError
from ltgc_local.methods.context import Chunk, StageContext
from ltgc_local.methods.registry import method_of
from ltgc_local.reporting import gather, render, summarize
from ltgc_local.runs.files import Artefact, Json, Text

NUMBERED = False


def plan_chunks(context: StageContext) -> list[Chunk]:
    return [[context.step.name]]


def run_chunk(context: StageContext, chunk: Sequence[str]) -> list[Artefact]:
    try:
        report = gather(
            context.run,
            context.recipe,
            context.corpus,
            context.step.reads,
            method_of(context.recipe).report,
            context.tail,
        )
        artefacts: list[Artefact] = [Json("summary", summarize(report)), Text("report", render(report))]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as problem:
        # The files are what was written, but a run that was received may have had anything written to it.
        raise ArtefactError(
            f"{context.run.root}: what its files say does not fit together ({problem!r}); do the steps again whose "
            "files were changed, by --from"
        ) from problem
    context.progress.advance()
    return artefacts
