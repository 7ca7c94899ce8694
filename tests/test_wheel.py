"""A wheel works without a clone: everything that a run needs is inside, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ltgc_local.model_store.cards import list_cards

ROOT = Path(__file__).resolve().parents[1]
#: What a clone holds that concerns a build; of data/ what is in the repository, for a clone may hold ImageNet there.
CLONE = (
    *("pyproject.toml", "setup.py", "requirements.txt", "README.md", "LICENSE", "ltgc_local", "recipes", "model_cards"),
    *("data/README.md", "data/fashion_mnist_lt", "data/miniatures", "tests/data", "benchmarks/results"),
)
MAX_MIB = 30


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy of the repository next to which people keep other things."""
    clone, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("wheel")
    for name in CLONE:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, clone / name)
    for stray in ("data/ImageNet_LT/cat.jpg", "data/miniatures/.DS_Store", "runs/quickstart/recipe.json"):
        (clone / stray).parent.mkdir(parents=True, exist_ok=True)
        (clone / stray).write_text("not ours to ship")
    words = ["wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_what_a_run_needs_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {f"ltgc_local/{path.relative_to(ROOT / 'ltgc_local')}" for path in (ROOT / "ltgc_local").rglob("*")}
    package = {name for name in package if (ROOT / name).is_file() and "__pycache__" not in name}
    shipped = [
        *ROOT.glob("recipes/**/*.yaml"),
        *ROOT.glob("model_cards/*.md"),
        *(ROOT / "data/README.md", *ROOT.glob("data/fashion_mnist_lt/*"), *ROOT.glob("data/miniatures/**/*")),
    ]
    files = {f"ltgc_local/shipped/{path.relative_to(ROOT)}" for path in shipped if path.is_file()}
    assert names == package | files
    assert {"ltgc_local/py.typed", "ltgc_local/reporting/report.html"} <= package


def test_the_wheel_is_small_enough_to_carry(wheel: Path) -> None:
    assert wheel.stat().st_size < MAX_MIB * 2**20


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, as in an environment's site-packages."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_the_weights_of_every_miniature_are_where_its_card_says(site: Path) -> None:
    cards = [card for card in list_cards(site / "ltgc_local/shipped/model_cards") if card.evidence == "miniature"]
    assert len(cards) == 4
    for card in cards:
        assert list((card.file.parent / card.path).rglob("*.safetensors"))


@pytest.mark.slow
def test_a_recipe_is_copied_checked_planned_and_run_from_the_wheel_alone(site: Path, tmp_path: Path) -> None:
    def call(*words: str) -> str:
        command = [sys.executable, "-m", "ltgc_local", *words]
        environment = os.environ | {"PYTHONPATH": str(site)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "  ltgc-local run quickstart.yaml\n" in call("recipes", "cp", "quickstart")
    assert call("validate", "quickstart.yaml") == "quickstart.yaml: fine (ltgc on fashion_mnist_lt, seed 0)\n"
    assert "cannot run yet" not in call("plan", "quickstart.yaml")
    assert call("run", "quickstart.yaml", "--set", "describe.tail_below=20", "--to", "describe") == (
        "runs/quickstart: done up to describe\n"
    )
    assert "describe" in call("status", "runs/quickstart")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quickstart.yaml", "runs"]
    recipe = (tmp_path / "runs/quickstart/recipe.json").read_text()
    assert f"{site}/ltgc_local/shipped/data/fashion_mnist_lt" in recipe and str(ROOT) not in recipe
    assert (tmp_path / "runs/quickstart/describe/manifest.json").is_file()
