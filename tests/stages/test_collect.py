"""Collect: of each description the image of its last attempt, if that was accepted; one shard in memory at a time."""

from __future__ import annotations

import logging
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltgc_local.methods.ltgc.stages import collect
from ltgc_local.methods.ltgc.stages.collect import choose
from ltgc_local.records import Rejected, Score
from ltgc_local.runs.files import GeneratedImage, Images, Lines, encode_png
from ltgc_local.runs.generated import GeneratedRow

PNG = encode_png(Image.new("L", (4, 4), 7))


def row(class_id: int, description_id: int, round_: int = 0) -> GeneratedRow:
    return GeneratedRow(class_id, description_id, round_, f"text {round_}", Path("images.parquet"), 0)


def drawn(class_id: int, description_id: int, round_: int = 0, png: bytes = PNG) -> GeneratedImage:
    return GeneratedImage(png, class_id, "bag", description_id, f"text {round_}", round_, seed=0, init_image="train/7")


def scored(class_id: int, description_id: int, round_: int, accepted: bool, value: float = 0.25) -> Score:
    failed = () if accepted else ("percentile",)
    return Score(class_id, description_id, round_, value, 2, threshold=0.5, failed=failed)


def by_key(*scores: Score) -> dict[tuple[int, int, int], Score]:
    return {score.key: score for score in scores}


def test_of_a_refined_description_only_the_last_image_counts() -> None:
    scores = by_key(scored(1, 0, 0, False), scored(1, 0, 1, False), scored(1, 0, 2, True, 0.75))
    (last,) = choose([row(1, 0, 2), row(1, 0, 0), row(1, 0, 1)], scores)
    assert (last.row.key, last.trains, last.row.description) == ((1, 0, 2), True, "text 2")


def test_without_assessment_every_image_trains() -> None:
    last = choose([row(2, 1), row(1, 0), row(1, 10), row(1, 9)], None)
    assert [each.row.key for each in last] == [(1, 0, 0), (1, 9, 0), (1, 10, 0), (2, 1, 0)]
    assert all(each.trains for each in last)


def test_every_description_is_chosen_once_in_whatever_order_its_images_come() -> None:
    rows = [row(c, d, r) for c in range(3) for d in range(4) for r in range(1 + (c + d) % 3)]
    scores = by_key(*(scored(*each.key, accepted=(each.class_id + each.description_id) % 2 == 0) for each in rows))
    last = choose(rows, scores)
    assert [each.row.key[:2] for each in last] == [(c, d) for c in range(3) for d in range(4)]
    assert sum(each.trains for each in last) == 6
    assert choose(rows[::-1], scores) == last


def run_stage(context: Any) -> list[list[Any]]:
    """Run every chunk and complete the step; return each chunk's artefacts."""
    context.run.folder("generated").mkdir()
    chunks = collect.plan_chunks(context)
    made = [collect.run_chunk(context, chunk) for chunk in chunks]
    for number, artefacts in enumerate(made):
        context.run.write_chunk("generated", number, artefacts, {"items": 1, "seconds": 0.0, "peak_mib": 0})
    context.run.write_manifest("generated", {}, len(chunks), 0)
    return made


@pytest.mark.parametrize(("num_images", "sizes"), [(0, []), (3, [3]), (4, [3, 1])])
def test_the_stage_writes_shards_that_are_read_back_as_one(
    make_context: Any, write_step: Any, num_images: int, sizes: list[int]
) -> None:
    context = make_context("generated", "assess.attempts=1", "draw.shard_size=3")
    write_step(context.run, "draw", Images("images", [drawn(1, i) for i in reversed(range(num_images))]))
    scores = [scored(1, i, 0, True, 0.5 + i / 8) for i in range(num_images)]
    write_step(context.run, "assess/0/detect", Lines("scores", scores))
    made = run_stage(context)
    assert [len(a.rows) for artefacts in made for a in artefacts if isinstance(a, Images)] == sizes
    back = context.run.images("generated")
    assert [(image.key, image.score) for image in back] == [((1, i, 0), 0.5 + i / 8) for i in range(num_images)]
    assert all(image.image == PNG and image.init_image == "train/7" for image in back)


def test_what_failed_its_last_attempt_is_excluded_with_its_reason(make_context: Any, write_step: Any) -> None:
    context = make_context("generated", "assess.attempts=2", "draw.shard_size=2")
    for step, round_, ids in (("draw", 0, (0, 1, 2)), ("assess/0/redraw", 1, (0, 2))):
        write_step(context.run, step, Images("images", [drawn(4, i, round_) for i in ids]))
    first = [scored(4, 0, 0, False), scored(4, 1, 0, True, 0.75), scored(4, 2, 0, False)]
    write_step(context.run, "assess/0/detect", Lines("scores", first))
    write_step(context.run, "assess/1/detect", Lines("scores", [scored(4, 0, 1, False), scored(4, 2, 1, True)]))
    run_stage(context)
    assert [image.key for image in context.run.images("generated")] == [(4, 1, 0), (4, 2, 1)]
    (excluded,) = context.run.records("generated", "excluded", Rejected)
    assert (excluded.class_id, excluded.text, excluded.stage) == (4, "text 1", "assess")
    assert excluded.reason == "cosine 0.250 is below percentile 5 of the photographs' (image 2 of 2)"


def test_without_assessment_images_have_no_score(make_context: Any, write_step: Any) -> None:
    context = make_context("generated", "assess.enabled=false")
    write_step(context.run, "draw", Images("images", [drawn(1, 0)]))
    run_stage(context)
    (image,) = context.run.images("generated")
    assert image.score != image.score  # NaN
    assert context.run.records("generated", "excluded", Rejected) == []


def test_classes_that_get_no_image_are_named_and_the_run_goes_on(
    make_context: Any, write_step: Any, caplog: pytest.LogCaptureFixture
) -> None:
    context = make_context("generated", "assess.attempts=1", "describe.tail_below=20")
    refused, without = context.tail
    write_step(context.run, "draw", Images("images", [drawn(refused, 0), drawn(refused, 1)]))
    write_step(
        context.run, "assess/0/detect", Lines("scores", [scored(refused, i, 0, accepted=False) for i in range(2)])
    )
    with caplog.at_level(logging.WARNING):
        run_stage(context)
    names = context.corpus.class_names
    assert [record.getMessage() for record in caplog.records] == [
        f"generated: no image was drawn for 1 of the 2 tail classes: {names[without]!r}",
        f"generated: every image was refused for 1 of the 2 tail classes: {names[refused]!r}",
    ]
    assert context.run.images("generated") == []
    assert len(context.run.records("generated", "excluded", Rejected)) == 2


def test_memory_holds_a_shard_however_many_images_there_are(make_context: Any, write_step: Any) -> None:
    context = make_context("generated", "assess.enabled=false", "draw.shard_size=8")
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    png = encode_png(Image.fromarray(noise))  # 197 kB
    facts = {"items": 1, "seconds": 0.0, "peak_mib": 0}
    for number in range(20):
        images = [drawn(1, 8 * number + i, png=png) for i in range(8)]
        context.run.write_chunk("draw", number, [Images("images", images)], facts)
    context.run.write_manifest("draw", {}, 20, 0)
    tracemalloc.start()
    for chunk in collect.plan_chunks(context):
        artefacts = collect.run_chunk(context, chunk)
        assert sum(len(a.rows) for a in artefacts if isinstance(a, Images)) == 8
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 8 * len(png)  # two shards, and what Python and Parquet copy on the way; all are 20
