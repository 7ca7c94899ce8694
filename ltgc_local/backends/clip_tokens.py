"""Count tokens as a model's own tokenizer does, without loading its weights.

Libraries are imported where they are needed: open_clip brings torchvision and timm, which a text step has no use for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from ltgc_local.errors import ModelError


@cache
def load_token_counter(folder: Path) -> Callable[[str], int]:
    """Return a function that counts a text's CLIP tokens, without the two that open and close it.

    Raises:
        ModelError: the folder of the text-to-image model has no tokenizer.
    """
    from transformers import CLIPTokenizer

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
        config = folder / "open_clip_config.json"
        if config.is_file() and not _has_own_tokenizer(config):
            return _open_clip_counter(folder)
        from transformers import AutoTokenizer

        inner = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as problem:
        raise ModelError(f"{folder}: no tokenizer that can be read: {problem}") from problem
    return lambda text: len(inner(text, add_special_tokens=False, verbose=False).input_ids)


def _has_own_tokenizer(config: Path) -> bool:
    """Return whether open_clip reads the tokenizer of the folder itself, by transformers, and not its own BPE file."""
    return bool(json.loads(config.read_text("utf-8"))["model_cfg"].get("text_cfg", {}).get("hf_tokenizer_name"))


def _open_clip_counter(folder: Path) -> Callable[[str], int]:
    import open_clip

    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    return lambda text: len(tokenizer.encode(text))
