"""A run of iNaturalist 2018's shape, made small: every step that has to bear a million images does what it should."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from benchmarks.scale import stage_of
from benchmarks.scale_run import ScaleRun, Size
from ltgc_local.pipeline.worker import do_work
from ltgc_local.records import Rejected, Score
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import read_images
from ltgc_local.runs.generated import read_rows

SHARE = 0.004  # 33 classes, 4,000 images


@pytest.fixture(scope="module")
def scale(tmp_path_factory: pytest.TempPathFactory) -> ScaleRun:
    found = ScaleRun(tmp_path_factory.mktemp("scale"), Size(SHARE))
    found.bring_to("fingerprinted")
    return found


def images_of(run: RunDirectory, step: str) -> list[Any]:
    return read_images(run.files(step, "images"))


def test_collect_keeps_what_a_plain_loop_keeps(scale: ScaleRun) -> None:
    run, last, scores = scale.run, {}, {}
    for round_, step in enumerate(("draw", "assess/0/redraw", "assess/1/redraw")):
        last |= {image.key[:2]: image for image in images_of(run, step)}
        scores |= {score.key: score for score in run.records(f"assess/{round_}/detect", "scores", Score)}
    kept = [(i.key, i.image, scores[i.key].cosine) for _, i in sorted(last.items()) if scores[i.key].accepted]
    assert [(image.key, image.image, image.score) for image in images_of(run, "generated")] == kept
    dropped = [i.class_id for _, i in sorted(last.items()) if not scores[i.key].accepted]
    assert [each.class_id for each in run.records("generated", "excluded", Rejected)] == dropped


@pytest.mark.parametrize(
    ("step", "read"),
    [("assess/0/detect", "draw"), ("assess/1/refine", "assess/0/redraw"), ("leaks/generated", "generated")],
)
def test_a_plan_names_each_image_once(scale: ScaleRun, step: str, read: str) -> None:
    stage = stage_of(scale.run.root, step)
    plan = scale.run.write_chunk_plan(step, stage.chunks(), stage.item)
    items = [plan.items(number, stage.item, scale.run) for number in range(len(plan.chunks))]
    if step == "leaks/generated":
        assert sum(plan.sizes) == len(images_of(scale.run, read))
        return
    found = [[row.key for row in read_rows(chunk)] for chunk in items]
    assert plan.sizes == list(map(len, found))
    wanted = {image.key for image in images_of(scale.run, read)}
    if step.endswith("refine"):
        wanted = {s.key for s in scale.run.records("assess/1/detect", "scores", Score) if not s.accepted}
    assert Counter(key for chunk in found for key in chunk) == Counter(wanted)
    size = (scale.run.folder(step) / "chunks/plan.jsonl").stat().st_size
    assert size < 8 * sum(plan.sizes) + 120 * sum(map(len, items)), "a few bytes an image, a line a file"


def test_the_plan_of_drawing_names_each_description_once(scale: ScaleRun) -> None:
    stage = stage_of(scale.run.root, "draw")
    chunks = stage.chunks()
    assert {sum(item.num_items for item in chunk) for chunk in chunks[:-1]} == {64}
    asked: list[Any] = []
    stage.draw = lambda descriptions: asked.extend(descriptions) or []
    for chunk in chunks:
        stage.make_chunk(chunk)
    images = images_of(scale.run, "draw")
    assert [(each.key, each.text) for each in asked] == [(image.key, image.description) for image in images]


def test_images_are_compared_in_chunks_as_all_at_once(scale: ScaleRun, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of(scale.run.root, "leaks/compare")
    whole = [stage.make_chunk(chunk) for chunk in stage.chunks()]
    monkeypatch.setattr("ltgc_local.methods.stages.compare_images.CHUNK", 700)
    stage = stage_of(scale.run.root, "leaks/compare")
    parts = [(chunk[0].pair, stage.make_chunk(chunk)) for chunk in stage.chunks()]
    assert len(whole) == 3 and len(parts) > 6
    for pair, (pairs, counts) in enumerate(whole):
        mine = [made for number, made in parts if number == pair]
        together = [each for made, _ in mine for each in made.records]
        assert sorted(together, key=lambda each: each.nearness) == list(pairs.records)
        for name in ("num_images", "equal", "by_hash", "by_embedding", "in_all"):
            assert sum(made.value[0][name] for _, made in mine) == counts.value[0][name]
        assert (
            min(made.value[0]["closest_hash_distance"] for _, made in mine) == counts.value[0]["closest_hash_distance"]
        )
        assert max(made.value[0]["closest_cosine"] for _, made in mine) == counts.value[0]["closest_cosine"]


def test_the_report_counts_every_image(scale: ScaleRun) -> None:
    scale.bring_to("trained")
    stage = stage_of(scale.run.root, "report")
    do_work(stage)
    scale.run.write_manifest("report", {}, 1, 0.0)
    summary = scale.run.value("report", "summary")
    generated = Counter(image.class_id for image in images_of(scale.run, "generated"))
    by_name = {scale.corpus.class_names[class_id]: number for class_id, number in generated.items()}
    assert {row["name"]: row["num_generated"] for row in summary["classes"]} == by_name
    assert np.all([row["num_existing"] == 20 for row in summary["descriptions"]])
