"""Images stay images until they are one array; augmentation changes what it says and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ltgc_local.training.pixels import augment, decode_all, normalisation, resize_step

PREPROCESS = transforms.Compose(
    [
        transforms.Resize((8, 8), transforms.InterpolationMode.BICUBIC),
        transforms.ToTensor(),
        transforms.Normalize((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)),
    ]
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(mode: str = "RGB", size: int = 16) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_resizing_gives_an_image_still_in_colour_and_nothing_is_normalised(mode: str) -> None:
    image = noise(mode)
    resized = resize_step(PREPROCESS)(image)
    assert isinstance(resized, Image.Image)
    assert (resized.size, resized.mode) == ((8, 8), "RGB")
    expected = image.resize((8, 8), Image.Resampling.BICUBIC).convert("RGB")
    assert resized.tobytes() == expected.tobytes()


def test_resizing_then_normalising_is_the_whole_preprocessing() -> None:
    mean, std = normalisation(PREPROCESS)
    assert mean.shape == std.shape == (1, 3, 1, 1)
    pixels = decode_all([noise()], resize_step(PREPROCESS))
    assert torch.allclose((pixels.float() / 255 - mean) / std, PREPROCESS(noise())[None], atol=1e-6)


def test_decoded_images_are_one_array_of_bytes_channels_first() -> None:
    image = Image.new("RGB", (8, 8), (10, 20, 30))
    pixels = decode_all([image, noise()], resize_step(PREPROCESS))
    assert (pixels.shape, pixels.dtype) == ((2, 3, 8, 8), torch.uint8)
    assert pixels[0, :, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("kind", ["none", "flip", "flip_crop"])
@pytest.mark.parametrize("size", [(6, 3, 8, 8), (2, 3, 16, 24), (1, 3, 4, 4)])
def test_augmentation_keeps_the_shape(kind: str, size: tuple[int, int, int, int]) -> None:
    assert augment(torch.rand(size, generator=generator()), kind, generator()).shape == size


def test_none_changes_nothing() -> None:
    batch = torch.rand(4, 3, 8, 8)
    assert augment(batch, "none", generator()) is batch


def test_about_half_are_flipped_left_to_right_and_the_rest_are_as_they_were() -> None:
    one = torch.arange(3 * 4 * 4).view(1, 3, 4, 4).float()
    result = augment(one.repeat(2000, 1, 1, 1), "flip", generator())
    is_same = (result == one).flatten(1).all(1)
    is_flipped = (result == one.flip(-1)).flatten(1).all(1)
    assert bool((is_same ^ is_flipped).all())
    # 1000 expected, standard deviation sqrt(2000 / 4) = 22.4: five of them are 112.
    assert abs(int(is_flipped.sum()) - 1000) < 112


def test_a_crop_shifts_by_at_most_an_eighth_in_every_direction() -> None:
    one = torch.zeros(1, 1, 16, 16)
    one[..., 8, 4] = 1  # flipped: column 11
    result = augment(one.repeat(500, 1, 1, 1), "flip_crop", generator())
    places = {tuple(place) for place in (image[0].nonzero()[0].tolist() for image in result)}
    rows, columns = {row for row, _ in places}, {column for _, column in places}
    assert rows == set(range(6, 11))  # 8 - 2 to 8 + 2
    assert columns == set(range(2, 7)) | set(range(9, 14))


@pytest.mark.parametrize("kind", ["flip", "flip_crop"])
def test_a_seed_gives_the_same_augmentation(kind: str) -> None:
    batch = torch.rand(32, 3, 8, 8, generator=generator())
    assert torch.equal(augment(batch, kind, generator(3)), augment(batch, kind, generator(3)))
    assert not torch.equal(augment(batch, kind, generator(3)), augment(batch, kind, generator(4)))
