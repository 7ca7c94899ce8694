"""The blur, the Haar transform and what is resampled in its space, against their definitions, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ltgc_local.tgn.resampling import blur
from ltgc_local.tgn.wavelet import doubled, from_wavelets, halved, to_wavelets

TAPS = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def upfirdn(images: torch.Tensor, kernel: np.ndarray, up: int, down: int, pad: tuple[int, int]) -> torch.Tensor:
    """Put zeros between pixels and around them, convolve, and take some: StyleGAN2's operator, by loops."""
    size, results = len(kernel), []
    for image in images.flatten(0, 1).numpy():
        height, width = image.shape
        spread = np.zeros((height * up, width * up))
        spread[::up, ::up] = image
        padded = np.pad(spread, pad)
        rows, columns = (length - size + 1 for length in padded.shape)
        full = [
            [(padded[y : y + size, x : x + size] * kernel[::-1, ::-1]).sum() for x in range(columns)]
            for y in range(rows)
        ]
        results.append(np.array(full)[::down, ::down])
    return torch.from_numpy(np.stack(results)).unflatten(0, images.shape[:2])


@pytest.mark.parametrize("pad", [(1, 1), (2, 2), (2, 1)])
def test_the_blur_is_of_each_channel_by_itself(pad: tuple[int, int]) -> None:
    maps = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    assert torch.allclose(blur(maps, pad), upfirdn(maps, TAPS, 1, 1, pad))
    assert torch.allclose(blur(maps, pad, gain=4), 4 * upfirdn(maps, TAPS, 1, 1, pad))


@pytest.mark.parametrize("colours", [1, 3])
def test_bands_are_halved_and_doubled_as_their_image_is(colours: int) -> None:
    bands = torch.randn(2, 4 * colours, 6, 6, dtype=torch.float64)
    image = from_wavelets(bands)
    assert torch.allclose(halved(bands), to_wavelets(upfirdn(image, TAPS, 1, 2, (1, 1))))
    assert torch.allclose(doubled(bands), to_wavelets(upfirdn(image, 4 * TAPS, 2, 1, (2, 1))))


def test_a_constant_image_stays_constant_away_from_the_edge() -> None:
    bands = to_wavelets(torch.ones(1, 2, 16, 16))
    larger, smaller = from_wavelets(doubled(bands)), from_wavelets(halved(bands))
    assert torch.allclose(larger[..., 2:-2, 2:-2], torch.ones(1, 2, 28, 28))
    assert torch.allclose(smaller[..., 1:-1, 1:-1], torch.ones(1, 2, 6, 6))


def test_autocast_does_not_round_what_is_resampled() -> None:
    bands = torch.rand(1, 12, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert doubled(bands.bfloat16()).dtype == torch.bfloat16
        under = [change(bands) for change in (doubled, halved, from_wavelets, lambda maps: blur(maps, (1, 1)))]
    assert all(maps.dtype == torch.float32 for maps in under)
    assert torch.equal(under[0], doubled(bands)) and torch.equal(under[1], halved(bands))


def test_resampling_can_be_differentiated_twice() -> None:
    bands = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    for change in (doubled, halved, lambda maps: blur(maps, (2, 1))):
        assert torch.autograd.gradgradcheck(lambda x, change=change: change(x).square(), bands)


def test_the_haar_bands_of_four_pixels() -> None:
    # a b / c d = 1 2 / 3 5: LL = 11 / 2, LH = (1 + 2 - 3 - 5) / 2, HL = (1 - 2 + 3 - 5) / 2, HH = (1 - 2 - 3 + 5) / 2
    bands = to_wavelets(torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]]))
    assert bands.flatten().tolist() == pytest.approx([5.5, -2.5, -1.5, 0.5])


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
    expected = [upfirdn(images, kernel, 1, 2, (0, 0)) for kernel in kernels]
    assert torch.allclose(to_wavelets(images), torch.cat(expected, 1))
