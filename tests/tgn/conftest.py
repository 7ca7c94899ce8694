"""A small TGN run on the shipped images: every stage except the generator's, which real images stand in for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ltgc_local.methods.stage import Stage, stage_class
from ltgc_local.methods.tgn.budget import list_wanted
from ltgc_local.methods.tgn.classes import read_manifest
from ltgc_local.pipeline.ongoing import count_chunks
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.pipeline.worker import do_work
from ltgc_local.recipe import Recipe, load_recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Artefact, GeneratedImage, Images, Json, encode_png
from ltgc_local.runs.progress import Progress
from ltgc_local.runs.provenance import write_run_recipe

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "kmdn.stem=full",
    "kmdn.size_px=16",
    "kmdn.epochs=1",
    "kmdn.distill_epochs=2",
    "kmdn.distill_interval=1",
    "kmdn.batch_size=128",
    "classifier.stem=full",
    "classifier.size_px=16",
    "classifier.epochs=1",
    "classifier.batch_size=128",
    "classifier.equal_steps=false",
    "cdtg.r=0.05",
    "merge.images=50",
    "leaks.enabled=false",
    "measure.max_images=20",
    "measure.kid_subsets=3",
    "evaluate.batch_size=1000",
    "report.images_per_class=2",
)


@dataclass(frozen=True)
class TgnRun:
    """A run directory in which steps are done in this process."""

    recipe: Recipe
    run: RunDirectory

    def stage(self, step: str) -> Stage:
        found = next(each for each in build_plan(self.recipe) if each.name == step)
        return stage_class(found)(self.recipe, found, self.run, Progress(step))

    def do(self, *steps: str) -> None:
        """Do steps as the worker and the launcher do them."""
        for name in steps:
            stage = self.stage(name)
            do_work(stage)
            fingerprint = {f"reads {read}": "" for read in stage.step.reads}
            self.run.write_manifest(name, fingerprint, count_chunks(stage.step, self.run), 0.0)

    def finish(self) -> None:
        """Do the steps after the images are generated."""
        self.do("merge", "measure", "train/tgn", "train/control")
        self.do("predict/kmdn", *(f"{kind}/{arm}" for kind in ("validate", "predict") for arm in ("tgn", "control")))
        self.do("evaluate", "report")

    def write(self, name: str, artefacts: Sequence[Artefact], numbered: bool = True) -> None:
        reads = next(step.reads for step in build_plan(self.recipe) if step.name == name)
        self.run.write_chunk(name, 0, list(artefacts), {"items": 1, "seconds": 0.0, "peak_mib": 0}, numbered)
        self.run.write_manifest(name, {f"reads {read}": "" for read in reads}, 1, 0.0)

    def generate(self) -> None:
        """Use images of the validation split in place of generated ones."""
        corpus, manifest = self.stage("generated").corpus, read_manifest(self.run)
        prompts = {entry.class_id: entry.prompt for entry in manifest.entries}
        rows = {c: [row for row, label in enumerate(corpus.val.labels) if label == c] for c in prompts}
        images = [
            GeneratedImage(
                encode_png(corpus.val.image(rows[w.class_id][w.number % len(rows[w.class_id])])),
                w.class_id,
                corpus.class_names[w.class_id],
                w.number,
                prompts[w.class_id],
                0,
                1,
                init_image=corpus.train.keys[w.source_row],
            )
            for w in list_wanted(corpus, manifest, self.recipe)
        ]
        self.write("cdtg/train", [Json("made", "up")], False)
        self.write("generated", [Images("images", images)])


@pytest.fixture(scope="session")
def start_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TgnRun]:
    """A function (*options) -> a run of the quickstart, made small, in a folder of its own."""

    def start(*overrides: str) -> TgnRun:
        recipe = load_recipe(ROOT / "recipes/tgn_quickstart.yaml", [*SMALL, *overrides])
        root = tmp_path_factory.mktemp("tgn")
        write_run_recipe(root, recipe)
        return TgnRun(recipe, RunDirectory(root))

    return start


@pytest.fixture(scope="session")
def finished(start_run: Callable[..., TgnRun]) -> TgnRun:
    """A run with every step done; real images stand in for the generator's."""
    run = start_run()
    run.do("classes", "kmdn/head", "kmdn/tail", "kmdn/distill")
    run.generate()
    run.finish()
    return run
