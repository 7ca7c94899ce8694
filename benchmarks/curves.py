"""Draw the arms of a table's row as curves, averaged over its seeds: few-shot against many-shot accuracy.

python -m benchmarks.curves runs/rivals/one_model --out docs/curves.svg \\
  --arm control_1 "logit adjustment" --arm ltgc "LTGC, one model"

Each curve is drawn by tau, which is subtracted from the scores as tau log n_c (n_c: training images of class c); a
point marks the arm as it was trained, tau 0. The interval of each lead is in ``ltgc-local compare``.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import click
import numpy as np

from ltgc_local.reporting.charts import nice_ticks
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.find_runs import find_runs
from ltgc_local.runs.schemas import Rivals

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 460, 56, 200, 16, 48
COLOURS = ("#9a9a9a", "#d98c3f", "#b8860b", "#6a51a3", "#4a90c2", "#1f7a4d", "#c0392b", "#333333")


def mean_curves(folder: Path) -> tuple[dict[str, np.ndarray], int, int]:
    """Return arm -> (T, 2) accuracies on many and on few, the mean of the runs; tau 0's place; their number."""
    found = [RunDirectory(root).checked("evaluate", "rivals", Rivals) for root in find_runs(folder)]
    if not found or any(each.sides is None for each in found):
        raise click.ClickException(f"{folder}: no run whose rivals were compared")
    arms = [arm for arm in found[0].curves if all(arm in each.curves for each in found)]
    curves = {
        arm: np.mean([[each.curves[arm]["many"], each.curves[arm]["few"]] for each in found], axis=0).T for arm in arms
    }
    plain = min(range(len(found[0].taus)), key=lambda place: abs(found[0].taus[place]))
    return curves, plain, len(found)


def draw(curves: Sequence[tuple[str, np.ndarray]], plain: int, least: float) -> str:
    """Return the SVG of named curves (T, 2), where many-shot accuracy is at least ``least``."""
    spots = [curve[plain] for _, curve in curves]
    curves = [(title, curve[curve[:, 0] >= least]) for title, curve in curves]
    points = np.concatenate([*(curve for _, curve in curves), spots])
    marks = [nice_ticks(float(points[:, axis].min()), float(points[:, axis].max())) for axis in (0, 1)]
    low, high = np.array([each[0] for each in marks]), np.array([each[-1] for each in marks])

    def place(at: np.ndarray) -> tuple[float, float]:
        x, y = (at - low) / (high - low)
        return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)

    font = 'font-family="sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {font}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for mark in marks[0]:
        x, y = place(np.array([mark, low[1]]))
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{y:.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle" fill="#444">{mark:g}</text>')
    for mark in marks[1]:
        x, y = place(np.array([low[0], mark]))
        parts.append(f'<line x1="{x:.1f}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end" fill="#444">{mark:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle" fill="#222">many-shot accuracy, %</text>')
    turned = f'transform="rotate(-90 14 {HEIGHT / 2})"'
    parts.append(f'<text x="14" y="{HEIGHT / 2}" {turned} text-anchor="middle" fill="#222">few-shot accuracy, %</text>')
    for number, (title, curve) in enumerate(curves):
        colour, y = COLOURS[number % len(COLOURS)], TOP + 14 + 22 * number
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, curve))
        spot = place(spots[number])
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<circle cx="{spot[0]:.1f}" cy="{spot[1]:.1f}" r="4" fill="{colour}"/>')
        x = WIDTH - RIGHT + 16
        parts.append(f'<line x1="{x}" x2="{x + 18}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 24}" y="{y}" fill="#222">{escape(title)}</text>')
    return "\n".join([*parts, "</svg>\n"])


@click.command(help=__doc__.split("\n")[0])  # type: ignore[union-attr]
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--arm", "arms", nargs=2, multiple=True, metavar="ARM TITLE", help="An arm to draw, and its name.")
@click.option("--many-from", "least", type=float, default=50, show_default=True, help="Draw from this accuracy on.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(folder: Path, arms: Sequence[tuple[str, str]], least: float, out: Path) -> None:
    curves, plain, num = mean_curves(folder)
    chosen = arms or [(arm, arm) for arm in curves]
    if unknown := [arm for arm, _ in chosen if arm not in curves]:
        raise click.ClickException(f"no arm {unknown[0]} here; there are {', '.join(curves)}")
    out.write_text(draw([(title, curves[arm]) for arm, title in chosen], plain, least))
    click.echo(f"{out}: {len(chosen)} curves, {num} seeds")


if __name__ == "__main__":
    main()
