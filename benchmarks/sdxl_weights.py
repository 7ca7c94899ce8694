"""SDXL to measure speed with: the shipped miniature, or the published architecture at full size with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

MINIATURE = Path(__file__).resolve().parents[1] / "data/miniatures/sdxl"
# The published stable-diffusion-xl-base-1.0's configuration files.
UNET = {
    "sample_size": 128,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
    "force_upcast": True,
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
TEXT_ENCODERS: dict[str, dict[str, Any]] = {
    "text_encoder": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                     "hidden_act": "quick_gelu", "projection_dim": 768},
    "text_encoder_2": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
                       "num_attention_heads": 20, "hidden_act": "gelu", "projection_dim": 1280},
}  # fmt: skip


def load_miniature() -> Any:
    """Return the stock pipeline on the shipped weights, in float32."""
    return _quiet(
        StableDiffusionXLPipeline.from_pretrained(
            MINIATURE, dtype=torch.float32, variant="fp16", local_files_only=True, add_watermarker=False
        )
    )


def build_full_size(device: str) -> Any:
    """Return the stock pipeline at full size, random weights in bfloat16; it reads the miniature's words."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(MINIATURE / "tokenizer", local_files_only=True)
    words = {"vocab_size": 49408, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            one, two = (CLIPTextConfig(**config, **words) for config in TEXT_ENCODERS.values())
            encoders = CLIPTextModel(one), CLIPTextModelWithProjection(two)
            unet, vae = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE)
    finally:
        torch.set_default_dtype(usual)
    for part in (*encoders, unet, vae):
        part.eval().requires_grad_(False)
    return _quiet(
        StableDiffusionXLPipeline(
            vae, *encoders, tokenizer, tokenizer, unet, EulerDiscreteScheduler(**SCHEDULER), add_watermarker=False
        )
    )


def _quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
