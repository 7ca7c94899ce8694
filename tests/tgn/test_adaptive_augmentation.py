"""ADA: what it changes, that p = 0 changes nothing, that gradients pass, and the heuristic that moves p."""

from __future__ import annotations

import pytest
import torch

from ltgc_local.tgn.adaptive_augmentation import AdaptiveProbability, augment


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def heuristic(**changes: float) -> AdaptiveProbability:
    settings = {"target": 0.6, "images": 100, "every": 4, "most": 0.8} | changes
    return AdaptiveProbability(**settings)  # type: ignore[arg-type]


def test_p_rises_while_the_discriminator_is_too_sure_and_falls_otherwise() -> None:
    ada = heuristic()
    ada.count(torch.full((10, 1), 2.0))  # all signs +1: r_t = 1 > 0.6
    ada.adapt(ada.signs)
    assert (ada.last_r_t, ada.p) == (1.0, pytest.approx(0.1))  # 10 of 100 images
    ada.count(torch.tensor([[1.0]] * 12 + [[-1.0]] * 8))  # r_t = (12 - 8) / 20 = 0.2
    ada.adapt(ada.signs)
    assert ada.last_r_t == pytest.approx(0.2) and ada.p == 0.0  # 0.1 - 0.2, not below 0


def test_signs_add_up_between_changes_and_begin_again() -> None:
    ada = heuristic()
    ada.count(torch.ones(3, 1))
    ada.count(-torch.ones(1, 1))
    assert ada.signs.tolist() == [2, 4]
    ada.adapt(ada.signs)
    assert ada.last_r_t == 0.5 and ada.signs.tolist() == [0, 0]


def test_p_is_bounded() -> None:
    ada = heuristic(most=0.3)
    for _ in range(9):
        ada.count(torch.ones(10, 1))
        ada.adapt(ada.signs)
    assert ada.p == 0.3


def test_its_state_goes_on() -> None:
    ada, other = heuristic(), heuristic()
    ada.count(torch.ones(7, 1))
    ada.adapt(ada.signs)
    ada.count(-torch.ones(2, 1))
    other.load_state(ada.state())
    assert (other.p, other.last_r_t, other.signs.tolist()) == (ada.p, ada.last_r_t, ada.signs.tolist())


def test_without_probability_nothing_changes() -> None:
    images = torch.rand(4, 3, 8, 8)
    assert augment(images, 0.0, rng()) is images


def test_images_that_nothing_was_chosen_for_stay_as_they_are() -> None:
    images = torch.rand(400, 3, 8, 8) * 2 - 1
    changed = (augment(images, 0.05, rng()) - images).abs().amax((1, 2, 3)) > 1e-4
    # Flips choose the image itself half of the time, quarter turns a quarter of the time, and so on.
    assert 0.3 < changed.float().mean() < 0.6


def test_the_same_randomness_gives_the_same_images() -> None:
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(augment(images, 0.5, rng(1)), augment(images, 0.5, rng(1)))
    assert not torch.equal(augment(images, 0.5, rng(1)), augment(images, 0.5, rng(2)))


def test_gradients_reach_the_images() -> None:
    images = torch.rand(8, 3, 8, 8, requires_grad=True)
    augment(images, 0.8, rng()).square().sum().backward()
    assert images.grad is not None and bool((images.grad.abs().sum((1, 2, 3)) > 0).all())


def test_grey_images_stay_grey() -> None:
    images = torch.rand(16, 1, 8, 8).expand(-1, 3, -1, -1) * 2 - 1
    changed = augment(images, 0.8, rng())
    assert torch.allclose(changed[:, :1].expand(-1, 3, -1, -1), changed, atol=1e-4)
    assert not torch.allclose(changed, images, atol=0.1)


def test_flips_quarter_turns_and_whole_shifts_blur_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from ltgc_local.tgn import adaptive_augmentation

    monkeypatch.setattr(adaptive_augmentation, "_colours", lambda num, p, rng: torch.eye(3, 4).expand(num, 3, 4))
    chosen = adaptive_augmentation._Draws.chosen
    calls = {"n": 0}

    def only_whole(self: object, values: torch.Tensor, p: float, neutral: float) -> torch.Tensor:
        calls["n"] += 1  # flip, quarter turn, two whole shifts come first
        return chosen(self, values, 1.0 if calls["n"] <= 4 else 0.0, neutral)  # type: ignore[arg-type]

    monkeypatch.setattr(adaptive_augmentation._Draws, "chosen", only_whole)
    images = torch.randint(0, 2, (16, 3, 8, 8)).float()
    moved = augment(images, 0.5, rng())
    assert calls["n"] > 4
    assert torch.allclose(moved, moved.round(), atol=1e-4)  # every pixel is one of the image's
    assert not torch.equal(moved.round(), images)
