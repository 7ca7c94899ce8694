"""Train and evaluate as stages, on the shipped images and a small CLIP of transformers with random weights."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.backends.clip.transformers_clip import TransformersClip
from ltgc_local.errors import DataError, ModelError
from ltgc_local.methods.evaluation import RowSpan
from ltgc_local.methods.stage import Stage
from ltgc_local.runs.directory import CHECKPOINT
from ltgc_local.runs.files import Artefact, GeneratedImage, Images, Json, Lines, Tensors, encode_png
from ltgc_local.training.lora import average
from tests.transformers_clip_folder import write_transformers_clip

ROOT = Path(__file__).resolve().parents[2]
CARD = """\
---
name: {name}
role: clip
family: {family}
path: {path}
evidence: random
license: MIT
source: this test
---
"""
MakeContext = Callable[..., Stage]
SMALL = ("train.epochs=2", "train.batch_size=512", "train.lora_rank=2", "train.optimizer=adamw")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transformers_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def make_clip_context(make_stage: MakeContext, clip_folder: Path, tmp_path: Path) -> Callable[..., Stage]:
    """A function like ``make_stage`` in a run whose CLIP is the one of transformers, unless ``family`` says other."""

    def make(step: str, *overrides: str, family: str = "transformers_clip") -> Stage:
        cards = tmp_path / "cards"
        if not cards.is_dir():
            shutil.copytree(ROOT / "model_cards", cards)
        (cards / "random-clip.md").write_text(CARD.format(name="random-clip", family=family, path=clip_folder))
        return make_stage(step, f"models.cards={cards}", "models.clip=random-clip", *SMALL, *overrides)

    return make


def adapter_of(artefacts: Sequence[Artefact]) -> dict[str, torch.Tensor]:
    (found,) = (artefact for artefact in artefacts if isinstance(artefact, Tensors))
    return dict(found.tensors)


def value_of(artefacts: Sequence[Artefact], name: str) -> Any:
    (found,) = (artefact for artefact in artefacts if isinstance(artefact, Json) and artefact.kind == name)
    return found.value


def same(one: Sequence[Artefact], other: Sequence[Artefact]) -> bool:
    tensors, others = adapter_of(one), adapter_of(other)
    return tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)


def generated(num: int) -> list[GeneratedImage]:
    images = [encode_png(Image.new("L", (28, 28), 20 * number)) for number in range(num)]
    return [GeneratedImage(image, number % 10, "bag", number, "A bag.", 0, 0) for number, image in enumerate(images)]


def test_the_cards_family_says_what_runs_a_clip(make_clip_context: MakeContext, make_stage: MakeContext) -> None:
    assert isinstance(make_clip_context("train/control").model, TransformersClip)
    assert isinstance(make_stage("train/control").model, OpenClipVit)
    with pytest.raises(ModelError, match="backend 'siglip' has no clip; known for clip: open_clip, transformers_clip"):
        make_clip_context("train/control", family="siglip").model  # noqa: B018 (it loads)


def test_large_splits_are_mapped_from_files_that_the_arms_share_and_train_the_same(
    make_clip_context: MakeContext,
) -> None:
    in_memory = make_clip_context("train/control").make()
    options = ("train.in_memory_mib=0", "train.decode_workers=1")
    stage = make_clip_context("train/control", *options)
    folder = stage.run.decoded
    assert not folder.exists()
    mapped = stage.make()
    assert same(mapped, in_memory)
    assert sorted(path.name.split("-")[0] for path in folder.glob("*.npy")) == ["train", "val"]
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.npy")}
    make_clip_context("train/control", *options).make()
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.npy")} == times


def test_a_killed_step_resumes_from_its_checkpoint(
    make_clip_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("train.checkpoint_minutes=0", "train.select=best_val_few", "train.lora_dropout=0.2")
    stage = make_clip_context("train/control", *options)
    steps: list[int] = []

    def kill(images: int) -> None:
        steps.append(images)
        if len(steps) == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stage.progress, "advance", kill)
        stage.make()
    checkpoint = stage.run.folder("train/control") / CHECKPOINT
    assert checkpoint.is_file()
    resumed = make_clip_context("train/control", *options).make()
    checkpoint.unlink()
    whole = make_clip_context("train/control", *options).make()
    assert same(resumed, whole)
    assert value_of(resumed, "selected") == value_of(whole, "selected")


KINDS = {"validate": 1_000, "predict": 10_000}


def test_both_arms_are_trained_and_evaluated_on_transformers_clip(
    make_clip_context: MakeContext, write_step: Callable[..., None]
) -> None:
    options = ("train.select=best_val_all", "assess.enabled=false")
    arms = ("ltgc", "control", "zero_shot")
    names = ("train/ltgc", "train/control", *(f"{k}/{arm}" for k in KINDS for arm in arms), "evaluate")
    contexts = {name: make_clip_context(name, *options) for name in names}
    run = contexts["evaluate"].run
    write_step(run, "generated", Images("images", generated(30)))
    for name in ("train/ltgc", "train/control"):
        artefacts = contexts[name].make()
        history = next(artefact for artefact in artefacts if isinstance(artefact, Lines)).records
        best = max(history, key=lambda epoch: epoch.validation["all"])  # type: ignore[attr-defined]
        assert value_of(artefacts, "selected") == {"select": "best_val_all", "epoch": best.epoch}  # type: ignore[attr-defined]
        write_step(run, name, *artefacts)
    for kind, number in KINDS.items():
        for arm in arms:
            write_step(run, f"{kind}/{arm}", *contexts[f"{kind}/{arm}"].make_chunk([RowSpan(0, number)]))
    results = value_of(contexts["evaluate"].make(), "metrics")
    assert set(results) == {"zero_shot", "ltgc", "control"}
    assert all(0 <= result["all"] <= 100 and len(result["per_class"]) == 10 for result in results.values())
    # Random weights know nothing; the control learns something from 2,480 images in ten steps.
    assert results["control"]["all"] > results["zero_shot"]["all"]


def test_towers_on_subsets_are_averaged_and_the_head_then_trains_alone_on_all(
    make_clip_context: MakeContext, write_step: Callable[..., None]
) -> None:
    options = ("ensemble.towers=2", "ensemble.combine=towers", "ensemble.subsets=true", "ensemble.head_epochs=1")
    towers, steps = [], []
    for name in ("train/control_1", "train/control_2", "train/control"):
        stage = make_clip_context(name, *options, "train.batch_size=64")
        artefacts = stage.make()
        write_step(stage.run, name, *artefacts)
        towers.append(adapter_of(artefacts))
        steps.append(next(each for each in artefacts if isinstance(each, Lines)).records[-1].step)  # type: ignore[attr-defined]
    # Two epochs of 10 images a class, or up to 20 (the two smallest have 17 and 10); and one of all 2,480.
    assert steps == [2 * 2, 2 * 3, 39]
    *parts, soup = towers
    for name, tensor in soup.items():
        mean = average([part[name] for part in parts], name)
        assert torch.equal(tensor, mean) == (name != "head.weight"), name
    validation = make_clip_context("validate/control", *options, "train.batch_size=64")
    assert validation.make_chunk([RowSpan(0, 1_000)])


def test_choosing_an_epoch_by_the_test_images_is_an_error(make_clip_context: MakeContext) -> None:
    stage = make_clip_context("train/control", "train.select=best_val_all")
    corpus = dataclasses.replace(stage.corpus, val_is_test=True)
    stage.corpus.check_selection(stage.recipe.train.select)
    corpus.check_selection("last")
    with pytest.raises(DataError, match=r"validation images are its test images.*type --set train\.select=last"):
        corpus.check_selection(stage.recipe.train.select)
