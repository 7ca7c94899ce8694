"""A comparison as Markdown, tidy CSV, LaTeX (booktabs) or one HTML page that opens offline."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from ltgc_local.comparison.aggregate import Line
from ltgc_local.comparison.compare import Benchmark, Comparison
from ltgc_local.comparison.table import Cell, Table
from ltgc_local.printable import printable
from ltgc_local.reporting.render import page_environment

#: Format -> suffix of its file.
FORMATS = {"markdown": "md", "csv": "csv", "latex": "tex", "html": "html"}
CSV_HEADING = ("source", "benchmark", "row", "arm", "variant", "training", "measure", "group", "value", "low", "high",
               "sd", "level", "seeds", "train_seeds")  # fmt: skip
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "–": "--", ">": r"$>$",
    "<": r"$<$", "\n": " ",
})  # fmt: skip
#: What starts HTML, a link, an image that a viewer would fetch, code, another cell or another line.
_MARKDOWN = str.maketrans({"\\": r"\\", "|": r"\|", "<": "&lt;", "[": r"\[", "`": r"\`", "\n": " "})
#: Prefixes that make a spreadsheet take a cell for a formula, which may start a program (OWASP, "CSV injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_comparison(comparison: Comparison, kind: str) -> str:
    """Return the comparison in one of ``FORMATS``. Names of runs are untrusted text and are escaped in each."""
    return printable({"markdown": _markdown, "csv": _csv, "latex": _latex, "html": _html}[kind](comparison))


def figure(cell: Cell) -> str:
    """Write a figure, signed if it is a difference; a dash if there is none."""
    if cell.value is None:
        return "–"
    value = round(cell.value, 1) or 0.0  # avoids a minus before zero
    return f"{value:{'+' if cell.is_difference and value else ''}.1f}".replace("-", "−")


def spread(cell: Cell) -> str:
    """Write a figure's standard deviation over seeds and its interval; "" if it has neither."""
    parts = [f"± {cell.sd:.1f}"] if cell.sd is not None else []
    if cell.interval is not None:
        parts.append("[{:.1f}, {:.1f}]".format(*cell.interval).replace("-", "−"))
    return " ".join(parts)


def _markdown(comparison: Comparison) -> str:
    def text(cell: str | Cell) -> str:
        return cell.translate(_MARKDOWN) if isinstance(cell, str) else f"{figure(cell)} {spread(cell)}".rstrip()

    parts = []
    for benchmark in comparison.benchmarks:
        parts.append(f"# {text(benchmark.name)}\n\n{text(benchmark.worth)}")
        for table in benchmark.tables:
            rule = [":--" if isinstance(cell, str) else "--:" for cell in table.rows[0]]
            cells = [list(map(text, table.heading)), rule, *(list(map(text, row)) for row in table.rows)]
            lines = ["| " + " | ".join(row) + " |" for row in cells]
            parts.append(f"## {table.title}\n\n" + "\n".join(lines) + f"\n\n{table.note}")
    if comparison.unfinished:
        parts.append("Left out because not measured yet: " + ", ".join(text(str(run)) for run in comparison.unfinished))
    return "\n\n".join(parts) + "\n"


def _csv(comparison: Comparison) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_HEADING)
    for benchmark in comparison.benchmarks:
        for row in _tidy(benchmark, comparison.level):
            # An apostrophe, which spreadsheets hide, before texts that they would compute; numbers stay numbers.
            writer.writerow(f"'{c}" if isinstance(c, str) and c.startswith(_FORMULA) else c for c in row)
    writer.writerows(
        ("paper", column, row.title, row.method, "", "", f"table {table.number}", group, value, *[""] * 6)
        for table in comparison.paper_tables
        for row in table.rows
        for (column, group), value in row.values.items()
    )
    return file.getvalue()


def _tidy(benchmark: Benchmark, level: float) -> Iterator[tuple[object, ...]]:
    """Yield one line per figure; accuracies in percent, differences in points."""

    def rows(line: Line, measure: str) -> Iterator[tuple[object, ...]]:
        for key, cell in line.cells.items():
            if cell.value is not None:
                low, high = cell.interval or ("", "")
                numbers = (cell.value, low, high, "" if cell.sd is None else cell.sd)
                yield (
                    *("ours", benchmark.name, line.label, line.arm, line.variant, line.title),
                    *("calibration" if key == "calibration_error" else measure, key),
                    *(round(n, 4) if isinstance(n, float) else n for n in numbers),
                    *(level, " ".join(map(str, line.seeds)), " ".join(map(str, line.train_seeds))),
                )

    for line in benchmark.lines:
        yield from rows(line, "accuracy")
    for change in benchmark.changes:
        yield from rows(change, "minus_control")


def _latex(comparison: Comparison) -> str:
    parts = ["% needs \\usepackage{booktabs} and \\usepackage{graphicx}"]
    for benchmark in comparison.benchmarks:
        parts += [_latex_table(benchmark, table) for table in benchmark.tables]
    return "\n\n".join(parts) + "\n"


def _latex_table(benchmark: Benchmark, table: Table) -> str:
    def text(cell: str | Cell) -> str:
        if isinstance(cell, str):
            return cell.translate(_LATEX)
        small = spread(cell)
        return text(figure(cell)) + (rf" {{\scriptsize {text(small)}}}" if small else "")

    columns = "".join("l" if isinstance(cell, str) else "r" for cell in table.rows[0])
    heading, *rows = (" & ".join(map(text, row)) + r" \\" for row in (table.heading, *table.rows))
    caption = f"{text(table.title)}, {text(benchmark.name)}. {text(benchmark.worth)} {text(table.note)}"
    lines = [
        *(r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", r"\resizebox{\linewidth}{!}{%"),
        *(rf"\begin{{tabular}}{{{columns}}}", r"\toprule", heading, r"\midrule", *rows, r"\bottomrule"),
        *(r"\end{tabular}}", r"\end{table}"),
    ]
    return "\n".join(lines)


def _html(comparison: Comparison) -> str:
    environment = page_environment(Path(__file__).parent)  # style.html is the report's
    environment.filters |= {"figure": figure, "spread": spread}
    environment.tests["text"] = lambda cell: isinstance(cell, str)
    return environment.get_template("comparison.html").render(comparison=comparison)
