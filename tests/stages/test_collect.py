"""Collect: of each description the image of its last attempt, if that was accepted."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from ltgc_local.artefacts.files import DrawnImage, Images, Lines, encode_png
from ltgc_local.records import Score
from ltgc_local.stages import collect
from ltgc_local.stages.collect import choose

PNG = encode_png(Image.new("L", (4, 4), 7))


def drawn(class_id: int, description_id: int, round_: int = 0) -> DrawnImage:
    return DrawnImage(PNG, class_id, "bag", description_id, f"text {round_}", round_, seed=0)


def scored(class_id: int, description_id: int, round_: int, accepted: bool, value: float = 0.25) -> Score:
    return Score(class_id, description_id, round_, value, value, 0.5, 2, accepted)


def by_key(*scores: Score) -> dict[tuple[int, int, int], Score]:
    return {score.key: score for score in scores}


def test_an_accepted_image_trains_with_its_score() -> None:
    accepted, excluded = choose([drawn(1, 0)], by_key(scored(1, 0, 0, True, 0.75)))
    assert [(image.key, image.score) for image in accepted] == [((1, 0, 0), 0.75)]
    assert excluded == []


def test_of_a_refined_description_only_the_last_image_counts() -> None:
    scores = by_key(scored(1, 0, 0, False), scored(1, 0, 1, False), scored(1, 0, 2, True, 0.75))
    accepted, excluded = choose([drawn(1, 0, 2), drawn(1, 0, 0), drawn(1, 0, 1)], scores)
    assert [(image.key, image.description) for image in accepted] == [((1, 0, 2), "text 2")]
    assert excluded == []


def test_what_failed_its_last_attempt_is_excluded_with_its_reason() -> None:
    scores = by_key(scored(1, 0, 0, False), scored(1, 0, 1, False))
    accepted, (excluded,) = choose([drawn(1, 0), drawn(1, 0, 1)], scores)
    assert accepted == []
    assert (excluded.class_id, excluded.text, excluded.stage) == (1, "text 1", "assess")
    assert excluded.reason == "score 0.250 < 0.500 or rank 2 after 2 images"


def test_without_assessment_every_image_trains_and_has_no_score() -> None:
    accepted, excluded = choose([drawn(2, 1), drawn(1, 0), drawn(1, 10), drawn(1, 9)], None)
    assert [image.key for image in accepted] == [(1, 0, 0), (1, 9, 0), (1, 10, 0), (2, 1, 0)]
    assert all(image.score != image.score for image in accepted)  # NaN
    assert excluded == []


def test_every_description_is_accepted_or_excluded_once() -> None:
    images = [drawn(c, d, r) for c in range(3) for d in range(4) for r in range(1 + (c + d) % 3)]
    scores = by_key(
        *(scored(*image.key, accepted=(image.class_id + image.description_id) % 2 == 0) for image in images)
    )
    accepted, excluded = choose(images, scores)
    assert len(accepted) == len({image.key[:2] for image in accepted}) == 6
    assert len(excluded) == 6
    again, excluded_again = choose(images[::-1], scores)
    assert ([image.key for image in again], excluded_again) == ([image.key for image in accepted], excluded)


@pytest.mark.parametrize(("num_images", "sizes"), [(0, []), (3, [3]), (4, [3, 1])])
def test_the_stage_writes_shards_that_are_read_back_as_one(
    make_context: Any, write_step: Any, num_images: int, sizes: list[int]
) -> None:
    context = make_context("generated", "assess.attempts=1", "draw.shard_size=3")
    write_step(context.run, "draw", Images("images", [drawn(1, i) for i in range(num_images)]))
    write_step(context.run, "assess/0/detect", Lines("scores", [scored(1, i, 0, True) for i in range(num_images)]))
    (chunk,) = collect.plan_chunks(context)
    artefacts = collect.run_chunk(context, chunk)
    assert [len(artefact.rows) for artefact in artefacts if isinstance(artefact, Images)] == sizes
    context.run.write_chunk("generated", 0, artefacts, {"items": 1, "seconds": 0.0, "peak_mib": 0}, collect.NUMBERED)
    context.run.write_manifest("generated", {}, 1, 0)
    assert [image.key for image in context.run.images("generated")] == [(1, i, 0) for i in range(num_images)]
