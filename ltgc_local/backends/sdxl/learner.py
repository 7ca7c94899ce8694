"""SDXL while its adapter trains: everything is frozen but the LoRA and the map of features to tokens.

    L = mean (eps_theta(sqrt abar_t x + sqrt(1 - abar_t) eps, t, prompt, features) - eps)^2     (Ho et al. 2020)

or the velocity in the place of eps, as the folder's scheduler says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from PIL import Image

from ltgc_local.backends.protocols import AdapterSettings
from ltgc_local.backends.sdxl.adapter import FeatureTokens, add_lora, file_of
from ltgc_local.backends.sdxl.prompts import Embeddings, PromptEncoder
from ltgc_local.backends.sdxl.unet import set_attention
from ltgc_local.backends.sdxl.vae import Vae
from ltgc_local.backends.torch_device import to_device
from ltgc_local.backends.weights import check_gradients
from ltgc_local.errors import BackendError


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
        """Add an untrained adapter, of torch's global generator's numbers, to a pipeline's UNet.

        Args:
            prompts: all that will be trained with.

        Raises:
            BackendError: the scheduler asks for a prediction that we cannot train.
        """
        self.device, self._settings = device, settings
        self._pipeline, self._vae = pipeline, vae
        self._unet: Any = pipeline.unet
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
            part.requires_grad_(False)
        self._tokens: FeatureTokens | None = None
        if settings.feature_size is not None:
            self._tokens = FeatureTokens(self._unet, settings.feature_size, settings.num_tokens).to(device)
        add_lora(self._unet, settings)
        set_attention(self._unet, None, self._tokens)
        if settings.gradient_checkpointing:
            self._unet.enable_gradient_checkpointing()
        self._unet.train()  # which checkpointing wants; SDXL's UNet has no dropout
        self._schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
        self._kind = str(self._schedule.config.prediction_type)
        if self._kind not in ("epsilon", "v_prediction"):
            raise BackendError(
                f"diffusion: the t2i's scheduler predicts {self._kind!r}; only 'epsilon' and 'v_prediction' are trained"
            )
        self._prompts = _encode(encoder, prompts)
        size = settings.size_px
        self._sizes = torch.tensor([[size, size, 0, 0, size, size]])

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
        """See ``AdapterLearner.encode_images``; a seed is of the draw from an image's posterior."""
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        return self._vae.encode(images, self._settings.size_px, generators).float().cpu()

    def loss(
        self,
        latents: torch.Tensor,
        labels: torch.Tensor,
        features: torch.Tensor | None,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
    ) -> torch.Tensor:
        """See ``AdapterLearner.loss``."""
        dtype = self._unet.dtype
        latents, noise, timesteps, labels = (
            to_device(tensor, self.device) for tensor in (latents, noise, timesteps, labels)
        )
        rows = Embeddings(self._prompts.hidden[labels], self._prompts.pooled[labels])
        if self._tokens is not None and features is not None:
            rows = rows.with_tokens(self._tokens(to_device(features, self.device).float()))
        sizes = self._sizes.to(self.device, dtype).repeat(len(latents), 1)
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
        """See ``AdapterLearner.check_gradients``."""
        meant = {id(parameter) for parameter in self.parameters.values()}
        parts = {name: getattr(self._pipeline, name) for name in ("unet", "vae", "text_encoder", "text_encoder_2")}
        parts |= {} if self._tokens is None else {"features": self._tokens}
        every = (
            (f"{part}.{name}", parameter, id(parameter) in meant)
            for part, module in parts.items()
            for name, parameter in module.named_parameters()
        )
        check_gradients("diffusion", every, "unet")

    def adapter(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """See ``AdapterLearner.adapter``."""
        return file_of(self._unet, self._tokens, self._settings)


@torch.no_grad()
def _encode(encoder: PromptEncoder, prompts: Sequence[str]) -> Embeddings:
    """Return the embeddings of C prompts, and as the last row those of the prompt that guidance moves away from."""
    encoder.prepare(prompts, "")
    rows = encoder.rows(prompts)
    empty = encoder.negative_rows("", rows)
    return Embeddings(torch.cat([rows.hidden, empty.hidden[:1]]), torch.cat([rows.pooled, empty.pooled[:1]]))
