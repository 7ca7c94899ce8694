"""The Python API: the examples of docs/python.md run as they stand, and what they raise says what is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ltgc_local
from ltgc_local.errors import ArtefactError, RecipeError
from tests import golden_runs

ROOT = Path(__file__).resolve().parents[1]
SMALL = {key: yaml for key, _, yaml in (each.partition("=") for each in golden_runs.SMALL["quickstart"])}


def examples() -> list[str]:
    """Return the page's blocks of Python, in order."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_examples_of_the_page_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    load = ltgc_local.load_recipe
    small = {key: int(value) for key, value in SMALL.items()}
    monkeypatch.setattr("ltgc_local.pipeline.api.load_recipe", lambda path, more: load(path, small | more))
    blocks, names = examples(), dict[str, Any]()
    assert len(blocks) == 4
    for block in blocks:
        exec(block, names)  # noqa: S102 (our own page)
    run = names["run"]
    assert {image.class_name for image in run.generated()} == {"dress", "coat"}
    assert run.metrics()["ltgc"].of("few") > 50
    assert len(run.predictions()["ltgc.predicted"]) == len(run.predictions()["label"]) == 10_000
    assert run.history("train/ltgc_1")[-1]["lr"] >= 0 and run.recipe.train.lr == 2e-3
    assert {each.source for each in run.descriptions()} == {"existing", "extended"}
    (line,) = [line for line in names["comparison"].benchmarks[0].lines if line.arm == "ltgc"]
    assert line.cells["few"].value == run.metrics()["ltgc"].of("few")


def test_a_wrong_override_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"train: unknown key 'learning'"):
        ltgc_local.load_recipe(ROOT / "recipes/quickstart.yaml", {"train.learning": 1})
    with pytest.raises(RecipeError, match=r"name: expected one value"):
        ltgc_local.load_recipe(ROOT / "recipes/quickstart.yaml", {"name": ["a"]})


def test_overrides_are_values_and_paths(tmp_path: Path) -> None:
    changes = {"name": "x", "train.checkpoint_minutes": 0, "models.cards": ROOT / "model_cards"}
    recipe = ltgc_local.load_recipe(ROOT / "recipes/quickstart.yaml", changes)
    assert (recipe.name, recipe.train.checkpoint_minutes, recipe.models.cards) == ("x", 0, ROOT / "model_cards")


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is not a run directory"):
        ltgc_local.open_run(tmp_path)


def test_the_import_brings_nothing_heavy_and_every_name_is_there() -> None:
    code = "import sys, ltgc_local; print(sorted({'torch', 'pydantic', 'numpy'} & set(sys.modules)))"
    code += "; print([name for name in ltgc_local.__all__ if not hasattr(ltgc_local, name)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ltgc_local.nothing
