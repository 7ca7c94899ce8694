"""Recipe -> the steps of its method, as data. Pure: no disk, no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ltgc_local.errors import RecipeError
from ltgc_local.methods.base import Step
from ltgc_local.methods.registry import method_of
from ltgc_local.model_store import Role
from ltgc_local.recipe import Recipe
from ltgc_local.recipe.schema import NOT_SHAPING

#: Fields of ``models`` that shape what a role's model makes, beside the card's name and the backend.
LOADING: dict[Role, tuple[str, ...]] = {
    "vlm": ("models.device", "models.dtype", "models.quantization", "models.max_pixels", "models.max_model_len"),
    "llm": ("models.device", "models.dtype", "models.quantization", "models.max_model_len"),
    "t2i": ("models.device", "models.dtype", "models.text_encoders", "models.unet"),
    "clip": ("models.device", "models.dtype"),
    "backbone": ("models.device",),
}
#: Fields of ``data`` that shape what every step makes; the rest of it is in the data's digest.
DATA_FIELDS = ("data.benchmark", "data.image_column", "data.max_pixels", "data.alpha_background")


def build_plan(recipe: Recipe) -> tuple[Step, ...]:
    """Return the steps in the order in which they run; every step reads earlier ones only."""
    return method_of(recipe).plan(recipe)


def step_settings(step: Step, dumped: dict[str, Any]) -> dict[str, Any]:
    """Return the step's recipe fields as {dotted path: value}.

    Left out are fields that only change the step's speed, and null ones: null asks for nothing, so that an option that
    a recipe does not use, or did not know, does not make a finished step another one.
    """
    found: dict[str, Any] = {}
    roles = [role for role in (step.model_role, step.beside) if role]
    model = dict.fromkeys(field for role in roles for field in (f"models.{role}", *LOADING[role]))
    for path in (*(["seed"] if step.is_seeded else []), *DATA_FIELDS, *model, *step.settings):
        value: Any = dumped
        for part in path.split("."):
            value = value[part]
        fields = {f"{path}.{key}": field for key, field in value.items()} if isinstance(value, dict) else {path: value}
        unread = NOT_SHAPING | set(step.unread)
        found |= {key: field for key, field in fields.items() if key not in unread and field is not None}
    return found


def with_dependents(steps: Sequence[Step], names: Iterable[str]) -> list[str]:
    """Return ``names`` and every step that reads one of them, directly or not, in plan order."""
    affected = set(names)
    for step in steps:
        if affected & set(step.reads):
            affected.add(step.name)
    return [step.name for step in steps if step.name in affected]


def match_steps(steps: Sequence[Step], text: str) -> list[str]:
    """Return the steps that ``text`` names: one, or all under it (``assess/0``, ``train``).

    Raises:
        RecipeError: none is called so.
    """
    found = [step.name for step in steps if step.name == text or step.name.startswith(text.rstrip("/") + "/")]
    if not found:
        raise RecipeError(f"no step is called {text!r}; steps: {', '.join(step.name for step in steps)}")
    return found
