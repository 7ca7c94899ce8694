"""Train one network, or two that teach each other by turns, on labels and on the other's feature maps.

    loss = CE(student(x), y) + feature_weight * mean((F_student(x) - F_teacher(x))^2)

x are the student's own images, which the teacher sees, too; the teacher is in eval mode and no gradient reaches it.
Network and data of each step are a function of the epoch, so that a killed training goes on from its checkpoint as it
would have.

In a distributed run each process takes its share of the same batches; batch statistics are of that share.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from ltgc_local.backends.torch_device import with_channels_last
from ltgc_local.errors import BackendError, DataError
from ltgc_local.methods.tgn.class_data import LabelledImages
from ltgc_local.methods.tgn.network import Network
from ltgc_local.recipe.schema import Backbone
from ltgc_local.records import Record
from ltgc_local.seeding import item_seed
from ltgc_local.training.checkpoints import (
    load_optimizer_tensors,
    optimizer_tensors,
    random_states,
    read_checkpoint,
    set_random_states,
    write_checkpoint,
)

Weights = dict[str, torch.Tensor]
#: A network's accuracies on the validation images: ``all``, ``macro_f1`` and whatever else is to be noted.
Validate = Callable[[torch.nn.Module], dict[str, float | None]]
SELECTED_BY = {"best_val_all": "all", "best_val_macro_f1": "macro_f1"}


@dataclass(frozen=True)
class Lesson:
    """What an epoch does: which network learns, from which other (None: labels alone), by which epoch's rate."""

    student: int
    teacher: int | None
    schedule_epoch: int


@dataclass(frozen=True)
class EpochMetrics(Record):
    """One epoch: mean losses, and ``validation`` in percent."""

    epoch: int
    student: str
    loss: float
    class_loss: float
    feature_loss: float
    lr: float
    images_per_second: float
    validation: dict[str, float | None]


@dataclass
class Learner:
    """A network with its data; ``weights`` are those of the epoch that ``select`` asks for."""

    name: str
    network: Network
    images: LabelledImages
    validate: Validate
    weights: Weights = field(default_factory=dict)
    epoch: int = -1
    score: float = -math.inf


