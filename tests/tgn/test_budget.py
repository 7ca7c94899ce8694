"""How many images each tail class gets, and from which of its images."""

from __future__ import annotations

from collections import Counter

import pytest

from ltgc_local.methods.tgn.budget import count_wanted, list_wanted
from ltgc_local.methods.tgn.classes import build_manifest
from ltgc_local.recipe.tgn import Merge, Split
from tests.reporting.run_on_disk import list_corpus
from tests.tgn.conftest import ROOT, load_recipe

TRAIN = (100, 40, 12, 7, 3)  # head: 0 and 1; median 12


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Merge(), {2: 7000, 3: 7000, 4: 7000}),
        (Merge(images=10), {2: 10, 3: 10, 4: 10}),
        (Merge(budget="largest"), {2: 88, 3: 93, 4: 97}),
        (Merge(budget="median"), {2: 0, 3: 5, 4: 9}),
        (Merge(budget="number", images=8), {2: 0, 3: 1, 4: 5}),
    ],
)
def test_budgets_by_hand(settings: Merge, expected: dict[int, int]) -> None:
    corpus = list_corpus(("a", "b", "c", "d", "e"), TRAIN)
    manifest = build_manifest(corpus.class_names, corpus.class_counts(), Split())
    assert count_wanted(manifest, settings) == expected


def test_each_image_has_a_source_of_its_class_five_in_a_row_and_then_again() -> None:
    corpus = list_corpus(("a", "b", "c", "d", "e"), TRAIN)
    recipe = load_recipe(ROOT / "recipes/tgn_quickstart.yaml", ["merge.budget=fixed", "merge.images=33"])
    manifest = build_manifest(corpus.class_names, corpus.class_counts(), recipe.split)
    wanted = list_wanted(corpus, manifest, recipe)
    assert Counter(w.class_id for w in wanted) == {2: 33, 3: 33, 4: 33}
    assert all(corpus.train.labels[w.source_row] == w.class_id for w in wanted)
    last = [w.source_row for w in wanted if w.class_id == 4]  # 3 images: 15, then from the first again
    assert [len(set(last[i : i + 5])) for i in range(0, 30, 5)] == [1] * 6
    assert len(set(last)) == 3 and last[15:30] == last[:15]
    assert [w.number for w in wanted if w.class_id == 3] == list(range(33))


def test_sources_depend_on_the_seed_alone() -> None:
    corpus = list_corpus(("a", "b", "c", "d", "e"), TRAIN)
    found = []
    for seed in (0, 0, 1):
        recipe = load_recipe(ROOT / "recipes/tgn_quickstart.yaml", [f"seed={seed}", "merge.images=40"])
        manifest = build_manifest(corpus.class_names, corpus.class_counts(), recipe.split)
        found.append(list_wanted(corpus, manifest, recipe))
    assert found[0] == found[1] != found[2]
