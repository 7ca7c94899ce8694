"""Which roles and which parts of a recipe each method uses: the rest may not be written, so that nothing is in vain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ltgc_local.recipe.inputs import Models

#: Method -> the roles whose model it needs; a role that it uses without a model being named is not among them.
NEEDED_ROLES = {"ltgc": ("vlm", "llm", "t2i", "clip"), "tgn": ("clip",)}
_TEXT_MODELS = ("vlm", "llm", "t2i", "backend", "quantization", "max_model_len", "max_pixels", "tensor_parallel")
_OF_CLIP = (
    "zero_shot", "vlm_classifier", "vlm_images_per_class", "vlm_names_in_prompt", "five_crop", "five_crop_margin",
    "zero_shot_weight", "zero_shot_prior",
)  # fmt: skip
#: Method -> blocks, and keys of blocks, of the other method.
UNUSED = {
    "ltgc": ("split", "kmdn", "cdtg", "merge", "classifier", "measure", "models.backbone"),
    "tgn": (
        *("describe", "extend", "draw", "assess", "train"),
        *(f"models.{key}" for key in _TEXT_MODELS),
        *(f"evaluate.{key}" for key in _OF_CLIP),
    ),
}


def missing_roles(method: object, models: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to type for each role of the method whose model is not named."""
    for role in NEEDED_ROLES.get(str(method), ()):
        if models.get(role) is None:
            example = (Models.model_fields[role].examples or ["…"])[0]
            yield f"missing key '{role}'; write for example '{role}: {example}'"


def without_unused(method: str, dumped: dict[str, Any]) -> dict[str, Any]:
    """Return a dumped recipe without what its method does not use."""
    unused = set(UNUSED[method])
    return {
        name: {key: value for key, value in block.items() if f"{name}.{key}" not in unused}
        if isinstance(block, dict)
        else block
        for name, block in dumped.items()
        if name not in unused
    }
