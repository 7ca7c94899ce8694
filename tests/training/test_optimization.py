"""The learning rate, by hand, and a selection by a group that is not there."""

from __future__ import annotations

import pytest
import torch

from ltgc_local.errors import DataError
from ltgc_local.training.optimization import Selection, lr_factor


def test_the_learning_rate_rises_linearly_and_falls_by_half_a_cosine() -> None:
    # 2 steps of warm-up of 6: 1/2, 1; then (1 + cos(pi * [0, 1/4, 2/4, 3/4])) / 2.
    found = [lr_factor(step, 2, 6) for step in range(7)]
    assert found == pytest.approx([0.5, 1, 1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)
    assert lr_factor(0, 0, 10) == 1
    assert lr_factor(0, 5, 5) == pytest.approx(0.2)


def test_a_selection_by_a_group_without_classes_says_so() -> None:
    selection = Selection("best_val_few")
    with pytest.raises(DataError, match=r"no validation image is of that group; type --set train\.select=best_val_all"):
        selection.offer(0, {"all": 1.0, "few": None}, {"weight": torch.zeros(1)})
