"""TGN's stages one after the other on the shipped photographs, as files show them."""

from __future__ import annotations

from tests.tgn.conftest import TgnRun


def test_the_report_shows_what_the_method_measures(finished: TgnRun) -> None:
    page = (finished.run.root / "report" / "report.html").read_text()
    assert "TGN − control" in page and "LTGC" not in page
    for words in ("Head, tail and mutual distillation", "Kernel distance", "distilled", "from train/", "Made from"):
        assert words in page
