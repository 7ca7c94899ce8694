"""Progress is silent where there is no terminal."""

from __future__ import annotations

import io
import sys

import pytest

from ltgc_local.runs import progress as progress_module
from ltgc_local.runs.progress import Progress


def test_nothing_is_printed_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("draw") as progress:
        progress.expect(3)
        progress.advance()
        progress.advance(2)
        progress.note("0 to go")
    assert capsys.readouterr() == ("", "")


def test_an_error_within_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError), Progress("draw"):
        raise ZeroDivisionError


@pytest.mark.parametrize("stream", [None, "closed"])
def test_a_closed_standard_error_is_no_terminal(monkeypatch: pytest.MonkeyPatch, stream: str | None) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed if stream else None)
    with Progress("draw") as progress:
        progress.expect(3)
        progress.advance()


def test_lines_are_written_at_the_beginning_every_few_seconds_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    lines: list[dict[str, float]] = []
    with Progress("draw", lambda values: lines.append(dict(values))) as progress:
        progress.expect(50)
        now[0] += 30  # loading the model, and a slow first item
        for _ in range(40):
            progress.advance()
            now[0] += 0.5  # two per second
    assert [line["items"] for line in lines] == [0, 1, 11, 21, 31, 40]
    assert [line["seconds"] for line in lines] == [0, 30, 35, 40, 45, 50]
    assert {line["total"] for line in lines} == {50}
    assert [line["items_per_second"] for line in lines[:5]] == [0, 0, 2, 2, 2]
    assert all(line["peak_mib"] > 1 for line in lines)


def test_what_an_earlier_process_did_says_nothing_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    lines: list[dict[str, float]] = []
    with Progress("draw", lambda values: lines.append(dict(values))) as progress:
        progress.expect(1000)
        progress.skip(900)
        for _ in range(3):
            now[0] += 10
            progress.advance(5)
    assert [line["items"] for line in lines][1:] == [900, 905, 910, 915, 915]
    assert lines[-1]["items_per_second"] == 0.5


def test_the_rate_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    lines: list[dict[str, float]] = []
    progress = Progress("train", lambda values: lines.append(dict(values)))
    progress.expect(10_000)
    for rate in (1, 20):
        for _ in range(15):
            now[0] += 10
            progress.advance(10 * rate)
    assert lines[-1]["items_per_second"] == pytest.approx(20, rel=0.1)


def test_the_items_of_a_chunk_that_is_complete_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    lines: list[dict[str, float]] = []
    progress = Progress("draw", lambda values: lines.append(dict(values)))
    progress.expect(20)
    for _ in range(2):  # chunks, each with a line in it
        for seconds in (6, 1):
            progress.advance(5)
            now[0] += seconds
        progress.end_chunk()
    assert [line["in_chunk"] for line in lines] == [0, 10, 0, 10, 0]
