"""What a folder's JSON files ask of the libraries that read them: numbers are fine, other code and models are not.

Checked by name before any library reads them: Python modules (``auto_map``), kernels and weights from elsewhere,
pipelines and classes that the engine does not use, open_clip towers other than a plain ViT (open_clip forwards
``tokenizer_kwargs`` to transformers, and loads other libraries' towers by name), and chat templates
(``ltgc_local.model_store.templates``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import ModelCard
from ltgc_local.model_store.files import MAX_TOKENIZER_BYTES, read_json
from ltgc_local.model_store.templates import templates_in
from ltgc_local.printable import printable

REMEDY = "delete or correct the key, or use another model"
#: Key at any depth -> what it could do.
FORBIDDEN = {
    **dict.fromkeys(
        ("auto_map", "custom_pipeline", "custom_pipelines"), "would run Python code of the folder or of another one"
    ),
    "trust_remote_code": "would let the folder's Python code run",
    "transformers_weights": "would load weights under another name",
    **dict.fromkeys(
        ("base_model_name_or_path", "audio_tokenizer", "hf_model_name", "timm_model_name", "use_pretrained_backbone"),
        "would load another model than this folder's",
    ),
}
#: Keys that may be there, but not with these values.
LAYERS, MOST_LAYERS = re.compile(r"(\w*_)?(layers|depth|layers_per_block)"), 1_000  # the deepest have about 130
ATTENTION = re.compile(r"_?(attn|experts|kernels?)_implementation(_internal)?")
#: How weights may be quantised: by formats that are numbers alone.
QUANTISED = frozenset(
    ["awq", "gptq", "fp8", "fbgemm_fp8", "finegrained_fp8", "compressed-tensors", "bitsandbytes", "mxfp4"]
)
#: JSON files that hold words or tokens: they may have any key, and nothing in them is looked up.
TOKENS = re.compile(r"(tokenizer|vocab|added_tokens|tekken)(\..*)?\.json")
CONFIGS = frozenset({"model_index.json", "chat_template.json", "special_tokens_map.json", "params.json"})

_TOWER = {
    "width", "layers", "mlp_ratio", "ls_init_value", "pool_type", "final_ln_after_pool", "output_tokens", "act_kwargs",
    "norm_kwargs", "block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn",
    "scale_fc",
}  # fmt: skip
#: The settings of a plain ViT of open_clip.
OPEN_CLIP: dict[str, set[str]] = {
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

Part = tuple[str | None, ...]
_NOTHING: Part = (None, None)
_TOKENIZERS = frozenset({("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")})
#: Part of a diffusers pipeline -> what model_index.json may say about it; a scheduler may be any of diffusers'.
PIPELINE_PARTS: dict[str, frozenset[Part]] = {
    "unet": frozenset({("diffusers", "UNet2DConditionModel")}),
    "vae": frozenset({("diffusers", "AutoencoderKL")}),
    "text_encoder": frozenset({("transformers", "CLIPTextModel")}),
    "text_encoder_2": frozenset({("transformers", "CLIPTextModelWithProjection")}),
    "tokenizer": _TOKENIZERS,
    "tokenizer_2": _TOKENIZERS,
}
SCHEDULER = re.compile(r"[A-Z]\w*Scheduler")
#: Component -> the _class_name of its configuration.
COMPONENTS = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}


def read_configurations(card: ModelCard, folder: Path, files: list[Path]) -> tuple[list[str], list[tuple[Path, str]]]:
    """Return what is wrong with the folder's JSON files, and the chat templates in them."""
    problems: list[str] = []
    templates: list[tuple[Path, str]] = []
    for file in files:
        try:
            if ".safetensors.index." in file.name and file.suffix == ".json":
                problems += _problems_of_index(file)
            elif TOKENS.fullmatch(file.name):
                read_json(file, MAX_TOKENIZER_BYTES)
            elif file.suffix == ".json" and ("config" in file.name or file.name in CONFIGS):
                config = read_json(file)
                problems += _problems_of_config(card, folder, file, config)
                found = (value for _, key, value in _entries(config) if key == "chat_template")
                templates += ((file, text) for value in found for text in templates_in(value))
        except ModelError as problem:
            problems.append(str(problem))
    return problems, templates


