"""Detect: on the shipped miniature CLIP, class by class; classes without real images and images without a score."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ltgc_local.errors import ArtefactError, BackendError
from ltgc_local.methods.ltgc.prompts import class_sentence
from ltgc_local.methods.ltgc.stages import detect
from ltgc_local.pipeline.worker import do_work
from ltgc_local.records import ClassTemplate, Description
from ltgc_local.runs.files import GeneratedImage, Images, Json, Lines, decode_png, encode_png
from ltgc_local.runs.generated import read_features, read_rows
from tests.stages.rebuilt import rebuilt


def prepare(stage: Any, write_step: Any, images: Sequence[tuple[int, Image.Image]] = ()) -> list[GeneratedImage]:
    """Write detect's inputs: these generated images, or six of two classes out of order, and every class's template."""
    names, test = stage.corpus.class_names, stage.corpus.test
    images = images or [(c, test.image(10 * c + i)) for c in (4, 1) for i in (2, 0, 1)]
    rows = [
        GeneratedImage(encode_png(image), c, names[c], i, f"A photo of the class {names[c]} {i}.", 0, i)
        for i, (c, image) in enumerate(images)
    ]
    templates = [ClassTemplate(c, class_sentence(name), True) for c, name in enumerate(names)]
    write_step(stage.run, "draw", Images("images", rows))
    write_step(stage.run, "assess/template", Lines("templates", templates[::-1]))
    return rows


def acceptance_of(artefacts: Sequence[Any]) -> dict[str, dict[str, Any]]:
    (found,) = (artefact.value for artefact in artefacts if isinstance(artefact, Json))
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_the_stage_scores_every_image_of_a_class_with_the_miniature_clip(
    make_stage: Any, write_step: Any, records_of: Any, batch_size: int
) -> None:
    stage = make_stage(
        "assess/0/detect", "assess.scorer=cosine", "assess.threshold=0.1", f"assess.batch_size={batch_size}"
    )
    rows = {row.key: row for row in prepare(stage, write_step)}
    chunks = stage.chunks()
    assert [[row.key for row in read_rows(chunk)] for chunk in chunks] == [
        [(1, 3, 0), (1, 4, 0), (1, 5, 0)],
        [(4, 0, 0), (4, 1, 0), (4, 2, 0)],
    ]
    artefacts = stage.make_chunk(chunks[1])
    scores = records_of(artefacts, "scores")
    assert [s.key for s in scores] == [(4, 0, 0), (4, 1, 0), (4, 2, 0)]
    images = stage.model.encode_images([decode_png(rows[key].image) for key in [(4, 0, 0), (4, 1, 0), (4, 2, 0)]])
    texts = stage.model.encode_texts([class_sentence(name) for name in stage.corpus.class_names])
    expected = (images @ texts.T)[:, 4]
    assert torch.allclose(torch.tensor([s.cosine for s in scores]), expected, atol=1e-5)
    assert [s.accepted for s in scores] == [s.cosine >= 0.1 for s in scores]
    name, counted = next(iter(acceptance_of(artefacts).items()))
    assert (name, counted["drawn"]) == (stage.corpus.class_names[4], 3)
    assert counted["accepted"] == sum(s.accepted for s in scores) == 3 - counted["failed"].get("cosine", 0)
    assert counted["margin_rank"] is None, "the rank did not decide"
    assert counted["photographs"] == stage.corpus.class_counts()[4]


def test_by_percentile_about_that_share_of_the_real_images_would_be_rejected(
    make_stage: Any, write_step: Any, records_of: Any
) -> None:
    stage = make_stage("assess/0/detect", "assess.scorer=percentile", "assess.percentile=50")
    rare = min(stage.tail, key=lambda c: stage.corpus.class_counts()[c])
    train = stage.corpus.train
    rows = np.flatnonzero(train.labels == rare).tolist()
    prepare(stage, write_step, [(rare, image) for image in train.images(rows)])
    (chunk,) = stage.chunks()
    scores = records_of(stage.make_chunk(chunk), "scores")
    assert len(scores) == 10
    assert sum(s.accepted for s in scores) == 5  # the median of ten lies between the fifth and the sixth
    ninths = sorted(s.percentile for s in scores)
    assert ninths == pytest.approx([100 * i / 9 for i in range(10)], abs=1e-2)


def take_images_of_class_1(stage: Any) -> Any:
    """Leave class 1 without training images, and return its chunk."""
    chunk, labels = stage.chunks()[0], stage.corpus.train.labels.copy()
    labels[labels == 1] = 0
    object.__setattr__(stage.corpus.train, "labels", labels)
    return chunk


def test_a_class_without_real_images_is_judged_by_rank_and_the_log_says_so(
    make_stage: Any, write_step: Any, records_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stage = make_stage("assess/0/detect", "assess.scorer=percentile", "assess.margin_rank=10")
    prepare(stage, write_step)
    chunk = take_images_of_class_1(stage)
    with caplog.at_level(logging.WARNING):
        artefacts = stage.make_chunk(chunk)
    assert all(s.accepted and s.percentile is None for s in records_of(artefacts, "scores"))
    assert acceptance_of(artefacts)[stage.corpus.class_names[1]]["scorers"] == ["margin"]
    assert "has no training image to take a percentile of; its images are judged by margin_rank 10" in caplog.text


@pytest.mark.parametrize("batch_size", [3, 64])
def test_the_rank_of_the_classs_own_images_decides_and_is_recorded(
    make_stage: Any, write_step: Any, records_of: Any, batch_size: int
) -> None:
    options = ("assess.scorer=margin", "assess.margin_rank=null", "assess.percentile=50")
    stage = make_stage("assess/0/detect", *options, f"assess.batch_size={batch_size}")
    prepare(stage, write_step)
    chunk = stage.chunks()[1]  # class 4
    artefacts = stage.make_chunk(chunk)
    real = stage.corpus.train.images(np.flatnonzero(stage.corpus.train.labels == 4).tolist())
    texts = stage.model.encode_texts([class_sentence(name) for name in stage.corpus.class_names])
    cosines = (stage.model.encode_images(real) @ texts.T).tolist()
    ranks = sorted(1 + sum(other > row[4] for other in row) for row in cosines)
    wanted = ranks[-(-len(ranks) // 2) - 1]  # of n images, ceil(n / 2) have at most this rank
    assert acceptance_of(artefacts)[stage.corpus.class_names[4]]["margin_rank"] == wanted
    scores = records_of(artefacts, "scores")
    assert [s.accepted for s in scores] == [s.rank <= wanted for s in scores]


@pytest.mark.parametrize("scorer", ["margin", "percentile+margin"])
def test_a_class_without_real_images_must_come_first_where_their_rank_would_decide(
    make_stage: Any, write_step: Any, records_of: Any, caplog: pytest.LogCaptureFixture, scorer: str
) -> None:
    stage = make_stage("assess/0/detect", f"assess.scorer={scorer}", "assess.margin_rank=null")
    prepare(stage, write_step)
    chunk = take_images_of_class_1(stage)
    with caplog.at_level(logging.WARNING):
        artefacts = stage.make_chunk(chunk)
    scores = records_of(artefacts, "scores")
    assert [s.accepted for s in scores] == [s.rank == 1 for s in scores]
    assert acceptance_of(artefacts)[stage.corpus.class_names[1]]["margin_rank"] == 1
    assert "has no training image to take a percentile of; its images are judged by margin_rank 1" in caplog.text


class OverflowingClip:
    """The miniature, whose features of grey images, of all images or of all texts overflow."""

    device = "cpu"

    def __init__(self, clip: Any, *, images: bool = False, texts: bool = False) -> None:
        self.clip, self.images, self.texts = clip, images, texts

    def resize(self, image: Image.Image) -> Image.Image:
        return self.clip.resize(image)  # type: ignore[no-any-return]

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.clip.encode_pixels(pixels).clone()
        features[[self.images or bool((image == 7).all()) for image in pixels]] = torch.nan
        return features

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        features: torch.Tensor = self.clip.encode_texts(texts)
        return features * torch.nan if self.texts else features


def test_an_image_without_a_score_is_rejected_and_the_others_are_scored(
    make_stage: Any, write_step: Any, records_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stage = make_stage("assess/0/detect", "assess.percentile=0", "assess.margin_rank=10")
    stage = rebuilt(stage, clip=OverflowingClip(stage.model))
    fine = stage.corpus.train.image(int(np.flatnonzero(stage.corpus.train.labels == 4)[0]))
    prepare(stage, write_step, [(4, fine), (4, Image.new("L", (28, 28), 7)), (4, fine)])
    (chunk,) = stage.chunks()
    with caplog.at_level(logging.WARNING):
        artefacts = stage.make_chunk(chunk)
    assert [s.failed for s in records_of(artefacts, "scores")] == [(), ("no number",), ()]
    assert acceptance_of(artefacts)[stage.corpus.class_names[4]]["failed"] == {"no number": 1}
    assert "CLIP gave no number for 1 of 3 images" in caplog.text


@pytest.mark.parametrize("tower", ["text", "image"])
def test_a_tower_without_numbers_stops_the_run_and_says_what_to_type(
    make_stage: Any, write_step: Any, tower: str
) -> None:
    stage = make_stage("assess/0/detect")
    stage = rebuilt(stage, clip=OverflowingClip(stage.model, **{f"{tower}s": True}))
    prepare(stage, write_step)
    with pytest.raises(BackendError, match=rf"{tower} features are not numbers; type --set models\.dtype=float32"):
        stage.make_chunk(stage.chunks()[0])


def test_without_generated_images_there_is_nothing_to_score(make_stage: Any, write_step: Any) -> None:
    stage = make_stage("assess/0/detect")
    write_step(stage.run, "draw", Images("images", []))
    assert stage.chunks() == []


def generated_with_features(make_stage: Any, write_step: Any, *overrides: str) -> Any:
    """Generate nine images of two classes in shards of three, with CLIP in memory; return detect's stage."""
    small = ("draw.size_px=32", "draw.steps=1", "draw.stored_size_px=28", "draw.stored_mode=L", "draw.shard_size=3")
    options = (*small, "draw.clip_features=true", "assess.batch_size=2", *overrides)
    stage = make_stage("draw", *options)
    names = stage.corpus.class_names
    wanted = [Description(c, i, 0, class_sentence(names[c]), "extended") for c in (1, 4) for i in range(7 - c)]
    write_step(stage.run, "extend", Lines("descriptions", wanted))
    chunks = stage.chunks()
    for number, chunk in enumerate(chunks):
        facts = {"items": len(chunk), "seconds": 0.0, "peak_mib": 0}
        stage.run.write_chunk("draw", number, stage.make_chunk(chunk), facts)
    stage.run.write_manifest("draw", {}, len(chunks), 0)
    templates = [ClassTemplate(c, class_sentence(name), True) for c, name in enumerate(names)]
    write_step(stage.run, "assess/template", Lines("templates", templates))
    return make_stage("assess/0/detect", *options)


