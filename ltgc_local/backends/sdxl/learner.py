"""SDXL while its adapter trains: everything is frozen but the LoRA and the map of features to tokens.

    L = mean (eps_theta(sqrt abar_t x + sqrt(1 - abar_t) eps, t, prompt, features) - eps)^2     (Ho et al. 2020)

or the velocity instead of eps, as the folder's scheduler says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from PIL import Image

from ltgc_local.backends.protocols import AdapterSettings, NoisedBatch
from ltgc_local.backends.sdxl.adapter import FeatureTokens, adapter_file, add_lora
from ltgc_local.backends.sdxl.denoise import cpu_generators, size_ids
from ltgc_local.backends.sdxl.prompts import PromptEncoder
from ltgc_local.backends.sdxl.unet import set_attention
from ltgc_local.backends.sdxl.vae import Vae
from ltgc_local.backends.torch_device import to_device
from ltgc_local.backends.weights import check_gradients
from ltgc_local.errors import BackendError

TRAINED = ("epsilon", "v_prediction")


@final
class SdxlLearner:
    """See ``AdapterLearner``."""

    def __init__(
        self,
        pipeline: Any,
        encoder: PromptEncoder,
        vae: Vae,
        device: torch.device,
        settings: AdapterSettings,
        prompts: Sequence[str],
    ) -> None:
        """Add an untrained adapter, drawn by torch's global generator, to a pipeline's UNet.

        Args:
            prompts: all that will be trained with.

        Raises:
            BackendError: the scheduler asks for a prediction that we cannot train.
        """
        self.device, self._settings, self._vae = device, settings, vae
        self._parts = {name: getattr(pipeline, name) for name in ("unet", "vae", "text_encoder", "text_encoder_2")}
        for part in self._parts.values():
            part.requires_grad_(False)
        self._unet: Any = pipeline.unet
        self._tokens: FeatureTokens | None = None
        if settings.feature_size is not None:
            self._tokens = FeatureTokens(self._unet, settings.feature_size, settings.num_tokens).to(device)
            self._parts["features"] = self._tokens
        add_lora(self._unet, settings)
        set_attention(self._unet, None, self._tokens)
        if settings.gradient_checkpointing:
            self._unet.enable_gradient_checkpointing()
        self._unet.train()  # which checkpointing needs; SDXL's UNet has no dropout
        self._schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
        self._kind = str(self._schedule.config.prediction_type)
        if self._kind not in TRAINED:
            raise BackendError(
                f"diffusion: the t2i's scheduler predicts {self._kind!r}; only 'epsilon' and 'v_prediction' are trained"
            )
        with torch.no_grad():
            encoder.prepare(prompts, "")
            rows = encoder.rows(prompts)
            self._prompts = rows + encoder.negative_rows("", rows)[:1]

    @property
    def num_timesteps(self) -> int:
        return int(self._schedule.config.num_train_timesteps)

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        found = {f"lora.{name}": each for name, each in self._unet.named_parameters() if "lora_" in name}
        if self._tokens is not None:
            found |= {f"features.{name}": each for name, each in self._tokens.named_parameters()}
        return found

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> torch.Tensor:
        """See ``AdapterLearner.encode_images``; a seed is for sampling from an image's posterior."""
        return self._vae.encode(images, self._settings.size_px, cpu_generators(seeds)).float().cpu()

    def loss(self, batch: NoisedBatch) -> torch.Tensor:
        latents, noise, timesteps, labels = (
            to_device(tensor, self.device) for tensor in (batch.latents, batch.noise, batch.timesteps, batch.labels)
        )
        rows, dtype = self._prompts[labels], self._unet.dtype
        if self._tokens is not None and batch.features is not None:
            rows = rows.with_tokens(self._tokens(to_device(batch.features, self.device).float()))
        sizes = size_ids(self._settings.size_px, len(latents), self.device, dtype)
        predicted = self._unet(
            self._schedule.add_noise(latents, noise, timesteps).to(dtype),
            timesteps,
            rows.hidden,
            added_cond_kwargs={"text_embeds": rows.pooled, "time_ids": sizes},
            return_dict=False,
        )[0]
        target = noise if self._kind == "epsilon" else self._schedule.get_velocity(latents, noise, timesteps)
        return F.mse_loss(predicted.float(), target.float())

    def check_gradients(self) -> None:
        meant = {id(parameter) for parameter in self.parameters.values()}
        every = (
            (f"{part}.{name}", parameter, id(parameter) in meant)
            for part, module in self._parts.items()
            for name, parameter in module.named_parameters()
        )
        check_gradients("diffusion", every, "unet")

    def adapter(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        return adapter_file(self._unet, self._tokens, self._settings)
