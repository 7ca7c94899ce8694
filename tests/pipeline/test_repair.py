"""Repair: what is damaged is named, traced to its chunk, made again to the same bytes; and nothing else is touched."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from ltgc_local.cli import main
from ltgc_local.errors import ArtefactError, ModelError
from ltgc_local.pipeline.damage import find_all_damage
from ltgc_local.pipeline.fingerprint import StaleStep, fingerprint
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.pipeline.preparation import Request, look_at_inputs
from ltgc_local.pipeline.repair import repair_run
from ltgc_local.pipeline.scheduler import run_pipeline
from ltgc_local.recipe import Recipe, load_recipe
from ltgc_local.records import Description
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.disk import Damaged
from ltgc_local.runs.files import GeneratedImage, Images, Json, Lines, encode_png
from ltgc_local.runs.provenance import read_run_recipe, write_run_recipe
from ltgc_local.training.checkpoints import write_checkpoint
from tests.pipeline.conftest import write_empty_models

ROOT = Path(__file__).resolve().parents[2]
FACTS = {"items": 1, "seconds": 0.0, "peak_mib": 0}
SMALL = ("extend.source=template", "extend.max_descriptions=24", "describe.tail_below=20", "assess.enabled=false")
SMALL += ("train.control=false", "leaks.enabled=false", "draw.shard_size=4")
OF_TIME = {"logs", "metrics.jsonl", "timeline.jsonl", "verified.json", "model_digests.json"}


def make_run(root: Path, recipe: Recipe) -> RunDirectory:
    """Make a run up to ``generated``, whose images are drawn by hand: the only step so far that would need a model."""
    run = RunDirectory(root)
    run_pipeline(Request(recipe, run.root, "ltgc-local run x.yaml", to_step="extend"), lambda line: None)
    texts = run.records("extend", "descriptions", Description)
    for number, start in enumerate(range(0, len(texts), 4)):
        rows = [
            GeneratedImage(
                encode_png(Image.new("L", (4, 4), text.description_id)),
                *(text.class_id, "a class", text.description_id, text.text, 0, 1),
            )
            for text in texts[start : start + 4]
        ]
        run.write_chunk("draw", number, [Images("images", rows)], FACTS)
    write_manifest(run, recipe, "draw", number + 1)
    run_pipeline(Request(recipe, run.root, "ltgc-local run x.yaml", to_step="generated"), lambda line: None)
    return run


def write_manifest(run: RunDirectory, recipe: Recipe, name: str, num_chunks: int = 1) -> None:
    step = next(step for step in build_plan(recipe) if step.name == name)
    made_from = fingerprint(step, recipe, run, look_at_inputs(Request(recipe, run.root, "c")).digests)
    run.begin(name, made_from)
    run.write_manifest(name, made_from, num_chunks, 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    place = tmp_path_factory.mktemp("made")
    plain = place / "plain.yaml"
    plain.write_text(f"name: plain\ndata:\n  root: {ROOT}/data/fashion_mnist_lt\nmodels:\n  device: cpu\n")
    return make_run(place / "run", load_recipe(plain, [*SMALL, *write_empty_models(place / "cards")]))


@pytest.fixture
def run(tmp_path: Path, made: RunDirectory) -> RunDirectory:
    """A copy of a run up to ``generated``."""
    return RunDirectory(Path(shutil.copytree(made.root, tmp_path / "run")))


@pytest.fixture
def recipe(run: RunDirectory) -> Recipe:
    return read_run_recipe(run.root)


def contents(run: RunDirectory) -> dict[str, bytes]:
    """Return every file of a run but logs and memories."""
    files = (path for path in run.root.rglob("*") if path.is_file())
    found = {path.relative_to(run.root): path.read_bytes() for path in files}
    return {str(name): content for name, content in found.items() if not OF_TIME & set(name.parts)}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def call(words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, shlex.split(words)[1:])
    return done.exit_code, done.stdout, done.stderr


def remedy(said: str) -> str:
    found = re.search(r"(ltgc-local repair [^\n]*)", said)
    assert found is not None, said
    return found[1]


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_result_is_named_and_its_chunk_alone_is_made_again(
    run: RunDirectory, damage: Callable[[Path], None]
) -> None:
    before = contents(run)
    path = run.folder("generated") / "images-00002.parquet"
    times = {file.name: file.stat().st_mtime_ns for file in run.folder("generated").glob("*-*")}
    damage(path)
    with pytest.raises(Damaged) as caught:
        RunDirectory(run.root).files("generated", "images")
    assert str(caught.value).startswith(f"{path}: damaged: ")
    code, said, told = call(remedy(str(caught.value)))
    assert (code, said) == (0, f"{run.root}: 1 file was damaged, and made again\n")
    assert "generated: making 1 of 6 chunks again …\ngenerated: made again, and the same as before\n" in told
    assert contents(run) == before
    changed = {file.name for file in run.folder("generated").glob("*-*") if file.stat().st_mtime_ns != times[file.name]}
    assert changed == {"images-00002.parquet", "excluded-00002.jsonl"}
    assert call(f"ltgc-local repair {run.root}") == (0, f"{run.root}: nothing is damaged\n", "")


STEERING = [
    "generated/manifest.json",
    "generated/begun.json",
    "generated/chunks/00001.json",
    "generated/chunks/plan.json",
    "generated/chunks/plan.jsonl",
    "extend/manifest.json",
    "provenance.json",
]
GONE = ("generated/begun.json", "generated/chunks/plan.json", "extend/manifest.json")


@pytest.mark.parametrize(
    ("name", "damage"),
    [*((name, flip) for name in STEERING), *((name, Path.unlink) for name in GONE)],
)
def test_what_steers_a_run_is_written_again(
    run: RunDirectory, recipe: Recipe, name: str, damage: Callable[[Path], None]
) -> None:
    before = contents(run)
    damage(run.root / name)
    (found,) = find_all_damage(recipe, run.root)
    assert found.startswith(f"{run.root}/{name}: damaged: ")
    assert call(remedy(found))[0] == 0
    assert find_all_damage(recipe, run.root) == []
    after = contents(run)
    assert after.keys() == before.keys()
    # The seconds of a chunk, and who made the run, are not known any more.
    unlike = {each for each in before if before[each] != after[each]}
    assert unlike <= {name} & {"generated/manifest.json", "extend/manifest.json", STEERING[2], "provenance.json"}
    assert run.digest("generated") == RunDirectory(run.root).digest("generated")
    run_pipeline(Request(recipe, run.root, "c", to_step="generated"), pytest.fail)


@pytest.mark.parametrize("name", ["generated/chunks/00001.json", "generated/images-00001.parquet"])
def test_several_damages_at_once_are_all_repaired(run: RunDirectory, recipe: Recipe, name: str) -> None:
    before = contents(run)
    flip(run.folder("extend") / "descriptions.jsonl")
    flip(run.folder("generated") / "manifest.json")
    flip(run.folder("generated") / "images-00000.parquet")
    flip(run.folder("generated") / "begun.json")
    (run.root / name).unlink()
    done = repair_run(run.root, lambda line: None)
    assert len(done.files) >= 4 and done.outdated == {} and done.resuming == ()
    assert find_all_damage(recipe, run.root) == []
    after = contents(run)
    assert {each for each in before if not each.endswith(".json") and before[each] != after[each]} == set()


@pytest.mark.parametrize("gone", ["generated", "generated/manifest.json", "generated/chunks"])
def test_a_step_that_later_ones_were_made_from_is_found_though_it_is_gone(
    run: RunDirectory, recipe: Recipe, gone: str
) -> None:
    run.write_chunk("train/ltgc", 0, [Json("made", 0)], FACTS, numbered=False)
    write_manifest(run, recipe, "train/ltgc")
    before = contents(run)
    shutil.rmtree(run.root / gone) if (run.root / gone).is_dir() else (run.root / gone).unlink()
    assert find_all_damage(recipe, run.root)
    assert repair_run(run.root, lambda line: None).outdated == {}
    after = contents(run)
    results = {each for each in before if not each.endswith(".json") and "/chunks/" not in each}
    assert {each for each in results if before[each] != after[each]} == set()
    assert find_all_damage(recipe, run.root) == []


def test_what_cannot_be_made_again_stays_as_it_is(run: RunDirectory) -> None:
    """The text-to-image model of this run holds no tensor."""
    flip(run.folder("draw") / "images-00001.parquet")
    before = contents(run)
    with pytest.raises(ModelError):
        repair_run(run.root, lambda line: None)
    assert {name: content for name, content in contents(run).items() if "draw/chunks/plan" not in name} == before


def test_files_that_come_out_different_are_told_with_what_was_made_from_them(run: RunDirectory, recipe: Recipe) -> None:
    run.write_chunk("extend", 0, [Lines("descriptions", [])], FACTS, numbered=False)  # as if by other software
    write_manifest(run, recipe, "extend")
    write_manifest(run, recipe, "draw", 6)
    write_manifest(run, recipe, "generated", 6)
    flip(run.folder("extend") / "chunks/00000.json")  # of no use to a complete step
    assert repair_run(run.root, lambda line: None).outdated == {}
    (run.folder("extend") / "descriptions.jsonl").unlink()
    code, _, told = call(f"ltgc-local repair {run.root}")
    assert code == 5
    assert "extend: made again, but not the same: descriptions.jsonl" in told
    assert "extend: is not the same as before; the steps made from the old files are out of date: draw\n" in told
    assert remedy(told) == f"ltgc-local repair {run.root} --dependents"
    assert call(f"ltgc-local repair {run.root}")[0] == 5  # until that is done
    assert call(remedy(told))[0] == 3  # draw needs a model, which this run lacks
    assert (run.root / "superseded/0/draw/manifest.json").is_file() and not run.folder("generated").exists()


def test_other_settings_are_not_mixed_in(run: RunDirectory, recipe: Recipe) -> None:
    write_run_recipe(run.root, recipe.model_copy(update={"draw": recipe.draw.model_copy(update={"shard_size": 2})}))
    flip(run.folder("generated") / "images-00000.parquet")  # whose own settings are the same
    before = contents(run)
    with pytest.raises(StaleStep, match=r"step draw was made with other settings:\n  draw\.shard_size: 4 -> 2"):
        repair_run(run.root, lambda line: None)
    assert contents(run) == before


def test_a_step_that_is_not_complete_is_made_ready_to_resume(run: RunDirectory, recipe: Recipe) -> None:
    before = contents(run)
    (run.folder("generated") / "manifest.json").unlink()
    flip(run.folder("generated") / "images-00003.parquet")
    flip(run.folder("generated") / "chunks/plan.jsonl")
    code, said, _ = call(f"ltgc-local repair {run.root}")
    again = f"to make again what generated lacks, type:\n  ltgc-local run {run.root}\n"
    assert (code, said) == (0, f"{run.root}: 2 files were damaged; {again}")
    assert sorted(run.complete_chunks("generated")) == [0, 1, 2, 4, 5]
    run_pipeline(Request(recipe, run.root, "c", to_step="generated"), lambda line: None)
    after = contents(run)
    assert {each for each in before if not each.endswith(".json") and before[each] != after[each]} == set()


def test_a_damaged_checkpoint_is_dropped(run: RunDirectory) -> None:
    checkpoint = run.folder("train/ltgc") / "checkpoint.safetensors"
    run.begin("train/ltgc", {})
    write_checkpoint(checkpoint, {"line": {"slope": torch.ones(3)}}, {"step": 1})
    assert repair_run(run.root, lambda line: None).files == ()
    flip(checkpoint)
    assert repair_run(run.root, lambda line: None).resuming == ("train/ltgc",)
    assert not checkpoint.exists()


def test_what_is_no_file_makes_room(run: RunDirectory, tmp_path: Path) -> None:
    before = contents(run)
    path = run.folder("generated") / "images-00000.parquet"
    path.unlink()
    path.mkdir()
    (path / "mine").write_text("precious")
    other = run.folder("generated") / "manifest.json"
    other.unlink()
    other.symlink_to("/dev/zero")
    assert len(repair_run(run.root, lambda line: None).files) == 2
    assert (run.root / "superseded/0/generated/images-00000.parquet/mine").read_text() == "precious"
    shutil.rmtree(run.root / "superseded")
    after = contents(run)
    assert {each for each in before if not each.endswith(".json") and before[each] != after[each]} == set()


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_a_run_notices_before_it_begins_what_later_steps_will_miss(
    run: RunDirectory, recipe: Recipe, damage: Callable[[Path], None]
) -> None:
    (run.root / "train").mkdir()
    damage(run.folder("generated") / "images-00004.parquet")
    damage(run.folder("draw") / "images-00004.parquet")  # which nothing needs any more
    before, said = contents(run), []
    with pytest.raises(
        ArtefactError, match=r"images-00004\.parquet: damaged: gone, or of another size; type: "
    ) as caught:
        run_pipeline(Request(recipe, run.root, "c"), said.append)
    assert remedy(str(caught.value)) == f"ltgc-local repair {run.root}"
    assert said == [] and contents(run) == before
