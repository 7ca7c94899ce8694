"""A result as a table on the terminal, and as Markdown and JSON under ``benchmarks/results``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest import Timing, as_rows
from benchmarks.machine import describe_machine

FOLDER = Path(__file__).parent / "results"


def report(
    name: str,
    device: str,
    sections: dict[str, Sequence[Timing]],
    *,
    unit: str,
    weights: str,
    command: str,
    facts: dict[str, Any] | None = None,
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    write: bool = True,
) -> str:
    """Print the tables and, if ``write``, put them under ``benchmarks/results``; return the Markdown.

    Args:
        name: of the benchmark, e.g. ``t2i``; the files are ``<name>-<device>.md`` and ``.json``.
        sections: title -> timings; the first of each is what a user would pick instead.
        unit: of the items, e.g. ``images``.
        weights: which of the three: real, miniature, random.
        command: what was typed.
        facts: more to be said of the run, such as sizes, steps and tolerances that were checked.
        tables: title -> rows {column: value}, for what is not a contest.
    """
    machine = describe_machine(device)
    text = _markdown(name, sections, machine, unit, weights, command, facts or {}, tables or {})
    print(text)
    if write:
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{name}-{device.split(':')[0]}"
        path.with_suffix(".md").write_text(text, encoding="utf-8")
        found = {
            "benchmark": name,
            "command": command,
            "weights": weights,
            "unit": unit,
            "machine": machine,
            "facts": facts or {},
            "tables": {title: list(map(dict, rows)) for title, rows in (tables or {}).items()},
            "sections": {title: as_rows(list(timings)) for title, timings in sections.items()},
        }
        path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return text


def _markdown(
    name: str,
    sections: dict[str, Sequence[Timing]],
    machine: dict[str, Any],
    unit: str,
    weights: str,
    command: str,
    facts: dict[str, Any],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    peak = machine["matmul_peak_tflops"]
    lines = [
        f"# {name}: {machine['device']}",
        "",
        f"`{command}`, {machine['date']}, commit {machine['commit']}, {weights} weights.",
        f"{machine['cores']} CPU cores, {machine['threads']} threads; measured matmul peak {peak:g} TFLOP/s in "
        f"{machine['matmul_dtype']}. Python {machine['python']}, {versions}.",
    ]
    for title, timings in sections.items():
        lines += ["", f"## {title}", "", f"| what | {unit}/s | slowest to fastest | TFLOP/s | of the peak | ratio |"]
        lines += ["|---|---|---|---|---|---|"]
        for timing in timings:
            cells = [
                timing.name,
                _number(timing.items_per_s),
                f"{_number(timing.slowest)} to {_number(timing.fastest)}",
            ]
            cells += ["", ""] if timing.tflops is None else [_number(timing.tflops), f"{timing.tflops / peak:.0%}"]
            lines.append(f"| {' | '.join([*cells, f'{timing.ratio:.2f}'])} |")
    for title, rows in tables.items():
        columns = list(rows[0])
        lines += ["", f"## {title}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        lines += [f"| {' | '.join(_cell(row[column]) for column in columns)} |" for row in rows]
    if facts:
        lines += ["", *(f"- {key}: {value}" for key, value in facts.items())]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return "" if value is None else _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
