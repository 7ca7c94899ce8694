"""Gather a run's facts into one frozen value: everything that the page shows, and nothing about how it looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from ltgc_local.datasets import Corpus
from ltgc_local.recipe import Recipe
from ltgc_local.records import Rejected
from ltgc_local.reporting.acceptance import ClassAcceptance, count_acceptance
from ltgc_local.reporting.accuracy import Arm, ClassRow, Group, list_classes, read_arms, read_groups
from ltgc_local.reporting.charts import ClassChart, Panel, draw_classes, draw_panel
from ltgc_local.reporting.gallery import ClassGallery, Sources, build_galleries
from ltgc_local.reporting.leaks import LeakGuard, read_leaks
from ltgc_local.reporting.method_report import Assessment, MethodReport, Section
from ltgc_local.reporting.provenance import Evidence, Timing, judge_evidence, list_steps
from ltgc_local.reporting.rivals import Rivalry, read_rivals
from ltgc_local.reporting.verdict import Verdict, write_verdict
from ltgc_local.runs.costs import add_costs
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.judgements import Judgements
from ltgc_local.runs.provenance import read_provenance_file
from ltgc_local.runs.row_index import RowIndex
from ltgc_local.runs.schemas import Costs, Metrics, ProvenanceFile


@dataclass(frozen=True)
class Report:
    """One run's facts. Classes are listed largest first, galleries rarest first."""

    recipe: Recipe
    method: MethodReport
    title: str  # of the method
    recipe_yaml: str
    evidence: Evidence
    provenance: ProvenanceFile | None
    verdict: Verdict
    rivalry: Rivalry | None  # None if there are no rivals, or no rare and frequent classes
    groups: tuple[Group, ...]
    arms: tuple[Arm, ...]
    classes: tuple[ClassRow, ...]
    chart: ClassChart
    sections: tuple[Section, ...]  # the method's own
    assessment: Assessment | None  # None if every generated image trains
    acceptance: tuple[ClassAcceptance, ...]  # empty if nothing was scored
    galleries: tuple[ClassGallery, ...]
    leaks: LeakGuard | None  # None if the recipe leaves the guard out
    panels: tuple[Panel, ...]
    timings: tuple[Timing, ...]
    costs: dict[str, Costs]  # step -> what it took, for the steps that say so
    warnings: tuple[tuple[str, str], ...]  # (step, warning)

    @property
    def total_costs(self) -> Costs:
        return add_costs(self.costs.values())

    @property
    def tail(self) -> tuple[ClassRow, ...]:
        return tuple(row for row in self.classes if row.is_tail)


def gather(
    run: RunDirectory, recipe: Recipe, corpus: Corpus, reads: Sequence[str], method: MethodReport, tail: Sequence[int]
) -> Report:
    """Read what the steps ``reads`` and their inputs wrote.

    Args:
        run: evaluate, generated and the steps that they read must be complete.
        reads: names of the steps that the report reads.
        tail: ids of the classes that get generated images.

    Raises:
        ArtefactError: a step is not complete, or one of its files is damaged.
    """
    steps = list_steps(run, reads)
    counts, assessment, title = corpus.class_counts(), method.assessment(recipe), method.title(recipe.dump())
    metrics = {name: arm.model_dump() for name, arm in run.checked("evaluate", "metrics", Metrics).root.items()}
    arms = read_arms(metrics, recipe, method)
    rivalry = read_rivals(run, arms, method.name)
    groups = read_groups(counts, Counter(corpus.test.labels.tolist()), tail, method.groups)
    generates = "generated" in steps
    generated = run.index("generated") if generates else RowIndex.of([], [])
    refused = run.iterate("generated", "excluded", Rejected) if generates else ()
    excluded = Counter(rejected.class_id for rejected in refused)
    judgements = Judgements.read(run, method.judging_steps(steps))
    num_generated = Counter(generated.keys[:, 0].tolist())
    classes = list_classes(corpus.class_names, counts, num_generated, excluded, arms, tail, method.name)
    tail_rows = [row for row in classes if row.is_tail]
    acceptance: tuple[ClassAcceptance, ...] = ()
    if assessment:
        templates = method.read_templates(run, steps)
        by_size = [row.class_id for row in tail_rows]
        acceptance = count_acceptance(judgements, templates, excluded, corpus.class_names, by_size)
    provenance = read_provenance_file(run.root)
    sources = Sources(
        recipe,
        method,
        assessment.attempts if assessment else 1,
        corpus,
        run,
        RowIndex.joined(run.index(step) for step in steps if step.endswith("draw")),
        generated,
        judgements,
        lambda keys: method.real_texts(run, steps, keys),
    )
    manifests = {step: manifest for step in steps if (manifest := run.manifest(step)) is not None}
    return Report(
        recipe=recipe,
        method=method,
        title=title,
        recipe_yaml=yaml.safe_dump(recipe.dump(), sort_keys=False, allow_unicode=True),
        evidence=judge_evidence(provenance.models if provenance else {}),
        provenance=provenance,
        verdict=write_verdict(arms, groups, len(generated), method, title, rivalry),
        rivalry=rivalry,
        groups=groups,
        arms=arms,
        classes=classes,
        chart=draw_classes(classes, arms),
        sections=method.sections(run, recipe, corpus, steps, tail),
        assessment=assessment,
        acceptance=acceptance,
        galleries=build_galleries(sources, tail_rows),
        leaks=read_leaks(run, steps, recipe, corpus, generated),
        panels=_read_panels(run, steps),
        timings=tuple(Timing(step, m.wall_seconds, m.items, m.peak_mib) for step, m in manifests.items()),
        costs={step: m.costs for step, m in manifests.items() if m.costs is not None},
        warnings=tuple((step, text) for step, m in manifests.items() for text in m.warnings),
    )


def _read_panels(run: RunDirectory, steps: Sequence[str]) -> tuple[Panel, ...]:
    """Read the arms' training losses, and their validation accuracies on all and on few-shot classes."""
    histories = {step.rpartition("/")[2]: run.lines(step, "history") for step in steps if step.startswith("train/")}
    panels = [draw_panel("Training loss", {arm: [e["losses"]["loss"] for e in h] for arm, h in histories.items()})]
    for group in ("all", "few"):
        curves = {arm: [epoch["validation"].get(group) for epoch in history] for arm, history in histories.items()}
        panels.append(draw_panel(f"Validation accuracy, {group}, %", curves))
    return tuple(panel for panel in panels if panel is not None)
