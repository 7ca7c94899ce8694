"""What a folder's JSON files ask of the libraries that read them: numbers are fine, other code and models are not.

Read by name, so before any library does: Python modules (``auto_map``), kernels and weights from elsewhere, pipelines
and classes that the engine does not use, and chat templates (``ltgc_local.model_store.templates``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import ModelCard
from ltgc_local.model_store.files import MAX_TOKENIZER_BYTES, read_json
from ltgc_local.model_store.open_clip_folders import problems_of_open_clip
from ltgc_local.model_store.pipelines import problems_of_component, problems_of_pipeline
from ltgc_local.model_store.templates import templates_in
from ltgc_local.printable import printable

REMEDY = "delete or correct the key, or use another model"
#: Key at any depth -> what it could do.
FORBIDDEN = {
    "auto_map": "would run Python code of the folder or of another one",
    "custom_pipeline": "would run Python code of the folder or of another one",
    "custom_pipelines": "would run Python code of the folder or of another one",
    "transformers_weights": "would load weights under another name",
    "base_model_name_or_path": "would load another model than this folder's",
    "audio_tokenizer": "would load another model than this folder's",
    "hf_model_name": "would load another model than this folder's",
    "timm_model_name": "would load another model than this folder's",
}
#: Keys that may be there, but not with these values.
LAYERS, MOST_LAYERS = re.compile(r"(\w*_)?(layers|depth|layers_per_block)"), 1_000  # the deepest have about 130
ATTENTION = re.compile(r"_?(attn|experts|kernels?)_implementation(_internal)?")
#: How weights may be quantised: by formats that are numbers alone.
QUANTISED = frozenset(
    ["awq", "gptq", "fp8", "fbgemm_fp8", "finegrained_fp8", "compressed-tensors", "bitsandbytes", "mxfp4"]
)
#: Files that are JSON and hold words or tokens: any key may be in them, and nothing of it is looked up.
TOKENS = re.compile(r"(tokenizer|vocab|added_tokens|tekken)(\..*)?\.json")
CONFIGS = frozenset({"model_index.json", "chat_template.json", "special_tokens_map.json", "params.json"})


def read_configurations(card: ModelCard, folder: Path, files: list[Path]) -> tuple[list[str], list[tuple[Path, str]]]:
    """Return what is wrong with the folder's JSON files, and the chat templates that are in them."""
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
        yield from problems_of_open_clip(file, config)
    if card.role == "t2i" and file == folder / "model_index.json":
        yield from problems_of_pipeline(file, config)
    if card.role == "t2i" and file.parent.parent == folder:
        yield from problems_of_component(file, config)


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
    if key == "trust_remote_code" and value:
        return "would let the folder's Python code run"
    if LAYERS.fullmatch(key) and any(type(each) is int and each > MOST_LAYERS for each in _listed(value)):
        return f"says {printable(str(value)[:80])}, and a model of more than {MOST_LAYERS} layers would not end loading"
    if key == "use_pretrained_backbone" and value:
        return "would load another model than this folder's"
    if ATTENTION.fullmatch(key) and "/" in str(value):
        return f"names a kernel from elsewhere ({str(value)[:80]!r}), which is native code"
    if key in ("quantization_config", "compression_config") and isinstance(value, dict) and value:
        method = str(value.get("quant_method", "")).lower()
        if method not in QUANTISED:
            return f"says quant_method {method[:80]!r}; read here are {', '.join(sorted(QUANTISED))}"
    is_list_of_files = key in ("fast_tokenizer_files", "configuration_files") and value
    if is_list_of_files and not all(_is_plain_name(name, ".json") for name in _listed(value)):
        return "names files outside of the folder"
    return ""


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


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
    """Return whether a name is one of a file beside, and of this kind."""
    return (
        isinstance(name, str)
        and name.endswith(ending)
        and not name.startswith(".")
        and printable(name) == name
        and PurePosixPath(name).name == name
        and len(name) < 256
    )
