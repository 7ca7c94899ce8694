import json
import subprocess
import sys
from pathlib import Path

from ltgc_local.methods.stages import report
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.runs.progress import Progress
from tests.reporting.conftest import ACCURACY
from tests.reporting.run_on_disk import RunWriter, make_metrics, make_recipe, shipped_corpus


def test_the_stage_writes_one_page_and_its_figures(tmp_path: Path) -> None:
    recipe, corpus = make_recipe(), shipped_corpus()
    run = RunWriter(tmp_path, recipe, corpus).write_all(make_metrics(corpus, ACCURACY))
    with Progress("report") as progress:
        artefacts = report.ReportStage(recipe, build_plan(recipe)[-1], run, progress, corpus=corpus).make()
    run.write_chunk("report", 0, artefacts, {"items": 1, "seconds": 1.0, "peak_mib": 1}, False)
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>") and "88.6" in page
    summary = json.loads((tmp_path / "report" / "summary.json").read_text("utf-8"))
    assert summary["accuracy"] == ACCURACY
    assert [row["name"] for row in summary["classes"] if row["is_tail"]] == ["dress", "coat"]


def test_the_stage_does_not_import_torch() -> None:
    code = "import sys, ltgc_local.methods.stages.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
