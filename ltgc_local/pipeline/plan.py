"""Recipe -> the steps of its method, as data. Pure: no disk, no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic.fields import FieldInfo

from ltgc_local.errors import RecipeError
from ltgc_local.methods.base import Step
from ltgc_local.methods.registry import method_of
from ltgc_local.recipe import Recipe
from ltgc_local.recipe.markers import NOT_FINGERPRINTED, Loads, Shapes, iterate_fields, marker


def build_plan(recipe: Recipe) -> tuple[Step, ...]:
    """Return the steps in the order in which they run; every step reads only earlier ones."""
    return method_of(recipe).plan(recipe)


def step_settings(step: Step, recipe: Recipe) -> dict[str, Any]:
    """Return the step's recipe fields as {dotted path: value}.

    Null values are left out: null asks for nothing, so a new option that a recipe does not use leaves finished steps
    as they are. A training is shaped by one number, ``train_seed`` or else ``seed``, and is the same whichever of the
    two it was written as.
    """
    recipe = step.recipe(recipe)
    dumped = recipe.dump()
    values = {key: _at(dumped, key) for key in shaping_keys(step, type(recipe))}
    if values.pop("train_seed", None) is not None:
        values["seed"] = recipe.training_seed
    return {key: value for key, value in values.items() if value is not None}


def shaping_keys(step: Step, recipe: type[Recipe]) -> list[str]:
    """Return the dotted paths of the recipe fields that shape the step's output, as their markers say."""
    fields = dict(iterate_fields(recipe))
    roles = [role for role in (step.model_role, step.co_resident) if role]  # in this order, which the written keys keep
    seeds = ["seed", *(["train_seed"] if step.is_reseeded else [])] if step.is_seeded else []
    keys = [*seeds, *(f"models.{role}" for role in roles)]
    keys += [key for key, field in fields.items() if (loads := marker(field, Loads)) and set(roles) & set(loads.names)]
    for setting in ("data", *step.settings):
        keys += [setting] if setting in fields else _keys_of(setting, fields)
    return [
        key for key in dict.fromkeys(keys) if key not in step.ignores and marker(fields[key], NOT_FINGERPRINTED) is None
    ]


def _keys_of(setting: str, fields: Mapping[str, FieldInfo]) -> list[str]:
    """Return a block's keys without a ``Shapes`` marker ("kmdn"), or those marked for a part ("kmdn:distill")."""
    block, _, part = setting.partition(":")
    parts = {key: shapes.names if (shapes := marker(field, Shapes)) else ("",) for key, field in fields.items()}
    found = [key for key, names in parts.items() if key.startswith(f"{block}.") and part in names]
    if not found:
        raise LookupError(f"no field of the recipe belongs to {setting!r}")
    return found


def _at(values: Any, path: str) -> Any:
    for part in path.split("."):
        values = values[part]
    return values


def with_dependents(steps: Sequence[Step], names: Iterable[str]) -> list[str]:
    """Return ``names`` and every step that reads one of them, directly or not, in plan order."""
    affected = set(names)
    for step in steps:
        if affected & set(step.reads):
            affected.add(step.name)
    return [step.name for step in steps if step.name in affected]


def match_steps(steps: Sequence[Step], text: str) -> list[str]:
    """Return the steps that ``text`` names: one step, or all steps under a prefix (``assess/0``, ``train``).

    Raises:
        RecipeError: there is no such step.
    """
    found = [step.name for step in steps if step.name == text or step.name.startswith(text.rstrip("/") + "/")]
    if not found:
        raise RecipeError(f"no step is called {text!r}; steps: {', '.join(step.name for step in steps)}")
    return found
