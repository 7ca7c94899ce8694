"""Upfirdn and the Haar transform against their definitions, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ltgc_local.tgn.resampling import blur_kernel, downsample, upfirdn, upsample
from ltgc_local.tgn.wavelet import from_wavelets, to_wavelets


def by_hand(image: np.ndarray, kernel: np.ndarray, up: int, down: int, pad: tuple[int, int]) -> np.ndarray:
    """Upsample, convolve and downsample one channel by loops."""
    height, width = image.shape
    spread = np.zeros((height * up, width * up))
    spread[::up, ::up] = image
    padded = np.pad(spread, pad)
    turned, size = kernel[::-1, ::-1], len(kernel)
    full = [
        [(padded[y : y + size, x : x + size] * turned).sum() for x in range(padded.shape[1] - size + 1)]
        for y in range(padded.shape[0] - size + 1)
    ]
    return np.array(full)[::down, ::down]


@pytest.mark.parametrize(("up", "down", "pad"), [(1, 1, (2, 1)), (2, 1, (2, 1)), (1, 2, (1, 1)), (2, 2, (0, 3))])
def test_upfirdn_is_what_its_name_says(up: int, down: int, pad: tuple[int, int]) -> None:
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    kernel = torch.randn(4, 4, dtype=torch.float64)  # not symmetric: the half turn shows
    found = upfirdn(images, kernel, up, down, pad)
    for image, result in zip(images.flatten(0, 1), found.flatten(0, 1), strict=True):
        expected = by_hand(image.numpy(), kernel.numpy(), up, down, pad)
        assert np.allclose(result.numpy(), expected)


def test_a_constant_image_stays_constant_away_from_the_edge() -> None:
    images = torch.ones(1, 2, 8, 8)
    assert upsample(images).shape == (1, 2, 16, 16) and downsample(images).shape == (1, 2, 4, 4)
    assert torch.allclose(upsample(images)[..., 2:-2, 2:-2], torch.ones(1, 2, 12, 12))
    assert torch.allclose(downsample(images)[..., 1:-1, 1:-1], torch.ones(1, 2, 2, 2))
    assert float(blur_kernel(images, 4).sum()) == pytest.approx(4)


def test_autocast_does_not_round_what_is_resampled() -> None:
    images = torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert upsample(images.bfloat16()).dtype == torch.bfloat16
        under = upsample(images)
    assert torch.equal(under, upsample(images))


def test_resampling_can_be_differentiated_twice() -> None:
    images = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: upsample(x).square(), images)
    assert torch.autograd.gradgradcheck(lambda x: downsample(x).square(), images)


def test_the_haar_bands_of_four_pixels() -> None:
    # a b / c d = 1 2 / 3 5: LL = 11 / 2, LH = (1 + 2 - 3 - 5) / 2, HL = (1 - 2 + 3 - 5) / 2, HH = (1 - 2 - 3 + 5) / 2
    bands = to_wavelets(torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]]))
    assert bands.flatten().tolist() == [5.5, -2.5, -1.5, 0.5]


def test_the_haar_transform_is_inverted_and_keeps_energy() -> None:
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    bands = to_wavelets(images)
    assert bands.shape == (2, 12, 4, 4)
    assert torch.allclose(from_wavelets(bands), images)
    assert torch.allclose(to_wavelets(from_wavelets(bands)), bands)
    assert float(bands.square().sum()) == pytest.approx(float(images.square().sum()))


def test_the_haar_transform_is_the_released_filters() -> None:
    low, high = np.array([1, 1]) / np.sqrt(2), np.array([-1, 1]) / np.sqrt(2)
    kernels = [np.outer(low, low), np.outer(high, low), np.outer(low, high), np.outer(high, high)]
    images = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    expected = [upfirdn(images, torch.from_numpy(kernel), down=2) for kernel in kernels]
    assert torch.allclose(to_wavelets(images), torch.cat(expected, 1))
