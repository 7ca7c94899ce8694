"""Draw: what is generated, at which size and seed, and what happens to images without content."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltgc_local.backends.images import is_flat, to_stored
from ltgc_local.backends.protocols import Drawing, DrawSettings
from ltgc_local.errors import BackendError
from ltgc_local.methods.ltgc.stages.draw import MAX_FLAT_TRIES
from ltgc_local.records import Description
from ltgc_local.runs.files import Lines, decode_png
from ltgc_local.seeding import item_seed
from tests.backends.sdxl_stock import FOLDER, make_tiny

SIZES = ("draw.size_px=16", "draw.stored_size_px=8", "draw.stored_mode=L", "draw.shard_size=3")


class NoiseT2i:
    """Draws noise from the seed; the first ``num_flat`` images of each prompt are one colour.

    ``sources`` holds the images that the generated ones started from.
    """

    def __init__(self, num_flat: int = 0) -> None:
        self.num_flat = num_flat
        self.calls: list[tuple[str, int]] = []
        self.sources: list[bytes] = []
        self.strengths: set[float] = set()

    def draw(self, wanted: Sequence[Drawing], settings: DrawSettings) -> Iterator[tuple[int, Image.Image]]:
        for i, drawing in reversed([*enumerate(wanted)]):  # any order is allowed
            flat = sum(asked == drawing.prompt for asked, _ in self.calls) < self.num_flat
            self.calls.append((drawing.prompt, drawing.seed))
            if drawing.source is not None:
                self.sources.append(drawing.source.tobytes())
                self.strengths.add(settings.strength)
            yield i, Image.new("RGB", (16, 16)) if flat else noise(drawing.seed)


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).astype(np.uint8))


def described(description_id: int, source: str = "extended", class_id: int = 1) -> Description:
    return Description(class_id, description_id, 0, f"A photo of the class bag {description_id}.", source)  # type: ignore[arg-type]


@pytest.mark.parametrize(("darkest", "lightest", "flat"), [(0, 0, True), (7, 8, True), (7, 9, False), (0, 255, False)])
def test_an_image_of_less_than_two_levels_is_flat(darkest: int, lightest: int, flat: bool) -> None:
    image = Image.new("L", (4, 4), darkest)
    image.putpixel((2, 3), lightest)
    assert is_flat(image) is flat
    assert is_flat(image.convert("RGB")) is flat


@pytest.mark.parametrize(
    ("size_px", "mode", "size"),
    [(None, "RGB", (16, 16)), (8, "RGB", (8, 8)), (8, "L", (8, 8)), (None, "L", (16, 16))],
)
def test_images_are_stored_at_the_originals_size_and_mode(
    size_px: int | None, mode: str, size: tuple[int, int]
) -> None:
    stored = to_stored(Image.new("RGB", (16, 16), (100, 100, 100)), size_px, mode)
    assert (stored.size, stored.mode) == (size, mode)
    assert set(np.asarray(stored).ravel()) == {100}


def test_existing_descriptions_get_no_image_and_the_rest_come_by_key(make_stage: Any, write_step: Any) -> None:
    stage = make_stage("draw", *SIZES, model=NoiseT2i())
    found = [described(9), described(0, "existing"), described(7), described(8), described(7, class_id=0)]
    write_step(stage.run, "extend", Lines("descriptions", found))
    chunks = stage.chunks()
    assert [[item.rows for item in chunk] for chunk in chunks] == [[(4, 2, 3)], [(0,)]]
    made = [[row.key for row in artefact.rows] for chunk in chunks for artefact in stage.make_chunk(chunk)]
    assert made == [[(0, 7, 0), (1, 7, 0), (1, 8, 0)], [(1, 9, 0)]]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_an_image_has_its_own_seed_whatever_the_batch(make_stage: Any, batch_size: int) -> None:
    stage = make_stage("draw", *SIZES, f"draw.batch_size={batch_size}", model=NoiseT2i())
    (artefact,) = stage.draw([described(i) for i in range(5)])
    rows = artefact.rows
    assert [row.seed for row in rows] == [item_seed(0, "draw", 1, i, 0) for i in range(5)]
    for row in rows:
        assert decode_png(row.image).tobytes() == to_stored(noise(row.seed), 8, "L").tobytes()
        assert (row.class_name, row.description) == (stage.corpus.class_names[1], described(row.description_id).text)


@pytest.mark.parametrize("num_flat", [1, MAX_FLAT_TRIES - 1])
def test_a_flat_image_is_generated_again_with_another_seed_that_is_recorded(make_stage: Any, num_flat: int) -> None:
    model = NoiseT2i(num_flat)
    stage = make_stage("draw", *SIZES, model=model)
    (artefact,) = stage.draw([described(3)])
    assert len(model.calls) == num_flat + 1
    assert len({seed for _, seed in model.calls}) == num_flat + 1
    assert artefact.rows[0].seed == model.calls[-1][1]
    assert not is_flat(decode_png(artefact.rows[0].image))


def test_a_description_that_is_always_flat_says_what_to_type(make_stage: Any) -> None:
    model = NoiseT2i(99)
    stage = make_stage("draw", *SIZES, model=model)
    with pytest.raises(BackendError, match=r"draw: 3 images of .* one flat colour: .* --set models\.dtype=bfloat16"):
        stage.draw([described(3)])
    assert len(model.calls) == 3


IMG2IMG = (*SIZES, "draw.img2img_strength=0.5")


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_img2img_starts_from_training_images_of_the_class_that_are_recorded(make_stage: Any, batch_size: int) -> None:
    model = NoiseT2i()
    stage = make_stage("draw", *IMG2IMG, f"draw.batch_size={batch_size}", model=model)
    wanted = [described(i, class_id=c) for c in (1, 4) for i in range(6)]
    (artefact,) = stage.draw(wanted)
    train = stage.corpus.train
    rows = {key: row for row, key in enumerate(train.keys)}
    sources = [rows[image.init_image] for image in artefact.rows]
    assert [int(train.labels[row]) for row in sources] == [1] * 6 + [4] * 6
    assert [image.tobytes() for image in train.images(sources)] == model.sources[::-1]
    assert sources == [stage.source_row(description) for description in wanted]  # whatever the batch
    assert len(set(sources)) > 4
    assert model.strengths == {0.5}


def test_every_round_may_start_from_another_image(make_stage: Any) -> None:
    stage = make_stage("draw", *IMG2IMG)
    rounds = [[stage.source_row(replace(described(i), round=r)) for i in range(8)] for r in (0, 1)]
    assert rounds[0] != rounds[1]


def test_without_img2img_no_image_is_read_and_none_recorded(make_stage: Any) -> None:
    model = NoiseT2i()
    stage = make_stage("draw", *SIZES, model=model)
    (artefact,) = stage.draw([described(0)])
    assert (artefact.rows[0].init_image, model.sources) == ("", [])


def test_a_class_without_training_images_starts_from_noise_and_the_log_says_so(
    make_stage: Any, write_step: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = NoiseT2i()
    stage = make_stage("draw", *IMG2IMG, model=model)
    labels = stage.corpus.train.labels.copy()
    labels[labels == 1] = 0
    object.__setattr__(stage.corpus.train, "labels", labels)
    wanted = [described(0, class_id=4), described(0), described(1), described(1, class_id=4)]
    write_step(stage.run, "extend", Lines("descriptions", wanted))
    with caplog.at_level(logging.WARNING):
        chunks = stage.chunks()
    name = stage.corpus.class_names[1]
    assert [r.getMessage() for r in caplog.records] == [
        f"draw: class {name!r} has no training image to start from; its images start from noise alone"
    ]
    rows = [row for chunk in chunks for artefact in stage.make_chunk(chunk) for row in artefact.rows]
    assert [(row.class_id, bool(row.init_image)) for row in rows] == [(1, False), (1, False), (4, True), (4, True)]
    assert len(model.sources) == 2
    assert [row.seed for row in rows] == [item_seed(0, "draw", row.class_id, row.description_id, 0) for row in rows]


def test_a_flat_image_is_started_again_from_another_one(make_stage: Any) -> None:
    model = NoiseT2i(num_flat=1)
    stage = make_stage("draw", *IMG2IMG, model=model)
    (artefact,) = stage.draw([described(3)])
    row = stage.source_row(described(3), attempt=1)
    assert row is not None and row != stage.source_row(described(3))
    assert artefact.rows[0].init_image == stage.corpus.train.keys[row]


def test_img2img_by_the_miniature_is_the_same_in_every_batch_and_nearer_the_source_than_text_alone(
    make_stage: Any,
) -> None:
    wanted = [described(i, class_id=4) for i in range(4)]
    small = ("draw.size_px=32", "draw.steps=8", "draw.stored_size_px=28", "draw.stored_mode=L")

    def pixels(*overrides: str) -> tuple[list[np.ndarray], list[str]]:
        stage = make_stage("draw", *small, *overrides)
        (artefact,) = stage.draw(wanted)
        images = [np.asarray(decode_png(row.image), dtype=int) for row in artefact.rows]
        return images, [row.init_image for row in artefact.rows]

    seeded, keys = pixels("draw.img2img_strength=0.25")
    one_by_one, same_keys = pixels("draw.img2img_strength=0.25", "draw.batch_size=1")
    from_text, no_keys = pixels()
    assert keys == same_keys and no_keys == [""] * 4
    assert max(int(np.abs(a - b).max()) for a, b in zip(seeded, one_by_one, strict=True)) <= 1
    train = make_stage("draw").corpus.train
    sources = [np.asarray(train.image(train.keys.index(key)), dtype=int) for key in keys]
    near = np.mean([np.abs(a - b).mean() for a, b in zip(seeded, sources, strict=True)])
    far = np.mean([np.abs(a - b).mean() for a, b in zip(from_text, sources, strict=True)])
    assert near < 0.5 * far


def test_a_recipe_that_asks_for_the_tiny_decoder_8_bit_and_fp8_draws_with_them(make_stage: Any, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "sdxl")
    make_tiny(tmp_path / "sdxl/tiny")
    cards = Path(__file__).resolve().parents[2] / "model_cards"
    shutil.copytree(cards, tmp_path / "cards")
    card = (cards / "miniature-sdxl.md").read_text("utf-8")
    card = card.replace("path: ../data/miniatures/sdxl", "path: ../sdxl\ntiny_decoder: tiny")
    (tmp_path / "cards/miniature-sdxl.md").write_text(card, encoding="utf-8")
    asked = ("draw.size_px=32", "draw.steps=2", "draw.decoder=tiny", "models.text_encoders=8bit", "models.unet=fp8")
    stage = make_stage("draw", f"models.cards={tmp_path / 'cards'}", *asked)
    (artefact,) = stage.draw([described(0), described(1)])
    assert len(artefact.rows) == 2
    assert type(stage.model._vae._decoder).__name__ == "AutoencoderTiny"
    for part, kind in (("text_encoder", "Linear8bitLt"), ("unet", "Fp8Linear")):
        assert kind in {type(module).__name__ for module in getattr(stage.model._pipeline, part).modules()}
