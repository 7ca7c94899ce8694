"""What a step's output depends on, compared with what its folder was made from."""

from __future__ import annotations

import json
from typing import Any

from ltgc_local.backends.registry import backend_of
from ltgc_local.errors import ArtefactError
from ltgc_local.methods.base import Step
from ltgc_local.model_store.cards import Role, find_card
from ltgc_local.pipeline.plan import step_settings
from ltgc_local.recipe import Recipe, T2iModels
from ltgc_local.records import RECORD_VERSION
from ltgc_local.runs.directory import RunDirectory


def fingerprint(step: Step, recipe: Recipe, run: RunDirectory, digests: dict[str, str]) -> dict[str, Any]:
    """Return a flat dict of everything that shapes the step: settings, inputs, models, data and record version.

    Args:
        digests: of the data (key ``data``) and of each role's model folder.
    """
    second = _model(step.co_resident, recipe, digests) if step.co_resident else {}
    return {
        "record_version": RECORD_VERSION,
        "data": digests["data"],
        **(_model(step.model_role, recipe, digests) if step.model_role else {}),
        **{f"co-resident {key}": value for key, value in second.items()},
        **step_settings(step, recipe),
        **{f"reads {name}": run.digest(name) for name in step.reads},
    }


def _model(role: Role, recipe: Recipe, digests: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"model": digests[role], "models.backend": backend_of(role, recipe)}
    if role == "t2i" and isinstance(recipe.models, T2iModels):
        card = find_card(recipe.models.cards, recipe.models.t2i, "t2i")
        found |= {} if card.few_step is None else {"few_step": card.few_step.model_dump()}
        found |= {"tiny_decoder": card.tiny_decoder} if recipe.t2i_decoder == "tiny" else {}
    return found


class StaleStep(ArtefactError):
    """A step's folder was made or begun with settings other than those asked for now.

    Attributes:
        step: its name.
        run: the run directory.
        changes: key of the fingerprint -> (old value, new value); None where a side has none.
    """

    def __init__(self, step: str, run: RunDirectory, changes: dict[str, tuple[Any, Any]]) -> None:
        lines = [f"  {key}: {_short(old)} -> {_short(new)}" for key, (old, new) in changes.items()]
        super().__init__("\n".join([f"{run.folder(step)}: step {step} was made with other settings:", *lines]))
        self.step, self.run, self.changes = step, run.root, changes


def check_fingerprint(step: Step, wanted: dict[str, Any], run: RunDirectory) -> bool:
    """Return whether the step is complete with this fingerprint.

    Raises:
        StaleStep: the folder was made or begun with a different one.
    """
    manifest = run.manifest(step.name)
    found = manifest.fingerprint if manifest else run.begun(step.name)
    if found is not None and found != wanted:
        keys = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        raise StaleStep(step.name, run, {key: (found.get(key), wanted.get(key)) for key in keys})
    return manifest is not None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else text[:12] + "…" + text[-4:]
