"""The diffusion variant's stages on the shipped images: steps, lineage, the accept test, retries, the report."""

from __future__ import annotations

import html
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ltgc_local.comparison.read import flatten
from ltgc_local.errors import BackendError
from ltgc_local.methods.tgn.budget import list_wanted
from ltgc_local.methods.tgn.classes import read_manifest
from ltgc_local.methods.tgn.comparison import TgnComparison
from ltgc_local.methods.tgn.stages import draw_tail
from ltgc_local.methods.tgn.stages.accept import judge
from ltgc_local.recipe import load_recipe
from ltgc_local.recipe.diffusion import Diffusion
from ltgc_local.records import Acceptance, EpochMetrics, Rejected
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import GeneratedImage, Images, decode_png
from ltgc_local.runs.provenance import write_run_recipe
from tests.tgn.conftest import SMALL, TgnRun
from tests.working import run_workers

RECIPE = Path(__file__).resolve().parents[2] / "recipes/tgn_diffusion_quickstart.yaml"
TINY = (
    "diffusion.steps=3",
    "diffusion.batch_size=4",
    "diffusion.log_every=1",
    "diffusion.lora_rank=2",
    "diffusion.draw_steps=3",
    "diffusion.attempts=2",
    "diffusion.shard_size=8",
    "merge.images=35",  # 6 sandals, 18 coats and 17 dresses are missing
    "diffusion.guidance=1.0",
)
NETWORKS = ("classes", "kmdn/head", "kmdn/tail", "kmdn/distill")
MAKING = (
    "diffusion/train",
    "diffusion/0/draw",
    "diffusion/0/accept",
    "diffusion/1/draw",
    "diffusion/1/accept",
    "generated",
)


def start(folder: Path, *overrides: str) -> TgnRun:
    small = [each for each in SMALL if not each.startswith("cdtg.")]
    recipe = load_recipe(RECIPE, [*small, *TINY, *overrides])
    write_run_recipe(folder, recipe)
    return TgnRun(recipe, RunDirectory(folder))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TgnRun:
    """A run up to its generated images, with its accept test so strict that something is rejected."""
    found = start(tmp_path_factory.mktemp("diffusion"), "diffusion.accept=clip")
    found.do(*NETWORKS, *MAKING)
    return found


@pytest.fixture
def again(run: TgnRun, tmp_path: Path) -> Callable[..., TgnRun]:
    """A function (*options) -> another run that has the first one's networks and adapter."""

    def build(*overrides: str) -> TgnRun:
        other = start(tmp_path, "diffusion.accept=clip", *overrides)
        for step in ("classes", "kmdn", "diffusion/train"):
            shutil.copytree(run.run.folder(step), other.run.folder(step))
        return other

    return build


@pytest.mark.slow
def test_two_processes_train_the_adapter_that_one_does(run: TgnRun, again: Callable[..., TgnRun]) -> None:
    other = again("models.training_processes=2")
    shutil.rmtree(other.run.folder("diffusion/train"))
    other.run.folder("diffusion/train").mkdir(parents=True)
    run_workers(other.run.root, "diffusion/train", processes=2)
    other.run.write_manifest("diffusion/train", {}, 1, 0.0)
    one, two = (load_file(each.run.file_of("diffusion/train", "adapter")) for each in (run, other))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)
    losses = [each.run.records("diffusion/train", "history", EpochMetrics) for each in (run, other)]
    for epoch, same in zip(*losses, strict=True):
        assert same.losses == pytest.approx(epoch.losses, rel=1e-3)


def generated(run: TgnRun, step: str) -> list[GeneratedImage]:
    return run.run.images(step)


