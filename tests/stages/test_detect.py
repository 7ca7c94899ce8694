"""Detect: each scorer by hand, and on the shipped miniature CLIP."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from PIL import Image

from ltgc_local.artefacts.files import DrawnImage, Images, Lines, encode_png
from ltgc_local.errors import DataError
from ltgc_local.prompts import class_sentence
from ltgc_local.records import ClassTemplate
from ltgc_local.stages import detect
from ltgc_local.stages.detect import score

# Three images of class 1 among classes 0, 1, 2: cosines with their own template 0.25, 0.5 and -0.5.
COSINES = torch.tensor([[0.125, 0.25, 0.0], [0.75, 0.5, 0.625], [-0.25, -0.5, -0.5]])


def judged(make_recipe: Any, *overrides: str, own: list[float] | None = None) -> list[tuple[Any, ...]]:
    recipe = make_recipe(*(f"assess.{override}" for override in overrides))
    return score(COSINES, 1, recipe, torch.tensor(own) if own else None)


def test_offset_compares_cosine_and_a_half_with_mu_as_the_released_code(make_recipe: Any) -> None:
    # 0.75, 1.0 and 0.0 against 0.75: at the threshold an image passes. Ranks: none is closer, 1; two are, 3; one is and
    # one is equal, 2.
    assert judged(make_recipe, "scorer=offset", "threshold=0.75") == [
        (0.25, 0.75, 0.75, 1, True),
        (0.5, 1.0, 0.75, 3, True),
        (-0.5, 0.0, 0.75, 2, False),
    ]


@pytest.mark.parametrize(("cosine", "accepted"), [(0.3, True), (0.2999, False)])
def test_the_papers_threshold_is_a_cosine_of_three_tenths(make_recipe: Any, cosine: float, accepted: bool) -> None:
    recipe = make_recipe("assess.scorer=offset", "assess.threshold=0.8")
    ((_, _, _, _, found),) = score(torch.tensor([[cosine]]), 0, recipe, None)
    assert found is accepted


def test_cosine_compares_the_raw_cosine(make_recipe: Any) -> None:
    found = judged(make_recipe, "scorer=cosine", "threshold=0.3")
    assert [(s, t, accepted) for _, s, t, _, accepted in found] == [
        (0.25, 0.3, False),
        (0.5, 0.3, True),
        (-0.5, 0.3, False),
    ]


@pytest.mark.parametrize(
    ("percentile", "threshold", "accepted"),
    [(0, 0.0, [True, True, False]), (50, 0.25, [True, True, False]), (75, 0.375, [False, True, False])],
)
def test_percentile_compares_with_the_classs_own_photographs(
    make_recipe: Any, percentile: int, threshold: float, accepted: list[bool]
) -> None:
    # Of 0, 0.25, 0.5: the 50th percentile is 0.25, the 75th half way between 0.25 and 0.5.
    found = judged(make_recipe, "scorer=percentile", f"percentile={percentile}", own=[0.5, 0.0, 0.25])
    assert [row[2] for row in found] == pytest.approx([threshold] * 3)
    assert [row[4] for row in found] == accepted


@pytest.mark.parametrize(
    ("rank", "accepted"), [(1, [True, False, False]), (2, [True, False, True]), (3, [True, True, True])]
)
def test_margin_asks_for_a_rank_among_the_classes(make_recipe: Any, rank: int, accepted: list[bool]) -> None:
    found = judged(make_recipe, "scorer=margin", f"margin_rank={rank}")
    assert [(row[1], row[2]) for row in found] == [(-1, -rank), (-3, -rank), (-2, -rank)]
    assert [row[4] for row in found] == accepted


def test_a_required_rank_comes_on_top_of_any_scorer(make_recipe: Any) -> None:
    found = judged(make_recipe, "scorer=cosine", "threshold=-1", "require_rank=2")
    assert [row[4] for row in found] == [True, False, True]


def photograph(context: Any, row: int) -> bytes:
    return encode_png(context.corpus.test.image(row))


def prepare(context: Any, write_step: Any) -> list[DrawnImage]:
    """Write what detect reads: six images of two classes, out of order, and a template of every class."""
    names = context.corpus.class_names
    rows = [
        DrawnImage(photograph(context, 10 * c + i), c, names[c], i, f"A photo of the class {names[c]} {i}.", 0, i)
        for c in (4, 1)
        for i in (2, 0, 1)
    ]
    templates = [ClassTemplate(c, class_sentence(name), True) for c, name in enumerate(names)]
    write_step(context.run, "draw", Images("images", rows))
    write_step(context.run, "assess/template", Lines("templates", templates[::-1]))
    return rows


def test_the_stage_scores_every_image_of_a_class_with_the_miniature_clip(
    make_context: Any, write_step: Any, records_of: Any
) -> None:
    context = make_context("assess/0/detect", "assess.scorer=cosine", "assess.threshold=0.1", "assess.batch_size=2")
    prepare(context, write_step)
    chunks = detect.plan_chunks(context)
    assert [[image.key for image in chunk] for chunk in chunks] == [
        [(1, 0, 0), (1, 1, 0), (1, 2, 0)],
        [(4, 0, 0), (4, 1, 0), (4, 2, 0)],
    ]
    scores = records_of(detect.run_chunk(context, chunks[1]), "scores")
    assert [s.key for s in scores] == [(4, 0, 0), (4, 1, 0), (4, 2, 0)]
    images = context.model.encode_images([Image.open(io.BytesIO(image.image)) for image in chunks[1]])
    texts = context.model.encode_texts([class_sentence(name) for name in context.corpus.class_names])
    expected = (images @ texts.T)[:, 4]
    assert torch.allclose(torch.tensor([s.cosine for s in scores]), expected, atol=1e-5)
    assert [s.accepted for s in scores] == [s.cosine >= 0.1 for s in scores]


def test_by_percentile_about_that_share_of_the_photographs_would_be_refused(
    make_context: Any, write_step: Any, records_of: Any
) -> None:
    context = make_context("assess/0/detect", "assess.scorer=percentile", "assess.percentile=50")
    prepare(context, write_step)
    rare = min(context.tail, key=lambda c: context.corpus.class_counts()[c])
    rows = [row for row, label in enumerate(context.corpus.train.labels) if label == rare]
    own = [
        DrawnImage(encode_png(image), rare, "x", i, "y", 0, 0)
        for i, image in enumerate(context.corpus.train.images(rows))
    ]
    scores = records_of(detect.run_chunk(context, own), "scores")
    assert len(scores) == 10
    assert sum(s.accepted for s in scores) == 5  # the median of ten lies between the fifth and the sixth


def test_a_class_without_photographs_has_no_percentile(make_context: Any, write_step: Any) -> None:
    context = make_context("assess/0/detect", "assess.scorer=percentile")
    prepare(context, write_step)
    chunk = detect.plan_chunks(context)[0]
    labels = context.corpus.train.labels.copy()
    labels[labels == 1] = 0
    object.__setattr__(context.corpus.train, "labels", labels)
    with pytest.raises(DataError, match=r"has no training image, which scorer 'percentile' .* assess\.scorer=margin"):
        detect.run_chunk(context, chunk)
