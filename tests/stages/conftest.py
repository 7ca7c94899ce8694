"""Stages on the shipped data, with files of earlier steps; and models that follow a script.

The scripts stand for models that misbehave, which no miniature does on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ltgc_local.backends.protocols import Conversation, Sampling
from ltgc_local.methods.stage import Stage, stage_class
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import Recipe
from ltgc_local.records import Record
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Artefact, Lines
from ltgc_local.runs.progress import Progress


class ScriptedLlm:
    """A language model whose answer is a function of the last prompt; ``prompts`` holds all that it was asked."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self._answer = answer
        self.prompts: list[str] = []
        self.schemas: list[object] = []  # one a call

    def reply(
        self, conversations: Sequence[Conversation], sampling: Sampling, schema: object | None = None
    ) -> list[str]:
        asked = [turns[-1]["content"] for turns in conversations]
        self.prompts += asked
        self.schemas.append(schema)
        return [self._answer(prompt) for prompt in asked]


@pytest.fixture
def scripted_llm() -> type[ScriptedLlm]:
    return ScriptedLlm


@pytest.fixture
def make_stage(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> Callable[..., Stage]:
    """A function (step, *options, model=None) -> the stage of that step in the test's run directory."""

    def make(step_name: str, *overrides: str, model: object | None = None) -> Stage:
        recipe = make_recipe(*overrides)
        step = next(step for step in build_plan(recipe) if step.name == step_name)
        models = {step.model_role: model} if step.model_role and model is not None else {}
        run = RunDirectory(tmp_path / "run")
        return stage_class(step)(recipe, step, run, Progress(step_name), models=models)

    return make


@pytest.fixture
def write_step() -> Callable[..., None]:
    """A function (run, step, *artefacts) that completes a step with these files."""

    def write(run: RunDirectory, step: str, *artefacts: Artefact) -> None:
        run.write_chunk(step, 0, list(artefacts), {"items": 1, "seconds": 0.0, "peak_mib": 0})
        run.write_manifest(step, {}, 1, 0)

    return write


@pytest.fixture
def records_of() -> Callable[..., list[Record]]:
    """A function (artefacts, kind) -> the records of that kind that a stage returned."""

    def find(artefacts: Sequence[Artefact], kind: str) -> list[Record]:
        (found,) = (artefact for artefact in artefacts if artefact.kind == kind)
        assert isinstance(found, Lines)
        return list(found.records)

    return find
