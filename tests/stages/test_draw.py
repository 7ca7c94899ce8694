"""Draw: what is drawn, at which size and seed, and what happens to images without content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltgc_local.artefacts.files import Lines, decode_png
from ltgc_local.backends.protocols import DrawSettings
from ltgc_local.errors import BackendError
from ltgc_local.records import Description
from ltgc_local.seeding import item_seed
from ltgc_local.stages import draw
from ltgc_local.stages.draw import MAX_FLAT_TRIES, is_flat, to_stored

SIZES = ("draw.size_px=16", "draw.stored_size_px=8", "draw.stored_mode=L", "draw.shard_size=3")


class NoiseT2i:
    """Draws noise from the seed; the first ``num_flat`` drawings of each prompt are one colour."""

    def __init__(self, num_flat: int = 0) -> None:
        self.num_flat = num_flat
        self.calls: list[tuple[str, int]] = []

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], settings: DrawSettings) -> list[Image.Image]:
        images = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            flat = sum(asked == prompt for asked, _ in self.calls) < self.num_flat
            size = (settings.size_px, settings.size_px, 3)
            pixels = np.zeros(size) if flat else np.random.default_rng(seed).integers(0, 256, size)
            images.append(Image.fromarray(pixels.astype(np.uint8)))
            self.calls.append((prompt, seed))
        return images


def described(description_id: int, source: str = "extended", class_id: int = 1) -> Description:
    return Description(class_id, description_id, 0, f"A photo of the class bag {description_id}.", source)  # type: ignore[arg-type]


@pytest.mark.parametrize(("darkest", "lightest", "flat"), [(0, 0, True), (7, 8, True), (7, 9, False), (0, 255, False)])
def test_an_image_of_less_than_two_levels_is_flat(darkest: int, lightest: int, flat: bool) -> None:
    image = Image.new("L", (4, 4), darkest)
    image.putpixel((2, 3), lightest)
    assert is_flat(image) is flat
    assert is_flat(image.convert("RGB")) is flat


@pytest.mark.parametrize(
    ("overrides", "size", "mode"),
    [
        ((), (16, 16), "RGB"),
        (("draw.stored_size_px=8",), (8, 8), "RGB"),
        (("draw.stored_size_px=8", "draw.stored_mode=L"), (8, 8), "L"),
        (("draw.stored_mode=L",), (16, 16), "L"),
    ],
)
def test_images_are_stored_at_the_originals_size_and_mode(
    make_recipe: Any, overrides: tuple[str, ...], size: tuple[int, int], mode: str
) -> None:
    stored = to_stored(Image.new("RGB", (16, 16), (100, 100, 100)), make_recipe("draw.size_px=16", *overrides))
    assert (stored.size, stored.mode) == (size, mode)
    assert set(np.asarray(stored).ravel()) == {100}


def test_existing_descriptions_are_not_drawn_and_the_rest_come_by_key(make_context: Any, write_step: Any) -> None:
    context = make_context("draw", *SIZES, model=NoiseT2i())
    found = [described(9), described(0, "existing"), described(7), described(8), described(7, class_id=0)]
    write_step(context.run, "extend", Lines("descriptions", found))
    chunks = draw.plan_chunks(context)
    assert [[d.key for d in chunk] for chunk in chunks] == [[(0, 7, 0), (1, 7, 0), (1, 8, 0)], [(1, 9, 0)]]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_an_image_has_its_own_seed_whatever_the_batch(make_context: Any, batch_size: int) -> None:
    context = make_context("draw", *SIZES, f"draw.batch_size={batch_size}", model=NoiseT2i())
    (artefact,) = draw.run_chunk(context, [described(i) for i in range(5)])
    rows = artefact.rows
    assert [row.seed for row in rows] == [item_seed(0, "draw", 1, i, 0) for i in range(5)]
    for row in rows:
        (alone,) = NoiseT2i().draw(["x"], [row.seed], DrawSettings(16, 1, 1))
        assert decode_png(row.image).tobytes() == to_stored(alone, context.recipe).tobytes()
        assert (row.class_name, row.description) == (context.corpus.class_names[1], described(row.description_id).text)


@pytest.mark.parametrize("num_flat", [1, MAX_FLAT_TRIES - 1])
def test_a_flat_image_is_drawn_again_with_another_seed_that_is_recorded(make_context: Any, num_flat: int) -> None:
    model = NoiseT2i(num_flat)
    context = make_context("draw", *SIZES, model=model)
    (artefact,) = draw.run_chunk(context, [described(3)])
    assert len(model.calls) == num_flat + 1
    assert len({seed for _, seed in model.calls}) == num_flat + 1
    assert artefact.rows[0].seed == model.calls[-1][1]
    assert not is_flat(decode_png(artefact.rows[0].image))


def test_a_description_that_is_always_flat_says_what_to_type(make_context: Any) -> None:
    model = NoiseT2i(99)
    context = make_context("draw", *SIZES, model=model)
    with pytest.raises(BackendError, match=r"draw: 3 images of .* one flat colour: .* --set models\.dtype=bfloat16"):
        draw.run_chunk(context, [described(3)])
    assert len(model.calls) == 3
