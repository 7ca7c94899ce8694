"""Two processes train what one does: each takes its share of the same batches."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.recipe import Recipe
from ltgc_local.runs.provenance import write_run_recipe
from tests.training.test_fine_tuning import run, weights_of

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from accelerate import PartialState
from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.backends.protocols import ModelOptions
from ltgc_local.runs.provenance import read_run_recipe
from tests.training.test_fine_tuning import run, weights_of
state = PartialState(cpu=True)
assert state.num_processes == 2
recipe = read_run_recipe(Path(sys.argv[1]))
_, tuning = run(OpenClipVit(Path(sys.argv[2]), ModelOptions()), recipe)
save_file(weights_of(tuning.classifier), f"{sys.argv[3]}/{state.process_index}.safetensors")
state.destroy_process_group()
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.slow
def test_two_processes_train_what_one_does(
    load_clip: Callable[[], OpenClipVit], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    # 8 pairs a step: four a process, of which two at a time.
    options = ("train.batch_size=8", "train.epochs=2", "train.lora_rank=4", "train.real_epochs=1")
    options = (*options, "train.last_layer_epochs=1", "train.accumulation_steps=2")
    recipe = make_recipe(*options)
    write_run_recipe(tmp_path, recipe)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    arguments = [sys.executable, "-c", PROGRAM, tmp_path, ROOT / "data/miniatures/clip", tmp_path]
    ranks = [{"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    processes = [subprocess.Popen(arguments, env=environment | rank) for rank in ranks]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    one, other = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    alone = weights_of(run(load_clip(), recipe)[1].classifier)
    assert one.keys() == other.keys() == alone.keys()
    assert all(torch.equal(one[name], other[name]) for name in alone)
    assert all(torch.allclose(one[name], alone[name], atol=1e-5) for name in alone)
