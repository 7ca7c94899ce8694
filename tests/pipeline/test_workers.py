"""Several workers of one step: which GPUs each sees, that they share the shards, and that no one is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ltgc_local.errors import LtgcError, RecipeError
from ltgc_local.pipeline.executors.machine import RENDEZVOUS, training_environments, visible_gpus
from ltgc_local.recipe import Recipe, load_recipe
from ltgc_local.records import Description, EpochMetrics, Exchange
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Lines
from ltgc_local.runs.provenance import write_run_recipe
from tests.working import run_workers

MakeRecipe = Callable[..., Recipe]
QUICKSTART_OF_TGN = Path(__file__).resolve().parents[2] / "recipes/tgn_quickstart.yaml"


@pytest.mark.parametrize(
    ("value", "expected"), [("4,5", ["4", "5"]), ("", []), ("-1", []), ("GPU-1a, GPU-2b", ["GPU-1a", "GPU-2b"])]
)
def test_the_gpus_are_those_that_the_environment_names(value: str, expected: list[str]) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": value}) == expected


def test_without_a_name_the_drivers_list_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus({}) == []
    script = tmp_path / "nvidia-smi"
    listed = "GPU 0: NVIDIA H100 (UUID: a)\\n  MIG 1g.10gb Device 0: (UUID: b)\\nGPU 1: NVIDIA H100 (UUID: c)\\n"
    script.write_text(f"#!/bin/sh\nprintf '{listed}'\n")
    script.chmod(0o755)
    assert visible_gpus({}) == ["0", "1"]
    script.write_text("#!/bin/sh\nexit 9\n")
    assert visible_gpus({}) == []


def test_two_workers_extend_what_one_does(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Real engines: two processes, each with its own copy of the model, and every item's own seeds."""
    recipe = make_recipe(
        "describe.tail_below=20", "extend.max_descriptions=4", "extend.batch_size=1", "extend.max_asks=1",
        "extend.reply_form=free", "describe.max_images_per_class=2",
    )  # fmt: skip
    found = []
    for workers in (1, 2):
        run = RunDirectory(tmp_path / f"{workers}")
        run.root.mkdir()
        write_run_recipe(run.root, recipe)
        existing = [Description(c, 0, 0, "A photo of the class bag with a handle.", "existing") for c in range(10)]
        run.write_chunk("describe", 0, [Lines("descriptions", existing)], {"items": 1, "seconds": 0.0, "peak_mib": 0})
        run.write_manifest("describe", {}, 1, 0)
        run.folder("extend").mkdir()
        run_workers(run.root, "extend", workers)
        num_chunks = run.num_chunks("extend")
        assert num_chunks >= 2
        run.write_manifest("extend", {}, num_chunks, 0)
        words = (run.records("extend", "descriptions", Description), run.records("extend", "exchanges", Exchange))
        assert words[0] and words[1]
        found.append(words)
    assert found[0] == found[1]


def test_those_that_train_together_know_their_number_and_where_they_meet() -> None:
    assert training_environments(1) == [{}]
    found = training_environments(2)
    assert [each["RANK"] for each in found] == [each["LOCAL_RANK"] for each in found] == ["0", "1"]
    assert {each["WORLD_SIZE"] for each in found} == {"2"}
    (store,) = {Path(each[RENDEZVOUS]) for each in found}
    assert not store.exists() and store.parent.stat().st_mode & 0o777 == 0o700  # nobody else's, and new


@pytest.mark.slow
def test_two_workers_train_what_one_does(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Real processes that meet by accelerate, each with half of every batch: equal but for rounding."""
    found = []
    for processes in (1, 2):
        run = RunDirectory(tmp_path / f"{processes}")
        run.root.mkdir()
        recipe = make_recipe("train.epochs=1", "train.lora_rank=4", f"models.training_processes={processes}")
        write_run_recipe(run.root, recipe)
        run.folder("train/control").mkdir(parents=True)
        run_workers(run.root, "train/control", processes=processes)
        (chunk,) = (run.folder("train/control") / "chunks").glob("?????.json")
        run.write_manifest("train/control", {}, 1, 0)
        adapter = load_file(run.files("train/control", "adapter")[0])
        found.append((adapter, run.records("train/control", "history", EpochMetrics)))
        items = json.loads(chunk.read_text())["items"]  # the images of all batches, whoever has them
        assert items >= 1000 and items % recipe.train.batch_size == 0
    (alone, (epoch,)), (together, (same,)) = found
    assert alone.keys() == together.keys()
    assert all(torch.allclose(alone[name], together[name], atol=1e-3) for name in alone)
    moved = max(float(tensor.abs().max()) for name, tensor in alone.items() if "lora_B" in name)
    assert moved > 0.01  # B starts at 0: what is compared is what was trained
    assert same.losses == pytest.approx(epoch.losses, rel=1e-4)
    assert same.validation == pytest.approx(epoch.validation, abs=1)


def test_pairs_that_workers_cannot_share_evenly_are_an_error_of_the_recipe(make_recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match=r"128 pairs cannot be shared evenly by 3 processes in 1 parts; write 129"):
        make_recipe("models.training_processes=3")
    joint = ("train.mixing=joint", "train.batch_size=8", "train.joint_share=0.9", "models.training_processes=2")
    with pytest.raises(RecipeError, match=r"train\.joint_share: 0\.9 leaves 1 of 8 images .* each of 2 processes"):
        make_recipe(*joint)
    with pytest.raises(RecipeError, match=r"32 images cannot be shared evenly by 3 processes; write 33"):
        load_recipe(QUICKSTART_OF_TGN, ["models.training_processes=3"])
    with pytest.raises(RecipeError, match=r"16 images leave one of 9 processes fewer than the 2 .* write 18"):
        load_recipe(QUICKSTART_OF_TGN, ["models.training_processes=9"])


def test_processes_that_do_not_meet_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    code = "from ltgc_local.training.distributed import process_group\nwith process_group('cpu', 2): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said = "2 processes were to train together, and accelerate sees 1; type --set models.training_processes=1"
    assert said in done.stderr


def test_a_step_that_fails_in_one_of_two_workers_leaves_no_process(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    write_run_recipe(tmp_path, make_recipe("assess.enabled=false"))
    with pytest.raises(LtgcError, match="step generated: failed"):
        run_workers(tmp_path, "generated", 2)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{child}/cmdline").read_text() for child in children if Path(f"/proc/{child}").exists()]
    assert not [name for name in names if "ltgc_local.pipeline" in name]
