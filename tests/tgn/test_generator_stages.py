"""The stages of the generator on the shipped images: files, lineage, shards, seeds, resuming."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ltgc_local.errors import BackendError
from ltgc_local.methods.tgn.budget import list_wanted
from ltgc_local.methods.tgn.cdtg.tail_generator import load_tail_generator
from ltgc_local.methods.tgn.classes import read_manifest
from ltgc_local.methods.tgn.stages import synthesize, train_generator
from ltgc_local.pipeline.worker import run_step
from ltgc_local.records import EpochMetrics
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import GeneratedImage, Images, decode_png, read_images
from tests.tgn.conftest import TgnRun
from tests.working import run_workers

TINY = (
    "cdtg.size_px=16",
    "cdtg.style_dim=16",
    "cdtg.mlp_layers=2",
    "cdtg.max_channels=8",
    "cdtg.batch_size=8",
    "cdtg.steps=6",
    "cdtg.sample_every=3",
    "cdtg.stored_size_px=16",
    "cdtg.shard_size=32",
)


@pytest.fixture(scope="module")
def start_tiny(start_run: Callable[..., TgnRun], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TgnRun]:
    """A function (*options) -> a run that has its networks; they are trained once."""
    first = start_run(*TINY)
    first.do("classes", "kmdn/head", "kmdn/tail", "kmdn/distill")

    def start(*overrides: str) -> TgnRun:
        run = start_run(*TINY, *overrides)
        for step in ("classes", "kmdn"):
            shutil.copytree(first.run.folder(step), run.run.folder(step))
        return run

    return start


@pytest.mark.parametrize("classes", ["tail", "all"])
def test_clips_prompts_are_in_the_order_of_the_generators_labels(
    start_tiny: Callable[..., TgnRun], classes: str
) -> None:
    run = start_tiny(f"cdtg.clip_classes={classes}")
    stage, manifest = run.stage("cdtg/train"), read_manifest(run.run)
    texts = stage._judge().texts
    assert len(texts) == {"tail": 6, "all": 10}[classes]
    for entry in manifest.tail:
        assert torch.allclose(texts[entry.index], stage.model.encode_texts([entry.prompt])[0], atol=1e-5)
    index_of = {entry.class_id: entry.index for entry in manifest.tail}
    labels = [index_of[label] for label in stage.corpus.train.labels.tolist() if label in index_of]
    of_tail = [label for label in stage._images.labels.tolist() if label < 6]  # head classes come after them
    assert of_tail == labels


@pytest.fixture(scope="module")
def tiny(start_tiny: Callable[..., TgnRun]) -> TgnRun:
    """A run with its generator."""
    run = start_tiny()
    run.do("cdtg/train")
    return run


def generate(run: TgnRun) -> list[GeneratedImage]:
    stage = run.stage("generated")
    rows: list[GeneratedImage] = []
    for chunk in stage.chunks():
        (artefact,) = stage.make_chunk(chunk)
        assert isinstance(artefact, Images)
        rows += artefact.rows
    return rows


@pytest.fixture(scope="module")
def rows(tiny: TgnRun) -> list[GeneratedImage]:
    return generate(tiny)


def test_training_writes_the_generator_its_history_and_its_samples(tiny: TgnRun) -> None:
    folder, settings = tiny.run.folder("cdtg/train"), tiny.recipe.cdtg
    history = tiny.run.records("cdtg/train", "history", EpochMetrics)
    assert [line.step for line in history] == [3, 6]
    assert all(line.losses["class_loss"] > 0 and line.losses["clip_loss"] > 0 for line in history)
    num_tail = len(read_manifest(tiny.run).tail)
    for name in ("samples-0000003.png", "samples-0000006.png", "samples.png"):
        with Image.open(folder / name) as grid:
            assert grid.size == (train_generator.COLUMNS * settings.size_px, num_tail * settings.size_px)
    generator = load_tail_generator(tiny.run.files("cdtg/train", "generator")[0], "cpu")
    assert generator.widths.num_classes == num_tail + 4 * (settings.classes == "all")
    assert generator.fusion is not None
    assert len(tiny.run.files("cdtg/train", "discriminator")) == 1


def test_every_wanted_image_is_generated_with_its_class_and_the_real_image_behind_it(
    tiny: TgnRun, rows: list[GeneratedImage]
) -> None:
    stage = tiny.stage("generated")
    corpus, manifest = stage.corpus, read_manifest(tiny.run)
    wanted = list_wanted(corpus, manifest, tiny.recipe)
    assert [(row.class_id, row.description_id) for row in rows] == [(w.class_id, w.number) for w in wanted]
    labels = dict(zip(corpus.train.keys, corpus.train.labels.tolist(), strict=True))
    prompts = {entry.class_id: entry.prompt for entry in manifest.tail}
    for row, want in zip(rows, wanted, strict=True):
        assert row.init_image == corpus.train.keys[want.source_row]
        assert labels[row.init_image] == row.class_id in prompts
        assert row.description == prompts[row.class_id]
        assert row.class_name == corpus.class_names[row.class_id]
        assert row.seed == stage.seed("generate", row.class_id, row.description_id)
    assert len({row.seed for row in rows}) == len(rows)
    assert max(Counter(row.init_image for row in rows).values()) == tiny.recipe.merge.per_source


def test_images_are_stored_as_the_originals_are(rows: list[GeneratedImage]) -> None:
    for row in rows[::40]:
        image = decode_png(row.image)
        assert (image.size, image.mode) == ((16, 16), "L")


def test_an_image_is_the_same_whatever_batch_and_shard_it_is_in(tiny: TgnRun, rows: list[GeneratedImage]) -> None:
    settings = tiny.recipe.cdtg.model_copy(update={"generate_batch_size": 3, "shard_size": 5})
    other = TgnRun(tiny.recipe.model_copy(update={"cdtg": settings}), tiny.run)
    stage = other.stage("generated")
    chunk = stage.chunks()[2]
    (artefact,) = stage.make_chunk(chunk)
    assert isinstance(artefact, Images) and len(artefact.rows) == 5
    for one, again in zip(rows[10:15], artefact.rows, strict=True):
        assert replace(one, image=b"", score=0.0) == replace(again, image=b"", score=0.0)
        difference = np.asarray(decode_png(one.image), int) - np.asarray(decode_png(again.image), int)
        assert np.abs(difference).max() <= 1  # rounding: a convolution of 3 images may add in another order


def test_the_worker_resumes_where_shards_are_missing(start_tiny: Callable[..., TgnRun], tiny: TgnRun) -> None:
    run = start_tiny()
    shutil.copytree(tiny.run.folder("cdtg/train"), run.run.folder("cdtg/train"))
    run_step(run.run.root, "generated", 0, 1)
    folder = run.run.folder("generated")
    whole = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    assert len(whole) > 2
    (folder / "images-00001.parquet").unlink()
    (folder / "chunks/00001.json").unlink()
    times = {name: (folder / name).stat().st_mtime_ns for name in whole if name != "images-00001.parquet"}
    run_step(run.run.root, "generated", 0, 1)
    assert {name: (folder / name).stat().st_mtime_ns for name in times} == times
    again = read_images([folder / "images-00001.parquet"])
    assert [row.seed for row in again] == [
        run.stage("generated").seed("generate", row.class_id, row.description_id) for row in again
    ]
    assert (folder / "images-00001.parquet").read_bytes() == whole["images-00001.parquet"]


def test_r_decides_how_much_an_image_has_of_its_source(tiny: TgnRun) -> None:
    def generated(r: float, seed: int) -> list[bytes]:
        cdtg = tiny.recipe.cdtg.model_copy(update={"r": r, "style_mixing": 0.0})
        run = TgnRun(tiny.recipe.model_copy(update={"cdtg": cdtg, "seed": seed}), tiny.run)
        stage = run.stage("generated")
        train = stage.corpus.train
        row = int(np.flatnonzero(train.labels == 7)[0])
        other = int(np.flatnonzero(train.labels == 7)[1])
        wanted = [synthesize.Wanted(7, 0, row), synthesize.Wanted(7, 0, other)]
        (artefact,) = stage.make_chunk(wanted)
        assert isinstance(artefact, Images)
        return [image.image for image in artefact.rows]

    one, other = generated(1.0, 0)
    assert one == other  # noise alone: the real image does not matter
    one, other = generated(0.0, 0)
    assert one != other


def test_an_r_that_was_not_trained_is_warned_of(tiny: TgnRun, caplog: pytest.LogCaptureFixture) -> None:
    settings = tiny.recipe.cdtg.model_copy(update={"r": 0.05, "r_train": 0.8, "r_train_low": None})
    stage = TgnRun(tiny.recipe.model_copy(update={"cdtg": settings}), tiny.run).stage("generated")
    with caplog.at_level(logging.WARNING):
        stage.chunks()
    assert "r is 0.05, but the generator was trained with r from 0.8 to 0.8" in caplog.text
    caplog.clear()
    settings = settings.model_copy(update={"r_train_low": 0.05})
    stage = TgnRun(tiny.recipe.model_copy(update={"cdtg": settings}), tiny.run).stage("generated")
    with caplog.at_level(logging.WARNING):
        stage.chunks()
    assert caplog.text == ""


@pytest.mark.parametrize(
    "overrides",
    [
        ("cdtg.classes=all", "cdtg.clip_classes=all", "cdtg.text_condition=true"),
        ("cdtg.classes=tail", "cdtg.features=false", "cdtg.clip_weight=0", "cdtg.class_weight=0"),
        ("cdtg.classes=tail", "cdtg.behaviour=released", "cdtg.size_px=32"),
        ("cdtg.classes=tail", "cdtg.fusion=pool", "cdtg.augment=ada"),
    ],
    ids=lambda overrides: "+".join(o.split(".")[1] for o in overrides),
)
def test_every_form_trains_and_generates(start_tiny: Callable[..., TgnRun], overrides: tuple[str, ...]) -> None:
    run = start_tiny("cdtg.steps=2", "merge.images=131", *overrides)
    run.do("cdtg/train")
    generator = load_tail_generator(run.run.files("cdtg/train", "generator")[0], "cpu")
    settings = run.recipe.cdtg
    assert generator.widths.num_classes == (10 if settings.classes == "all" else 6)
    assert (generator.fusion is not None) == settings.features
    assert (generator.generator.text_features is not None) == settings.text_condition
    stage = run.stage("generated")
    chunk = [wanted for chunk in stage.chunks() for wanted in chunk][:6]
    (artefact,) = stage.make_chunk(chunk)
    assert isinstance(artefact, Images)
    assert len({row.image for row in artefact.rows}) == len(chunk)


def test_the_released_behaviour_needs_more_than_one_value_a_map(start_tiny: Callable[..., TgnRun]) -> None:
    run = start_tiny("cdtg.behaviour=released")
    with pytest.raises(BackendError, match=r"layer3 gives maps of 1 x 1 .* --set cdtg\.size_px=32"):
        run.do("cdtg/train")


def test_a_killed_step_resumes_from_its_checkpoint(
    start_tiny: Callable[..., TgnRun], tiny: TgnRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_tiny("cdtg.checkpoint_minutes=0")

    class Killed(Exception):
        pass

    taken: list[int] = []
    train = train_generator.CdtgTraining.step

    def counted(self: train_generator.CdtgTraining, step: int, batch: Any) -> Any:
        if step == 4 and step not in taken:
            taken.append(step)
            raise Killed
        taken.append(step)
        return train(self, step, batch)

    monkeypatch.setattr(train_generator.CdtgTraining, "step", counted)
    with pytest.raises(Killed):
        run.do("cdtg/train")
    run.do("cdtg/train")
    assert taken == [0, 1, 2, 3, 4, 4, 5]
    lines, whole = (each.run.lines("cdtg/train", "history") for each in (run, tiny))
    assert lines == whole
    one, other = (
        load_tail_generator(RunDirectory(Path(each.run.root)).files("cdtg/train", "generator")[0], "cpu").state_dict()
        for each in (run, tiny)
    )
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.slow
def test_two_workers_train_the_networks_and_the_generator_together(start_tiny: Callable[..., TgnRun]) -> None:
    """Real processes that meet by accelerate; what a process draws for its share alone differs from one process's."""
    run = start_tiny("models.training_processes=2")
    for step, kept in (("kmdn/tail", "network"), ("kmdn/distill", "tail"), ("cdtg/train", "generator")):
        shutil.rmtree(run.run.folder(step), ignore_errors=True)
        run.run.folder(step).mkdir(parents=True)
        run_workers(run.run.root, step, processes=2)
        run.run.write_manifest(step, {}, 1, 0.0)
        assert all(tensor.isfinite().all() for tensor in load_file(run.run.files(step, kept)[0]).values())
    assert [line.step for line in run.run.records("cdtg/train", "history", EpochMetrics)] == [3, 6]
    assert (run.run.folder("cdtg/train") / "samples-0000003.png").is_file()
