"""KMDN: train one network, or two that take turns to teach each other, on labels and on the other's feature maps.

    loss = CE(student(x), y) + feature_weight * mean((F_student(x) - F_teacher(x))^2)

    for epoch in 0 .. distill_epochs - 1:
        phase = epoch // distill_interval        even: the first teacher teaches the other; odd: the other way round

x are the student's own images, which the teacher sees too; the teacher is in eval mode and gets no gradient. Feature
maps are compared rather than logits, because the networks have different classes. With the released 100 epochs and
interval 50, "mutual" means a single alternation: the tail teaches the head on head images, then the head, informed by
the tail, teaches the tail on tail images.

In a distributed run each process takes its share of the same batches, and batch statistics come from that share.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from ltgc_local.backends.torch_device import to_device, with_channels_last
from ltgc_local.methods.tgn.network import Network
from ltgc_local.recipe.tgn import Backbone, Kmdn
from ltgc_local.seeding import item_seed
from ltgc_local.training.augment import augment
from ltgc_local.training.checkpoints import Groups
from ltgc_local.training.images import ImageSet
from ltgc_local.training.optimization import Selection, Weights
from ltgc_local.training.sampling import Sampler, row_batches
from ltgc_local.training.trainer import Algorithm, Epoch

#: A network -> its measures on the validation images, such as ``all`` and ``macro_f1``.
Validate = Callable[[torch.nn.Module], dict[str, float | None]]
HEAD, TAIL = 0, 1  # the peers of distillation


@dataclass(frozen=True)
class DistillEpoch:
    """The network that learns, its teacher (None: labels alone), and the epoch that sets the learning rate."""

    student: int
    teacher: int | None
    schedule_epoch: int


@dataclass(frozen=True, eq=False)
class Peer:
    """A network with its data: ``images`` are labelled by its logits; an epoch samples ``draws`` of them (0: N)."""

    name: str
    network: Network
    images: ImageSet
    validate: Validate
    draws: int = 0
    sampler: Sampler = "instance"

    @property
    def epoch_size(self) -> int:
        return self.draws or len(self.images)

    def num_batches(self, batch_size: int, processes: int = 1) -> int:
        """Return the batches per epoch, without a last one of fewer than two images per process (batch norm)."""
        whole, rest = divmod(self.epoch_size, batch_size)
        return max(1, whole + (rest >= 2 * processes))

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Return the rows of an epoch's images; they depend only on the seed and the epoch."""
        seed = item_seed(seed, "order", epoch)
        return next(row_batches(self.images.labels, self.epoch_size, self.sampler, seed))


@dataclass(frozen=True)
class PeerBatch:
    """A process's share of a batch: its place in the training, its rows and its pixels (B, 3, H, W) uint8."""

    epoch: int
    number: int  # of the batch in the epoch
    rows: np.ndarray
    pixels: torch.Tensor