class Fitting:
    """The training of networks, which can be written to a checkpoint and go on from there between any two steps."""

    def __init__(
        self,
        learners: Sequence[Learner],
        lessons: Sequence[Lesson],
        settings: Backbone,
        batch_size: int,
        seed: int,
        device: str,
        feature_weight: float = 0.0,
        checkpoint: Path | None = None,
    ) -> None:
        """Prepare the networks, which ``run`` trains in place.

        Args:
            lessons: one an epoch.
            checkpoint: the file to go on from, where it is there, and to write to; None does neither.
        """
        self._learners, self._lessons, self._settings = tuple(learners), tuple(lessons), settings
        self._batch_size, self._seed, self._feature_weight = batch_size, seed, feature_weight
        self._accelerator = Accelerator(cpu=device == "cpu")
        self._plain = [with_channels_last(learner.network.backbone, self._accelerator.device) for learner in learners]
        self._prepared = [self._accelerator.prepare(network) for network in self._plain]
        self._optimizers = [
            torch.optim.Adam(network.parameters(), settings.lr, weight_decay=settings.weight_decay, fused=True)
            for network in self._plain
        ]
        self._history: list[EpochMetrics] = []
        self._losses: list[tuple[float, float]] = []  # of this epoch: class loss, feature loss
        self._seconds = 0.0  # of this epoch, before this process took it up
        self._checkpoint = checkpoint
        self._unused = torch.Generator()  # what is augmented is seeded by its place
        self.epoch = self.step = 0  # epochs done, and steps done of the next
        if checkpoint:
            self._restore(checkpoint)

    @property
    def num_images(self) -> int:
        """How many images all epochs together train on."""
        return sum(self._num_batches(lesson) for lesson in self._lessons) * self._batch_size

    @property
    def num_done(self) -> int:
        """How many of them are done, where a checkpoint was taken up."""
        whole = sum(self._num_batches(lesson) for lesson in self._lessons[: self.epoch])
        return (whole + self.step) * self._batch_size

    def _num_batches(self, lesson: Lesson) -> int:
        images = self._learners[lesson.student].images
        return images.num_batches(self._batch_size, self._accelerator.num_processes)

    def run(self, on_step: Callable[[int], None]) -> list[EpochMetrics]:
        """Train to the end and put the selected weights into the networks; return one record an epoch.

        ``on_step`` is called with the number of images after each step.

        Raises:
            BackendError: the loss is no number.
            DataError: an epoch is to be chosen, and there is no validation image.
        """
        self._start = self._written = time.monotonic()
        for epoch in range(self.epoch, len(self._lessons)):
            lesson = self._lessons[epoch]
            learner = self._learners[lesson.student]
            lr = self._set_lr(lesson)
            batches = learner.images.batches(
                self._batch_size, self._seed_of(learner), epoch, self._accelerator.num_processes
            )
            for number, rows in enumerate(batches):
                if number < self.step:
                    continue
                self._losses.append(self._train_step(lesson, epoch, rows))
                self.step += 1
                on_step(len(rows))
                if self._is_due():
                    self._write()
            self._end_epoch(epoch, lesson, lr)
            if self._is_due():
                self._write()
        for learner, network in zip(self._learners, self._plain, strict=True):
            if learner.weights:
                network.load_state_dict(learner.weights)
            network.eval()
        return self._history

    def _train_step(self, lesson: Lesson, epoch: int, rows: np.ndarray) -> tuple[float, float]:
        """Take one step on this process's share of a batch; return its class loss and feature loss."""
        accelerator, learner = self._accelerator, self._learners[lesson.student]
        mean, std = (tensor.to(accelerator.device) for tensor in learner.network.normalisation)
        mine = rows[accelerator.process_index % len(rows) :: accelerator.num_processes]
        seed = item_seed(self._seed_of(learner), "augment", epoch, self.step, accelerator.process_index)
        images, targets = learner.images.tensors(mine, self._settings, seed, mean, std)
        images = images.contiguous(memory_format=torch.channels_last)
        student = self._prepared[lesson.student]
        student.train()
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=self._settings.precision == "bf16"):
            logits, maps = student(images)
            class_loss = F.cross_entropy(logits.float(), targets)
            feature_loss = torch.zeros((), device=accelerator.device)
            if lesson.teacher is not None and self._feature_weight:
                teacher = self._plain[lesson.teacher].eval()
                with torch.no_grad():
                    taught = teacher.maps(images)
                feature_loss = F.mse_loss(maps.float(), taught.float())
        loss = class_loss + self._feature_weight * feature_loss
        accelerator.backward(loss)
        found = float(class_loss.detach()), float(feature_loss.detach())
        if not math.isfinite(sum(found)):
            raise BackendError(
                f"{learner.name} network: the loss is {sum(found)} in step {self.step} of epoch {epoch}; give a "
                f"smaller learning rate than {self._settings.lr:g}"
            )
        self._optimizers[lesson.student].step()
        self._optimizers[lesson.student].zero_grad(set_to_none=True)
        return found

    def _set_lr(self, lesson: Lesson) -> float:
        lr = self._settings.lr * lr_factor(lesson.schedule_epoch, self._settings)
        for group in self._optimizers[lesson.student].param_groups:
            group["lr"] = lr
        return lr

    def _end_epoch(self, epoch: int, lesson: Lesson, lr: float) -> None:
        seconds = self._seconds + time.monotonic() - self._start
        rate = round(len(self._losses) * self._batch_size / seconds, 1)
        learner, network = self._learners[lesson.student], self._plain[lesson.student].eval()
        validation = learner.validate(network)
        select = self._settings.select
        score = validation.get(SELECTED_BY.get(select, "")) if select != "last" else math.inf
        if score is None:
            raise DataError(
                f"{learner.name} network: select is {select}, but there is no validation image of its classes; "
                "write 'select: last' in its block"
            )
        if select == "last" or score > learner.score:
            learner.weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
            learner.epoch, learner.score = epoch, score
        class_loss, feature_loss = (float(np.mean(losses)) for losses in zip(*self._losses, strict=True))
        loss = class_loss + self._feature_weight * feature_loss
        self._history.append(EpochMetrics(epoch, learner.name, loss, class_loss, feature_loss, lr, rate, validation))
        following = self._lessons[epoch + 1 : epoch + 2]
        if following and following[0].student != lesson.student:
            network.load_state_dict(learner.weights)  # what teaches next is what was selected
        self._losses, self._seconds, self._start = [], 0.0, time.monotonic()
        self.epoch, self.step = epoch + 1, 0

    def _seed_of(self, learner: Learner) -> int:
        return item_seed(self._seed, learner.name)

    def _is_due(self) -> bool:
        waited = time.monotonic() - self._written
        return self._checkpoint is not None and waited >= 60 * self._settings.checkpoint_minutes

    def _write(self) -> None:
        self._written = time.monotonic()
        if self._checkpoint is None or not self._accelerator.is_main_process:
            return
        groups: dict[str, Mapping[str, torch.Tensor]] = {"random": random_states(self._unused)}
        for number, (learner, network) in enumerate(zip(self._learners, self._plain, strict=True)):
            groups[f"weights {number}"] = network.state_dict()
            groups[f"selected {number}"] = learner.weights
            groups[f"optimizer {number}"] = optimizer_tensors(self._optimizers[number])
        facts: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.step,
            "history": [asdict(epoch) for epoch in self._history],
            "losses": self._losses,
            "seconds": self._seconds + time.monotonic() - self._start,
            "selected": [[learner.epoch, learner.score] for learner in self._learners],
        }
        write_checkpoint(self._checkpoint, groups, facts)

    def _restore(self, path: Path) -> None:
        """Take up the checkpoint, where there is one."""
        found = read_checkpoint(path)
        if found is None:
            return
        groups, facts = found
        for number, (learner, network) in enumerate(zip(self._learners, self._plain, strict=True)):
            network.load_state_dict(groups[f"weights {number}"])
            learner.weights = groups.get(f"selected {number}", {})
            learner.epoch, learner.score = facts["selected"][number]
            load_optimizer_tensors(self._optimizers[number], groups.get(f"optimizer {number}", {}))
        set_random_states(groups["random"], self._unused)
        self._history = [EpochMetrics(**epoch) for epoch in facts["history"]]
        self._losses, self._seconds = [tuple(pair) for pair in facts["losses"]], facts["seconds"]
        self.epoch, self.step = facts["epoch"], facts["step"]


def lr_factor(epoch: int, settings: Backbone) -> float:
    """Return the factor of the learning rate: 1 up to epoch 30, a tenth in 31 to 60, … (released code)."""
    return settings.lr_drop_factor ** max(0, (epoch - 1) // settings.lr_drop_epochs)
