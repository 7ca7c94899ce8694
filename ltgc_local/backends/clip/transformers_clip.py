"""Role ``clip`` on transformers: a CLIPModel's folder as publishers lay it out, of a card of family transformers_clip.

config.json, model.safetensors, preprocessor_config.json and the tokenizer's files. A vision tower without its text
tower is refused: class texts are needed for the score and for the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

from ltgc_local.backends.clip.pixels import encode_pixels, to_pixels
from ltgc_local.backends.protocols import LoadSettings
from ltgc_local.backends.torch_device import resolve_device, resolve_dtype
from ltgc_local.backends.weights import refuse_missing_weights
from ltgc_local.errors import ModelError
from ltgc_local.model_store import read_json
from ltgc_local.regular_files import MIB, read_text

TEXTS_AT_ONCE = 256
NEEDED = ("config.json", "preprocessor_config.json", "tokenizer_config.json")
LORA_TARGETS = {
    "attention": r"vision_model\.encoder\.layers\.\d+\.self_attn\.(q|k|v|out)_proj",
    "attention+mlp": r"vision_model\.encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])",
}


class VisionTower(torch.nn.Module):
    """transformers' vision model and projection: normalised images (B, 3, H, W) -> features (B, D)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_model = model.vision_model
        self.visual_projection = model.visual_projection

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.visual_projection(self.vision_model(pixel_values=images).pooler_output)
        return features

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        if enable:
            self.vision_model.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            self.vision_model.gradient_checkpointing_disable()


@dataclass(frozen=True)
class ResizeStep:
    """The image processor without the step to numbers: an RGB image at the tower's size."""

    processor: Any

    def __call__(self, image: Image.Image) -> Image.Image:
        done = self.processor(image.convert("RGB"), do_rescale=False, do_normalize=False, return_tensors="np")
        return Image.fromarray(np.moveaxis(done["pixel_values"][0], 0, -1).astype(np.uint8))


@final
class TransformersClip:
    """CLIP's two towers, as a ``TrainableClip``."""

    lora_targets: Mapping[str, str] = LORA_TARGETS

    def __init__(self, folder: Path, settings: LoadSettings) -> None:
        _check_folder(folder)
        self.device = resolve_device(settings.device)
        self._dtype = resolve_dtype(settings.dtype, self.device)
        local = {"local_files_only": True}
        self._model, found = CLIPModel.from_pretrained(
            folder,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **local,
        )
        refuse_missing_weights(folder, self._model, found)
        self._model.eval().to(self.device)
        self._tokenizer = CLIPTokenizerFast.from_pretrained(folder, **local)
        processor = CLIPImageProcessor.from_pretrained(folder, **local)
        self._tower = VisionTower(self._model)
        self.resize = ResizeStep(processor)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (processor.image_mean, processor.image_std))
        self.normalisation = mean, std
        self.preprocessing = read_text(folder / "preprocessor_config.json", MIB)

    @property
    def visual(self) -> torch.nn.Module:
        """The vision tower: normalised images (B, 3, H, W) -> features (B, D), not of unit length."""
        return self._tower

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
            self._encode(list(texts[start : start + TEXTS_AT_ONCE])) for start in range(0, len(texts), TEXTS_AT_ONCE)
        ]
        return F.normalize(torch.cat(rows), dim=-1).cpu()

    def _encode(self, texts: list[str]) -> torch.Tensor:
        length = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        found = self._model.get_text_features(
            input_ids=tokens.input_ids.to(self.device), attention_mask=tokens.attention_mask.to(self.device)
        )
        features: torch.Tensor = found.pooler_output
        return features.float()


def _check_folder(folder: Path) -> None:
    """Refuse a folder that is not a whole CLIPModel's, in words.

    Raises:
        ModelError: a file is missing, or the model is of another kind.
    """
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder}: no {' and no '.join(missing)}: transformers' CLIP needs it")
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "clip":
        raise ModelError(f"{folder / 'config.json'}: model_type is {kind!r}, expected 'clip' (both towers)")
