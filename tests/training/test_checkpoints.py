"""A checkpoint comes back as it was written, or is named as damaged: whichever bit is flipped."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from ltgc_local.errors import ArtefactError
from ltgc_local.training.checkpoints import read_checkpoint, write_checkpoint

GROUPS = {
    "weights": {"a": torch.randn(3, 4), "b": torch.randn(2).bfloat16(), "step": torch.tensor(7)},
    "random": {"torch": torch.get_rng_state(), "flags": torch.tensor([True, False])},
}
FACTS = {"step": 12, "loss": 0.1, "best": None, "nan": float("inf")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "step/checkpoint.safetensors", GROUPS, FACTS)
    return tmp_path / "step/checkpoint.safetensors"


def test_tensors_and_facts_come_back(path: Path) -> None:
    found = read_checkpoint(path)
    assert found is not None
    groups, facts = found
    assert facts == FACTS
    assert {name: sorted(group) for name, group in groups.items()} == {n: sorted(g) for n, g in GROUPS.items()}
    assert all(torch.equal(groups[g][name], tensor) for g, group in GROUPS.items() for name, tensor in group.items())
    assert read_checkpoint(path.with_name("none")) is None


def test_every_flipped_bit_is_seen(path: Path) -> None:
    content, rng = path.read_bytes(), random.Random(0)
    for _ in range(600):
        flipped = bytearray(content)
        place = rng.randrange(len(flipped))
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        if content[place] == 0x20:  # a blank of the header's padding
            continue
        with pytest.raises(ArtefactError, match=r"damaged: .*; do the step again that made it"):
            read_checkpoint(path)
