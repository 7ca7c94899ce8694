"""What is loaded is what was checked: no code of a folder, no pickle, no endless template; and memory by its name."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from ltgc_local.backends import timm_backbone
from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.backends.clip.tokens import load_token_counter
from ltgc_local.backends.protocols import BackboneOptions, ModelOptions, Sampling, TextOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.backends.text import transformers_models
from ltgc_local.backends.text.transformers_models import TransformersLlm
from ltgc_local.errors import BackendError, ModelError
from tests.model_store.folders_of_roles import copy_folder, edit_json

MINIATURES = Path(__file__).resolve().parents[2] / "data/miniatures"
SLOW = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
CPU = ModelOptions()


class Poison:
    """Unpickled, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return os.mkdir, (str(self.marker),)


def poisoned_clip(tmp_path: Path) -> tuple[Path, Path]:
    """Return a clip folder whose tokenizer is a Python module next to it, as its files say, and what that makes."""
    folder, marker = tmp_path / "clip", tmp_path / "it-ran"
    shutil.copytree(MINIATURES / "clip", folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.EvilTok", None]})
    (folder / "evil.py").write_text(
        f"import os\nos.mkdir({str(marker)!r})\nfrom transformers import CLIPTokenizer\n\n\n"
        "class EvilTok(CLIPTokenizer):\n    pass\n"
    )
    return folder, marker


def test_a_clips_own_python_is_not_run_though_its_files_ask_for_it(tmp_path: Path) -> None:
    folder, marker = poisoned_clip(tmp_path)
    count = load_token_counter(folder)
    assert count("a bag") == load_token_counter(MINIATURES / "clip")("a bag")
    own, stock = (OpenClipVit(each, CPU).encode_texts(["a bag"]) for each in (folder, MINIATURES / "clip"))
    assert torch.equal(own, stock)
    assert not marker.exists()


def test_a_pickle_of_the_name_that_open_clip_prefers_is_not_opened(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(MINIATURES / "clip", folder)
    (folder / "open_clip_model.safetensors").rename(folder / "weights.safetensors")
    for name in ("open_clip_pytorch_model.bin", "pytorch_model.bin", "model.pth"):
        (folder / name).write_bytes(pickle.dumps(Poison(tmp_path / "it-ran")))
    images = [Image.new("RGB", (28, 28), (9, 99, 199))]
    ours = OpenClipVit(folder, CPU).encode_images(images)
    assert torch.equal(ours, OpenClipVit(MINIATURES / "clip", CPU).encode_images(images))
    assert not (tmp_path / "it-ran").exists()


def test_the_towers_are_those_that_open_clip_puts_together() -> None:
    clip = OpenClipVit(MINIATURES / "clip", CPU)
    model, preprocess = clip._model, clip.preprocess
    stock, _, stock_preprocess = open_clip.create_model_and_transforms(f"local-dir:{MINIATURES / 'clip'}")
    own, found = model.state_dict(), stock.state_dict()
    assert own.keys() == found.keys() and all(torch.equal(own[name], found[name]) for name in own)
    picture = Image.linear_gradient("L").convert("RGB")
    assert torch.equal(preprocess(picture), stock_preprocess(picture))
    assert str(preprocess) == str(stock_preprocess)


def test_a_template_that_does_not_end_is_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "qwen3"
    shutil.copytree(MINIATURES / "qwen3", folder)
    (folder / "chat_template.jinja").write_text(SLOW)
    monkeypatch.setattr(transformers_models, "RENDER_S", 0.5)
    model = TransformersLlm(folder, TextOptions())
    with pytest.raises(ModelError, match=f"{folder}: its chat template takes more than"):
        model.reply(
            [[{"role": "user", "content": "x"}]], Sampling(seed=0, max_new_tokens=1, temperature=0.0, top_p=1.0)
        )


SCARCE = """
import importlib, resource, sys
from pathlib import Path
from ltgc_local.backends.protocols import ModelOptions, T2iOptions, TextOptions
from ltgc_local.backends.registry import BACKENDS, load_model
options = {"llm": TextOptions, "t2i": T2iOptions, "clip": ModelOptions}[sys.argv[1]](device="cpu")
role, backend, folder = sys.argv[1:]
importlib.import_module(BACKENDS[role, backend].split(":")[0])
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**20, -1))
try:
    load_model(role, backend, Path(folder), options)
except Exception as problem:
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    sys.exit(f"{type(problem).__name__} {problem}")
"""


@pytest.mark.parametrize(
    ("role", "backend", "name", "remedy"),
    [
        ("llm", "transformers", "qwen3", "models.quantization=4bit"),
        ("t2i", "diffusers", "sdxl", "models.dtype=bfloat16"),
        ("clip", "open_clip", "clip", "models.dtype=bfloat16"),
    ],
)
def test_a_lack_of_memory_is_named_and_not_taken_for_damage(role: str, backend: str, name: str, remedy: str) -> None:
    folder = MINIATURES / name
    words = [sys.executable, "-c", SCARCE, role, backend, str(folder)]
    told = subprocess.run(words, capture_output=True, text=True, timeout=300).stderr.splitlines()[-1]
    assert told == (
        f"BackendError {folder}: out of memory while it is loaded as a {role} by {backend}; end what else uses the "
        f"memory, or type --set {remedy}"
    )


def test_a_backbone_that_memory_does_not_hold_is_not_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_folder("backbone", tmp_path)

    def load_file(file: Path) -> dict[str, torch.Tensor]:
        return {"a": torch.empty(2**60, dtype=torch.uint8)}

    monkeypatch.setattr(timm_backbone, "load_file", load_file)
    options = BackboneOptions(architecture="test_resnet", num_classes=3)
    lack = "out of memory while it is loaded as a backbone by timm; end what else uses the memory$"
    with pytest.raises(BackendError, match=f"{folder}: {lack}") as caught:
        load_model("backbone", "timm", folder, options)
    assert caught.value.exit_code == 6
    monkeypatch.undo()
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=f"{folder}: cannot be loaded as a backbone by timm: "):
        load_model("backbone", "timm", folder, options)


def test_a_pickle_alone_is_not_loaded_by_transformers(tmp_path: Path) -> None:
    folder = tmp_path / "qwen3"
    shutil.copytree(MINIATURES / "qwen3", folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Poison(tmp_path / "it-ran")))
    with pytest.raises(ModelError, match=r"cannot be loaded as a llm by transformers: Error no file named model\.s"):
        load_model("llm", "transformers", folder, TextOptions())
    assert not (tmp_path / "it-ran").exists()
