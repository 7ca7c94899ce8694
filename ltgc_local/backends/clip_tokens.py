"""Count tokens as the text-to-image model's own tokenizer does, without loading its weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from transformers import CLIPTokenizer

from ltgc_local.errors import ModelError


@cache
def load_token_counter(folder: Path) -> Callable[[str], int]:
    """Return a function that counts a text's CLIP tokens, without the two that open and close it.

    Raises:
        ModelError: the folder of the text-to-image model has no tokenizer.
    """
    if not (folder / "tokenizer").is_dir():
        raise ModelError(f"{folder / 'tokenizer'}: not there; a Stable Diffusion XL folder has one")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    return lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
