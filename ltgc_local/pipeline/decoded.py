"""Images that trainings decode into a run's folder: the rows of a table share them, and they go when none is needed.

Decoded at 224 px, ImageNet-LT's training images are 17 GB and iNaturalist 2018's 66 GB (``training.images``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ltgc_local.datasets.lists import SPLITS
from ltgc_local.methods.base import Step
from ltgc_local.runs.directory import RunDirectory


def trains(step: Step) -> bool:
    """Return whether a step trains; only trainings keep decoded images in files."""
    return step.stage.parallel == "distributed"


def take_decoded(places: Iterable[Path], run: RunDirectory) -> None:
    """Link the splits that other runs have decoded, and still have, into ``run``, which need not decode them again.

    A file's name says what it was made from, and its content is checked before it is read. Each run still decodes its
    own generated images, and what runs need that begin to train at the same time, or after the others' last training.
    Where there are no hard links nothing is copied: decoding again takes time, but no more room.
    """
    for place in places:
        for split in SPLITS:
            for file in RunDirectory(place).decoded.glob(f"{split}-*.npy"):
                with suppress(OSError):  # it is there already, was just removed, or is on another file system
                    run.decoded.mkdir(parents=True, exist_ok=True)
                    os.link(file, run.decoded / file.name, follow_symlinks=False)


def drop_decoded(run: RunDirectory, steps: Sequence[Step]) -> None:
    """Remove a run's decoded images if no training is left to read them."""
    if all(run.manifest(step.name) is not None for step in steps if trains(step)):
        shutil.rmtree(run.decoded, ignore_errors=True)
