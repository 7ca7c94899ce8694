"""A comparison as Markdown, tidy CSV, LaTeX (booktabs) or one HTML page that opens offline."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ltgc_local.comparison.aggregate import Cell
from ltgc_local.comparison.compare import Benchmark, Comparison
from ltgc_local.comparison.table import Table
from ltgc_local.printable import printable

#: Format -> suffix of its file.
FORMATS = {"markdown": "md", "csv": "csv", "latex": "tex", "html": "html"}
CSV_HEADING = ("source", "benchmark", "row", "arm", "variant", "training", "measure", "group", "value", "low", "high",
               "sd", "level", "seeds")  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "–": "--", ">": r"$>$",
    "<": r"$<$", "\n": " ",
}  # fmt: skip
#: What begins HTML, a link or an image that a viewer would fetch, code, or another cell or line.
_MARKDOWN = {"\\": r"\\", "|": r"\|", "<": "&lt;", "[": r"\[", "`": r"\`", "\n": " "}
#: With what a spreadsheet takes a cell for a formula, which may start a program (OWASP, "CSV injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_comparison(comparison: Comparison, kind: str) -> str:
    """Return the comparison in one of ``FORMATS``; names of runs are others' text, and made harmless in each."""
    writers: dict[str, Callable[[Comparison], str]] = {
        "markdown": _markdown,
        "csv": _csv,
        "latex": _latex,
        "html": _html,
    }
    return printable(writers[kind](comparison))


def figure(cell: Cell) -> str:
    """Write a figure, signed if it is a difference; a dash where there is none."""
    if cell.value is None:
        return "–"
    value = round(cell.value, 1) or 0.0  # no minus before a nought
    return f"{value:{'+' if cell.is_difference and value else ''}.1f}".replace("-", "−")


def spread(cell: Cell) -> str:
    """Write what belongs to a figure: standard deviation over seeds and interval; "" where there is neither."""
    parts = [f"± {cell.sd:.1f}"] if cell.sd is not None else []
    if cell.interval is not None:
        parts.append("[{:.1f}, {:.1f}]".format(*cell.interval).replace("-", "−"))
    return " ".join(parts)


def _text(cell: Cell) -> str:
    return " ".join(filter(None, (figure(cell), spread(cell))))


def _marked(text: str) -> str:
    return "".join(_MARKDOWN.get(character, character) for character in text)


def _markdown(comparison: Comparison) -> str:
    parts = []
    for benchmark in comparison.benchmarks:
        parts.append(f"# {_marked(benchmark.name)}\n\n{_marked(benchmark.worth)}")
        for table in benchmark.tables:
            left = [isinstance(cell, str) for cell in table.rows[0]]
            cells = [
                list(map(_marked, table.heading)),
                [":--" if each else "--:" for each in left],
                *([_marked(cell) if isinstance(cell, str) else _text(cell) for cell in row] for row in table.rows),
            ]
            lines = ["| " + " | ".join(row) + " |" for row in cells]
            parts.append(f"## {table.title}\n\n" + "\n".join(lines) + f"\n\n{table.note}")
    if comparison.unfinished:
        parts.append(
            "Not measured yet, and so not here: " + ", ".join(_marked(str(run)) for run in comparison.unfinished)
        )
    return "\n\n".join(parts) + "\n"


def _csv(comparison: Comparison) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_HEADING)
    for benchmark in comparison.benchmarks:
        writer.writerows(map(_without_formulas, _tidy(benchmark, comparison.level)))
    writer.writerows(
        ("paper", column, row.title, row.method, "", "", f"table {table.number}", group, value, *[""] * 5)
        for table in comparison.paper_tables
        for row in table.rows
        for (column, group), value in row.values.items()
    )
    return file.getvalue()


def _without_formulas(row: tuple[object, ...]) -> list[object]:
    """Put an apostrophe, which spreadsheets do not show, before texts that they would compute; numbers stay."""
    return [f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in row]


def _tidy(benchmark: Benchmark, level: float) -> Iterator[tuple[object, ...]]:
    """Yield one line a figure; accuracies in percent, differences in points."""

    def end(cell: Cell, seeds: tuple[int, ...]) -> tuple[object, ...]:
        low, high = cell.interval or ("", "")
        numbers = (cell.value, low, high, "" if cell.sd is None else cell.sd)
        return (*(round(n, 4) if isinstance(n, float) else n for n in numbers), level, " ".join(map(str, seeds)))

    for line in benchmark.lines:
        for key, cell in line.cells.items():
            if cell.value is not None:
                who = ("ours", benchmark.name, line.label, line.arm, line.variant, line.title)
                yield (*who, "accuracy" if key != "calibration_error" else "calibration", key, *end(cell, line.seeds))
    for label, arm, seeds, cells in benchmark.changes:
        for group, cell in cells.items():
            if cell.value is not None:
                yield ("ours", benchmark.name, label, arm, "", "", "minus_control", group, *end(cell, seeds))


def _latex(comparison: Comparison) -> str:
    parts = ["% needs \\usepackage{booktabs} and \\usepackage{graphicx}"]
    for benchmark in comparison.benchmarks:
        parts += [_latex_table(benchmark, table) for table in benchmark.tables]
    return "\n\n".join(parts) + "\n"


def _latex_table(benchmark: Benchmark, table: Table) -> str:
    columns = "".join("l" if isinstance(cell, str) else "r" for cell in table.rows[0])
    rows = [" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows]
    caption = f"{_escape(table.title)}, {_escape(benchmark.name)}. {_escape(benchmark.worth)} {_escape(table.note)}"
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(_escape, table.heading)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    )


def _latex_cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return _escape(cell)
    small = _escape(spread(cell))
    return _escape(figure(cell)) + (rf" {{\scriptsize {small}}}" if small else "")


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _html(comparison: Comparison) -> str:
    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader([here, here.parent / "reporting"]),  # style.html is the report's
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "spread": spread}
    environment.tests["text"] = lambda cell: isinstance(cell, str)
    return environment.get_template("comparison.html").render(comparison=comparison)
