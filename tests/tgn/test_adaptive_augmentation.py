"""ADA: what it changes, that p = 0 changes nothing, that gradients pass, and how p is adjusted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ltgc_local.methods.tgn.cdtg import adaptive_augmentation
from ltgc_local.methods.tgn.cdtg.adaptive_augmentation import AdaptiveProbability, augment


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


def test_its_state_is_restored() -> None:
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


NONE = {"zoom", "stretch", "fraction", "brightness", "contrast", "saturation", "invert", "hue", "before", "after"}


def test_flips_quarter_turns_and_whole_shifts_blur_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = adaptive_augmentation._draw

    def draw_whole(num: int, size: int, p: float, rng: torch.Generator) -> object:
        changes = draw(num, size, p, rng)
        return replace(changes, **{name: torch.zeros_like(getattr(changes, name)) for name in NONE})

    monkeypatch.setattr(adaptive_augmentation, "_draw", draw_whole)
    images = torch.randint(0, 2, (16, 3, 8, 8)).float()
    moved = augment(images, 0.99, rng())
    assert torch.allclose(moved, moved.round(), atol=1e-4)  # every pixel is one of the image's
    assert not torch.equal(moved.round(), images)


def test_each_change_is_chosen_with_probability_p_and_by_its_own_amounts() -> None:
    changes = adaptive_augmentation._draw(50_000, 32, 0.4, rng())
    for name, deviation in {"zoom": 0.2, "stretch": 0.2, "brightness": 0.2, "contrast": 0.5, "saturation": 1.0}.items():
        values = getattr(changes, name)
        assert float((values != 0).float().mean()) == pytest.approx(0.4, abs=0.02), name
        assert float(values[values != 0].std()) == pytest.approx(deviation, rel=0.05), name
    rotated = (changes.before != 0) | (changes.after != 0)
    assert float(rotated.float().mean()) == pytest.approx(0.4, abs=0.02)
    assert changes.flip.unique().tolist() == [0, 1] and changes.invert.unique().tolist() == [0, 1]
    assert len(changes.quarter.unique()) == 4
    assert float(changes.flip.mean()) == pytest.approx(0.2, abs=0.02)
    assert float((changes.whole * 16).abs().max()) == 4  # an eighth of 32 pixels, in wholes
    assert torch.equal(changes.whole * 16, (changes.whole * 16).round())


def test_moves_are_the_product_of_their_matrices() -> None:
    changes = adaptive_augmentation._draw(20, 32, 0.9, rng(3))
    for row, found in enumerate(adaptive_augmentation._moves(changes)):
        one = {field: getattr(changes, field)[..., row].double().numpy() for field in vars(changes)}

        def turn(angle: float) -> np.ndarray:
            return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])

        def shift(x: float, y: float) -> np.ndarray:
            return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])

        zoom, stretch = np.exp2(one["zoom"]), np.exp2(one["stretch"])
        whole = np.diag([1 - 2 * one["flip"], 1, 1]) @ turn(one["quarter"]) @ shift(*one["whole"])
        sized = np.diag([1 / zoom, 1 / zoom, 1]) @ turn(one["before"]) @ np.diag([1 / stretch, stretch, 1])
        expected = whole @ sized @ turn(one["after"]) @ shift(*one["fraction"])
        assert np.allclose(found.numpy(), expected[:2], atol=1e-5)
