"""Train the adapter of "TGN-style, diffusion".

All randomness of a step comes from the seed and the step's number, on the CPU, so a training that resumes from a
checkpoint, or runs on several processes, sees the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from accelerate import Accelerator

from ltgc_local.backends.protocols import AdapterLearner, NoisedBatch
from ltgc_local.methods.tgn.feature_space import FeatureSpace
from ltgc_local.recipe.diffusion import Diffusion
from ltgc_local.seeding import item_seed
from ltgc_local.training.checkpoints import Groups
from ltgc_local.training.distributed import average_gradients, check_shares
from ltgc_local.training.optimization import load_weights_, warmup_cosine
from ltgc_local.training.sampling import row_batches
from ltgc_local.training.trainer import Algorithm, Epoch


@dataclass(frozen=True)
class TailImages:
    """The tail's training images as the learner sees them.

    Attributes:
        latents: (N, 4, h, w), encoded once.
        labels: (N,), the tail's indices, which are also the places of the prompts.
        features: (N, F), scaled in ``space``; both are None without conditioning.
    """

    latents: torch.Tensor
    labels: np.ndarray
    features: torch.Tensor | None
    space: FeatureSpace | None


@final
class AdapterTraining(Algorithm[tuple[int, np.ndarray], NoisedBatch]):
    """The training of one adapter; an epoch is ``log_every`` steps."""

    block = "diffusion"

    def __init__(self, settings: Diffusion, learner: AdapterLearner, data: TailImages, seed: int) -> None:
        """Prepare a training; ``seed`` decides the rows, noise, time steps and dropped prompts of every step.

        Raises:
            BackendError: the batch cannot be shared evenly among the processes.
        """
        self.accelerator = Accelerator(cpu=learner.device.type == "cpu")
        check_shares(self.block, settings.batch_size, self.accelerator.num_processes)
        self.remedy = f"--set diffusion.lr={settings.lr / 2:g}, or --set models.dtype=bfloat16"
        self.batch_size = settings.batch_size
        self.epochs = Epoch.split(settings.steps, settings.log_every)
        self._settings, self._learner, self._data, self._seed = settings, learner, data, seed
        self._parameters = dict(learner.parameters)
        adamw = torch.optim.AdamW(list(self._parameters.values()), lr=settings.lr, weight_decay=settings.weight_decay)
        self.optimizers = {"adapter": adamw}

    def lr_factor(self, step: int) -> float:
        return warmup_cosine(step, self._settings.warmup_steps, self._settings.steps)

    def draws(self) -> Iterator[tuple[int, np.ndarray]]:
        return enumerate(row_batches(self._data.labels, self.batch_size, self._settings.sampler, self._seed))

    def gather(self, draw: tuple[int, np.ndarray]) -> NoisedBatch:
        settings, data, (step, rows) = self._settings, self._data, draw
        rng = torch.Generator().manual_seed(item_seed(self._seed, "step", step))
        latents, labels = data.latents[torch.from_numpy(rows)], torch.from_numpy(data.labels[rows])
        noise = torch.randn(latents.shape, generator=rng)
        timesteps = torch.randint(self._learner.num_timesteps, (len(rows),), generator=rng)
        is_empty = torch.rand(len(rows), generator=rng) < settings.prompt_dropout
        prompts = torch.where(is_empty, -1, labels)
        mine = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        features = None
        if data.features is not None and data.space is not None:
            r = settings.r_train * torch.rand(len(rows), 1, generator=rng)
            scaled = data.features[torch.from_numpy(rows)]
            features = data.space.mix(scaled, labels, r, torch.randn(scaled.shape, generator=rng))
            is_dropped = torch.rand(len(rows), generator=rng) < settings.feature_dropout
            features = torch.where(is_dropped[:, None], torch.nan, features)[mine]
        return NoisedBatch(
            latents=latents[mine],
            labels=prompts[mine],
            features=features,
            noise=noise[mine],
            timesteps=timesteps[mine],
        )

    def step(self, step: int, batch: NoisedBatch) -> Mapping[str, torch.Tensor]:
        optimizer, is_bf16 = self.optimizers["adapter"], self._settings.precision == "bf16"
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self._learner.device.type, torch.bfloat16, enabled=is_bf16):
            loss = self._learner.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if step == 0:
            self._learner.check_gradients()
        average_gradients(self._parameters.values())
        optimizer.step()
        return {"loss": loss.detach()}

    def validate(self, epoch: int) -> dict[str, float | None]:
        return {}

    def state(self) -> Groups:
        return {"weights": self._parameters}

    def load_state(self, groups: Groups) -> None:
        load_weights_(self._parameters, groups["weights"])
