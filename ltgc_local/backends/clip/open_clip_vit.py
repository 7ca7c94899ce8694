"""Role ``clip`` on open_clip: a folder with open_clip_config.json, weights and tokenizer, never bare weights.

The folder's config holds the preprocessing; with bare weights open_clip silently falls back to its default. The model
is built here from open_clip's classes, since ``open_clip.create_model`` looks for weights itself, including pickles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import numpy as np
import open_clip
import torch
from open_clip.factory import load_checkpoint
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from torchvision.transforms import Normalize, Resize, ToTensor
from torchvision.transforms.v2.functional import resize

from ltgc_local.backends.clip.pixels import TwoTowers
from ltgc_local.backends.clip.tokens import load_open_clip_tokenizer
from ltgc_local.backends.protocols import ModelOptions
from ltgc_local.errors import ModelError
from ltgc_local.model_store.architecture import open_clip_weights
from ltgc_local.model_store.files import read_json
from ltgc_local.regular_files import MIB, read_text

LORA_TARGETS = {
    "attention": r"transformer\.resblocks\.\d+\.attn",
    "attention+mlp": r"transformer\.resblocks\.\d+\.(attn|mlp\.c_fc|mlp\.c_proj)",
}

Preprocess = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class ResizeStep:
    """The part of a torchvision preprocessing that returns images: everything before it makes a tensor."""

    preprocess: Preprocess

    def __call__(self, image: Image.Image) -> Image.Image:
        for step in self.preprocess.transforms:  # type: ignore[attr-defined]
            if isinstance(step, ToTensor):
                break
            image = _resized(image, step) if isinstance(step, Resize) else step(image)
        return _rgb(image)


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy an RGB image


def _resized(image: Image.Image, step: Resize) -> Image.Image:
    """Resize as a uint8 tensor: within a grey level or two of Pillow's image, in a fifth of its time."""
    pixels = torch.from_numpy(np.array(_rgb(image))).permute(2, 0, 1)
    pixels = resize(pixels, step.size, step.interpolation, step.max_size, step.antialias)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def normalisation_of(preprocess: Preprocess) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a torchvision preprocessing's mean and std as (1, 3, 1, 1) tensors."""
    (step,) = [step for step in preprocess.transforms if isinstance(step, Normalize)]  # type: ignore[attr-defined]
    return torch.tensor(step.mean).view(1, 3, 1, 1), torch.tensor(step.std).view(1, 3, 1, 1)


@final
class OpenClipVit(TwoTowers):
    """open_clip's two towers."""

    lora_targets = LORA_TARGETS

    def __init__(self, folder: Path, options: ModelOptions) -> None:
        """Load the weights of the folder's safetensors file.

        Raises:
            ModelError: the configuration cannot be read, or there is not exactly one file of weights.
        """
        super().__init__(options)
        path = folder / "open_clip_config.json"
        if not path.is_file():
            raise ModelError(f"{folder}: no open_clip_config.json: open_clip needs it for size and preprocessing")
        config = read_json(path)
        settings = dict(config["model_cfg"])
        kind = open_clip.CustomTextCLIP if settings.pop("custom_text", False) else open_clip.CLIP
        self._model = kind(**settings)
        load_checkpoint(self._model, str(open_clip_weights(folder)), strict=True)
        self._model.eval().to(self.device)
        self.visual = self._model.visual
        self._tokenizer = load_open_clip_tokenizer(folder)
        preprocess = merge_preprocess_dict(asdict(PreprocessCfg()), config.get("preprocess_cfg", {}))
        preprocess |= {"size": self.visual.image_size}
        self.preprocess = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
        self.resize, self.normalisation = ResizeStep(self.preprocess), normalisation_of(self.preprocess)
        self.preprocessing = read_text(path, MIB)

    def _encode_texts(self, texts: list[str]) -> torch.Tensor:
        features: torch.Tensor = self._model.encode_text(self._tokenizer(texts).to(self.device))
        return features
