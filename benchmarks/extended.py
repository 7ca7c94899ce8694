"""A copy of the package with one more method: a folder and a line in the registry."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def copy_with_method(folder: Path, name: str, method: str, stages: str) -> None:
    """Copy the package to ``folder``, add a method, and write ``<name>.yaml``, a recipe for it on the shipped data.

    Args:
        method, stages: the code of its ``method.py`` and ``stages.py``.
    """
    shutil.copytree(ROOT / "ltgc_local", folder / "ltgc_local", ignore=shutil.ignore_patterns("__pycache__"))
    place = folder / "ltgc_local/methods" / name
    place.mkdir()
    (place / "__init__.py").touch()
    (place / "method.py").write_text(method)
    (place / "stages.py").write_text(stages)
    registry = folder / "ltgc_local/methods/registry.py"
    registry.write_text(registry.read_text().replace('    "tgn",\n', f'    "tgn",\n    "{name}",\n'))
    (folder / f"{name}.yaml").write_text(
        f"name: {name}\nmethod: {name}\ndata:\n  root: {ROOT}/data/fashion_mnist_lt\n"
        f"models:\n  cards: {ROOT}/model_cards\n  clip: miniature-vit\n  device: cpu\n"
    )
