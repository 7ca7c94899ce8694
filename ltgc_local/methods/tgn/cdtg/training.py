"""Train CDTG: the steps one after the other, a line of history and a checkpoint now and then."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ltgc_local.errors import BackendError
from ltgc_local.methods.tgn.cdtg.steps import CdtgSteps
from ltgc_local.methods.tgn.real_images import RealImages
from ltgc_local.recipe.schema import Cdtg
from ltgc_local.records import Record
from ltgc_local.training.checkpoints import read_checkpoint, write_checkpoint

CHECK_EVERY = 100  # steps between looks at whether the losses are numbers: each waits for the GPU


@dataclass(frozen=True)
class CdtgMetrics(Record):
    """Mean losses since the last line; ``r_t`` is the mean sign of D's logits of real images, ``ada_p`` ADA's p."""

    step: int
    discriminator: float
    generator: float
    class_loss: float
    clip_loss: float
    r1: float
    path_length: float
    r_t: float
    ada_p: float
    images_per_second: float


class CdtgTraining:
    """The training of one generator; between any two steps it can be written to a checkpoint and go on from there."""

    def __init__(
        self, settings: Cdtg, data: RealImages, steps: CdtgSteps, seed: int, checkpoint: Path | None = None
    ) -> None:
        """Prepare a training.

        Args:
            seed: of which real images each step draws.
            checkpoint: the file to go on from, where it is there, and to write to; None does neither.
        """
        self._settings, self._steps, self._checkpoint = settings, steps, checkpoint
        self._batches = data.batches(settings.batch_size, settings.sampler, seed)
        self.history: list[CdtgMetrics] = []
        self._seconds = 0.0  # since the last line, before this process took it up
        self.step = self._restore(checkpoint) if checkpoint else 0

    def run(self, on_step: Callable[[int], None], on_line: Callable[[int], None] = lambda step: None) -> None:
        """Train to the end.

        Args:
            on_step: called with the number of images after each step.
            on_line: called with the number of steps after each line of the history.

        Raises:
            BackendError: a loss is no number.
        """
        settings = self._settings
        on_step(self.step * settings.batch_size)
        self._start = self._written = time.monotonic()
        for rows in itertools.islice(self._batches, self.step, settings.steps):
            self._steps.take(rows, self.step)
            self.step += 1
            on_step(len(rows))
            is_last = self.step == settings.steps
            if self.step % CHECK_EVERY == 0 or is_last:
                self._check()
            if self.step % settings.sample_every == 0 or is_last:
                self._end_line()
                on_line(self.step)
            if self._checkpoint and time.monotonic() - self._written >= 60 * settings.checkpoint_minutes:
                self._write(self._checkpoint)

    def _check(self) -> None:
        for name, sums in self._steps.sums.items():
            if not math.isfinite(float(sums[0])):
                raise BackendError(
                    f"cdtg: the loss {name!r} is no number after {self.step} steps; "
                    f"type --set cdtg.lr={self._settings.lr / 2:g}, or --set cdtg.precision=fp32"
                )

    def _end_line(self) -> None:
        seconds = self._seconds + time.monotonic() - self._start
        done = self.step - (self.history[-1].step if self.history else 0)
        sums = {name: pair.tolist() for name, pair in self._steps.sums.items()}
        means = {name: round(total / number, 6) if number else 0.0 for name, (total, number) in sums.items()}
        rate = round(done * self._settings.batch_size / seconds, 1)
        ada = self._steps.ada
        self.history.append(CdtgMetrics(self.step, **means, r_t=ada.last_r_t, ada_p=ada.p, images_per_second=rate))
        for pair in self._steps.sums.values():
            pair.zero_()
        self._seconds, self._start = 0.0, time.monotonic()

    def _write(self, path: Path) -> None:
        self._written = time.monotonic()
        if not self._steps.accelerator.is_main_process:
            return
        facts = {
            "step": self.step,
            "history": [asdict(line) for line in self.history],
            "seconds": self._seconds + time.monotonic() - self._start,
        }
        write_checkpoint(path, self._steps.state(), facts)

    def _restore(self, path: Path) -> int:
        """Take up the checkpoint, where there is one; return the number of steps that are done."""
        found = read_checkpoint(path)
        if found is None:
            return 0
        groups, facts = found
        self._steps.load_state(groups)
        self.history = [CdtgMetrics(**line) for line in facts["history"]]
        self._seconds = facts["seconds"]
        return int(facts["step"])