@final
class PeerTraining(Algorithm[tuple[int, int, np.ndarray], PeerBatch]):
    """The training of one network alone, or of two by each other, in place."""

    def __init__(
        self,
        block: str,
        settings: Backbone,
        peers: Sequence[Peer],
        distill_epochs: Sequence[DistillEpoch],
        batch_size: int,
        seed: int,
        device: str,
        feature_weight: float = 0.0,
    ) -> None:
        """Prepare the networks.

        Args:
            block: the recipe's block that ``settings`` come from.
        """
        self.block, self._settings, self._peers, self._epochs = block, settings, tuple(peers), tuple(distill_epochs)
        self.batch_size, self._seed, self._feature_weight = batch_size, seed, feature_weight
        self.remedy = f"--set {block}.lr={settings.lr / 10:g}"
        self.accelerator = Accelerator(cpu=device == "cpu")
        students = [peers[epoch.student] for epoch in distill_epochs]
        processes = self.accelerator.num_processes
        self.epochs = [Epoch(peer.num_batches(batch_size, processes), peer.name) for peer in students]
        self._ends = list(accumulate(epoch.num_steps for epoch in self.epochs))
        self._networks = [with_channels_last(peer.network.backbone, self.accelerator.device) for peer in peers]
        self._prepared = [self.accelerator.prepare(network) for network in self._networks]
        self._normalisation = [
            tuple(to_device(tensor, self.accelerator.device) for tensor in peer.network.normalisation) for peer in peers
        ]
        # One optimiser for all: parameters without a gradient, such as a teacher's, stay unchanged.
        parameters = [parameter for network in self._networks for parameter in network.parameters()]
        adam = torch.optim.Adam(parameters, settings.lr, weight_decay=settings.weight_decay, fused=True)
        self.optimizers = {"peers": adam}
        self.selections = [Selection(block, settings.select, f"selected {peer.name}") for peer in peers]

    def lr_factor(self, step: int) -> float:
        epoch = min(bisect_right(self._ends, step), len(self._epochs) - 1)
        return lr_drop(self._epochs[epoch].schedule_epoch, self._settings)

    def draws(self) -> Iterator[tuple[int, int, np.ndarray]]:
        accelerator, size = self.accelerator, self.batch_size
        for epoch, distill in enumerate(self._epochs):
            order = self._peers[distill.student].order(self._seed_of(distill.student), epoch)
            for number in range(self.epochs[epoch].num_steps):
                rows = order[number * size : (number + 1) * size]
                yield epoch, number, rows[accelerator.process_index % len(rows) :: accelerator.num_processes]

    def gather(self, draw: tuple[int, int, np.ndarray]) -> PeerBatch:
        epoch, _, rows = draw
        images = self._peers[self._epochs[epoch].student].images
        return PeerBatch(*draw, images.gather(rows, pin=self.accelerator.device.type == "cuda"))

    def step(self, step: int, batch: PeerBatch) -> Mapping[str, torch.Tensor]:
        accelerator, epoch = self.accelerator, self._epochs[batch.epoch]
        images, labels = self._images(batch), self._peers[epoch.student].images.labels[batch.rows]
        targets = to_device(torch.from_numpy(labels), accelerator.device)
        student = self._prepared[epoch.student].train()
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=self._settings.precision == "bf16"):
            logits, maps = student(images)
            class_loss = F.cross_entropy(logits.float(), targets)
            feature_loss = torch.zeros((), device=accelerator.device)
            if epoch.teacher is not None and self._feature_weight:
                teacher = self._networks[epoch.teacher].eval()
                with torch.no_grad():
                    taught = teacher.maps(images)
                feature_loss = F.mse_loss(maps.float(), taught.float())
        loss = class_loss + self._feature_weight * feature_loss
        accelerator.backward(loss)
        self.optimizers["peers"].step()
        self.optimizers["peers"].zero_grad(set_to_none=True)
        losses = {"loss": loss, "class_loss": class_loss, "feature_loss": feature_loss}
        return {name: value.detach() for name, value in losses.items()}

    def _images(self, batch: PeerBatch) -> torch.Tensor:
        """Return augmented, normalised images (B, 3, H, W); the randomness depends only on their place."""
        student = self._epochs[batch.epoch].student
        place = batch.epoch, batch.number, self.accelerator.process_index
        rng = torch.Generator().manual_seed(item_seed(self._seed_of(student), "augment", *place))
        mean, std = self._normalisation[student]
        images = augment(to_device(batch.pixels, mean.device).float() / 255, self._settings, rng)
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)

    def validate(self, epoch: int) -> dict[str, float | None]:
        student = self._epochs[epoch].student
        network = self._networks[student].eval()
        validation = self._peers[student].validate(network)
        self.selections[student].offer(epoch, validation, network.state_dict())
        following = self._epochs[epoch + 1 : epoch + 2]
        if not following or following[0].student != student:
            network.load_state_dict(self.selections[student].weights)  # which teaches next, or is kept
        return validation

    def _seed_of(self, peer: int) -> int:
        return item_seed(self._seed, self._peers[peer].name)

    def state(self) -> Groups:
        groups: dict[str, Weights] = {}
        for peer, selection in zip(self._peers, self.selections, strict=True):
            groups |= {f"weights {peer.name}": peer.network.backbone.state_dict(), **selection.state()}
        return groups

    def load_state(self, groups: Groups) -> None:
        for peer, selection in zip(self._peers, self.selections, strict=True):
            peer.network.backbone.load_state_dict(groups[f"weights {peer.name}"])
            selection.load_state(groups)


def list_epochs(settings: Kmdn) -> tuple[DistillEpoch, ...]:
    """Return the student and the teacher of each epoch of distillation; the head is network 0, the tail 1."""
    first = TAIL if settings.first_teacher == "tail" else HEAD
    epochs = []
    for epoch in range(settings.distill_epochs):
        phase, within = divmod(epoch, settings.distill_interval)
        teacher = first if phase % 2 == 0 else 1 - first
        epochs.append(DistillEpoch(1 - teacher, teacher, epoch if settings.lr_schedule == "global" else within))
    return tuple(epochs)


def lr_drop(epoch: int, settings: Backbone) -> float:
    """Return the factor of the learning rate: 1 up to epoch 30, a tenth in 31 to 60, … (released code)."""
    return settings.lr_drop_factor ** max(0, (epoch - 1) // settings.lr_drop_epochs)