def _problems_of_config(card: ModelCard, folder: Path, file: Path, config: dict[str, Any]) -> Iterator[str]:
    for path, key, value in _entries(config):
        words = _forbidden(key, value)
        if words:
            yield f"{file}: {printable(path)[-200:]} {words}; {REMEDY}"
    if card.role == "clip" and file == folder / "open_clip_config.json":
        yield from _problems_of_open_clip(file, config)
    if card.role == "t2i" and file == folder / "model_index.json":
        yield from _problems_of_pipeline(file, config)
    if card.role == "t2i" and file.parent.parent == folder:
        found = config.get("_class_name")
        wanted = COMPONENTS.get(file.parent.name) if file.name == "config.json" else None
        if found is not None and (not isinstance(found, str) or (wanted is not None and found != wanted)):
            expected = wanted or "the name of a class"
            yield f"{file}: _class_name is {str(found)[:80]!r}, expected {expected!r}; copy it again"


def _entries(config: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield (dotted key, key, value) of every key at any depth."""
    waiting: list[tuple[str, Any]] = [("", config)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, list):
            waiting += [(path, each) for each in value if isinstance(each, dict | list)]
            continue
        for key, each in value.items():
            yield f"{path}{key}", key, each
            if isinstance(each, dict | list):
                waiting.append((f"{path}{key}."[-200:], each))


def _forbidden(key: str, value: Any) -> str:
    """Return what a key of a configuration could do, or ""."""
    if key in FORBIDDEN and value:
        return FORBIDDEN[key]
    listed = value if isinstance(value, list) else [value]
    if LAYERS.fullmatch(key) and any(type(each) is int and each > MOST_LAYERS for each in listed):
        return f"says {printable(str(value)[:80])}, but more than {MOST_LAYERS} layers would never finish loading"
    if ATTENTION.fullmatch(key) and "/" in str(value):
        return f"names a kernel from elsewhere ({str(value)[:80]!r}), which is native code"
    if key in ("quantization_config", "compression_config") and isinstance(value, dict) and value:
        method = str(value.get("quant_method", "")).lower()
        if method not in QUANTISED:
            return f"says quant_method {method[:80]!r}; supported are {', '.join(sorted(QUANTISED))}"
    is_list_of_files = key in ("fast_tokenizer_files", "configuration_files") and value
    if is_list_of_files and not all(_is_plain_name(name, ".json") for name in listed):
        return "names files outside of the folder"
    return ""


def _problems_of_index(index: Path) -> Iterator[str]:
    table = read_json(index, MAX_TOKENIZER_BYTES).get("weight_map")
    if not isinstance(table, dict):
        yield f"{index}: not an index of safetensors (no 'weight_map')"
        return
    names = sorted({str(name) for name in table.values()})
    other = [name for name in names if not _is_plain_name(name, ".safetensors")]
    if other:
        yield (
            f"{index}: lists {printable(other[0][:120])!r}; expected names of *.safetensors files in its folder, so "
            "that nothing else is opened; copy it again"
        )
        return
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        yield f"{index}: lists {len(names)} files, of which {missing[0]} is not there; copy it again"


def _is_plain_name(name: object, ending: str) -> bool:
    """Return whether a name is that of a file next to it, with this ending."""
    return (
        isinstance(name, str)
        and name.endswith(ending)
        and not name.startswith(".")
        and printable(name) == name
        and PurePosixPath(name).name == name
        and len(name) < 256
    )


def _problems_of_open_clip(file: Path, config: dict[str, Any]) -> Iterator[str]:
    """Yield what open_clip_config.json asks for that a plain ViT with this folder's tokenizer does not need."""
    blocks = {"model_cfg": config.get("model_cfg", {})}
    if isinstance(blocks["model_cfg"], dict):
        blocks |= {name: blocks["model_cfg"].get(name, {}) for name in ("vision_cfg", "text_cfg")}
    for name, block in blocks.items():
        if not isinstance(block, dict):
            yield f"{file}: {name} must be an object; copy it again"
        elif unknown := sorted(key for key in set(block) - OPEN_CLIP[name] if block[key]):
            yield (
                f"{file}: {name}.{printable(unknown[0][:80])} is not a setting of open_clip's plain ViT, and could "
                "load other code or another model; delete it, or use another model"
            )


def _problems_of_pipeline(index: Path, config: dict[str, Any]) -> Iterator[str]:
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
            wanted = " or ".join(sorted(str(list(part)) for part in known)) or "null"
            if name == "scheduler":
                wanted = "one of diffusers' schedulers"
            yield (
                f"{index}: {printable(name[:80])} is {printable(str(value)[:120])}, which could run other code; "
                f"expected {wanted}; copy the publisher's model_index.json again"
            )
