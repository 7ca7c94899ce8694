"""Train the miniature Stable Diffusion XL: VAE, two CLIP text encoders and UNet, on the pool.

    python -m miniatures.train_t2i vae    # 900 steps
    python -m miniatures.train_t2i unet   # 2000 steps of a schedule of 4200: the learning rate is still high
    python -m miniatures.train_t2i unet --resume --steps 1000   # from there, with the learning rate falling to 0

Each command needs the one before (``python -m miniatures.train_decoder`` may come anywhere after the first: it sharpens
the VAE's decoder and leaves its latents); the last two write the whole pipeline to data/miniatures/sdxl. It is the
architecture of SDXL with few and narrow layers: two text encoders whose penultimate states are concatenated, pooled
text and size embeddings added to the time step, classifier-free guidance by empty prompts (zeros).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from miniatures.captions import say, sentence
from miniatures.pool import CLASS_NAMES, IMAGE_PX, WEIGHTS, Pictures, load
from miniatures.tokenizers import build_clip_tokenizer

FOLDER = WEIGHTS / "sdxl"
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


def caption(values: dict[str, str], class_id: int, rng: random.Random) -> str:
    """Word an image's attributes as a prompt: mostly complete, sometimes partial, sometimes the class alone."""
    name, draw = CLASS_NAMES[class_id], rng.random()
    if draw < 0.1:
        return f"A photo of a {name}." if draw < 0.05 else sentence(name, [])
    features, scene = say(values, class_id, rng)
    if draw < 0.3:
        features = rng.sample(features, rng.randint(1, 3))
        scene = scene if rng.random() < 0.5 else ""
    return sentence(name, features, scene)


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=IMAGE_PX,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def train_vae(steps: int, batch: int = 64) -> None:
    """Train the VAE with L1 + L2 reconstruction and a small KL term, then set its scaling factor to 1 / latent std."""
    torch.manual_seed(0)
    pixels = load("pool").pixels[:, :1]
    vae = build_vae().train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.05)
    start = time.time()
    for step in range(steps):
        real = pixels[torch.randint(len(pixels), (batch,))].expand(-1, 3, -1, -1)
        real = real.contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(real).latent_dist
        drawn = vae.decode(posterior.sample()).sample
        loss = F.l1_loss(drawn, real) + F.mse_loss(drawn, real) + 2e-6 * posterior.kl().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(f"vae {step} loss {loss.item():.4f} {time.time() - start:.0f} s", flush=True)
    vae.eval()
    with torch.no_grad():
        latents = vae.encode(pixels[:2048].expand(-1, 3, -1, -1)).latent_dist.sample()
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    save_vae(vae)
    print("scaling factor", vae.config.scaling_factor)


def load_vae() -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(FOLDER / "vae", variant="fp16", dtype=torch.float32, local_files_only=True)


def save_vae(vae: AutoencoderKL) -> None:
    """Write the VAE as fp16 safetensors."""
    vae.to(torch.float16).save_pretrained(FOLDER / "vae", variant="fp16")
    forget_paths(FOLDER)


def build_text_encoders(vocab_size: int, bos: int, eos: int) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    def config(width: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            intermediate_size=3 * width,
            projection_dim=width,
            num_hidden_layers=3,
            num_attention_heads=width // 32,
            max_position_embeddings=77,
            hidden_act="quick_gelu",
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=eos,
        )

    return CLIPTextModel(config(64)), CLIPTextModelWithProjection(config(96))


def build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=IMAGE_PX // 4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=(2, 4),
        cross_attention_dim=64 + 96,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=6 * 16 + 96,
        norm_num_groups=16,
    )


