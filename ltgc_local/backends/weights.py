"""A folder whose files lack weights of its architecture is refused: transformers would start them at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ltgc_local.errors import ModelError


def refuse_missing_weights(folder: Path, model: Any, found: dict[str, Any]) -> None:
    """Check what ``from_pretrained(…, output_loading_info=True, ignore_mismatched_sizes=True)`` says of its loading.

    Raises:
        ModelError: a weight of the architecture is not in the files, or has another shape.
    """
    wrong = sorted(found["missing_keys"]) + sorted(str(key[0]) for key in found["mismatched_keys"])
    if wrong:
        raise ModelError(
            f"{folder}: {len(wrong)} weights of {type(model).__name__} are not in its files or have another shape, "
            f"such as {', '.join(wrong[:3])}; the folder is incomplete, or config.json another model's: copy it again"
        )
