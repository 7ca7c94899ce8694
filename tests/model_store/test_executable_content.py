"""Nothing in a model's folder runs: whatever could is refused by ``validate``, with exit code 3 and the file's name."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import read_card
from ltgc_local.model_store.folders import check_model_folder
from tests.model_store.folders_of_roles import CARDS, CONFIG, ROOT, card_of, copy_folder, edit_json, validate

#: Puts something executable into a role's folder and returns the name of the file that must be named.
Break = Callable[[str, Path], str]


class Poison:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return os.mkdir, (str(self.marker),)


def marker_of(folder: Path) -> Path:
    return folder.parent / "it-ran"


def pickled(name: str) -> Break:
    def write(role: str, folder: Path) -> str:
        (folder / name).write_bytes(pickle.dumps(Poison(marker_of(folder))))
        return name

    return write


def python(name: str) -> Break:
    def write(role: str, folder: Path) -> str:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"import os\nos.mkdir({str(marker_of(folder))!r})\n")
        return name

    return write


def keys(**values: object) -> Break:
    def write(role: str, folder: Path) -> str:
        edit_json(folder / CONFIG[role], **values)
        return CONFIG[role]

    return write


def adapter(role: str, folder: Path) -> str:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    return "adapter_config.json"


def index_of_pickles(role: str, folder: Path) -> str:
    name = "model.safetensors.index.json"
    (folder / name).write_text(json.dumps({"weight_map": {"a": "../other/model.safetensors"}}))
    return name


def template(role: str, folder: Path) -> str:
    (folder / "chat_template.jinja").write_text("{{ cycler.__init__.__globals__.os.mkdir('it-ran') }}")
    return "chat_template.jinja"


MAP = {"AutoTokenizer": ["evil.Evil", None], "AutoConfig": "evil.Evil"}
KINDS: dict[str, Break] = {
    "a Python module": python("evil.py"),
    "a Python module in capitals": python("EVIL.PY"),
    "a compiled module": python("evil.pyc"),
    "a native library": python("libevil.so"),
    "a native library with its version": python("libevil.so.1.2"),
    "a shell script": python("setup.sh"),
    "a custom generate": python("custom_generate/generate.txt"),
    "torch's pickle beside safetensors": pickled("pytorch_model.bin"),
    "open_clip's pickle beside safetensors": pickled("open_clip_pytorch_model.bin"),
    "a pickle in capitals": pickled("MODEL.PTH"),
    "a checkpoint": pickled("model.ckpt"),
    "a pickle by its name": pickled("tokenizer.pkl"),
    "joblib's pickle": pickled("x.joblib"),
    "numpy's pickle": pickled("x.npy"),
    "Keras's program": pickled("tf_model.h5"),
    "auto_map": keys(auto_map=MAP),
    "auto_map in depth": keys(text_config=[{"a": [[{"auto_map": MAP}]]}]),
    "trust_remote_code": keys(tokenizer_kwargs={"trust_remote_code": True}),
    "other weights": keys(transformers_weights="other.safetensors"),
    "a kernel of a hub": keys(_attn_implementation="someone/kernel"),
    "a kernel of a hub for a part": keys(attn_implementation={"text_config": "someone/kernel:fn"}),
    "a way to quantise by code": keys(quantization_config={"quant_method": "torchao"}),
    "another model": keys(audio_tokenizer={"audio_tokenizer_name_or_path": "/elsewhere"}),
    "a custom pipeline": keys(custom_pipeline="evil"),
    "an adapter": adapter,
    "an index that climbs out": index_of_pickles,
    "a chat template that escapes": template,
}


@pytest.mark.parametrize("role", CARDS)
def test_a_copy_of_the_folder_validates(role: str, tmp_path: Path) -> None:
    result = validate(role, copy_folder(role, tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "cannot run yet" not in result.stdout


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", CARDS)
def test_executable_content_is_refused_by_validate_with_the_files_name(role: str, kind: str, tmp_path: Path) -> None:
    folder = copy_folder(role, tmp_path)
    name = KINDS[kind](role, folder)
    result = validate(role, folder)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"{folder / name}: ")
    assert "cannot run yet" not in result.stdout
    assert not marker_of(folder).exists() and "Traceback" not in result.output


NAMES = [
    "config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json",
    "generation_config.json", "video_preprocessor_config.json", "special_tokens_map.json",
    "image_processor_config.json", "config.4.0.0.json",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_auto_map_is_found_in_every_file_that_a_library_reads(name: str, tmp_path: Path) -> None:
    folder = copy_folder("vlm", tmp_path)
    if not (folder / name).exists():
        (folder / name).write_text("{}")
    edit_json(folder / name, vision_config={"a": [{"auto_map": MAP}]})
    result = validate("vlm", folder)
    assert result.exit_code == 3
    assert f"{folder / name}: vision_config.a.auto_map would run Python code of the folder" in result.stderr


def test_a_model_of_endless_layers_is_refused(tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    edit_json(folder / "config.json", num_hidden_layers=10**9)
    told = validate("llm", folder).stderr
    assert told.startswith(f"{folder / 'config.json'}: num_hidden_layers says 1000000000, but more than 1000 layers ")


def test_every_problem_of_a_folder_is_printed(tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    found = ["a Python module", "torch's pickle beside safetensors", "auto_map", "a chat template that escapes"]
    names = {KINDS[kind]("llm", folder) for kind in found}
    lines = validate("llm", folder).stderr.splitlines()
    assert {Path(line.split(": ")[0]).name for line in lines} == names


OPEN_CLIP = [
    ("text_cfg", {"tokenizer_kwargs": {"trust_remote_code": True}}, "trust_remote_code would let the folder's Python"),
    (
        "text_cfg",
        {"tokenizer_kwargs": {"tokenizer_file": "/etc/passwd"}},
        "text_cfg.tokenizer_kwargs is not a setting of",
    ),
    ("text_cfg", {"hf_model_name": "/elsewhere"}, "hf_model_name would load another model than this folder's"),
    ("text_cfg", {"tokenizer_mode": "clips"}, "text_cfg.tokenizer_mode is not a setting of open_clip's plain ViT"),
    ("vision_cfg", {"timm_model_name": "hf-hub:x/y"}, "timm_model_name would load another model than this folder's"),
    ("vision_cfg", {"timm_model_pretrained": True}, "vision_cfg.timm_model_pretrained is not a setting of"),
    (None, {"multimodal_cfg": {"width": 8}}, "model_cfg.multimodal_cfg is not a setting of open_clip's plain ViT"),
    (None, {"text_cfg": []}, "text_cfg must be an object"),
]


@pytest.mark.parametrize(("block", "keys_of_block", "words"), OPEN_CLIP)
def test_settings_of_open_clip_that_could_load_other_code_are_refused(
    block: str | None, keys_of_block: dict[str, object], words: str, tmp_path: Path
) -> None:
    folder = copy_folder("clip", tmp_path)
    config = json.loads((folder / "open_clip_config.json").read_text())
    (config["model_cfg"] if block is None else config["model_cfg"][block]).update(keys_of_block)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    result = validate("clip", folder)
    assert result.exit_code == 3
    assert f"{folder}/open_clip_config.json: " in result.stderr and words in result.stderr


def test_the_configuration_of_a_published_open_clip_passes(tmp_path: Path) -> None:
    folder = copy_folder("clip", tmp_path)
    towers = {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
    }
    config = {"model_cfg": towers, "preprocess_cfg": {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    for name in ("open_clip_pytorch_model.bin", "pytorch_model.bin"):
        (folder / name).write_bytes(b"x")
    card = card_of("clip", folder)
    published = read_card(ROOT / "model_cards/clip-vit-b-32-laion2b-s34b-b79k.md").unused
    card.write_text(
        card.read_text("utf-8").replace("role: clip", f"role: clip\nunused: {json.dumps(published)}"), "utf-8"
    )
    assert validate("clip", folder).exit_code == 0


PIPELINES: list[tuple[str, dict[str, object], str]] = [
    (
        "model_index.json",
        {"unet": ["evil", "Net"]},
        "unet is ['evil', 'Net'], which could run other code; expected ['dif",
    ),
    ("model_index.json", {"unet": ["diffusers", "DiffusionPipeline"]}, "unet is ['diffusers', 'DiffusionPipeline']"),
    ("model_index.json", {"tokenizer": ["transformers", "AutoTokenizer"]}, "tokenizer is ['transformers', 'AutoTok"),
    ("model_index.json", {"scheduler": ["evil", "EvilScheduler"]}, "scheduler is ['evil', 'EvilScheduler'], which"),
    ("model_index.json", {"scheduler": ["diffusers", "DiffusionPipeline"]}, "expected one of diffusers' schedulers"),
    (
        "model_index.json",
        {"more": ["os", "system"]},
        "more is ['os', 'system'], which could run other code; expected null",
    ),
    ("model_index.json", {"image_encoder": ["transformers", "CLIPVisionModelWithProjection"]}, "expected null"),
    ("model_index.json", {"vae": [["diffusers"], {}]}, "vae is [['diffusers'], {}], which could run other code"),
    ("model_index.json", {"_class_name": ["pipeline", "Evil"]}, "_class_name must be the name of diffusers' pipeline"),
    ("unet/config.json", {"_class_name": "EvilModel"}, "_class_name is 'EvilModel', expected 'UNet2DConditionModel'"),
    ("vae/config.json", {"_class_name": ["a", "b"]}, "_class_name is"),
    ("scheduler/scheduler_config.json", {"_class_name": ["a", "b"]}, "expected 'the name of a class'"),
]


@pytest.mark.parametrize(("file", "changed", "words"), PIPELINES)
def test_a_pipeline_may_name_the_engines_parts_alone(
    file: str, changed: dict[str, object], words: str, tmp_path: Path
) -> None:
    folder = copy_folder("t2i", tmp_path)
    edit_json(folder / file, **changed)
    result = validate("t2i", folder)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"{folder / file}: ") and words in result.stderr


@pytest.mark.parametrize("scheduler", ["EulerDiscreteScheduler", "DDIMScheduler", "LCMScheduler"])
def test_a_pipeline_may_name_any_of_diffusers_schedulers(scheduler: str, tmp_path: Path) -> None:
    folder = copy_folder("t2i", tmp_path)
    edit_json(folder / "model_index.json", scheduler=["diffusers", scheduler])
    assert validate("t2i", folder).exit_code == 0


INDICES = ["../x.safetensors", "/x.safetensors", "x.bin", "sub/x.safetensors", ".x.safetensors", "", "x\0.safetensors"]


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("index", ["model.safetensors.index.json", "model.safetensors.index.fp16.json"])
def test_an_index_lists_safetensors_files_beside_it_alone(name: str, index: str, tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    (folder / index).write_text(json.dumps({"weight_map": {"a": name}}))
    result = validate("llm", folder)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"{folder / index}: lists ")


def test_of_endless_problems_the_first_are_printed(tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    edit_json(folder / "config.json", a=[{"auto_map": MAP}] * 1000)
    lines = validate("llm", folder).stderr.splitlines()
    assert len(lines) == 51 and lines[-1] == f"{folder}: 950 more"


def test_words_of_a_vocabulary_are_no_keys(tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    edit_json(folder / "vocab.json", auto_map=700, trust_remote_code=701, transformers_weights=702)
    assert validate("llm", folder).exit_code == 0


def test_a_program_cannot_be_excepted_by_the_card(tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    (folder / "evil.py").write_text("")
    card = card_of("llm", folder)
    card.write_text(card.read_text("utf-8").replace("role: llm", 'role: llm\nunused: ["*"]'), "utf-8")
    with pytest.raises(
        ModelError, match=r"evil\.py: a program in a model's folder, which a library could run; type: rm"
    ):
        check_model_folder(read_card(card), hash_files=False)


def test_weights_that_are_not_there_yet_are_no_error_of_validate(tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    folder.rename(tmp_path / "elsewhere")
    result = validate("llm", folder)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "cannot run yet: " in result.stdout and "no weights of 'miniature-qwen3'" in result.stdout


def test_a_damaged_card_is_an_error_of_validate(tmp_path: Path) -> None:
    folder = copy_folder("llm", tmp_path)
    card = card_of("llm", folder)
    card.write_text(card.read_text("utf-8").replace("evidence: miniature", "evidence: hearsay"), "utf-8")
    result = validate("llm", folder)
    assert result.exit_code == 3 and f"{card}:6: evidence: expected" in result.stderr
