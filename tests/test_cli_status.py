"""``ltgc-local status``: what it says of each step, and when it watches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.recipe import Recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Json
from ltgc_local.runs.provenance import write_run_recipe
from tests.test_cli import FACTS, call


def test_status_says_what_is_complete_begun_and_not_begun(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> None:
    run = RunDirectory(tmp_path / "run")
    for step in ("describe", "extend"):
        run.write_chunk(step, 0, [Json("x", 1)], FACTS)
    run.write_manifest("describe", {}, 1, 2.5)
    write_run_recipe(run.root, make_recipe())
    lines = call("status", run.root).stdout.splitlines()
    assert [line.split(maxsplit=1) for line in lines[:3]] == [
        ["describe", "complete  3 items, 2.5 s, 5 MiB"],
        ["extend", f"stopped   3 items; to resume, type: ltgc-local run {run.root}"],
        ["draw", "waiting"],
    ]
    numbers = json.loads(call("status", run.root, "--json").stdout)
    assert numbers["describe"] | {"rate": 0} == {
        "state": "complete", "items": 3, "total": 3, "rate": 0, "seconds": 2.5, "seconds_left": None, "peak_mib": 5,
        "problem": "", "warnings": [],
    }  # fmt: skip
    assert numbers["describe"]["rate"] == pytest.approx(3 / 2.5)
    assert [numbers[step]["state"] for step in ("extend", "draw")] == ["stopped", "waiting"]


@pytest.mark.parametrize("more", [(), ("--json",), ("--check",)])
def test_watching_is_for_terminals(tmp_path: Path, make_recipe: Callable[..., Recipe], more: tuple[str, ...]) -> None:
    write_run_recipe(tmp_path, make_recipe())
    refused = call("status", tmp_path, "--watch", *more)
    assert refused.exit_code == 2 and "--watch redraws a terminal" in refused.stderr
