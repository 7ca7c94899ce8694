"""The blur, the Haar transform and resampling in Haar space, against their definitions, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ltgc_local.methods.tgn.cdtg.convolution import Blur
from ltgc_local.methods.tgn.cdtg.wavelet import Haar

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
    assert torch.allclose(Blur(pad).double()(maps), upfirdn(maps, TAPS, 1, 1, pad))
    assert torch.allclose(Blur(pad, gain=4).double()(maps), 4 * upfirdn(maps, TAPS, 1, 1, pad))


@pytest.mark.parametrize("colours", [1, 3])
def test_bands_are_halved_and_doubled_as_their_image_is(colours: int) -> None:
    bands, haar = torch.randn(2, 4 * colours, 6, 6, dtype=torch.float64), Haar(colours).double()
    image = haar.inverse(bands)
    assert torch.allclose(haar.halved(bands), haar(upfirdn(image, TAPS, 1, 2, (1, 1))), atol=1e-6)
    assert torch.allclose(haar.doubled(bands), haar(upfirdn(image, 4 * TAPS, 2, 1, (2, 1))), atol=1e-6)


def test_a_constant_image_stays_constant_away_from_the_edge() -> None:
    haar = Haar(2)
    bands = haar(torch.ones(1, 2, 16, 16))
    larger, smaller = haar.inverse(haar.doubled(bands)), haar.inverse(haar.halved(bands))
    assert torch.allclose(larger[..., 2:-2, 2:-2], torch.ones(1, 2, 28, 28))
    assert torch.allclose(smaller[..., 1:-1, 1:-1], torch.ones(1, 2, 6, 6))


def test_autocast_does_not_round_what_is_resampled() -> None:
    bands, haar, blur = torch.rand(1, 12, 8, 8), Haar(), Blur((1, 1))
    changes = (haar.doubled, haar.halved, haar.inverse, blur)
    with torch.autocast("cpu", torch.bfloat16):
        assert blur(bands.bfloat16()).dtype == torch.bfloat16
        under = [change(bands) for change in changes]
    assert all(maps.dtype == torch.float32 for maps in under)
    assert all(torch.equal(maps, change(bands)) for maps, change in zip(under, changes, strict=True))


def test_resampling_can_be_differentiated_twice() -> None:
    bands = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    haar = Haar(1).double()
    for change in (haar.doubled, haar.halved, Blur((2, 1)).double()):
        assert torch.autograd.gradgradcheck(lambda x, change=change: change(x).square(), bands)


def test_the_haar_bands_of_four_pixels() -> None:
    # a b / c d = 1 2 / 3 5: LL = 11 / 2, LH = (1 + 2 - 3 - 5) / 2, HL = (1 - 2 + 3 - 5) / 2, HH = (1 - 2 - 3 + 5) / 2
    bands = Haar(1)(torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]]))
    assert bands.flatten().tolist() == pytest.approx([5.5, -2.5, -1.5, 0.5])


def test_the_haar_transform_is_inverted_and_keeps_energy() -> None:
    images, haar = torch.randn(2, 3, 8, 8), Haar()
    bands = haar(images)
    assert bands.shape == (2, 12, 4, 4)
    assert torch.allclose(haar.inverse(bands), images, atol=1e-5)
    assert torch.allclose(haar(haar.inverse(bands)), bands, atol=1e-5)
    assert float(bands.square().sum()) == pytest.approx(float(images.square().sum()), rel=1e-5)


def test_the_haar_transform_is_the_released_filters() -> None:
    low, high = np.array([1, 1]) / np.sqrt(2), np.array([-1, 1]) / np.sqrt(2)
    kernels = [np.outer(low, low), np.outer(high, low), np.outer(low, high), np.outer(high, high)]
    images = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    expected = [upfirdn(images, kernel, 1, 2, (0, 0)) for kernel in kernels]
    assert torch.allclose(Haar(2).double()(images), torch.cat(expected, 1), atol=1e-6)


def test_constants_are_in_no_file_of_weights() -> None:
    assert not Haar().state_dict() and not Blur((1, 1)).state_dict()
