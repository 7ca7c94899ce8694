"""The quickstart's describe and extend through real vLLM engines; runs where vLLM is installed (CONTRIBUTING.md)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tests.test_quickstart import run

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "vllm"
    result = run(out, "--set", "models.backend=vllm", "--to", "extend")
    assert result.returncode == 0, result.stderr
    return out


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_photograph_of_the_tail_is_described(extended: Path) -> None:
    descriptions = [row for path in (extended / "describe").glob("descriptions*.jsonl") for row in lines(path)]
    assert len(descriptions) == 27  # 17 dresses and 10 coats
    assert all(str(row["text"]).startswith("A photo of the class ") for row in descriptions)
    assert len({row["text"] for row in descriptions}) > 10, "the engine sees the photographs"


def test_the_classes_reach_their_number(extended: Path) -> None:
    for path in (extended / "extend").glob("summary*.json"):
        for name, summary in json.loads(path.read_text("utf-8")).items():
            assert summary["existing"] + summary["extended"] + summary["missing"] == 24, name
            assert summary["missing"] == 0, name


def test_the_manifest_says_which_backend_wrote_it(extended: Path) -> None:
    manifest = json.loads((extended / "extend" / "manifest.json").read_text("utf-8"))
    assert manifest["fingerprint"]["models.backend"] == "vllm"
