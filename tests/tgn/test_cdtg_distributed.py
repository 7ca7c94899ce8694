"""Two processes train what one does: each takes its share of the same batches, and gradients are averaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ltgc_local.errors import BackendError
from ltgc_local.methods.tgn.cdtg import training as cdtg_training
from ltgc_local.pipeline.executors.machine import training_environments
from tests.tgn.cdtg_parts import build_trainer, build_training

ROOT = Path(__file__).resolve().parents[2]
#: The path length's pixels and ADA's changes are random per process, so they differ from those of a single process.
OPTIONS = {"augment": "none", "path_weight": 0.0, "flip": True, "r_train_low": 0.2, "steps": 4}
PROGRAM = """
import os, sys
from safetensors.torch import save_file
from ltgc_local.training import distributed
from tests.tgn.cdtg_parts import build_trainer
from tests.tgn.test_cdtg_distributed import OPTIONS
distributed.BUCKET_BYTES = 2000  # or all gradients of these small networks went in one message
with distributed.process_group("cpu", 2, os.environ["LTGC_RENDEZVOUS"]):
    training, trainer = build_trainer(**OPTIONS)
    trainer.run()
    weights = {name: tensor.contiguous() for name, tensor in training.generator.state_dict().items()}
    save_file(weights, f"{sys.argv[1]}/{training.accelerator.process_index}.safetensors")
"""


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    processes = [subprocess.Popen(arguments, env=environment | rank, cwd=ROOT) for rank in training_environments(2)]
    assert [process.wait(timeout=400) for process in processes] == [0, 0]
    one, other = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    training, trainer = build_trainer(**OPTIONS)
    start = {name: tensor.clone() for name, tensor in training.generator.state_dict().items()}
    trainer.run()
    alone = training.generator.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in alone)
    for name, tensor in alone.items():
        moved = (tensor - start[name]).abs().max()
        assert (one[name] - tensor).abs().max() <= 0.05 * moved + 1e-5, name


def test_a_batch_that_processes_cannot_share_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    class Three(cdtg_training.Accelerator):
        @property
        def num_processes(self) -> int:
            return 3

    monkeypatch.setattr(cdtg_training, "Accelerator", Three)
    with pytest.raises(BackendError, match=r"8 images per step .* by 3 processes; type --set cdtg\.batch_size=9"):
        build_training(class_weight=0.0, clip_weight=0.0)
