"""open_clip's folders: a configuration of a plain ViT alone, and one file of weights that is chosen here.

open_clip itself forwards ``tokenizer_kwargs`` to transformers, loads towers of other libraries by name, and prefers a
pickle of a usual name to safetensors of another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ltgc_local.errors import ModelError
from ltgc_local.printable import printable

_TOWER = {
    "width", "layers", "mlp_ratio", "ls_init_value", "pool_type", "final_ln_after_pool", "output_tokens", "act_kwargs",
    "norm_kwargs", "block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn",
    "scale_fc",
}  # fmt: skip
#: What a plain ViT of open_clip is made of.
SETTINGS: dict[str, set[str]] = {
    "model_cfg": {
        "embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale", "init_logit_bias",
        "nonscalar_logit_scale", "custom_text",
    },
    "vision_cfg": _TOWER | {
        "head_width", "patch_size", "image_size", "patch_dropout", "attentional_pool", "attn_pooler_queries",
        "attn_pooler_heads", "no_ln_pre", "pos_embed_type",
    },
    "text_cfg": _TOWER | {
        "context_length", "vocab_size", "hf_tokenizer_name", "heads", "embed_cls", "pad_id", "eos_id",
        "no_causal_mask", "proj_bias", "proj_type",
    },
}  # fmt: skip
#: Names under which open_clip's weights are published, the first choice first.
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")


def problems_of_open_clip(file: Path, config: dict[str, Any]) -> Iterator[str]:
    """Yield what open_clip_config.json asks for that a plain ViT with this folder's tokenizer does not need."""
    blocks = {"model_cfg": config.get("model_cfg", {})}
    if isinstance(blocks["model_cfg"], dict):
        blocks |= {name: blocks["model_cfg"].get(name, {}) for name in ("vision_cfg", "text_cfg")}
    for name, block in blocks.items():
        if not isinstance(block, dict):
            yield f"{file}: {name} must be an object; copy it again"
            continue
        unknown = sorted(key for key in set(block) - SETTINGS[name] if block[key])
        if unknown:
            yield (
                f"{file}: {name}.{printable(unknown[0][:80])} is no setting of a plain ViT of open_clip, and could "
                "load other code or another model; delete it, or use another model"
            )


def open_clip_weights(folder: Path) -> Path:
    """Return the weights of an open_clip folder, which open_clip itself would choose among pickles, too.

    Raises:
        ModelError: there are none, or several and none of a usual name.
    """
    files = sorted(file for file in folder.glob("*.safetensors") if not file.name.startswith("."))
    chosen = [folder / name for name in WEIGHTS if folder / name in files] or files
    if not chosen:
        raise ModelError(f"{folder}: no *.safetensors; get or make {folder / WEIGHTS[0]}")
    if len(chosen) > 1 and chosen == files and chosen[0].name not in WEIGHTS:
        raise ModelError(
            f"{folder}: {len(files)} files of weights, such as {files[0].name} and {files[1].name}; rename the one to "
            f"load to {WEIGHTS[0]}"
        )
    return chosen[0]
