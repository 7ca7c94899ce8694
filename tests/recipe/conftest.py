"""A folder with data, model cards and recipes/good.yaml for the loader's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

GOOD = """\
name: good
data:
  root: ../data
models:
  cards: ../cards
  vlm: see
  llm: write
  t2i: draw
  clip: score
"""
CARD = """\
---
name: {name}
role: {role}
family: any
path: weights/{name}
evidence: random
license: MIT
source: this test
---
A model of the test's.
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/, cards/ and recipes/good.yaml (9 lines) in a folder, which is the current one."""
    for name in ("data", "cards", "recipes"):
        (tmp_path / name).mkdir()
    for name, role in (("see", "vlm"), ("write", "llm"), ("draw", "t2i"), ("score", "clip")):
        (tmp_path / "cards" / f"{name}.md").write_text(CARD.format(name=name, role=role))
    (tmp_path / "recipes" / "good.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    return tmp_path
