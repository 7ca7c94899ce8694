"""Count tokens as a model's own tokenizer does, without loading its weights.

Libraries are imported where they are needed: open_clip brings torchvision and timm, which text steps do not use.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from ltgc_local.errors import BackendError, ModelError
from ltgc_local.model_store.files import read_json
from ltgc_local.out_of_memory import is_out_of_memory


@cache
def load_token_counter(folder: Path) -> Callable[[str], int]:
    """Return a function that counts a text's tokens, without the start and end tokens.

    Args:
        folder: of Stable Diffusion XL, whose first tokenizer counts, or of a CLIP of either layout.

    Raises:
        ModelError: the folder has no tokenizer.
        BackendError: there is not enough memory.
    """
    try:
        if (folder / "tokenizer").is_dir():
            from transformers import CLIPTokenizer

            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        elif (folder / "open_clip_config.json").is_file():
            ours = load_open_clip_tokenizer(folder)
            if not hasattr(ours, "tokenizer"):  # open_clip's own
                return lambda text: len(ours.encode(text))
            tokenizer = ours.tokenizer
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as problem:
        if is_out_of_memory(problem):
            raise BackendError(
                f"{folder}: out of memory while its tokenizer is loaded; end what else uses it"
            ) from problem
        raise ModelError(f"{folder}: no tokenizer that can be read: {problem}") from problem
    return lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def load_open_clip_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of an open_clip folder: transformers' if the configuration names one, else open_clip's BPE.

    open_clip's ``get_tokenizer`` would pass on to transformers whatever the configuration says, even to run the
    folder's code.

    Raises:
        ModelError: the configuration cannot be read.
    """
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    settings = read_json(folder / "open_clip_config.json")["model_cfg"].get("text_cfg", {})
    length = settings.get("context_length", DEFAULT_CONTEXT_LENGTH)
    if not settings.get("hf_tokenizer_name"):
        return SimpleTokenizer(context_length=length)
    return HFTokenizer(str(folder), context_length=length, local_files_only=True, trust_remote_code=False)
