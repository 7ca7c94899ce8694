"""A small CLIP of transformers with random weights, in the folder layout of publishers."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

TOKENIZER = Path(__file__).resolve().parents[1] / "data/miniatures/clip"
LAYERS = 3


def write_transformers_clip(folder: Path) -> Path:
    """Write config, safetensors, image processor and tokenizer: 28 px in patches of 7, width 48, features of 32."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizerFast.from_pretrained(TOKENIZER)
    tower = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": LAYERS, "num_attention_heads": 3}
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        projection_dim=32,
        vision_config=tower | {"image_size": 28, "patch_size": 7, "projection_dim": 32},
        text_config=tower | special | {"vocab_size": len(tokenizer), "projection_dim": 32},
    )
    model = CLIPModel(config)
    with torch.no_grad():  # at CLIP's own initial values all features are nearly alike
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embed" not in name:
                parameter.mul_(5)
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
