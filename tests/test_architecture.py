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
#: From the bottom up; a module imports its own layer and those below.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        *("__init__", "errors", "records", "seeding", "offline", "steps", "ahead"),
        *("regular_files", "out_of_memory", "printable", "yaml_tree", "image_decoding"),
    ),
    ("longtail", "prompts", "replies", "answers", "metrics", "intervals", "duplicates"),
    ("recipe", "corpora", "store", "artefacts"),
    ("backends", "training", "reporting", "comparison", "tgn"),
    ("stages",),
    ("methods", "plan"),
    ("run",),
    ("launch",),
    ("cli",),
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
HEAVY = {"torch", "timm", "transformers", "diffusers", "open_clip", "peft", "datasets", "pyarrow"}
#: Import -> the only places that may have it.
HOMES = {
    "vllm": ("backends/",),
    "transformers": ("backends/",),
    "diffusers": ("backends/",),
    "open_clip": ("backends/",),
    "bitsandbytes": ("backends/",),
    "peft": ("training/lora.py", "backends/sdxl_adapter.py"),
    "timm": ("backends/",),
    "datasets": ("corpora/saved_dataset.py",),
    "accelerate": ("training/loop.py", "training/together.py", "tgn/"),
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


def part_of(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def upward_imports(path: str, source: str) -> list[str]:
    """Return the imports of a module that point up, or to a part that has no layer."""
    own = LAYER_OF.get(part_of(path), -1)
    found = []
    for name in imports(source):
        words = name.split(".")
        if words[0] != "ltgc_local":
            continue
        target = words[1] if len(words) > 1 and words[1] != "__version__" else "__init__"
        if LAYER_OF.get(target, len(LAYERS)) > own:
            found.append(name)
    return found


def foreign_imports(path: str, source: str) -> list[str]:
    """Return the imports of a module whose home is elsewhere."""
    return [name for name in imports(source) if not path.startswith(HOMES.get(name.split(".")[0], ("",)))]


@pytest.mark.parametrize("path", modules())
def test_imports_point_down(path: str) -> None:
    assert part_of(path) in LAYER_OF, f"{path} has no layer"
    assert upward_imports(path, modules()[path]) == []


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("stages/context.py", "from ltgc_local.plan import build_plan", ["ltgc_local.plan.build_plan"]),
        ("stages/context.py", "def f():\n    import ltgc_local.run.worker", ["ltgc_local.run.worker"]),
        ("prompts.py", "from ltgc_local.recipe import Recipe", ["ltgc_local.recipe.Recipe"]),
        ("recipe/files.py", "if x:\n    from ltgc_local.backends import chat", ["ltgc_local.backends.chat"]),
        ("errors.py", "from ltgc_local import longtail", ["ltgc_local.longtail"]),
        ("cli.py", "import ltgc_local.unheard_of", ["ltgc_local.unheard_of"]),
        ("unheard_of.py", "import ltgc_local.errors", ["ltgc_local.errors"]),
        ("plan.py", "from ltgc_local.recipe import Recipe", []),
        ("recipe/files.py", "from ltgc_local.store import ROLES", []),
        ("launch/pipeline.py", "from ltgc_local import __version__", []),
    ],
)
def test_an_import_that_points_up_is_seen(path: str, source: str, expected: list[str]) -> None:
    assert upward_imports(path, source) == expected


def test_every_layer_is_known_once() -> None:
    assert len(LAYER_OF) == sum(map(len, LAYERS))


@pytest.mark.parametrize("path", modules())
def test_model_libraries_are_imported_at_home_only(path: str) -> None:
    assert foreign_imports(path, modules()[path]) == []


def test_an_import_away_from_home_is_seen() -> None:
    source = "import torch\ndef f():\n    from transformers import AutoModel\n    import open_clip.model"
    assert foreign_imports("stages/draw.py", source) == ["transformers.AutoModel", "open_clip.model"]
    assert foreign_imports("backends/x.py", source) == []
    assert foreign_imports("training/loop.py", "import peft") == ["peft"]


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {part.removesuffix(".py") for path in modules() for part in path.split("/")}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc", "datasets", "transformers"}


@pytest.mark.parametrize("folder", ["ltgc_local", "tests", "miniatures", "data", "benchmarks"])
def test_no_file_is_too_long(folder: str) -> None:
    paths = [path for suffix in ("py", "html") for path in (ROOT / folder).rglob(f"*.{suffix}")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in paths}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, ltgc_local.cli; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


TEXT_STEPS = ("stages.extend", "stages.refine", "stages.summarize", "backends.transformers_llm")
TGN_STEPS = (
    *("stages.train_alone", "stages.distill", "stages.train_generator", "stages.synthesize", "stages.measure"),
    *("stages.train_classifier", "stages.evaluate_networks"),
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


def test_steps_and_cards_have_the_same_roles() -> None:
    from ltgc_local.steps import ROLES
    from ltgc_local.store import ROLES as CARD_ROLES

    assert ROLES == CARD_ROLES
