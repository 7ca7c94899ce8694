"""The learning rate, by hand, and a selection by a group that is not there."""

from __future__ import annotations

import pytest
import torch

from ltgc_local.errors import DataError
from ltgc_local.training.checkpoints import load_optimizer_tensors, optimizer_tensors
from ltgc_local.training.optimization import Selection, warmup_cosine


def test_the_learning_rate_rises_linearly_and_falls_by_half_a_cosine() -> None:
    # 2 steps of warm-up of 6: 1/2, 1; then (1 + cos(pi * [0, 1/4, 2/4, 3/4])) / 2.
    found = [warmup_cosine(step, 2, 6) for step in range(7)]
    assert found == pytest.approx([0.5, 1, 1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)
    assert warmup_cosine(0, 0, 10) == 1
    assert warmup_cosine(0, 5, 5) == pytest.approx(0.2)


def test_a_selection_by_a_group_without_classes_says_so() -> None:
    selection = Selection("train", "best_val_few")
    with pytest.raises(DataError, match=r"no validation image is of that group; type --set train\.select=last"):
        selection.offer(0, {"all": 1.0, "few": None}, {"weight": torch.zeros(1)})


def test_an_optimiser_that_goes_on_has_its_state_laid_out_as_the_weights_are() -> None:
    weights = torch.nn.Parameter(torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    before, after = (torch.optim.Adam([weights], fused=True) for _ in range(2))
    weights.sum().backward()  # type: ignore[no-untyped-call]
    before.step()
    kept = {name: tensor.contiguous() for name, tensor in optimizer_tensors(before).items()}
    load_optimizer_tensors(after, kept)
    for name in ("exp_avg", "exp_avg_sq"):
        state = after.state[weights][name]
        assert state.stride() == weights.stride()
        assert torch.equal(state, before.state[weights][name])
