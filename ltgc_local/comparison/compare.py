"""Rows -> the tables of a comparison, one set per benchmark: accuracies, the change, the method's and the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ltgc_local.comparison.aggregate import GROUPS, SIDES, Line, group_seeds, list_lines, subtract_control
from ltgc_local.comparison.method_comparison import MethodComparison, PaperTable
from ltgc_local.comparison.read import Run, Split, read_runs
from ltgc_local.comparison.rivals import compare_rivals
from ltgc_local.comparison.table import Cell, Table, TableRow, join_seeds
from ltgc_local.evaluation.intervals import Resampling
from ltgc_local.reporting.provenance import judge_evidence

#: Columns of the table of accuracies: measure -> heading.
COLUMNS = {group: group for group in GROUPS} | {
    "worst": "worst class",
    "harmonic": "harmonic mean",
    "calibration_error": "ECE",
}
#: More columns, shown if a line has their figures.
SIDE_COLUMNS = {"head": "head", "tail": "tail", "macro_f1": "macro F1"}


@dataclass(frozen=True)
class Benchmark:
    """Everything about the runs of one benchmark. ``worth`` says what figures made by their models prove."""

    name: str
    worth: str
    lines: tuple[Line, ...]
    changes: tuple[Line, ...]
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; ``paper_tables`` are those of their methods."""

    benchmarks: tuple[Benchmark, ...]
    paper_tables: tuple[PaperTable, ...]
    level: float
    unfinished: tuple[Path, ...]


def compare_runs(
    folders: Sequence[Path],
    methods: Mapping[str, MethodComparison],
    level: float = 0.95,
    resamples: int = 2000,
    split: Split = "test",
) -> Comparison:
    """Compare the runs in ``folders``, separately for each benchmark and each state of its data.

    Args:
        methods: by name, those whose runs can be compared.
        split: ``val`` compares what settings may be chosen by, and reads nothing about the test images.

    Raises:
        ArtefactError: a folder holds no run, none is measured, or one is damaged.
    """
    runs, unfinished = read_runs(folders, methods, split)
    resampling = Resampling(level, resamples)
    by_benchmark: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by_benchmark.setdefault(run.benchmark, []).append(run)
    names = [name for name, _ in by_benchmark]
    benchmarks = tuple(
        _compare(name if names.count(name) == 1 else f"{name} (data {digest})", found, resampling, split)
        for (name, digest), found in by_benchmark.items()
    )
    used = {run.method.name: run.method for run in runs}
    papers = tuple(table for method in used.values() for table in method.paper_tables)
    return Comparison(benchmarks, papers, level, tuple(unfinished))


def _compare(name: str, runs: Sequence[Run], resampling: Resampling, split: Split) -> Benchmark:
    rows = group_seeds(runs)
    lines = list_lines(rows, resampling)
    changes = tuple(change for row in rows if (change := subtract_control(row, resampling)))
    tables = [_accuracy(lines, resampling.level, split), *_change(changes), *compare_rivals(rows, resampling)]
    for method in {row.method.name: row.method for row in rows}.values():
        tables += method.tables([row for row in rows if row.method is method], resampling)
        if split == "test":
            tables += [_paper(table, name, lines) for table in method.paper_tables if _is_shown(table, name, lines)]
    worths = dict.fromkeys(judge_evidence(run.models).text for run in runs)
    return Benchmark(name, " ".join(worths), lines, changes, tuple(tables))


def _accuracy(lines: Sequence[Line], level: float, split: Split) -> Table:
    if split == "test":
        note = (
            f"Percent; [ ] is the {100 * level:g} % interval: for one seed by bootstrap over test images, stratified "
            "by class; for several seeds by Student's t over the seeds, with ± their standard deviation. Groups by "
            "training images: many > 100, medium 20-100, few < 20. ECE: expected calibration error."
        )
        sides = {k: v for k, v in SIDE_COLUMNS.items() if any(line.cells[k].value is not None for line in lines)}
        columns, title = COLUMNS | sides, "Accuracy on the test images"
    else:
        note = (
            f"Percent, at the epoch whose weights were kept; [ ] is the {100 * level:g} % interval over seeds "
            "(Student's t), with ± their standard deviation; there is none for one seed. Settings may be chosen with "
            "this table; the test images show what the choice is worth. Unless train.select is 'last', these images "
            "also chose the epoch."
        )
        columns, title = {group: group for group in GROUPS}, "Accuracy on the validation images"
    if any(line.train_seeds for line in lines):
        note += (
            " Trainings that differ in their own seed alone share their generated images, so an interval over them "
            "says nothing about another drawing. Where both seeds vary, the trainings of a drawing are averaged and "
            "the interval is over the drawings."
        )
    rows: tuple[TableRow, ...] = tuple(
        (line.label or "-", line.title, _seeds(line), *(line.cells[key] for key in columns)) for line in lines
    )
    return Table("accuracy", title, note, ("row", "training", "seeds", *columns.values()), rows)


def _seeds(line: Line) -> str:
    return join_seeds(line.seeds, line.train_seeds)


def _change(changes: Sequence[Line]) -> list[Table]:
    note = (
        "Points: each row minus its own control, which is the same training without generated images; "
        "paired by image or by seed. A gain on few with a loss on many can be a shift of the class prior alone: "
        "compare at the same accuracy on many."
    )
    sides = SIDES if any(side in change.cells for change in changes for side in SIDES) else ()
    nothing = Cell(None, is_difference=True)
    rows: tuple[TableRow, ...] = tuple(
        (each.label, _seeds(each), *(each.cells.get(group, nothing) for group in (*GROUPS, *sides))) for each in changes
    )
    heading = ("row", "seeds", "all", "many" if sides else "many (the head)", "medium", "few", *sides)
    return [Table("change", "Change against the control", note, heading, rows)] if rows else []


def _is_shown(table: PaperTable, benchmark: str, lines: Sequence[Line]) -> bool:
    """Return whether a run matches one of the table's own rows, on a benchmark that the table may be shown for."""
    if benchmark in table.benchmarks and not any(benchmark == column for column, _ in table.columns):
        return False
    return any(line.paper_row in table.shown_for for line in lines)


def _paper(table: PaperTable, benchmark: str, lines: Sequence[Line]) -> Table:
    groups = tuple(dict.fromkeys(group for _, group in table.columns))
    heading = (
        "method",
        *(f"paper: {table.benchmarks[column]} {group}" for column, group in table.columns),
        "our row",
        *(f"ours: {benchmark} {group}" for group in groups),
    )
    rows: list[TableRow] = []
    for row in table.rows:
        ours = next((line for line in lines if row.method and line.paper_row == row.method), None)
        theirs = (Cell(row.values.get(column)) for column in table.columns)
        cells = (ours.cells[group] if ours else Cell(None) for group in groups)
        rows.append((row.title, *theirs, (ours.label or ours.title) if ours else "-", *cells))
    note = f"The columns 'paper' are the paper's own figures ({table.source}): other models and other data than ours."
    return Table("paper", f"The paper's Table {table.number}: {table.title}", note, heading, tuple(rows))
