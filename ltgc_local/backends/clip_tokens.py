"""Count tokens as a model's own tokenizer does, without loading its weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import open_clip
from transformers import AutoTokenizer, CLIPTokenizer

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


def load_clip_token_counter(folder: Path) -> Callable[[str], int]:
    """Return a function that counts a text's tokens as the scoring CLIP does, without the two that open and close it.

    Raises:
        ModelError: the folder of the CLIP has no tokenizer.
    """
    try:
        if (folder / "open_clip_config.json").is_file():
            tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
            if isinstance(tokenizer, open_clip.SimpleTokenizer):
                return lambda text: len(tokenizer.encode(text))
            inner = tokenizer.tokenizer
        else:
            inner = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as problem:
        raise ModelError(f"{folder}: no tokenizer that can be read: {problem}") from problem
    return lambda text: len(inner(text, add_special_tokens=False, verbose=False).input_ids)
