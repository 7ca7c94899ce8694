"""Progress is silent where there is no terminal."""

from __future__ import annotations

import io
import sys

import pytest

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
