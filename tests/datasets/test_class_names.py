"""The class names that are shipped: the right number, none twice, and the known traps."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltgc_local.datasets.base import check_class_names
from ltgc_local.datasets.lists import FOLDER, choose_class_names, read_class_names
from ltgc_local.datasets.places_lt import categories
from ltgc_local.errors import DataError


@pytest.mark.parametrize(("name", "number"), [("imagenet", 1000), ("cifar10", 10), ("cifar100", 100)])
def test_every_list_has_each_class_once(name: str, number: int) -> None:
    names = read_class_names(FOLDER / f"{name}.txt")
    assert len(names) == number
    check_class_names(name, names)


def test_imagenets_traps_are_told_apart() -> None:
    names = read_class_names(FOLDER / "imagenet.txt")
    assert (names[134], names[517]) == ("crane bird", "construction crane")
    assert (names[638], names[639]) == ("tights", "one-piece bathing suit")  # "maillot" twice in WordNet's words
    assert (names[657], names[744]) == ("missile", "projectile")
    assert (names[836], names[837]) == ("sunglass", "sunglasses")
    assert (names[0], names[999]) == ("tench", "toilet paper")


def test_the_license_of_imagenets_names_is_shipped() -> None:
    assert "Permission is hereby granted" in (FOLDER / "LICENSE.open_clip.txt").read_text()


def test_places_has_365_categories_and_names() -> None:
    assert len(categories()) == 365
    assert len({category for category, _ in categories()}) == 365
    check_class_names("places365", [name for _, name in categories()])
    assert categories()[8] == ("apartment_building/outdoor", "outdoor apartment building")
    assert categories()[364] == ("zen_garden", "Zen garden")


def test_names_of_another_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert choose_class_names(tmp_path / "names.txt", "cifar10.txt", 2) == ("cat", "dog")
    with pytest.raises(DataError, match=r"names\.txt: 2 class names, but there are 10 classes"):
        choose_class_names(tmp_path / "names.txt", "cifar10.txt", 10)
