"""Role ``clip`` on open_clip: a folder with open_clip_config.json, weights and tokenizer, never bare weights.

The folder's config carries the preprocessing; with bare weights open_clip falls back to its default, silently. The
model is put together here from open_clip's classes: ``open_clip.create_model`` looks for weights itself, pickles too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.factory import load_checkpoint
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from torchvision.transforms import Resize, ToTensor
from torchvision.transforms.v2.functional import resize

from ltgc_local.backends.clip.pixels import encode_pixels, to_pixels
from ltgc_local.backends.clip.tokens import load_open_clip_tokenizer
from ltgc_local.backends.protocols import LoadSettings
from ltgc_local.backends.torch_device import resolve_device, resolve_dtype
from ltgc_local.errors import ModelError
from ltgc_local.model_store import open_clip_weights, read_json
from ltgc_local.regular_files import MIB, read_text

TEXTS_AT_ONCE = 256
LORA_TARGETS = {
    "attention": r"transformer\.resblocks\.\d+\.attn",
    "attention+mlp": r"transformer\.resblocks\.\d+\.(attn|mlp\.c_fc|mlp\.c_proj)",
}


@dataclass(frozen=True)
class ResizeStep:
    """The part of a torchvision preprocessing that gives images still: all before it makes a tensor."""

    preprocess: Callable[[Image.Image], torch.Tensor]

    def __call__(self, image: Image.Image) -> Image.Image:
        for step in self.preprocess.transforms:  # type: ignore[attr-defined]
            if isinstance(step, ToTensor):
                break
            image = resized(image, step) if isinstance(step, Resize) else step(image)
        return rgb(image)


def rgb(image: Image.Image) -> Image.Image:
    """Return an RGB image; one that is RGB is not copied."""
    return image if image.mode == "RGB" else image.convert("RGB")


def resized(image: Image.Image, step: Resize) -> Image.Image:
    """Do the step on a uint8 tensor: Pillow's image but for rounding, a grey level or two, in a fifth of its time."""
    pixels = torch.from_numpy(np.array(rgb(image))).permute(2, 0, 1)
    pixels = resize(pixels, step.size, step.interpolation, step.max_size, step.antialias)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def normalisation_of(preprocess: Callable[[Image.Image], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a torchvision preprocessing's mean and std as (1, 3, 1, 1) tensors."""
    (step,) = [step for step in preprocess.transforms if type(step).__name__ == "Normalize"]  # type: ignore[attr-defined]
    return torch.tensor(step.mean).view(1, 3, 1, 1), torch.tensor(step.std).view(1, 3, 1, 1)


def load_towers(folder: Path) -> tuple[Any, Any]:
    """Return the model, with the weights of its safetensors file, and the preprocessing of an image.

    Raises:
        ModelError: the configuration cannot be read, or there is no one file of weights.
    """
    config = read_json(folder / "open_clip_config.json")
    settings = dict(config["model_cfg"])
    kind = open_clip.CustomTextCLIP if settings.pop("custom_text", False) else open_clip.CLIP
    model = kind(**settings)
    load_checkpoint(model, str(open_clip_weights(folder)), strict=True)
    chosen = merge_preprocess_dict(asdict(PreprocessCfg()), config.get("preprocess_cfg", {}))
    chosen = PreprocessCfg(**chosen | {"size": model.visual.image_size})
    return model, image_transform_v2(chosen, is_train=False)


@final
class OpenClipVit:
    """CLIP's two towers, as a ``TrainableClip``."""

    lora_targets: Mapping[str, str] = LORA_TARGETS

    def __init__(self, folder: Path, settings: LoadSettings) -> None:
        if not (folder / "open_clip_config.json").is_file():
            raise ModelError(f"{folder}: no open_clip_config.json: open_clip needs it for size and preprocessing")
        self.device = resolve_device(settings.device)
        self._dtype = resolve_dtype(settings.dtype, self.device)
        self._model, self.preprocess = load_towers(folder)
        self._model.eval().to(self.device)
        self._tokenizer = load_open_clip_tokenizer(folder)
        self.resize = ResizeStep(self.preprocess)
        self.normalisation = normalisation_of(self.preprocess)
        self.preprocessing = read_text(folder / "open_clip_config.json", MIB)

    @property
    def visual(self) -> torch.nn.Module:
        """The vision tower: normalised images (B, 3, H, W) -> features (B, D), not of unit length."""
        visual: torch.nn.Module = self._model.visual
        return visual

    @property
    def logit_scale(self) -> float:
        """Return the factor of cosines that CLIP was trained with: 1 / temperature."""
        return float(self._model.logit_scale.detach().exp())

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return self.encode_pixels(torch.from_numpy(to_pixels(images, self.resize)))

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        return encode_pixels(self.visual, pixels, self.normalisation, self.device, self._dtype)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        rows = [
            self._model.encode_text(self._tokenizer(list(texts[start : start + TEXTS_AT_ONCE])).to(self.device)).float()
            for start in range(0, len(texts), TEXTS_AT_ONCE)
        ]
        return F.normalize(torch.cat(rows), dim=-1).cpu()
