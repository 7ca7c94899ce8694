"""Role ``clip`` on transformers: a CLIPModel's folder as publishers lay it out, for cards of family transformers_clip.

config.json, model.safetensors, preprocessor_config.json and the tokenizer's files. A vision tower without its text
tower is refused, since the score and the head need class texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

from ltgc_local.backends.clip.pixels import TwoTowers
from ltgc_local.backends.protocols import ModelOptions
from ltgc_local.backends.weights import load_pretrained
from ltgc_local.errors import ModelError
from ltgc_local.model_store.files import read_json
from ltgc_local.regular_files import MIB, read_text

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
    """The image processor without its conversion to floats: an RGB image of the tower's size."""

    processor: Any

    def __call__(self, image: Image.Image) -> Image.Image:
        done = self.processor(image.convert("RGB"), do_rescale=False, do_normalize=False, return_tensors="np")
        return Image.fromarray(np.moveaxis(done["pixel_values"][0], 0, -1).astype(np.uint8))


@final
class TransformersClip(TwoTowers):
    """transformers' two towers."""

    lora_targets = LORA_TARGETS

    def __init__(self, folder: Path, options: ModelOptions) -> None:
        """Load a folder.

        Raises:
            ModelError: a file or a weight is missing, or the model is of another kind.
        """
        super().__init__(options)
        missing = [name for name in NEEDED if not (folder / name).is_file()]
        if missing:
            raise ModelError(f"{folder}: no {' and no '.join(missing)}: transformers' CLIP needs it")
        kind = read_json(folder / "config.json").get("model_type")
        if kind != "clip":
            raise ModelError(f"{folder / 'config.json'}: model_type is {kind!r}, expected 'clip' (both towers)")
        self._model = load_pretrained(CLIPModel, folder, dtype=torch.float32).eval().to(self.device)
        self.visual = VisionTower(self._model)
        self._tokenizer = CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)
        processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        self.resize = ResizeStep(processor)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (processor.image_mean, processor.image_std))
        self.normalisation = mean, std
        self.preprocessing = read_text(folder / "preprocessor_config.json", MIB)

    def _encode_texts(self, texts: list[str]) -> torch.Tensor:
        length = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        found = self._model.get_text_features(
            input_ids=tokens.input_ids.to(self.device), attention_mask=tokens.attention_mask.to(self.device)
        )
        features: torch.Tensor = found.pooler_output
        return features