def test_features_from_when_images_were_generated_give_the_scores_of_the_stored_images(
    make_stage: Any, write_step: Any, records_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 1e-5 in float32: the batches differ."""
    at_once = generated_with_features(make_stage, write_step)
    later = make_stage("assess/0/detect", "assess.batch_size=64")
    stored = [s for chunk in later.chunks() for s in records_of(later.make_chunk(chunk), "scores")]
    monkeypatch.setattr(detect, "read_generated", lambda rows: pytest.fail("no generated image need be read again"))
    chunks = at_once.chunks()
    found = [s for chunk in chunks for s in records_of(at_once.make_chunk(chunk), "scores")]
    keys = [(1, i, 0) for i in range(6)] + [(4, i, 0) for i in range(3)]
    assert [s.key for s in found] == [s.key for s in stored] == keys
    for name in ("cosine", "best_other_cosine", "threshold"):
        assert [getattr(s, name) for s in found] == pytest.approx([getattr(s, name) for s in stored], abs=1e-5)
    assert len({round(s.cosine, 4) for s in found}) > 5, "the images differ, so that a wrong order would show"
    assert [(s.rank, s.best_other) for s in found] == [(s.rank, s.best_other) for s in stored]


@pytest.mark.parametrize("number", [0, 2])
def test_features_are_compared_with_their_sha256_after_a_resume(make_stage: Any, write_step: Any, number: int) -> None:
    first = generated_with_features(make_stage, write_step)
    first.run.write_chunk_plan(first.step.name, first.chunks(), first.item)  # and then it is killed
    path = first.run.folder("draw") / f"features-{number:05d}.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    stage = make_stage("assess/0/detect", "draw.clip_features=true")
    with pytest.raises(ArtefactError, match=rf"features-{number:05d}\.safetensors: damaged: its sha256"):
        do_work(stage)


def test_features_that_are_missing_or_another_images_are_an_error(make_stage: Any, write_step: Any) -> None:
    stage = generated_with_features(make_stage, write_step)
    last = stage.run.folder("draw") / "features-00002.safetensors"
    chunk = stage.chunks()[1]
    last.write_bytes((last.parent / "features-00000.safetensors").read_bytes())
    with pytest.raises(ArtefactError, match=r"features-00002\.safetensors: damaged: its sha256 .* ltgc-local repair"):
        stage.make_chunk(chunk)
    with pytest.raises(ArtefactError, match=r"no features of its image \(4, \d, 0\) are next to it"):
        read_features(read_rows(chunk), Unchecked())
    last.unlink()
    with pytest.raises(ArtefactError, match=r"features-00002\.safetensors: damaged: not there; .* ltgc-local repair"):
        stage.make_chunk(chunk)


class Unchecked:
    """Files as they are, whatever a manifest says."""

    def name_of(self, path: Path) -> str:
        return str(path)

    def file(self, name: str) -> Path:
        return Path(name)


class FullClip:
    """The miniature's preprocessing on a GPU that has no room left."""

    def resize(self, image: Image.Image) -> Image.Image:
        return image.convert("RGB")

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_clip_that_does_not_fit_next_to_the_text_to_image_model_says_what_to_type(make_stage: Any) -> None:
    stage = make_stage("draw", "draw.size_px=32", "draw.steps=1", "draw.clip_features=true")
    stage = rebuilt(stage, clip=FullClip())
    with pytest.raises(BackendError, match=r"type --set draw\.clip_features=false"):
        stage.draw([Description(1, 0, 0, "A photo of the class bag.", "extended")])
