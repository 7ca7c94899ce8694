"""Train the miniature VAE's decoder further, against a discriminator: what a mean cannot draw, such as stripes.

    python -m miniatures.train_decoder    # 1500 steps, after train_t2i's vae; the UNet's training is not affected

An L1 + L2 loss alone blurs the cloth's surface away. As for the published VAE (Rombach et al., CVPR 2022), a patch
discriminator's loss is added (hinge form), with the L1 distance of its features. The encoder stays as it is, so the
latents do, and a UNet that draws them stays valid.
"""

from __future__ import annotations

import argparse
import copy
import time

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from miniatures.pool import WEIGHTS, load
from miniatures.train_t2i import load_vae, save_vae

ADVERSARIAL, FEATURES = 0.1, 1.0  # factors of the two losses, beside L1 + L2
RISE = 200  # steps over which both factors rise to their value
DECAY = 0.995  # of the exponential moving average, which is what is saved


class Discriminator(nn.Module):
    """Say of each patch of a grey picture (N, 1, 32, 32) whether it is a photograph's."""

    def __init__(self) -> None:
        super().__init__()
        widths, strides = (1, 32, 64, 64, 64), (1, 2, 2, 1)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 3, stride, 1))
            for a, b, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.verdict = spectral_norm(nn.Conv2d(widths[-1], 1, 1))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the verdicts (N, 1, 8, 8) and the features of every layer."""
        features, x = [], pictures
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.verdict(x), features


@torch.no_grad()
def posteriors(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """Return mean and standard deviation of every picture's latents, (N, 2 * 4, 8, 8)."""
    parts = []
    for part in pixels.split(512):
        posterior = vae.encode(part.expand(-1, 3, -1, -1)).latent_dist
        parts.append(torch.cat([posterior.mean, posterior.std], 1))
    return torch.cat(parts)


def train(steps: int, batch: int = 64, lr: float = 5e-4) -> None:
    torch.manual_seed(0)
    pixels = load("pool").pixels[:, :1].contiguous()
    vae = load_vae().eval().requires_grad_(False)
    latents = posteriors(vae, pixels)
    decoder = nn.ModuleList([vae.decoder, vae.post_quant_conv]).requires_grad_(True).train()
    average = copy.deepcopy(decoder)
    critic = Discriminator().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=lr, betas=(0.5, 0.95), weight_decay=0.0)
    critics = torch.optim.AdamW(critic.parameters(), lr=2 * lr, betas=(0.5, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, lr, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    start = time.time()
    for step in range(steps):
        rows = torch.randint(len(pixels), (batch,))
        real, (mean, std) = pixels[rows], latents[rows].chunk(2, 1)
        drawn = vae.decode(mean + std * torch.randn_like(mean)).sample.mean(1, keepdim=True)
        critic.requires_grad_(True)
        critic_loss = F.relu(1 - critic(real)[0]).mean() + F.relu(1 + critic(drawn.detach())[0]).mean()
        critics.zero_grad(set_to_none=True)
        critic_loss.backward()
        critics.step()
        critic.requires_grad_(False)
        with torch.no_grad():
            real_features = critic(real)[1]
        verdict, features = critic(drawn)
        rise = min(1.0, step / RISE)
        distance = sum(F.l1_loss(a, b) for a, b in zip(features, real_features, strict=True))
        reconstruction = F.l1_loss(drawn, real) + F.mse_loss(drawn, real)
        loss = reconstruction - rise * ADVERSARIAL * verdict.mean() + rise * FEATURES * distance
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        decay = min(DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_([p.data for p in average.parameters()], [p.data for p in decoder.parameters()], 1 - decay)
        if step % 100 == 0:
            words = f"reconstruction {reconstruction.item():.4f} discriminator {critic_loss.item():.3f}"
            print(f"decoder {step} {words} {time.time() - start:.0f} s", flush=True)
    vae.decoder, vae.post_quant_conv = average
    save_vae(vae)
    print("saved", WEIGHTS / "sdxl" / "vae")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.steps)