def test_every_wanted_image_is_generated_with_its_class_and_the_real_image_behind_it(run: TgnRun) -> None:
    stage = run.stage("diffusion/0/draw")
    wanted = list_wanted(stage.corpus, read_manifest(run.run), run.recipe)
    rows = generated(run, "diffusion/0/draw")
    assert len(wanted) == len(rows) > 0
    keys = stage.corpus.train.keys
    expected = {(w.class_id, w.number): keys[w.source_row] for w in wanted}
    assert {(row.class_id, row.description_id): row.init_image for row in rows} == expected
    assert len({row.seed for row in rows}) == len(rows)
    assert {decode_png(row.image).size for row in rows} == {(28, 28)} and decode_png(rows[0].image).mode == "L"


def test_what_was_rejected_is_generated_again_from_other_noise_and_left_out_after_the_last_attempt(
    run: TgnRun,
) -> None:
    scores = [run.run.records(f"diffusion/{i}/accept", "scores", Acceptance) for i in range(2)]
    firsts, seconds = (generated(run, f"diffusion/{i}/draw") for i in range(2))
    rejected = {s.key[:2] for s in scores[0] if not s.accepted}
    assert rejected, "the small model misses some; else this test shows nothing"
    assert {row.key[:2] for row in seconds} == rejected and all(row.round == 1 for row in seconds)
    first = {row.key[:2]: row for row in firsts}
    for row in seconds:
        assert row.image != first[row.key[:2]].image and row.init_image == first[row.key[:2]].init_image
    kept = {row.key for row in generated(run, "generated")}
    assert kept == {s.key for part in scores for s in part if s.accepted}
    excluded = run.run.records("generated", "excluded", Rejected)
    last = [s for s in scores[1] if not s.accepted]
    assert len(excluded) == len(last)
    assert all(s.failed == ("clip",) and s.reason.startswith("CLIP: closest to") for s in last)


def test_merge_says_how_many_were_wanted_and_made(run: TgnRun) -> None:
    run.do("merge")
    classes = run.run.value("merge", "classes")
    assert sum(each["wanted"] for each in classes) == len(generated(run, "diffusion/0/draw"))
    assert sum(each["generated"] for each in classes) == len(generated(run, "generated"))
    assert all(each["generated"] <= each["wanted"] for each in classes)


def test_a_unet_in_fp8_draws_and_is_whole_while_its_adapter_trains(run: TgnRun, again: Callable[..., TgnRun]) -> None:
    other = again("models.unet=fp8", "diffusion.shard_size=4")
    stage = other.stage("diffusion/0/draw")
    (artefact,) = stage.make_chunk(stage.chunks()[0])
    assert isinstance(artefact, Images) and "Fp8Linear" in kinds_of(stage.model._pipeline.unet)
    rows = {row.key: row for row in generated(run, "diffusion/0/draw")}
    for row in artefact.rows:
        found, whole = (np.asarray(decode_png(each.image), np.int16) for each in (row, rows[row.key]))
        assert np.abs(found - whole).mean() < 8, "nearly the same image, with the adapter and the features"
    assert "Fp8Linear" not in kinds_of(other.stage("diffusion/train").model._pipeline.unet)


def kinds_of(module: torch.nn.Module) -> set[str]:
    return {type(each).__name__ for each in module.modules()}


def test_an_image_does_not_depend_on_shards_and_batches(run: TgnRun, again: Callable[..., TgnRun]) -> None:
    other = again("diffusion.shard_size=3", "diffusion.draw_batch_size=1")
    stage = other.stage("diffusion/0/draw")
    (artefact,) = stage.make_chunk(stage.chunks()[1])
    assert isinstance(artefact, Images)
    rows = {row.key: row for row in generated(run, "diffusion/0/draw")}
    for row in artefact.rows:
        same = rows[row.key]
        assert replace(row, image=b"", score=0.0) == replace(same, image=b"", score=0.0)
        pixels = (np.asarray(decode_png(each.image), np.int16) for each in (row, same))
        assert np.abs(next(pixels) - next(pixels)).max() <= 1


