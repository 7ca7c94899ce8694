"""Report: one HTML page that opens offline, and its figures as JSON. No model."""

from __future__ import annotations

from ltgc_local.errors import ArtefactError
from ltgc_local.methods.registry import method_of
from ltgc_local.methods.stage import WholeStage
from ltgc_local.reporting import gather, render, summarize
from ltgc_local.runs.files import Artefact, Json, Text


class ReportStage(WholeStage):
    """Gathers the run's figures and renders the page."""

    def make(self) -> list[Artefact]:
        try:
            words = method_of(self.recipe).report
            report = gather(self.run, self.recipe, self.corpus, self.step.reads, words, self.tail)
            artefacts: list[Artefact] = [Json("summary", summarize(report)), Text("report", render(report))]
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as problem:
            # The files are what was written, but a run that was received may have had anything written to it.
            raise ArtefactError(
                f"{self.run.root}: its files contradict each other ({problem!r}); redo the steps whose files were "
                "changed, by --from"
            ) from problem
        self.progress.advance()
        return artefacts
