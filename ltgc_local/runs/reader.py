"""Read a run directory from Python: metrics, descriptions, generated images and predictions. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltgc_local.errors import ArtefactError
from ltgc_local.recipe import Recipe
from ltgc_local.records import Description
from ltgc_local.runs.arrays import read_table
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import decode_png, read_images
from ltgc_local.runs.metrics import MetricsLine, metrics_path, read_metrics
from ltgc_local.runs.provenance import read_run_recipe
from ltgc_local.runs.schemas import ArmMetrics, Metrics

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

#: The steps that write descriptions, those of later rounds of refinement last.
_DESCRIBING = ("describe", "extend")


@dataclass(frozen=True)
class TrainingImage:
    """A generated image that was used for training, and what it was generated from."""

    class_id: int
    class_name: str
    description: str
    image: Image.Image
    score: float  # CLIP's cosine similarity of image and class; NaN if CLIP has not seen the image
    round: int  # of refinement, from 0
    seed: int
    made_from: str  # key of the real image that it was generated from; "" for none


class RunReader:
    """A run directory. Every file is compared with its sha256 before it is read.

    Every method raises an ArtefactError if the step is not complete or a file is damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._run = RunDirectory(root)

    def __repr__(self) -> str:
        return f"RunReader({str(self.root)!r})"

    @property
    def recipe(self) -> Recipe:
        """The run's recipe, including defaults."""
        return read_run_recipe(self.root)

    def is_complete(self, step: str) -> bool:
        """Return whether a step is complete, such as ``"generated"`` or ``"train/ltgc"``."""
        return self._run.manifest(step) is not None

    def metrics(self) -> dict[str, ArmMetrics]:
        """Return accuracies on the test images by arm, in percent: ``metrics()["ltgc"].of("few")``."""
        return dict(self._run.checked("evaluate", "metrics", Metrics).root)

    def history(self, step: str) -> list[dict[str, Any]]:
        """Return a training's epochs: loss, learning rate, images per second, validation accuracies in percent."""
        return self._run.lines(step, "history")

    def live_metrics(self, step: str) -> list[MetricsLine]:
        """Return what a step has reported so far: losses, rates, memory. These files have no checksums."""
        return read_metrics(metrics_path(self._run.folder(step)))

    def descriptions(self) -> list[Description]:
        """Return the descriptions of the tail classes, first those of real images, then those that were added."""
        complete = [step for step in _DESCRIBING if self.is_complete(step)]
        if not complete:
            raise ArtefactError(f"{self.root}: has no descriptions: neither describe nor extend is complete")
        return [each for step in complete for each in self._run.records(step, "descriptions", Description)]

    def generated(self) -> Iterator[TrainingImage]:
        """Yield the generated images that were used for training; memory holds one file of them."""
        for path in self._run.files("generated", "images"):
            for row in read_images([path]):
                facts = (row.score, row.round, row.seed, row.init_image)
                yield TrainingImage(row.class_id, row.class_name, row.description, decode_png(row.image), *facts)

    def predictions(self) -> dict[str, np.ndarray]:
        """Return columns (N,) about the test images: ``key``, ``label``, ``<arm>.predicted``, ``<arm>.confidence``."""
        return read_table(self._run.file_of("evaluate", "predictions"))


def open_run(root: Path | str) -> RunReader:
    """Open a run directory for reading; an ArtefactError says that it is none."""
    folder = Path(root)
    if not (folder / "recipe.json").is_file():
        raise ArtefactError(f"{folder}: is not a run directory: it has no recipe.json")
    return RunReader(folder)
