"""Decoded images: the rows of a table share those of the splits, and they go when no training is left."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltgc_local.pipeline.decoded import drop_decoded, take_decoded, trains
from ltgc_local.pipeline.fingerprint import fingerprint
from ltgc_local.pipeline.ongoing import OngoingRun
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.pipeline.preparation import Request, look_at_inputs
from ltgc_local.pipeline.scheduler import run_pipeline
from ltgc_local.recipe import Recipe
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Json
from ltgc_local.training.images import ImageCache

MakeRecipe = Callable[..., Recipe]
FACTS = {"items": 1, "seconds": 0.0, "peak_mib": 0}


class Greys:
    """Three grey images that are decoded at most once."""

    name, keys, labels, files = "train", ("a", "b", "c"), np.zeros(3, dtype=np.int64), (Path(__file__),)

    def __init__(self) -> None:
        self.decoded: list[int] = []

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, row: int) -> Image.Image:
        self.decoded.append(row)
        return Image.new("RGB", (4, 4), (row, row, row))


def write(run: RunDirectory, *names: str) -> None:
    run.decoded.mkdir(parents=True, exist_ok=True)
    for name in names:
        (run.decoded / name).write_bytes(b"pixels")


def names_in(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in run.decoded.iterdir()) if run.decoded.exists() else []


def test_a_split_that_another_row_decoded_is_not_decoded_again(tmp_path: Path) -> None:
    first, second, source = RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b"), Greys()
    pixels = ImageCache(lambda image: image, "4 px", first.decoded, 0, 1).load(source)
    assert sorted(set(source.decoded)) == [0, 1, 2]
    take_decoded([first.root], second)
    source.decoded.clear()
    again = ImageCache(lambda image: image, "4 px", second.decoded, 0, 1).load(source)
    assert torch.equal(again, pixels)
    assert set(source.decoded) == {0}  # which tells the size of the others
    (one,), (other,) = (list(run.decoded.glob("*.npy")) for run in (first, second))
    assert one.samefile(other)  # which takes no room
    drop_decoded(first, [])
    assert torch.equal(ImageCache(lambda image: image, "4 px", second.decoded, 0, 1).load(source), pixels)


def test_the_splits_are_taken_and_not_what_is_a_runs_own(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b")
    write(first, "train-0.npy", "train-tail-0.npy", "val-0.npy", "generated-0.npy", ".train-1.tmp", "verified.json")
    write(second, "val-0.npy")
    (second.decoded / "val-0.npy").write_bytes(b"its own")
    take_decoded([tmp_path / "none", first.root, first.root], second)
    assert names_in(second) == ["train-0.npy", "train-tail-0.npy", "val-0.npy"]
    assert (second.decoded / "val-0.npy").read_bytes() == b"its own"


def test_without_hard_links_nothing_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Path, follow_symlinks: bool) -> None:
        raise OSError(1, "Operation not permitted")

    first, second = RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b")
    write(first, "train-0.npy")
    monkeypatch.setattr(os, "link", refuse)
    take_decoded([first.root], second)
    assert names_in(second) == []


@pytest.fixture
def begun(
    tmp_path: Path, make_recipe: MakeRecipe, empty_models: Sequence[str]
) -> Callable[..., tuple[Recipe, RunDirectory]]:
    """A function (last) -> a run with decoded images whose steps are complete up to this one."""

    def make(last: str) -> tuple[Recipe, RunDirectory]:
        recipe, run = (
            make_recipe("assess.enabled=false", "leaks.enabled=false", *empty_models),
            RunDirectory(tmp_path / "run"),
        )
        run.root.mkdir()
        digests = look_at_inputs(Request(recipe, run.root, "c")).digests
        for step in build_plan(recipe):
            run.write_chunk(step.name, 0, [Json("made", step.name)], FACTS)
            run.write_manifest(step.name, fingerprint(step, recipe, run, digests), 1, 0)
            if step.name == last:
                break
        write(run, "train-0.npy", "generated-0.npy")
        return recipe, run

    return make


def do_what_is_ready(ongoing: OngoingRun) -> list[str]:
    """Do steps as the scheduler does; return their names."""
    steps = ongoing.ready()
    for step in steps:
        ongoing.begin(step)
        ongoing.run.write_chunk(step.name, 0, [Json("made", step.name)], FACTS)
        ongoing.end(step)
    return [step.name for step in steps]


def test_decoded_images_go_when_the_last_training_is_complete_even_if_the_run_is_not(
    begun: Callable[..., tuple[Recipe, RunDirectory]], tmp_path: Path
) -> None:
    recipe, run = begun("generated")
    other = RunDirectory(tmp_path / "other")
    write(other, "train-9.npy", "generated-9.npy")
    request = Request(recipe, run.root, "c", to_step="train", reuse=(other.root,))
    trainings = [step.name for step in build_plan(recipe) if trains(step)]
    with OngoingRun(request, lambda line: None, has_gpus=False) as ongoing:
        assert do_what_is_ready(ongoing) == trainings
        assert ongoing.is_done
        assert names_in(run) == ["generated-0.npy", "train-0.npy", "train-9.npy"]
        ongoing.close()
    assert names_in(run) == []
    assert names_in(other) == ["generated-9.npy", "train-9.npy"]


def test_decoded_images_stay_while_a_training_is_left(begun: Callable[..., tuple[Recipe, RunDirectory]]) -> None:
    recipe, run = begun("generated")
    run_pipeline(Request(recipe, run.root, "c", to_step="generated"), lambda line: None)
    assert names_in(run) == ["generated-0.npy", "train-0.npy"]


def test_the_run_whose_last_step_ends_keeps_no_decoded_images(
    begun: Callable[..., tuple[Recipe, RunDirectory]],
) -> None:
    recipe, run = begun("evaluate")
    with OngoingRun(Request(recipe, run.root, "c"), lambda line: None, has_gpus=False) as ongoing:
        assert do_what_is_ready(ongoing) == ["report"]
        ongoing.close()
    assert names_in(run) == []