class Prompts:
    """Encode prompts as StableDiffusionXLPipeline.encode_prompt does, with gradients."""

    def __init__(self, tokenizer, one: CLIPTextModel, two: CLIPTextModelWithProjection) -> None:
        self.tokenizer, self.one, self.two = tokenizer, one, two

    def __call__(self, prompts: list[str], drop: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return hidden (B, 77, 160) and pooled (B, 96); rows where ``drop`` (B,) is true are zeros."""
        ids = self.tokenizer(
            prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        ).input_ids
        first = self.one(ids, output_hidden_states=True).hidden_states[-2]
        second = self.two(ids, output_hidden_states=True)
        keep = (~drop).float()
        hidden = torch.cat([first, second.hidden_states[-2]], -1) * keep[:, None, None]
        return hidden, second.text_embeds * keep[:, None]


@torch.no_grad()
def encode_all(vae: AutoencoderKL, pictures: Pictures) -> torch.Tensor:
    """Return the scaled latents (N, 4, 8, 8) of all pictures."""
    pixels, chunks = pictures.pixels, []
    for i in range(0, len(pixels), 512):
        chunks.append(vae.encode(pixels[i : i + 512]).latent_dist.mode())
    return torch.cat(chunks) * vae.config.scaling_factor


def train_unet(steps: int, stop_at: int, resume: bool, batch: int = 64, lr: float = 8e-4) -> None:
    """Train UNet and text encoders to predict the noise; save an exponential moving average as fp16 safetensors."""
    torch.manual_seed(1)
    rng = random.Random(1)
    vae = load_vae().eval()
    pool = load("pool")
    latents = encode_all(vae, pool)
    tokenizer = build_clip_tokenizer(FOLDER / "tokenizer")
    build_clip_tokenizer(FOLDER / "tokenizer_2")
    one, two = build_text_encoders(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
    unet = build_unet()
    if resume:
        unet = UNet2DConditionModel.from_pretrained(FOLDER / "unet", variant="fp16", dtype=torch.float32)
        one = CLIPTextModel.from_pretrained(FOLDER / "text_encoder", variant="fp16", dtype=torch.float32)
        two = CLIPTextModelWithProjection.from_pretrained(
            FOLDER / "text_encoder_2", variant="fp16", dtype=torch.float32
        )
    unet = unet.to(memory_format=torch.channels_last)
    print(f"unet {unet.num_parameters() / 1e6:.2f} M, text {(one.num_parameters() + two.num_parameters()) / 1e6:.2f} M")
    modules = torch.nn.ModuleList([unet, one, two])
    averages = copy.deepcopy(modules).eval().requires_grad_(False)
    encode = Prompts(tokenizer, one, two)
    noise_schedule = DDPMScheduler(**SCHEDULE)
    optimiser = torch.optim.AdamW(modules.parameters(), lr=lr, weight_decay=1e-3, betas=(0.9, 0.99))
    warm_then_cosine = lambda s: min(1.0, s / 100) * (0.5 + 0.5 * math.cos(math.pi * s / steps))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, warm_then_cosine)
    sizes = torch.tensor([[IMAGE_PX, IMAGE_PX, 0, 0, IMAGE_PX, IMAGE_PX]]).repeat(batch, 1)
    start = time.time()
    for step in range(stop_at):
        rows = torch.randint(len(latents), (batch,))
        prompts = [caption(pool.attributes[i], int(pool.labels[i]), rng) for i in rows.tolist()]
        clean = latents[rows]
        noise, times = torch.randn_like(clean), torch.randint(1000, (batch,))
        noisy = noise_schedule.add_noise(clean, noise, times).contiguous(memory_format=torch.channels_last)
        hidden, pooled = encode(prompts, torch.rand(batch) < 0.1)
        added = {"text_embeds": pooled, "time_ids": sizes}
        predicted = unet(noisy, times, hidden, added_cond_kwargs=added).sample
        loss = F.mse_loss(predicted, noise)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        decay = min(0.998, (1 + step) / (10 + step))
        torch._foreach_lerp_([p.data for p in averages.parameters()], [p.data for p in modules.parameters()], 1 - decay)
        if step % 100 == 0:
            print(f"unet {step} loss {loss.item():.4f} {time.time() - start:.0f} s", flush=True)
        if step % 500 == 499 or step == stop_at - 1:
            save(vae, tokenizer, averages, FOLDER)


def save(vae: AutoencoderKL, tokenizer, averages: torch.nn.ModuleList, folder: Path) -> None:
    """Write the pipeline in the publishers' layout, fp16 safetensors."""
    unet, one, two = copy.deepcopy(averages)
    pipeline = StableDiffusionXLPipeline(
        vae=copy.deepcopy(vae),
        text_encoder=one,
        text_encoder_2=two,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULE),
        add_watermarker=False,
    )
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True, variant="fp16")
    forget_paths(folder)


def forget_paths(folder: Path) -> None:
    """Remove what diffusers notes of where a part was loaded from: a path of this machine."""
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("vae", "unet"))
    parser.add_argument("--steps", type=int, help="length of the schedule")
    parser.add_argument("--stop-at", type=int, help="leave the schedule early (unet: 2000 of 4200)")
    parser.add_argument("--resume", action="store_true", help="unet: start from the saved average")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.part == "vae":
        train_vae(arguments.steps or 900)
    else:
        steps = arguments.steps or 4200
        stop_at = arguments.stop_at or (2000 if arguments.steps is None else steps)
        train_unet(steps, stop_at, arguments.resume, lr=5e-4 if arguments.resume else 8e-4)
