"""Which roles and which parts of a recipe each method uses: the rest may not be written, so that nothing is in vain.

A method's variant is the method with its generator: TGN's default is the paper's GAN, and a diffusion model draws the
classes' prompts, or the descriptions of LTGC's text models, which need their models and blocks, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ltgc_local.recipe.inputs import Models

DIFFUSION = "tgn by diffusion"
DESCRIBED = "tgn by diffusion of descriptions"
#: Variant -> the roles whose model it needs; a role that it uses without a model being named is not among them.
NEEDED_ROLES = {
    "ltgc": ("vlm", "llm", "t2i", "clip"),
    "tgn": ("clip",),
    DIFFUSION: ("t2i", "clip"),
    DESCRIBED: ("vlm", "llm", "t2i", "clip"),
}
_TEXT_MODELS = ("vlm", "llm", "backend", "quantization", "max_model_len", "max_pixels", "tensor_parallel")
_OF_T2I = ("models.t2i", "models.text_encoders", "models.unet")
_OF_CLIP = (
    "zero_shot", "vlm_classifier", "vlm_images_per_class", "vlm_names_in_prompt", "five_crop", "five_crop_margin",
    "zero_shot_weight", "zero_shot_prior",
)  # fmt: skip
_NO_TEXT = ("describe", "extend", *(f"models.{key}" for key in _TEXT_MODELS))
_NOT_OF_TGN = ("draw", "assess", "train", *(f"evaluate.{key}" for key in _OF_CLIP))
#: Variant -> blocks, and keys of blocks, that it does not use.
UNUSED: dict[str, tuple[str, ...]] = {
    "ltgc": (
        "generator", "split", "kmdn", "cdtg", "diffusion", "merge", "classifier", "measure", "models.backbone",
    ),
    "tgn": (*_NO_TEXT, *_NOT_OF_TGN, *_OF_T2I, "diffusion"),
    DIFFUSION: (*_NO_TEXT, *_NOT_OF_TGN, "cdtg"),
    DESCRIBED: (*_NOT_OF_TGN, "cdtg", "describe.tail_below", "extend.source"),  # the tail is the manifest's
}  # fmt: skip
#: Blocks that a recipe may hold without using them: both generators', so that ``generator`` alone switches.
KEPT = {"tgn": ("diffusion",), DIFFUSION: ("cdtg",), DESCRIBED: ("cdtg",)}


def variant_of(method: object, generator: object = None, prompts: object = None) -> str:
    """Return the variant that ``NEEDED_ROLES`` and ``UNUSED`` are by; an unknown method is its own."""
    if method != "tgn" or generator != "diffusion":
        return str(method)
    return DESCRIBED if prompts == "descriptions" else DIFFUSION


def missing_roles(variant: str, models: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to type for each role of the variant whose model is not named."""
    for role in NEEDED_ROLES.get(variant, ()):
        if models.get(role) is None:
            example = (Models.model_fields[role].examples or ["…"])[0]
            yield f"missing key '{role}'; write for example '{role}: {example}'"


def why_unused(variant: str, path: str) -> str:
    """Say why a block or a key may not be written under a variant."""
    method = variant.split()[0]
    if method == "tgn" and path in UNUSED["tgn"] and variant != DESCRIBED:
        if path in _OF_T2I:
            return "the generator 'wavelet_gan' does not use it; remove it, or write 'generator: diffusion'"
        if path in _NO_TEXT and variant == DIFFUSION:
            return "diffusion.prompts 'classes' does not use it; remove it, or write 'prompts: descriptions'"
    return f"method {method} does not use it; remove it"


def without_unused(variant: str, dumped: dict[str, Any]) -> dict[str, Any]:
    """Return a dumped recipe without what its variant does not use."""
    unused = set(UNUSED[variant])
    return {
        name: {key: value for key, value in block.items() if f"{name}.{key}" not in unused}
        if isinstance(block, dict)
        else block
        for name, block in dumped.items()
        if name not in unused
    }