def test_r_decides_whether_the_real_image_matters(again: Callable[..., TgnRun]) -> None:
    other = again("diffusion.feature_scale=10")
    for r, is_same in ((1.0, True), (0.0, False)):
        settings = other.recipe.diffusion.model_copy(update={"r": r})
        recipe = other.recipe.model_copy(update={"diffusion": settings})
        stage = TgnRun(recipe, other.run).stage("diffusion/0/draw")
        wanted = stage.chunks()[0][0]
        rows = np.flatnonzero(stage.corpus.train.labels == wanted.class_id)[:2].tolist()
        images = stage.corpus.train.images(rows)
        one, two = (stage.steering([wanted], [image], [5]) for image in images)
        assert one is not None and two is not None
        assert bool((one == two).all()) is is_same


def test_img2img_starts_from_the_real_image_and_too_small_an_r_is_an_error(again: Callable[..., TgnRun]) -> None:
    other = again("diffusion.strength=from_r", "diffusion.r=0.7", "diffusion.conditioning=none")
    stage = other.stage("diffusion/0/draw")
    assert stage.draw_settings().strength == pytest.approx(0.607, abs=0.0011)
    settings = other.recipe.diffusion.model_copy(update={"r": 0.1})
    low = TgnRun(other.recipe.model_copy(update={"diffusion": settings}), other.run).stage("diffusion/0/draw")
    with pytest.raises(BackendError, match=r"r 0\.1 stands for strength 0\.01., which of 3 steps is less than one"):
        low.draw_settings()


def test_the_end_of_the_run_names_it_and_shows_acceptance(run: TgnRun) -> None:
    run.finish()
    page = html.unescape((run.run.folder("report") / "report.html").read_text("utf-8"))
    assert "TGN-style, diffusion − control" in page and "not the paper's generator" in page
    assert "A generated image is accepted if CLIP finds" in page and "TGN − control" not in page
    arm = ", ".join(TgnComparison().describe_arm(flatten(run.recipe.dump()), "tgn"))
    assert arm == "test_resnet on originals and generated, TGN-style, diffusion, r 0.2, accepted by clip"


COSINES = np.array([0.3, 0.5, 0.2])


@pytest.mark.parametrize(
    ("accept", "class_id", "probability", "failed"),
    [
        ("clip", 1, None, ()),
        ("clip", 0, None, ("clip",)),
        ("tail_network", 0, 0.5, ()),
        ("tail_network", 0, 0.49, ("tail_network",)),
        ("tail_network", 0, float("nan"), ("tail_network",)),
        ("either", 0, 0.6, ()),
        ("either", 1, 0.1, ()),
        ("either", 0, 0.1, ("clip", "tail_network")),
    ],
)
def test_an_image_passes_by_the_test_that_is_asked_for(
    accept: str, class_id: int, probability: float | None, failed: tuple[str, ...]
) -> None:
    settings = Diffusion(accept=accept)  # type: ignore[arg-type]
    cosines = COSINES if settings.judges_by_clip else None
    found = judge((class_id, 4, 0), cosines, probability, settings, ("coat", "bag", "dress"))
    assert found.failed == failed and bool(found.reason) is bool(failed)
    if cosines is not None:
        assert (found.cosine, found.rank) == (COSINES[class_id], 1 if class_id == 1 else 2)
        assert found.best_other == (0 if class_id == 1 else 1)


def test_descriptions_are_used_in_turn_and_a_class_without_any_uses_its_prompt(run: TgnRun) -> None:
    wanted = list_wanted(run.stage("diffusion/0/draw").corpus, read_manifest(run.run), run.recipe)[:3]
    entry = next(each for each in read_manifest(run.run).tail if each.class_id == wanted[0].class_id)
    texts = {entry.class_id: ["one", "two"]}
    assert [draw_tail.prompt_of(each, entry, texts) for each in wanted[:2]] == ["one", "two"]
    assert draw_tail.prompt_of(wanted[0], entry, {}) == entry.prompt
