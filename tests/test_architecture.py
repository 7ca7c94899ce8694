"""The architecture, as tests: imports point down, names say something, files stay short, the command line is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ltgc_local"
HEAVY = {"torch", "timm", "transformers", "diffusers", "open_clip", "peft", "datasets", "pyarrow"}
#: Import -> the only places that may have it.
HOMES = {
    "vllm": ("backends/",),
    "transformers": ("backends/",),
    "diffusers": ("backends/",),
    "open_clip": ("backends/",),
    "bitsandbytes": ("backends/",),
    "peft": ("training/lora.py", "backends/sdxl/adapter.py"),
    "timm": ("backends/",),
    "datasets": ("datasets/saved_dataset.py",),
    "accelerate": ("training/", "methods/"),
}
MAX_LINES = 400


def modules() -> dict[str, str]:
    """Return the package's modules: path in the package -> source."""
    return {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source: str) -> Iterator[str]:
    """Yield the dotted names that a source imports, wherever in it, ``from a import b`` as a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def foreign_imports(path: str, source: str) -> list[str]:
    """Return the imports of a module whose home is elsewhere."""
    return [name for name in imports(source) if not path.startswith(HOMES.get(name.split(".")[0], ("",)))]


def test_imports_point_down() -> None:
    """The layers are in pyproject.toml, for import-linter: one a folder, and none may be missing."""
    done = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", modules())
def test_model_libraries_are_imported_at_home_only(path: str) -> None:
    assert foreign_imports(path, modules()[path]) == []


def test_an_import_away_from_home_is_seen() -> None:
    source = "import torch\ndef f():\n    from transformers import AutoModel\n    import open_clip.model"
    assert foreign_imports("methods/ltgc/stages/draw.py", source) == ["transformers.AutoModel", "open_clip.model"]
    assert foreign_imports("backends/x.py", source) == []
    assert foreign_imports("training/trainer.py", "import peft") == ["peft"]


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {part.removesuffix(".py") for path in modules() for part in path.split("/")}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc", "manager", "transformers"}


@pytest.mark.parametrize("folder", ["ltgc_local", "tests", "miniatures", "data", "benchmarks"])
def test_no_file_is_too_long(folder: str) -> None:
    paths = [path for suffix in ("py", "html") for path in (ROOT / folder).rglob(f"*.{suffix}")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in paths}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, ltgc_local.cli; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


TEXT_STEPS = (
    *("methods.ltgc.stages.extend", "methods.ltgc.stages.refine", "methods.ltgc.stages.summarize"),
    "backends.text.transformers_models",
)
TGN_STEPS = (
    "methods.tgn.stages.train_networks",
    "methods.tgn.stages.train_generator",
    "methods.tgn.stages.synthesize",
    "methods.tgn.stages.measure",
    "methods.tgn.stages.evaluate_networks",
    "methods.tgn.stages.predict_networks",
)


@pytest.mark.parametrize(
    ("parts", "heavy"),
    [
        (TEXT_STEPS, {"open_clip", "timm", "diffusers", "peft"}),
        (TGN_STEPS, {"peft", "bitsandbytes", "transformers", "open_clip", "diffusers"}),
    ],
    ids=["text", "TGN"],
)
def test_a_step_does_not_bring_what_only_other_steps_need(parts: tuple[str, ...], heavy: set[str]) -> None:
    """Each step is a process of its own, so that what it imports is paid for at every step."""
    imports = "; ".join(f"import ltgc_local.{part}" for part in parts)
    code = f"import sys; {imports}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
