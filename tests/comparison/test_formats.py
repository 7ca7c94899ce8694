"""The four formats against golden files, and what no golden file shows: escaping, offline pages, tidy values."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ltgc_local.comparison import FORMATS, compare_runs, write_comparison
from ltgc_local.comparison.formats import figure, spread
from ltgc_local.comparison.table import Cell
from ltgc_local.methods.registry import COMPARISONS
from tests.comparison.conftest import WriteRun

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("kind", ["markdown", "latex", "csv"])
def test_the_format_is_the_golden_files(table: Path, kind: str) -> None:
    text = write_comparison(compare_runs([table], COMPARISONS, resamples=200), kind)
    if kind == "csv":
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("paper"))
    assert text == (GOLDEN / f"table5.{FORMATS[kind]}").read_text("utf-8")


def test_figures_are_signed_only_where_they_are_differences() -> None:
    assert [figure(Cell(v)) for v in (None, 80.25, -0.04)] == ["–", "80.2", "0.0"]
    assert [figure(Cell(v, is_difference=True)) for v in (None, 3.14, -2.0, 0.04)] == ["–", "+3.1", "−2.0", "0.0"]
    assert spread(Cell(1.0, (-0.5, 2.0), 0.3)) == "± 0.3 [−0.5, 2.0]"
    assert spread(Cell(1.0)) == ""


def test_csv_is_tidy_with_one_figure_per_line_and_marks_the_papers(table: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(write_comparison(compare_runs([table], COMPARISONS), "csv"))))
    ours = [row for row in rows if row["source"] == "ours"]
    (few,) = [r for r in ours if (r["row"], r["measure"], r["group"]) == ("balance_mix", "minus_control", "few")]
    assert (few["value"], few["seeds"], few["level"]) == ("35.0", "0 1", "0.95")
    papers = [row for row in rows if row["source"] == "paper"]
    assert len(papers) == len(rows) - len(ours) > 60
    assert {row["benchmark"] for row in papers} == {"imagenet_lt", "places_lt", "inaturalist18"}
    (best,) = [r for r in papers if (r["measure"], r["arm"], r["benchmark"]) == ("table 5", "mixup", "imagenet_lt")]
    assert (best["value"], best["group"]) == ("73.4", "all")
    for row in rows:
        float(row["value"])


def test_latex_has_balanced_braces_and_as_many_cells_as_columns(table: Path) -> None:
    text = write_comparison(compare_runs([table], COMPARISONS), "latex")
    assert text.count("{") == text.count("}") and text.count(r"\begin{") == text.count(r"\end{")
    assert text.isascii()
    for body in re.findall(r"\\begin{tabular}{([lr]+)}(.*?)\\end{tabular}", text, flags=re.S):
        columns, lines = body
        for line in [line for line in lines.splitlines() if line.endswith(r"\\")]:
            assert len(re.split(r"(?<!\\)&", line)) == len(columns)


def test_the_page_needs_nothing_else_and_every_table_is_whole(table: Path) -> None:
    page = write_comparison(compare_runs([table], COMPARISONS), "html")
    assert not re.search(r"(src|href)=|<script|@import|url\(", page)
    for kind in ("Accuracy on the test images", "Change against the control", "Data and sampler", "Table 5"):
        assert kind in page
    assert 'class="n up"' in page  # an interval above zero
    opened: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta",):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Checker().feed(page)
    assert opened == []


def test_names_are_escaped_in_every_format(write_run: WriteRun) -> None:
    run = write_run("r", {"ltgc": (9, 9, 9), "a<b&c|d_e": (9, 9, 9)})
    comparison = compare_runs([run], COMPARISONS)
    assert "a&lt;b&amp;c|d" in write_comparison(comparison, "html")
    assert r"a&lt;b&c\|d" in write_comparison(comparison, "markdown")
    assert r"a$<$b\&c" in write_comparison(comparison, "latex")
    assert "a<b&c|d_e" in write_comparison(comparison, "csv")
