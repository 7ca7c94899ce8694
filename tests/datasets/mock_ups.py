"""Mock-ups of the benchmarks: lists of full size in the true format, and a few images in the true tree.

ImageNet-LT's numbers of training images a class are the true ones (tests/data/imagenet_lt_counts.txt). Those of
Places-LT and iNaturalist 2018 are made up, so that they meet every published figure: the total, the largest and the
smallest class, the classes by group and, for Places-LT, the images to draw at both thresholds of the tail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ltgc_local.datasets.facts import CROPS
from ltgc_local.datasets.places_lt import categories

COUNTS = Path(__file__).parents[1] / "data/imagenet_lt_counts.txt"
Line = tuple[str, int]


def imagenet_counts() -> list[int]:
    lines = COUNTS.read_text("utf-8").splitlines()
    return [int(word) for line in lines if not line.startswith("#") for word in line.split()]


def spread_counts(number: int, total: int, low: int, high: int) -> list[int]:
    """Return ``number`` whole numbers from low to high that add up to ``total``, as even as they can be."""
    even, rest = divmod(total, number)
    counts = [even + 1] * rest + [even] * (number - rest)
    assert low <= counts[-1] <= counts[0] <= high
    return counts


def places_counts() -> list[int]:
    """62,500 = 52,062 (131 many, one of 4980) + 9,634 (163 medium, none of 100) + 804 (71 few, one of 5).

    K_y = 800: 71 * 800 - 804 = 55,996 at tail < 20, and 234 * 800 - 804 - 9,634 = 176,762 at tail < 100.
    """
    many = [4980, *spread_counts(130, 52_062 - 4980, 101, 4980)]
    return [*many, *spread_counts(163, 9_634, 20, 99), 5, *spread_counts(70, 804 - 5, 5, 19)]


def inaturalist_counts() -> list[int]:
    """437,513 over 842 many (one of 1000), 3701 medium and 3599 few (one of 2) classes."""
    medium, few = spread_counts(3701, 3701 * 45, 20, 100), [2, *spread_counts(3598, 3598 * 10, 2, 19)]
    many = [1000, *spread_counts(841, 437_513 - 1000 - sum(medium) - sum(few), 101, 1000)]
    return [*many, *medium, *few]


def write_list(path: Path, lines: Iterable[Line]) -> list[Line]:
    lines = list(lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key} {label}\n" for key, label in lines))
    return lines


def write_image(path: Path, value: int = 0, size: tuple[int, int] = (12, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "PNG" if path.suffix == ".png" else "JPEG")


def write_some(root: Path, lines: Sequence[Line], place: Callable[[str, int], str] = lambda key, label: key) -> None:
    """Write the images of the first, middle and last two lines, in a layout."""
    middle = len(lines) // 2
    for row in {0, 1, middle, middle + 1, len(lines) - 2, len(lines) - 1}:
        write_image(root / place(*lines[row]), row)


def wnid(label: int) -> str:
    return f"n{1440764 + 7 * label:08d}"


def write_imagenet_lt(root: Path, *, flat_val: bool = False) -> tuple[Path, Path]:
    """Write lists and a few images; return the folders of both, (images, lists)."""
    images, lists = root / "ImageNet_LT", root / "data_txt/ImageNet_LT"
    counts = imagenet_counts()
    train = [(f"train/{wnid(c)}/{wnid(c)}_{i}.JPEG", c) for c, n in enumerate(counts) for i in range(n)]
    val = [(f"train/{wnid(c)}/{wnid(c)}_{5000 + i}.JPEG", c) for c in range(1000) for i in range(20)]
    test = [(f"val/{wnid(c)}/ILSVRC2012_val_{50 * c + i + 1:08d}.JPEG", c) for c in range(1000) for i in range(50)]
    write_some(images, write_list(lists / "ImageNet_LT_train.txt", train))
    write_some(images, write_list(lists / "ImageNet_LT_val.txt", val))
    flat = (lambda key, label: f"val/{Path(key).name}") if flat_val else (lambda key, label: key)
    write_some(images, write_list(lists / "ImageNet_LT_test.txt", test), flat)
    return images, lists


def write_places_lt(root: Path, *, lists_256: bool = True, tree_256: bool = True) -> tuple[Path, Path]:
    """Write lists and a few images, each in one of the two layouts."""
    images, lists = root / "Place365", root / "data_txt/Places_LT_v2"
    names = [category for category, _ in categories()]

    def path(is_256: bool, label: int, name: str, test: bool = False) -> str:
        category = names[label]
        if is_256:
            return f"val_256/{name}" if test else f"data_256/{category[0]}/{category}/{name}"
        return f"{'val' if test else 'train'}/{category.replace('/', '-')}/{name}"

    def place(key: str, label: int) -> str:
        name = Path(key).name
        return path(tree_256, label, name, test=name.startswith("Places365_val"))

    train = [(path(lists_256, c, f"{i:08d}.jpg"), c) for c, n in enumerate(places_counts()) for i in range(n)]
    val = [(path(lists_256, c, f"{9000 + i:08d}.jpg"), c) for c in range(365) for i in range(20)]
    test = [
        (path(lists_256, c, f"Places365_val_{100 * c + i:08d}.jpg", test=True), c)
        for c in range(365)
        for i in range(100)
    ]
    for split, lines in (("train", train), ("val", val), ("test", test)):
        write_some(images, write_list(lists / f"Places_LT_{split}.txt", lines), place)
    return images, lists


def inaturalist_lines() -> dict[str, list[Line]]:
    def key(label: int, split: str, i: int) -> str:
        return f"train_val2018/{('Plantae', 'Aves', 'Insecta')[label % 3]}/{label}/{split}{i:028x}.jpg"

    return {
        "train": [(key(c, "a", i), c) for c, n in enumerate(inaturalist_counts()) for i in range(n)],
        "val": [(key(c, "b", i), c) for c in range(8142) for i in range(3)],
    }


def write_inaturalist18(root: Path) -> tuple[Path, Path]:
    """Write lists, class names and a few images."""
    images, lists = root / "iNaturalist", root / "data_txt/iNaturalist18"
    for split, lines in inaturalist_lines().items():
        write_some(images, write_list(lists / f"iNaturalist18_{split}.txt", lines))
    (lists / "iNaturalist18_class_names.txt").write_text("".join(f"Species {i}\n" for i in range(8142)))
    return images, lists


#: Class -> crops of DIOR's train (read off a figure, +-50) and test boxes (published), the ids of the release.
DIOR_TRAIN = (1800, 620, 2350, 1000, 1300, 570, 500, 1010, 530, 490, 1180, 2300, 1090, 27_300, 525, 3100, 4900, 480,
              13_700, 2250)  # fmt: skip
DIOR_TEST = (8212, 666, 3434, 2146, 2589, 1031, 538, 1085, 688, 575, 1885, 3105, 1782, 35_184, 672, 23_361, 7343, 509,
             26_640, 2998)  # fmt: skip


def crop_counts(benchmark: str) -> tuple[list[int], list[int]]:
    """Return training and test crops by class: DIOR's nearly, the others' made up; the totals are the true ones."""
    num_classes, *totals = CROPS[benchmark]
    if benchmark == "dior":
        train, test = list(DIOR_TRAIN), list(DIOR_TEST)
        for counts, total in zip((train, test), totals, strict=True):
            counts[13] += total - sum(counts)  # ships, of which there are most
        return train, test
    shares = [0.75**c for c in range(num_classes)]
    counts = [[max(2, int(total * s / sum(shares))) for s in shares] for total in totals]
    for each, total in zip(counts, totals, strict=True):
        each[0] += total - sum(each)
    return counts[0], counts[1]


def write_crops(benchmark: str, folder: str, root: Path) -> tuple[Path, Path]:
    """Write lists of full size and a few crops, as the release lays them out."""
    images = root / folder
    for split, counts in zip(("train", "test"), crop_counts(benchmark), strict=True):
        lines = [(f"{c}/{c:02d}{i:05d}_0.jpg", c) for c, n in enumerate(counts) for i in range(n)]
        write_list(images / "anno" / f"{folder}_{split}.txt", lines)
        write_some(images / split, lines)
    return images, images / "anno"


#: The benchmarks of crops -> the same.
CROP_MOCK_UPS: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    "dior": partial(write_crops, "dior", "dior"),
    "fgsc23": partial(write_crops, "fgsc23", "FGSC-23"),
    "dota": partial(write_crops, "dota", "DOTA"),
}
#: Benchmark -> what writes its mock-up and returns the folders of images and lists.
MOCK_UPS = {"imagenet_lt": write_imagenet_lt, "places_lt": write_places_lt, "inaturalist18": write_inaturalist18}
