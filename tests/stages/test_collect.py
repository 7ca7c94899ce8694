"""Collect: the image of each description's last attempt, if it was accepted; one shard in memory at a time."""

from __future__ import annotations

import logging
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltgc_local.methods.ltgc.stages.collect import choose
from ltgc_local.records import Rejected, Score
from ltgc_local.runs.files import GeneratedImage, Images, ImageTable, Lines, encode_png
from ltgc_local.runs.row_index import RowIndex

PNG = encode_png(Image.new("L", (4, 4), 7))


def index(*keys: tuple[int, int, int]) -> RowIndex:
    return RowIndex.of([Path("images.parquet")], [np.array(keys, np.int64).reshape(-1, 3)])


def generated(class_id: int, description_id: int, round_: int = 0, png: bytes = PNG) -> GeneratedImage:
    return GeneratedImage(png, class_id, "bag", description_id, f"text {round_}", round_, seed=0, init_image="train/7")


def scored(class_id: int, description_id: int, round_: int, accepted: bool, value: float = 0.25) -> Score:
    failed = () if accepted else ("percentile",)
    return Score(class_id, description_id, round_, value, 2, threshold=0.5, failed=failed)


def test_of_a_refined_description_only_the_last_image_counts() -> None:
    last = choose(index((1, 0, 2), (1, 0, 0), (1, 0, 1)))
    assert (last.keys.tolist(), last.rows.tolist()) == ([[1, 0, 2]], [0])


def test_every_description_is_chosen_once_in_whatever_order_its_images_come() -> None:
    keys = [(c, d, r) for c in (0, 2, 10) for d in (0, 9, 10) for r in range(1 + (c + d) % 3)]
    last = choose(index(*keys))
    assert last.keys.tolist() == [[c, d, (c + d) % 3] for c in (0, 2, 10) for d in (0, 9, 10)]
    assert choose(index(*keys[::-1])).keys.tolist() == last.keys.tolist()
    assert len(choose(index())) == 0


def run_stage(stage: Any) -> list[list[Any]]:
    """Run every chunk and complete the step; return each chunk's artefacts."""
    stage.run.folder("generated").mkdir()
    chunks = stage.chunks()
    made = [stage.make_chunk(chunk) for chunk in chunks]
    for number, artefacts in enumerate(made):
        stage.run.write_chunk("generated", number, artefacts, {"items": 1, "seconds": 0.0, "peak_mib": 0})
    stage.run.write_manifest("generated", {}, len(chunks), 0)
    return made


@pytest.mark.parametrize(("num_images", "sizes"), [(0, []), (3, [3]), (4, [3, 1])])
def test_the_stage_writes_shards_that_are_read_back_as_one(
    make_stage: Any, write_step: Any, num_images: int, sizes: list[int]
) -> None:
    stage = make_stage("generated", "assess.attempts=1", "draw.shard_size=3")
    write_step(stage.run, "draw", Images("images", [generated(1, i) for i in reversed(range(num_images))]))
    scores = [scored(1, i, 0, True, 0.5 + i / 8) for i in range(num_images)]
    write_step(stage.run, "assess/0/detect", Lines("scores", scores))
    made = run_stage(stage)
    assert [len(a.table) for artefacts in made for a in artefacts if isinstance(a, ImageTable)] == sizes
    back = stage.run.images("generated")
    assert [(image.key, image.score) for image in back] == [((1, i, 0), 0.5 + i / 8) for i in range(num_images)]
    assert all(image.image == PNG and image.init_image == "train/7" for image in back)


def test_what_failed_its_last_attempt_is_excluded_with_its_reason(make_stage: Any, write_step: Any) -> None:
    stage = make_stage("generated", "assess.attempts=2", "draw.shard_size=2")
    for step, round_, ids in (("draw", 0, (0, 1, 2)), ("assess/0/redraw", 1, (0, 2))):
        write_step(stage.run, step, Images("images", [generated(4, i, round_) for i in ids]))
    first = [scored(4, 0, 0, False), scored(4, 1, 0, True, 0.75), scored(4, 2, 0, False)]
    write_step(stage.run, "assess/0/detect", Lines("scores", first))
    write_step(stage.run, "assess/1/detect", Lines("scores", [scored(4, 0, 1, False), scored(4, 2, 1, True)]))
    run_stage(stage)
    assert [image.key for image in stage.run.images("generated")] == [(4, 1, 0), (4, 2, 1)]
    (excluded,) = stage.run.records("generated", "excluded", Rejected)
    assert (excluded.class_id, excluded.text, excluded.stage) == (4, "text 1", "assess")
    assert excluded.reason == "cosine 0.250 is below percentile 5 of the photographs' (image 2 of 2)"


def test_without_assessment_images_have_no_score(make_stage: Any, write_step: Any) -> None:
    stage = make_stage("generated", "assess.enabled=false")
    write_step(stage.run, "draw", Images("images", [generated(1, 0)]))
    run_stage(stage)
    (image,) = stage.run.images("generated")
    assert image.score != image.score  # NaN
    assert stage.run.records("generated", "excluded", Rejected) == []


def test_classes_that_get_no_image_are_named_and_the_run_continues(
    make_stage: Any, write_step: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stage = make_stage("generated", "assess.attempts=1", "describe.tail_below=20")
    rejected, without = stage.tail
    write_step(stage.run, "draw", Images("images", [generated(rejected, 0), generated(rejected, 1)]))
    write_step(
        stage.run, "assess/0/detect", Lines("scores", [scored(rejected, i, 0, accepted=False) for i in range(2)])
    )
    with caplog.at_level(logging.WARNING):
        run_stage(stage)
    names = stage.corpus.class_names
    assert [record.getMessage() for record in caplog.records] == [
        f"generated: no image was generated for 1 of the 2 tail classes: {names[without]!r}",
        f"generated: every image was rejected for 1 of the 2 tail classes: {names[rejected]!r}",
    ]
    assert stage.run.images("generated") == []
    assert len(stage.run.records("generated", "excluded", Rejected)) == 2


def test_memory_holds_a_shard_however_many_images_there_are(make_stage: Any, write_step: Any) -> None:
    stage = make_stage("generated", "assess.enabled=false", "draw.shard_size=8")
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    png = encode_png(Image.fromarray(noise))  # 197 kB
    facts = {"items": 1, "seconds": 0.0, "peak_mib": 0}
    for number in range(20):
        images = [generated(1, 8 * number + i, png=png) for i in range(8)]
        stage.run.write_chunk("draw", number, [Images("images", images)], facts)
    stage.run.write_manifest("draw", {}, 20, 0)
    tracemalloc.start()
    for chunk in stage.chunks():
        artefacts = stage.make_chunk(chunk)
        assert sum(len(a.table) for a in artefacts if isinstance(a, ImageTable)) == 8
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 8 * len(png)  # two shards, and what Python and Parquet copy on the way; all are 20
