"""Two processes train what one does: each takes its share of the same batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.pipeline.executors.machine import training_environments
from ltgc_local.recipe import Recipe
from ltgc_local.runs.provenance import write_run_recipe
from tests.training.test_fine_tuning import run, weights_of

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, os, sys
from pathlib import Path
from safetensors.torch import save_file
from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.backends.protocols import ModelOptions
from ltgc_local.runs.provenance import read_run_recipe
from ltgc_local.training.distributed import process_group
from tests.training.test_fine_tuning import training_of, weights_of
recipe = read_run_recipe(Path(sys.argv[1]))
with process_group("cpu", 2, os.environ["LTGC_RENDEZVOUS"]):
    trainer, tuning = training_of(OpenClipVit(Path(sys.argv[2]), ModelOptions()), recipe)
    seen, levels = [], []
    def note(module, inputs):
        seen.append(len(inputs[0]))
        levels.extend(inputs[0].mean((1, 2, 3)).tolist())
    tuning.classifier.register_forward_pre_hook(note)
    trainer.run()
    rank = tuning.accelerator.process_index
    save_file(weights_of(tuning.classifier), f"{sys.argv[3]}/{rank}.safetensors")
    Path(sys.argv[3], f"{rank}.json").write_text(json.dumps({"seen": seen, "levels": levels}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "augmentation",
    [
        ("train.blur_px=1", "train.noise=0.1"),
        ("train.augment=resized_crop", "train.mix_form=mask"),
        ("train.mixing=joint", "train.loss=logit_adjustment", "train.prior_scale=5", "train.noise=0.1"),
    ],
)
def test_two_processes_train_what_one_does(
    load_clip: Callable[[], OpenClipVit],
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    augmentation: tuple[str, ...],
) -> None:
    # 8 pairs a step: four a process, of which two at a time.
    options = ("train.batch_size=8", "train.epochs=2", "train.lora_rank=4", "train.real_epochs=1")
    options = (*options, "train.last_layer_epochs=1", "train.accumulation_steps=2", *augmentation)
    recipe = make_recipe(*options)
    write_run_recipe(tmp_path, recipe)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-c", PROGRAM, tmp_path, ROOT / "data/miniatures/clip", tmp_path]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "job#1?"))  # as a folder on a cluster may be called
    (tmp_path / "job#1?").mkdir()
    processes = [subprocess.Popen(arguments, env=environment | rank) for rank in training_environments(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    assert not (tmp_path / "job").exists()  # where a URL of that path would have led
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [each["seen"] for each in seen] == [[2] * 8] * 2  # 4 steps of 2 parts: half of every batch each
    assert not set(seen[0]["levels"]) & set(seen[1]["levels"])  # and not the same half
    one, other = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    alone = weights_of(run(load_clip(), recipe)[1].classifier)
    assert one.keys() == other.keys() == alone.keys()
    assert all(torch.equal(one[name], other[name]) for name in alone)
    assert all(torch.allclose(one[name], alone[name], atol=1e-5) for name in alone)
