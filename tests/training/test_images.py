"""Images stay images until they are one array, in memory or in a file: the same bytes, made once."""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ltgc_local.backends.clip.open_clip_vit import ResizeStep, normalisation_of
from ltgc_local.backends.protocols import ClipModel
from ltgc_local.datasets import open_corpus
from ltgc_local.errors import BackendError, DataError
from ltgc_local.recipe.inputs import Data
from ltgc_local.training import images
from ltgc_local.training.images import BLOCK, ImageCache

DATA = Path(__file__).resolve().parents[2] / "data/fashion_mnist_lt"
PREPROCESS = transforms.Compose(
    [
        transforms.Resize((8, 8), transforms.InterpolationMode.BICUBIC),
        transforms.ToTensor(),
        transforms.Normalize((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)),
    ]
)


def noise(mode: str = "RGB", size: int = 16, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@dataclass
class Noise:
    """A source of images that are noise; row ``broken`` does not decode."""

    num: int
    file: Path
    name: str = "train"
    broken: int = -1
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def keys(self) -> Sequence[str]:
        return [f"train/{row}" for row in range(self.num)]

    @property
    def files(self) -> Sequence[Path]:
        return [self.file]

    def __len__(self) -> int:
        return self.num

    def image(self, row: int) -> Image.Image:
        if row == self.broken:
            raise DataError(f"image {row} does not decode")
        return noise(seed=row)


@pytest.fixture
def source(tmp_path: Path) -> Noise:
    file = tmp_path / "list.txt"
    file.write_text("a list")
    return Noise(BLOCK + 10, file)  # two blocks, the second not whole


@pytest.fixture
def image_cache(tmp_path: Path) -> Callable[..., ImageCache]:
    def make(in_memory_mib: int = 0, preprocessing: str = "8 px", workers: int = 1) -> ImageCache:
        return ImageCache(ResizeStep(PREPROCESS), preprocessing, tmp_path / "decoded", in_memory_mib, workers)

    return make


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_resizing_gives_an_image_still_in_colour_and_nothing_is_normalised(mode: str) -> None:
    image = noise(mode)
    resized = ResizeStep(PREPROCESS)(image)
    assert isinstance(resized, Image.Image)
    assert (resized.size, resized.mode) == ((8, 8), "RGB")
    expected = image.resize((8, 8), Image.Resampling.BICUBIC).convert("RGB")
    assert resized.tobytes() == expected.tobytes()


def test_resizing_then_normalising_is_the_whole_preprocessing(
    source: Noise, image_cache: Callable[..., ImageCache]
) -> None:
    mean, std = normalisation_of(PREPROCESS)
    assert mean.shape == std.shape == (1, 3, 1, 1)
    pixels = image_cache(100).load(source)
    assert (pixels.shape, pixels.dtype) == ((BLOCK + 10, 3, 8, 8), torch.uint8)
    assert torch.allclose((pixels[3].float() / 255 - mean) / std, PREPROCESS(noise(seed=3))[None], atol=1e-6)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_file_holds_the_same_bytes_as_memory(
    source: Noise, image_cache: Callable[..., ImageCache], workers: int, tmp_path: Path
) -> None:
    in_memory = image_cache(100).load(source)
    assert not (tmp_path / "decoded").exists()
    mapped = image_cache(0, workers=workers).load(source)
    assert torch.equal(mapped, in_memory)
    (file,) = (tmp_path / "decoded").iterdir()
    assert file.name.startswith("train-")
    assert file.stat().st_size == in_memory.nbytes + 128  # numpy's header
    assert file.stem.endswith(hashlib.sha256(file.read_bytes()).hexdigest())
    rows = torch.tensor([BLOCK + 9, 0])
    assert torch.equal(mapped[rows], in_memory[rows])


def test_a_process_that_does_not_write_waits_for_the_one_that_does(
    source: Noise, image_cache: Callable[..., ImageCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "WAIT_S", 0.01)
    writer = image_cache(0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(replace(writer, writes=False).load, source)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
        written = writer.load(source)
        assert torch.equal(waiting.result(timeout=60), written)
    small = replace(writer, writes=False, in_memory_mib=100)
    assert torch.equal(small.load(source), written)  # what fits into memory, each process decodes


@pytest.mark.parametrize("place", [5, 128 + 3000, -1], ids=["header", "array", "end"])
def test_a_damaged_file_is_named_and_made_again(
    source: Noise, image_cache: Callable[..., ImageCache], tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    image_cache(0).load(source)
    (path,) = (tmp_path / "decoded").iterdir()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert torch.equal(image_cache(0).load(source), image_cache(100).load(source))
    assert f"{path}: damaged: its sha256 is not the one" in caplog.text
    caplog.clear()
    image_cache(0).load(source)
    assert caplog.text == ""


def test_other_files_among_the_decoded_ones_are_not_read(
    source: Noise, image_cache: Callable[..., ImageCache], tmp_path: Path
) -> None:
    expected = image_cache(0).load(source).clone()
    (path,) = (tmp_path / "decoded").iterdir()
    stem, _, _ = path.stem.rpartition("-")
    content = path.read_bytes()
    path.rename(path.with_name(f"{stem}-copy.npy"))
    assert torch.equal(image_cache(0).load(source), expected)
    path.unlink()
    signed = content.replace(b"'|u1'", b"'|i1'")  # whole by its name, and of another type
    path.with_name(f"{stem}-{hashlib.sha256(signed).hexdigest()}.npy").write_bytes(signed)
    found = image_cache(0).load(source)
    assert found.dtype == torch.uint8 and torch.equal(found, expected)


def test_a_file_that_is_cut_is_made_again(
    source: Noise, image_cache: Callable[..., ImageCache], tmp_path: Path
) -> None:
    image_cache(0).load(source)
    (path,) = (tmp_path / "decoded").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert torch.equal(image_cache(0).load(source), image_cache(100).load(source))


def test_a_file_is_made_once_and_again_when_what_it_is_made_from_changes(
    source: Noise, image_cache: Callable[..., ImageCache], tmp_path: Path
) -> None:
    def files() -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in (tmp_path / "decoded").iterdir()}

    image_cache().load(source)
    first = files()
    image_cache().load(source)
    assert files() == first
    image_cache(preprocessing="8 px, cropped").load(source)
    assert len(files()) == 2
    os.utime(source.file, ns=(0, time.time_ns() + 10**9))
    image_cache().load(source)
    assert len(files()) == 3
    source.labels = np.ones(BLOCK + 10, dtype=np.int64)
    image_cache().load(source)
    assert len(files()) == 4
    assert first.items() <= files().items()


def test_an_image_that_does_not_decode_leaves_no_file(
    source: Noise, image_cache: Callable[..., ImageCache], tmp_path: Path
) -> None:
    source.broken = BLOCK + 2
    with pytest.raises(DataError, match=f"image {BLOCK + 2} does not decode"):
        image_cache().load(source)
    assert list((tmp_path / "decoded").iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_another_is_making_is_not(
    source: Noise, image_cache: Callable[..., ImageCache], tmp_path: Path
) -> None:
    folder = tmp_path / "decoded"
    folder.mkdir()
    abandoned, other, live = (folder / f".{name}.npy.host.1.tmp" for name in ("train-0", "val-0", "train-1"))
    for path in (abandoned, other, live):
        path.write_bytes(b"")
    for path in (abandoned, other):
        os.utime(path, (0, 0))
    image_cache().load(source)
    assert (abandoned.exists(), other.exists(), live.exists()) == (False, True, True)


def test_a_folder_that_cannot_be_written_is_an_error_with_the_size(
    source: Noise, image_cache: Callable[..., ImageCache], tmp_path: Path
) -> None:
    (tmp_path / "decoded").write_text("in the way")
    with pytest.raises(BackendError, match=r"0 MiB of decoded images cannot be written"):
        image_cache().load(source)


def test_no_images_are_an_empty_array(source: Noise, image_cache: Callable[..., ImageCache]) -> None:
    source.num = 0
    assert len(image_cache().load(source)) == 0


def test_the_shipped_images_are_decoded_as_either_clip_reads_them(any_clip: ClipModel, tmp_path: Path) -> None:
    val = open_corpus(Data(root=DATA)).val
    mapped = ImageCache(any_clip.resize, any_clip.preprocessing, tmp_path, 0, 1).load(val)
    assert mapped.shape == (1000, 3, 28, 28)
    encoded = any_clip.encode_images([val.image(999)])
    mean, std = any_clip.normalisation
    with torch.inference_mode():
        features = any_clip.visual.eval()((mapped[999:].float() / 255 - mean) / std)
    assert torch.allclose(torch.nn.functional.normalize(features, dim=-1), encoded, atol=1e-4)


def test_what_goes_to_the_decoding_processes_pickles(any_clip: ClipModel) -> None:
    resize = pickle.loads(pickle.dumps(any_clip.resize))  # noqa: S301 (made in this line)
    image = noise("L", 40)
    assert resize(image).tobytes() == any_clip.resize(image).tobytes()
    assert resize(image).size == (28, 28)
