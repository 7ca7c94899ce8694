"""Augmentation changes what it says and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from ltgc_local.recipe import Recipe
from ltgc_local.training import augment as module
from ltgc_local.training.augment import blur

MakeRecipe = Callable[..., Recipe]
KINDS = ["none", "flip", "flip_crop", "resized_crop"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def augment(make_recipe: MakeRecipe) -> Callable[..., torch.Tensor]:
    """augment(batch, kind, *options, seed=0)."""

    def apply(batch: torch.Tensor, kind: str, *options: str, seed: int = 0) -> torch.Tensor:
        settings = make_recipe(f"train.augment={kind}", *(f"train.{option}" for option in options)).train
        return module.augment(batch, settings, generator(seed))

    return apply


Augment = Callable[..., torch.Tensor]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(6, 3, 8, 8), (2, 3, 16, 24), (1, 3, 4, 4)])
def test_augmentation_keeps_the_shape(augment: Augment, kind: str, size: tuple[int, int, int, int]) -> None:
    assert augment(torch.rand(size, generator=generator()), kind, "blur_px=1", "noise=0.1").shape == size


def test_none_changes_nothing(augment: Augment) -> None:
    batch = torch.rand(4, 3, 8, 8)
    assert augment(batch, "none") is batch


def test_about_half_are_flipped_left_to_right_and_the_rest_are_as_they_were(augment: Augment) -> None:
    one = torch.arange(3 * 4 * 4).view(1, 3, 4, 4).float()
    result = augment(one.repeat(2000, 1, 1, 1), "flip")
    is_same = (result == one).flatten(1).all(1)
    is_flipped = (result == one.flip(-1)).flatten(1).all(1)
    assert bool((is_same ^ is_flipped).all())
    # 1000 expected, standard deviation sqrt(2000 / 4) = 22.4: five of them are 112.
    assert abs(int(is_flipped.sum()) - 1000) < 112


def test_a_crop_shifts_by_at_most_an_eighth_in_every_direction(augment: Augment) -> None:
    one = torch.zeros(1, 1, 16, 16)
    one[..., 8, 4] = 1  # flipped: column 11
    result = augment(one.repeat(500, 1, 1, 1), "flip_crop")
    places = {tuple(place) for place in (image[0].nonzero()[0].tolist() for image in result)}
    rows, columns = {row for row, _ in places}, {column for _, column in places}
    assert rows == set(range(6, 11))  # 8 - 2 to 8 + 2
    assert columns == set(range(2, 7)) | set(range(9, 14))


def test_a_resized_crop_shows_a_part_of_the_image_of_the_area_and_shape_that_are_allowed(augment: Augment) -> None:
    # A ramp from left to right and one from top to bottom: the slope is the share of the side that is shown.
    at = (torch.arange(64) + 0.5) / 64
    ramps = torch.stack([at.expand(64, 64), at[:, None].expand(64, 64)])[None].repeat(400, 1, 1, 1)
    result = augment(ramps, "resized_crop", "crop_scale=0.25")
    widths = (result[:, 0, 32, 48] - result[:, 0, 32, 16]).abs() * 2
    heights = (result[:, 1, 48, 32] - result[:, 1, 16, 32]) * 2
    areas = widths * heights
    assert areas.min() > 0.24 and areas.min() < 0.3
    assert areas.max() > 0.9 and areas.max() < 1.01
    aspects = (widths / heights)[(widths < 0.98) & (heights < 0.98)]
    assert 0.74 < aspects.min() < 0.8 and 1.25 < aspects.max() < 1.35
    assert result.min() >= 0 and result.max() <= 1  # nothing from outside the image
    middles = result[:, 0, 32, 32]
    assert middles.min() < 0.35 and middles.max() > 0.65  # anywhere
    whole = augment(ramps[:, 1:], "resized_crop", "crop_scale=1")
    assert torch.allclose(whole[:, 0, 48, 32] - whole[:, 0, 16, 32], torch.tensor(0.5), atol=0.08)  # the aspect alone


def test_a_blur_is_a_gaussian_of_the_images_own_width() -> None:
    # A point becomes a Gaussian: variance sigma^2 in each direction, sum 1. sigma 0 leaves it a point.
    point = torch.zeros(3, 2, 21, 21)
    point[:, :, 10, 10] = 1
    result = blur(point, torch.tensor([0.0, 1.0, 2.0]))
    assert torch.allclose(result[0], point[0], atol=1e-6)
    offsets = torch.arange(21) - 10
    for image, sigma in ((result[1, 0], 1.0), (result[2, 1], 2.0)):
        assert image.sum().item() == pytest.approx(1, abs=1e-4)
        assert (image.sum(0) * offsets**2).sum().item() == pytest.approx(sigma**2, rel=0.05)
        assert (image.sum(1) * offsets**2).sum().item() == pytest.approx(sigma**2, rel=0.05)
    assert result[1, 0, 10, 11] / result[1, 0, 10, 10] == pytest.approx(math.exp(-0.5), rel=1e-4)
    assert torch.allclose(blur(torch.full((1, 1, 6, 6), 0.3), torch.tensor([2.0])), torch.tensor(0.3), atol=1e-6)


def test_noise_is_of_random_strength_up_to_what_is_asked_and_stays_within_the_range(augment: Augment) -> None:
    result = augment(torch.full((200, 3, 16, 16), 0.5), "none", "noise=0.1")
    strengths = (result - 0.5).flatten(1).std(1)  # uniform from 0 to 0.1
    assert strengths.min() < 0.01 and 0.09 < strengths.max() < 0.11
    assert strengths.mean().item() == pytest.approx(0.05, abs=5 * 0.1 / math.sqrt(12 * 200))
    edge = augment(torch.ones(20, 3, 16, 16), "none", "noise=1")
    assert edge.max() == 1 and edge.min() >= 0


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_seed_gives_the_same_augmentation(augment: Augment, kind: str) -> None:
    batch, options = torch.rand(32, 3, 8, 8, generator=generator()), (kind, "blur_px=1", "noise=0.1")
    assert torch.equal(augment(batch, *options, seed=3), augment(batch, *options, seed=3))
    assert not torch.equal(augment(batch, *options, seed=3), augment(batch, *options, seed=4))
