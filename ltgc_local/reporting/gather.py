"""Gather a run's facts into one frozen value: all that the page shows, nothing of how it looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from ltgc_local.datasets import Corpus
from ltgc_local.datasets.groups import tail_classes
from ltgc_local.recipe import Recipe
from ltgc_local.records import Acceptance, ClassTemplate, Description, Rejected, Score
from ltgc_local.reporting.acceptance import ClassAcceptance, count_acceptance
from ltgc_local.reporting.accuracy import Arm, ClassRow, Group, list_classes, read_arms, read_groups, title_of
from ltgc_local.reporting.charts import ClassChart, Panel, draw_classes, draw_panel
from ltgc_local.reporting.gallery import ClassGallery, Sources, build_galleries
from ltgc_local.reporting.leaks import LeakGuard, read_leaks
from ltgc_local.reporting.provenance import (
    Evidence,
    Provenance,
    Timing,
    judge_evidence,
    list_steps,
    read_provenance,
    read_timings,
)
from ltgc_local.reporting.texts import ClassTexts, Reason, count_reasons, read_class_texts
from ltgc_local.reporting.tgn import TgnFacts, read_tgn
from ltgc_local.reporting.verdict import Verdict, write_verdict
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.schemas import Metrics


@dataclass(frozen=True)
class Report:
    """One run's facts. Lists of classes begin with the one with most training images, the galleries with the rarest."""

    recipe: Recipe
    recipe_yaml: str
    evidence: Evidence
    provenance: Provenance
    verdict: Verdict
    groups: tuple[Group, ...]
    arms: tuple[Arm, ...]
    classes: tuple[ClassRow, ...]
    chart: ClassChart
    texts: tuple[ClassTexts, ...]
    reasons: tuple[Reason, ...]
    acceptance: tuple[ClassAcceptance, ...]  # empty where nothing was assessed
    galleries: tuple[ClassGallery, ...]
    leaks: LeakGuard | None  # None where the recipe leaves the guard out
    panels: tuple[Panel, ...]
    timings: tuple[Timing, ...]
    tgn: TgnFacts | None  # None of the other method
    warnings: tuple[tuple[str, str], ...]  # (step, what it warned of)

    @property
    def tail(self) -> tuple[ClassRow, ...]:
        return tuple(row for row in self.classes if row.is_tail)


def gather(run: RunDirectory, recipe: Recipe, corpus: Corpus, reads: Sequence[str]) -> Report:
    """Read what the steps ``reads`` wrote.

    Args:
        run: where evaluate, generated and the steps that they read are complete.
        reads: the steps that the report reads, by name.

    Raises:
        ArtefactError: a step is not complete or one of its files is damaged.
    """
    steps = list_steps(run, reads)
    detects = [step for step in steps if step.endswith("detect")]
    counts = corpus.class_counts()
    tgn = read_tgn(run, steps) if recipe.method == "tgn" else None
    tail = list(tgn.tail) if tgn else tail_classes(counts, recipe.describe.tail_below)
    arms = read_arms(
        {name: arm.model_dump() for name, arm in run.checked("evaluate", "metrics", Metrics).root.items()}, recipe
    )
    groups = read_groups(counts, Counter(corpus.test.labels.tolist()), tail, recipe.method)
    generated = run.drawn("generated")
    excluded = Counter(rejected.class_id for rejected in run.records("generated", "excluded", Rejected))
    scores: list[Score | Acceptance] = [s for step in detects for s in run.records(step, "scores", Score)]
    accepts = [step for step in steps if step.endswith("/accept")]
    scores += [score for step in accepts for score in run.records(step, "scores", Acceptance)]
    templates = run.records("assess/template", "templates", ClassTemplate) if "assess/template" in steps else []
    num_generated = Counter(row.class_id for row in generated)
    classes = list_classes(corpus.class_names, counts, num_generated, excluded, arms, tail, recipe.method)
    tail_rows = [row for row in classes if row.is_tail]
    by_size = [row.class_id for row in tail_rows]
    provenance = read_provenance(run)
    sources = Sources(
        recipe,
        corpus,
        [drawn for step in steps if step.endswith("draw") for drawn in run.drawn(step)],
        generated,
        {score.key: score for score in scores},
        run.records("describe", "descriptions", Description) if "describe" in steps else [],
    )
    return Report(
        recipe=recipe,
        recipe_yaml=yaml.safe_dump(recipe.dump(), sort_keys=False, allow_unicode=True),
        evidence=judge_evidence(provenance.models),
        provenance=provenance,
        verdict=write_verdict(arms, groups, len(generated), recipe.method, title_of(recipe)),
        groups=groups,
        arms=arms,
        classes=classes,
        chart=draw_classes(classes, arms),
        texts=read_class_texts(run, corpus.class_names, counts, tail) if "extend" in steps else (),
        reasons=count_reasons(run, steps),
        acceptance=count_acceptance(scores, templates, excluded, corpus.class_names, by_size)
        if detects or accepts
        else (),
        galleries=build_galleries(sources, tail_rows),
        leaks=read_leaks(run, steps, recipe, corpus, generated),
        panels=_read_panels(run, [step for step in steps if step.startswith("train/")]),
        timings=read_timings(run, steps),
        tgn=tgn,
        warnings=tuple(
            (step, text) for step in steps if (manifest := run.manifest(step)) is not None for text in manifest.warnings
        ),
    )


def _read_panels(run: RunDirectory, arms: Sequence[str]) -> tuple[Panel, ...]:
    """Read the arms' histories: loss, and validation accuracy over all classes and the few-shot ones."""
    histories = {}
    for step in arms:
        histories[step.rpartition("/")[2]] = run.lines(step, "history")
    panels = [draw_panel("Training loss", {arm: [e["loss"] for e in h] for arm, h in histories.items()})]
    for group in ("all", "few"):
        curves = {arm: [epoch["validation"].get(group) for epoch in history] for arm, history in histories.items()}
        panels.append(draw_panel(f"Validation accuracy, {group}, %", curves))
    return tuple(panel for panel in panels if panel is not None)
