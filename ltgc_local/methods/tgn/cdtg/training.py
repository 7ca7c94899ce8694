"""CDTG's training: each step trains the discriminator, then the generator, and occasionally adds a penalty to each.

    L_D = softplus(-D(x, y)) + softplus(D(x~, y))                + r1_weight / 2 * R1          every r1_every steps
    L_G = softplus(-D(x~, y)) + class_weight * L_class(x~, y) + clip_weight * L_clip(x~, y)
                                                                 + path_weight * path length   every path_every steps

Image x~_i is made with the label and the features of the batch's real image x_i. Both losses use the same images: the
discriminator first learns from them, then judges them for the generator, where StyleGAN2 generates new ones. A penalty
computed every k steps counts k times, and its optimiser's rate and betas are adjusted to match (lazy regularisation,
StyleGAN2). R1 differentiates at the augmented real images, where StyleGAN2-ADA does at the originals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from accelerate import Accelerator

from ltgc_local.backends.torch_device import to_device, with_channels_last
from ltgc_local.methods.tgn.cdtg.adaptive_augmentation import AdaptiveProbability, augment
from ltgc_local.methods.tgn.cdtg.convolution import differentiable_twice
from ltgc_local.methods.tgn.cdtg.discriminator import Discriminator
from ltgc_local.methods.tgn.cdtg.losses import (
    ClipJudge,
    consistency_loss,
    discriminator_loss,
    generator_loss,
    path_lengths,
    path_penalty,
    r1_penalty,
)
from ltgc_local.methods.tgn.cdtg.pixels import mirror, to_images
from ltgc_local.methods.tgn.cdtg.real_features import RealFeatures
from ltgc_local.methods.tgn.cdtg.tail_generator import Randomness, TailGenerator
from ltgc_local.methods.tgn.network import TailNetwork
from ltgc_local.recipe.tgn import Cdtg
from ltgc_local.training.checkpoints import Groups
from ltgc_local.training.distributed import average_gradients, check_shares
from ltgc_local.training.images import ImageSet
from ltgc_local.training.optimization import MovingAverage, trained_parameters
from ltgc_local.training.sampling import row_batches
from ltgc_local.training.trainer import Algorithm, Epoch

Losses = dict[str, torch.Tensor]


class CdtgTraining(Algorithm[np.ndarray, tuple[np.ndarray, torch.Tensor]]):
    """The training of both networks, in place; an epoch is ``sample_every`` steps.

    In a distributed run each process draws the same batch and takes its share. Gradients are averaged without a wrapper
    around the networks, because R1 and the path length differentiate a gradient.
    """

    block = "cdtg"

    def __init__(
        self,
        settings: Cdtg,
        data: ImageSet,
        generator: TailGenerator,
        discriminator: Discriminator,
        tail_network: TailNetwork,
        clip: ClipJudge | None,
        device: str,
        seed: int,
    ) -> None:
        """Prepare both networks.

        Args:
            data: real images with the generator's labels: the tail's indices, then the head's.
            tail_network: KMDN's, frozen, for the features and the class loss.
            clip: for the CLIP loss; None leaves it out.
            seed: decides the real images of each step and all noise.

        Raises:
            BackendError: the batch cannot be shared evenly among the processes.
        """
        self.accelerator = Accelerator(cpu=device == "cpu")
        self.device = self.accelerator.device
        check_shares(self.block, settings.batch_size, self.accelerator.num_processes)
        self.remedy = f"--set cdtg.lr={settings.lr / 2:g}, or --set cdtg.precision=fp32"
        self.batch_size = settings.batch_size
        self.epochs = Epoch.split(settings.steps, settings.sample_every)
        self._settings, self._data, self._seed = settings, data, seed
        self._tail_network, self._clip = tail_network, clip
        self._is_released = settings.behaviour == "released"
        self.generator = with_channels_last(generator, self.device)
        self.discriminator = with_channels_last(discriminator, self.device)
        if self._is_released and generator.fusion is not None:
            generator.fusion.requires_grad_(False)
        self._features: RealFeatures | None = None
        if generator.fusion is not None:
            self._features = RealFeatures(tail_network, data, settings.flip, self._autocast(), self.device)
        compiling = settings.compile and self.device.type == "cuda"
        # The penalties use the uncompiled networks: torch.compile has no second derivative.
        self._generate = torch.compile(generator, dynamic=False) if compiling else generator
        self._discriminate = torch.compile(discriminator, dynamic=False) if compiling else discriminator
        networks = {"generator": generator, "discriminator": discriminator}
        self._parameters = {name: trained_parameters(network) for name, network in networks.items()}
        self.optimizers = {
            "generator": _lazy_adam(settings, self._parameters["generator"].values(), settings.path_every),
            "discriminator": _lazy_adam(settings, self._parameters["discriminator"].values(), settings.r1_every),
        }
        self.average = MovingAverage(self._parameters["generator"], settings.ema)
        self.ada = AdaptiveProbability(settings.ada_target, settings.ada_images, settings.ada_every, settings.ada_max)
        self._rng = torch.Generator(self.device).manual_seed(seed)
        self._path_mean = torch.zeros((), device=self.device)

    def lr_factor(self, step: int) -> float:
        return 1.0

    def draws(self) -> Iterator[np.ndarray]:
        return row_batches(self._data.labels, self.batch_size, self._settings.sampler, self._seed)

    def gather(self, draw: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        return draw, self._data.gather(draw, pin=self.device.type == "cuda")

    def step(self, step: int, batch: tuple[np.ndarray, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        settings, (rows, pixels) = self._settings, batch
        images = to_images(pixels, self.device)
        labels = to_device(torch.from_numpy(self._data.labels[rows]), self.device)
        mirrored = torch.zeros(len(rows), dtype=torch.bool, device=self.device)
        if settings.flip:
            mirrored = torch.rand(len(rows), generator=self._rng, device=self.device) < 0.5
            images = mirror(images, mirrored)
        images, labels = images[self._share], labels[self._share]
        features = None
        if self._features is not None:
            features = self._features.take(images, rows[self._share], mirrored[self._share])
        with self._autocast():
            fakes = self._generate(*self._inputs(labels, features))
        losses = self._discriminator_step(images, fakes.detach(), labels)
        if settings.r1_weight and step % settings.r1_every == 0:
            losses |= self._r1_step(images, labels)
        losses |= self._generator_step(fakes, labels)
        if settings.path_weight and step % settings.path_every == 0:
            few = _first(len(labels), settings.path_batch_shrink)
            losses |= self._path_step(labels[few], None if features is None else features[few])
        self.average.update()
        if settings.augment == "ada" and (step + 1) % settings.ada_every == 0:
            self.ada.adapt(self.accelerator.reduce(self.ada.signs, "sum"))
        return {name: loss.detach() for name, loss in losses.items()}

    def _discriminator_step(self, images: torch.Tensor, fakes: torch.Tensor, labels: torch.Tensor) -> Losses:
        both = self._augmented(torch.cat([images, fakes.float()]))
        with self._autocast():
            real_logits, fake_logits = self._discriminate(both, labels.repeat(2), sets=2).chunk(2)
        self.ada.count(real_logits)
        loss = discriminator_loss(real_logits, fake_logits)
        self._descend("discriminator", loss)
        return {"discriminator": loss}

    def _r1_step(self, images: torch.Tensor, labels: torch.Tensor) -> Losses:
        with differentiable_twice():
            penalty = r1_penalty(lambda seen: self.discriminator(seen, labels), self._augmented(images))
        weight = self._settings.r1_weight / 2 * self._settings.r1_every
        self._descend("discriminator", weight * penalty)
        return {"r1": penalty}

    def _generator_step(self, fakes: torch.Tensor, labels: torch.Tensor) -> Losses:
        settings = self._settings
        self.discriminator.requires_grad_(False)
        with self._autocast():
            loss = generator_loss(self._discriminate(self._augmented(fakes), labels))
        losses = {"generator": loss}
        few = _first(len(labels), settings.consistency_shrink)
        seen, known = fakes[few], labels[few]
        if self._is_released:  # which only logs these losses
            seen = seen.detach()
        if settings.class_weight:
            with self._autocast():
                class_loss = consistency_loss(self._tail_network(seen)[0], known)
            losses["class_loss"] = class_loss
            loss = loss + settings.class_weight * class_loss
        if self._clip is not None and settings.clip_weight:
            with self._autocast():
                clip_loss = consistency_loss(self._clip(seen), known)
            losses["clip_loss"] = clip_loss
            loss = loss + settings.clip_weight * clip_loss
        self._descend("generator", loss)
        self.discriminator.requires_grad_(True)
        return losses

    def _path_step(self, labels: torch.Tensor, features: torch.Tensor | None) -> Losses:
        random, labels, features, r = self._inputs(labels, features)
        styles = self.generator.styles(random, labels, features, r)
        with differentiable_twice():
            images = self.generator.generator.synthesise(styles, random.maps)
        noise = torch.randn(images.shape, generator=self._rng, device=self.device)
        lengths = path_lengths(images, styles, noise)
        penalty, self._path_mean = path_penalty(lengths, self._path_mean, self._settings.path_decay)
        self._path_mean = self.accelerator.reduce(self._path_mean, "mean")
        weight = self._settings.path_weight * self._settings.path_every
        self._descend("generator", weight * penalty)
        return {"path_length": lengths.mean()}

    def _inputs(
        self, labels: torch.Tensor, features: torch.Tensor | None
    ) -> tuple[Randomness, torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Return the generator's inputs for a batch; each process draws all the randomness and takes its share."""
        settings, num = self._settings, len(labels) * self.accelerator.num_processes
        random = self.generator.draw(num, settings.style_mixing, self._rng)
        low = settings.r_train if settings.r_train_low is None else settings.r_train_low
        r = low + (settings.r_train - low) * torch.rand(num, 1, generator=self._rng, device=self.device)
        return random.part(self._share), labels, features, r[self._share]

    @property
    def _share(self) -> slice:
        """This process's part of a batch."""
        return slice(self.accelerator.process_index, None, self.accelerator.num_processes)

    def _augmented(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, enabled=False):  # which would round colours to bfloat16
            return augment(images, self.ada.p, self._rng)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._settings.precision == "bf16")

    def _descend(self, network: str, loss: torch.Tensor) -> None:
        self.optimizers[network].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self._parameters[network].values())
        self.optimizers[network].step()

    def validate(self, epoch: int) -> dict[str, float | None]:
        """Return the mean sign of D's logits on real images, and the probability of ADA's changes."""
        return {"r_t": self.ada.last_r_t, "ada_p": self.ada.p}

    def state(self) -> Groups:
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.weights,
            "noise": {"state": self._rng.get_state()},
            "ada": self.ada.state(),
            "path": {"mean": self._path_mean},
        }

    def load_state(self, groups: Groups) -> None:
        self.generator.load_state_dict(groups["generator"])
        self.discriminator.load_state_dict(groups["discriminator"])
        self.average.weights = groups.get("average", {})
        self._rng.set_state(groups["noise"]["state"].cpu())
        self.ada.load_state(groups["ada"])
        self._path_mean = groups["path"]["mean"]


def _first(num: int, shrink: int) -> slice:
    """Return the first 1 / shrink of ``num`` images, at least one."""
    return slice(0, max(1, num // shrink))


def _lazy_adam(settings: Cdtg, parameters: Iterable[torch.nn.Parameter], every: int) -> torch.optim.Adam:
    """Return Adam for a loss with a penalty every few steps: rate and betas as if the penalty were in every step."""
    ratio = every / (every + 1)
    return torch.optim.Adam(list(parameters), lr=settings.lr * ratio, betas=(0.0, settings.beta2**ratio), fused=True)
