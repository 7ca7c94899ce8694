"""The Trainer on the smallest algorithm: a line fitted to points by SGD, whose gradients have noise on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from ltgc_local.errors import BackendError
from ltgc_local.training.checkpoints import Groups
from ltgc_local.training.trainer import Algorithm, Epoch, Trainer

SIZES = (25, 10, 10)  # steps of the epochs
STEPS = sum(SIZES)


class Killed(Exception):
    """What stops a training between two steps."""


class Line(Algorithm[int, torch.Tensor]):
    """y = slope * x, fitted to slope 3."""

    block, remedy, batch_size = "line", "--set line.lr=0.001", 4

    def __init__(self, poisoned: int | None = None) -> None:
        self.accelerator = Accelerator(cpu=True)
        self.epochs = [Epoch(size, "odd" if number % 2 else "even") for number, size in enumerate(SIZES)]
        self.slope = torch.nn.Parameter(torch.zeros(1))
        self.optimizers = {"line": torch.optim.SGD([self.slope], lr=0.01, momentum=0.9)}
        self.validated: list[float] = []
        self._poisoned = poisoned  # the step whose loss is not finite

    def lr_factor(self, step: int) -> float:
        return 1 / (1 + step)

    def draws(self) -> Iterator[int]:
        return iter(range(10**9))

    def gather(self, draw: int) -> torch.Tensor:
        x = torch.randn(self.batch_size, generator=torch.Generator().manual_seed(draw))
        return torch.full_like(x, torch.nan) if draw == self._poisoned else x

    def step(self, step: int, batch: torch.Tensor) -> Mapping[str, torch.Tensor]:
        self.optimizers["line"].zero_grad()
        loss = (self.slope * batch - 3 * batch + 0.1 * torch.randn(4)).square().mean()  # noise by torch's own generator
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers["line"].step()
        losses = {"loss": loss.detach()}
        return losses | ({"also": loss.detach() * 2} if step % 10 == 0 else {})

    def validate(self, epoch: int) -> dict[str, float | None]:
        self.validated.append(float(self.slope.detach()))
        return {"slope": self.validated[-1], "nothing": None}

    def state(self) -> Groups:
        return {"line": {"slope": self.slope}}

    def load_state(self, groups: Groups) -> None:
        with torch.no_grad():
            self.slope.copy_(groups["line"]["slope"])


def run(checkpoint: Path | None = None, minutes: float = 0.0, **hooks: Callable[[Any], None]) -> tuple[Line, Trainer]:
    torch.manual_seed(0)
    line = Line()
    trainer = Trainer(line, checkpoint, minutes, **hooks)
    trainer.run()
    return line, trainer


def kill_in(step: int) -> Callable[[int], None]:
    """Return what stops a training in a step (from 1 on), before its checkpoint."""
    calls: list[int] = []

    def kill(images: int) -> None:
        calls.append(images)
        if len(calls) == step + 1:  # the first call tells of what was done before
            raise Killed

    return kill


@pytest.mark.parametrize("killed_in", [2, 20, 25, 26, 35, 45])
def test_a_killed_training_resumes_to_the_same_numbers(tmp_path: Path, killed_in: int) -> None:
    line, trainer = run()
    path = tmp_path / "step/checkpoint.safetensors"
    with pytest.raises(Killed):
        run(path, on_step=kill_in(killed_in))
    torch.manual_seed(99)
    resumed, done = Line(), []
    again = Trainer(resumed, path, on_step=done.append)
    assert again.step == killed_in - 1
    assert [epoch.to_json() for epoch in again.run()] == [epoch.to_json() for epoch in trainer.history]
    assert done == [4 * (killed_in - 1)] + [4] * (STEPS - killed_in + 1)
    assert torch.equal(resumed.slope, line.slope)
    assert line.validated[-len(resumed.validated) :] == resumed.validated


def test_the_history_has_the_means_of_each_epoch(tmp_path: Path) -> None:
    losses: list[dict[str, float]] = []

    class Noted(Line):
        def step(self, step: int, batch: torch.Tensor) -> Mapping[str, torch.Tensor]:
            found = super().step(step, batch)
            losses.append({name: float(loss) for name, loss in found.items()})
            return found

    line = Noted()
    history = Trainer(line).run()
    assert [epoch.step for epoch in history] == [25, 35, 45]
    assert [epoch.network for epoch in history] == ["even", "odd", "even"]
    assert [epoch.validation["slope"] for epoch in history] == line.validated
    assert [epoch.lr for epoch in history] == pytest.approx([0.01 / 25, 0.01 / 35, 0.01 / 45])  # of the last step
    first = 0
    for epoch in history:
        of_epoch, first = losses[first : epoch.step], epoch.step
        assert epoch.losses["loss"] == pytest.approx(sum(each["loss"] for each in of_epoch) / len(of_epoch))
        rare = [each["also"] for each in of_epoch if "also" in each]  # a loss that only some steps have
        assert epoch.losses["also"] == pytest.approx(sum(rare) / len(rare))


def test_metrics_are_told_every_twenty_steps_and_after_each_validation() -> None:
    told: list[Mapping[str, float]] = []
    _, trainer = run(on_metrics=told.append)
    of_training = [each for each in told if "loss" in each]
    assert [each["step"] for each in of_training] == [1, 20, 25, 35, 40, 45]  # the first step, and each epoch's end
    assert [each["epoch"] for each in of_training] == [0, 0, 0, 1, 2, 2]
    assert of_training[1]["lr"] == pytest.approx(0.01 / 20)
    assert all(each["images_per_second"] > 0 for each in of_training)
    assert ("gpu_memory_mib" in of_training[0]) == (trainer._algorithm.accelerator.device.type == "cuda")
    # The first epoch's mean is that of what was told of its 1, 19 and 5 steps.
    mean = (of_training[0]["loss"] + 19 * of_training[1]["loss"] + 5 * of_training[2]["loss"]) / 25
    assert trainer.history[0].losses["loss"] == pytest.approx(mean)
    of_validation = [each for each in told if "loss" not in each]
    assert of_validation == [  # what could not be measured is left out
        {"step": epoch.step, "epoch": epoch.epoch, "validation/slope": epoch.validation["slope"]}
        for epoch in trainer.history
    ]


@pytest.mark.parametrize("minutes", [0.0, 100.0])
def test_losses_are_read_before_anything_is_kept_of_them(tmp_path: Path, minutes: float) -> None:
    # The 28th step's loss (step 27, in epoch 1) is not finite; it is read at a checkpoint or at the epoch's end.
    path, line = tmp_path / "checkpoint.safetensors", Line(poisoned=27)
    with pytest.raises(BackendError, match=r"line: loss is nan in step 27 \(epoch 1\); type --set line\.lr=0\.001"):
        Trainer(line, path, minutes).run()
    assert len(line.validated) == 1  # epoch 1 was not validated
    if minutes:
        assert not path.exists()
    else:
        assert Trainer(Line(), path).step == 27  # of before it went wrong


def test_a_loss_of_the_first_step_is_read_at_once() -> None:
    steps: list[int] = []
    with pytest.raises(BackendError, match="loss is nan in step 0"):
        Trainer(Line(poisoned=0), on_step=steps.append).run()
    assert len(steps) == 2


def test_checkpoints_come_after_the_minutes_that_were_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    run(path, minutes=100)
    assert not path.exists()
    _, trainer = run(path)
    ended = Trainer(Line(), path)
    assert ended.step == STEPS and ended.run() == trainer.history


def test_the_epochs_of_a_training_that_has_steps_alone_end_with_its_last() -> None:
    assert [epoch.num_steps for epoch in Epoch.split(10, 4)] == [4, 4, 2]
    assert [epoch.num_steps for epoch in Epoch.split(8, 4)] == [4, 4]
    assert [epoch.num_steps for epoch in Epoch.split(3, 4)] == [3]
