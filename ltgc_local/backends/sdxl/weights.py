"""SDXL from a local folder: its parts, each with all of its weights, and what turns them into a distilled checkpoint.

Distilled checkpoints (Lightning, LCM, Hyper, Turbo) have the same architecture. They differ by a UNet of their own or a
LoRA that is fused into the base model's when it is loaded, and by the scheduler that they were trained for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import BitsAndBytesConfig, CLIPTextModel, CLIPTextModelWithProjection

from ltgc_local.backends.text.quantised import check_quantisation
from ltgc_local.backends.weights import load_pretrained
from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import FewStepCard

#: Name in a card -> diffusers' class.
SCHEDULERS = {
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "ddim": DDIMScheduler,
    "lcm": LCMScheduler,
}
PARTS = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}
#: What a pipeline's folder may hold and the engine never loads.
UNUSED = {"feature_extractor": None, "image_encoder": None}


def load_sdxl(
    folder: Path, dtype: torch.dtype, few_step: FewStepCard | None, text_encoders: Literal["8bit"] | None = None
) -> StableDiffusionXLPipeline:
    """Load the parts on the CPU. No watermark is drawn: it would be a shortcut feature of generated images.

    Args:
        text_encoders: ``8bit`` quantises theirs by bitsandbytes: LLM.int8() (Dettmers et al. 2022, arXiv:2208.07339),
            which leaves embeddings, normalisations and the pooled text's projection whole.

    Raises:
        BackendError: the text encoders are to be quantised, and already are.
        ModelError: a part lacks weights or has another model's; the LoRA is missing or fits nothing.
    """
    for name in ("tokenizer", "tokenizer_2"):  # without its files an empty one is made, silently
        if not any((folder / name / file).is_file() for file in ("vocab.json", "tokenizer.json")):
            raise ModelError(f"{folder / name}: not there, or without vocab.json and tokenizer.json; copy it again")
    parts = {}
    for name, kind in PARTS.items():
        quantised: dict[str, Any] = {}
        if text_encoders == "8bit" and name.startswith("text_encoder"):
            check_quantisation(folder / name, text_encoders, "cpu", "models.text_encoders=null")
            config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["text_projection"])
            quantised = {"quantization_config": config, "device_map": "cpu"}
        parts[name] = _load_part(kind, folder / name, dtype, **quantised)
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder, **parts, **UNUSED, local_files_only=True, use_safetensors=True, add_watermarker=False
    )
    if few_step is not None:
        if few_step.lora is not None:
            _fuse_lora(pipeline, folder / few_step.lora)
        scheduler = pipeline.scheduler
        kind = type(scheduler) if few_step.scheduler is None else SCHEDULERS[few_step.scheduler]
        spacing = {} if few_step.timestep_spacing is None else {"timestep_spacing": few_step.timestep_spacing}
        pipeline.scheduler = kind.from_config(scheduler.config, **spacing)
    return pipeline


def load_tiny_decoder(folder: Path, vae: Any, dtype: torch.dtype) -> AutoencoderTiny:
    """Load what decodes the latents of ``vae`` in its place.

    Raises:
        ModelError: it lacks weights of its class, or is for other latents.
    """
    tiny: Any = _load_part(AutoencoderTiny, folder, dtype)
    factor = tiny.config.upsampling_scaling_factor ** (len(tiny.config.num_decoder_blocks) - 1)
    found = f"{tiny.config.latent_channels} channels, enlarges them {factor} times"
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    wanted = f"{vae.config.latent_channels} channels, enlarges them {factor} times"
    if getattr(vae.config, "latents_mean", None) is not None:
        wanted += ", and shifts them"
    if found != wanted:
        raise ModelError(
            f"{folder}: decodes latents of {found}, but the model's VAE has {wanted}; name this model's tiny decoder "
            "in its card, or type --set draw.decoder=null"
        )
    return tiny


def _load_part(kind: Any, folder: Path, dtype: torch.dtype, **more: Any) -> Any:
    variant = "fp16" if any(folder.glob("*.fp16*.safetensors")) else None
    part = load_pretrained(kind, folder, dtype=dtype, variant=variant, low_cpu_mem_usage=False, **more)
    return part.eval().requires_grad_(False)


def _fuse_lora(pipeline: StableDiffusionXLPipeline, file: Path) -> None:
    """Add the LoRA's products to the weights that it adapts, so that drawing with it costs nothing."""
    if not file.is_file():
        raise ModelError(f"{file}: not there, but the model's card names it as few_step.lora")
    before = {name: weight.clone() for name, weight in pipeline.unet.state_dict().items() if name.endswith("q.weight")}
    pipeline.load_lora_weights(file.parent, weight_name=file.name, local_files_only=True, use_safetensors=True)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    after = pipeline.unet.state_dict()
    if all(torch.equal(weight, after[name]) for name, weight in before.items()):
        raise ModelError(f"{file}: changes no attention of the UNet: not a LoRA of this architecture")
