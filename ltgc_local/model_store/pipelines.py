"""diffusers' folders: model_index.json may name the parts that the engine draws with, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ltgc_local.printable import printable

_NOTHING = (None, None)
#: Part of a pipeline -> what model_index.json may say of it; a scheduler may be any of diffusers'.
PIPELINE_PARTS: dict[str, frozenset[tuple[str | None, str | None]]] = {
    "unet": frozenset({("diffusers", "UNet2DConditionModel")}),
    "vae": frozenset({("diffusers", "AutoencoderKL")}),
    "text_encoder": frozenset({("transformers", "CLIPTextModel")}),
    "text_encoder_2": frozenset({("transformers", "CLIPTextModelWithProjection")}),
    "tokenizer": frozenset({("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")}),
    "tokenizer_2": frozenset({("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")}),
    "feature_extractor": frozenset({_NOTHING}),
    "image_encoder": frozenset({_NOTHING}),
}
SCHEDULER = re.compile(r"[A-Z]\w*Scheduler")
#: Component -> the _class_name of its configuration.
COMPONENTS = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}


def problems_of_pipeline(index: Path, config: dict[str, Any]) -> Iterator[str]:
    """Yield which parts model_index.json names that are not the engine's."""
    for name, value in config.items():
        if name == "_class_name" and not isinstance(value, str):
            yield f"{index}: _class_name must be the name of diffusers' pipeline; a list runs Python code of the folder"
        if not isinstance(value, list) or name == "_class_name":
            continue
        pair = tuple(word if word is None else str(word) for word in value)
        known = PIPELINE_PARTS.get(name, frozenset())
        is_scheduler = name == "scheduler" and len(pair) == 2 and pair[0] == "diffusers"
        if pair not in known and pair != _NOTHING and not (is_scheduler and SCHEDULER.fullmatch(str(pair[1]))):
            wanted = "one of diffusers' schedulers" if name == "scheduler" else _in_words(known)
            yield (
                f"{index}: {printable(name[:80])} is {printable(str(value)[:120])}, which could run other code; "
                f"expected {wanted}; copy the publisher's model_index.json again"
            )


def _in_words(known: frozenset[tuple[str | None, str | None]]) -> str:
    return " or ".join(str(list(pair)) for pair in sorted(known - {_NOTHING}, key=str)) or "null"


def problems_of_component(file: Path, config: dict[str, Any]) -> Iterator[str]:
    """Yield that a part's configuration is of another class than the engine's."""
    found, part = config.get("_class_name"), file.parent.name
    wanted = COMPONENTS.get(part) if file.name == "config.json" else None
    if found is not None and (not isinstance(found, str) or (wanted is not None and found != wanted)):
        yield f"{file}: _class_name is {str(found)[:80]!r}, expected {wanted or 'the name of a class'!r}; copy it again"
