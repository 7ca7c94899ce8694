"""The gallery: each tail class's real images, accepted images, and how missed images were refined and regenerated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ltgc_local.datasets import Corpus
from ltgc_local.recipe import Recipe
from ltgc_local.reporting.accuracy import ClassRow
from ltgc_local.reporting.method_report import Judged, MethodReport
from ltgc_local.reporting.pictures import Picture, data_address, spread, without_opening
from ltgc_local.runs.files import GeneratedImage, decode_png
from ltgc_local.runs.generated import GeneratedRow, Key, read_generated

MAX_CLASSES = 24
MAX_IMAGES = 900  # on one page: about 12 MB as thumbnails


@dataclass(frozen=True)
class Chain:
    """One description's images, round after round, and how it ended."""

    pictures: tuple[Picture, ...]
    outcome: str  # "accepted" or "excluded"


@dataclass(frozen=True)
class ClassGallery:
    """What is shown of one class; ``chains`` are a selection out of ``num_chains``."""

    row: ClassRow
    real: tuple[Picture, ...]
    accepted: tuple[Picture, ...]
    chains: tuple[Chain, ...]
    num_chains: int


@dataclass(frozen=True)
class Sources:
    """What the gallery is made from. ``scores`` is empty if nothing was assessed."""

    recipe: Recipe
    method: MethodReport
    attempts: int
    corpus: Corpus
    all_rounds: Sequence[GeneratedRow]
    generated: Sequence[GeneratedRow]  # what trains
    scores: Mapping[Key, Judged]
    real_texts: Mapping[str, str]  # by the real image's key


def images_per_class(recipe: Recipe, num_classes: int, attempts: int) -> int:
    """Return how many images of each kind are shown per class: the recipe's number, or fewer to keep the page small.

    Args:
        attempts: how many images a description may get.
    """
    return max(1, min(recipe.report.images_per_class, MAX_IMAGES // (max(1, num_classes) * (2 + attempts))))


def build_galleries(sources: Sources, tail: Sequence[ClassRow]) -> tuple[ClassGallery, ...]:
    """Return the galleries of the tail classes with fewest training images, rarest first."""
    shown = sorted(tail, key=lambda row: (row.num_train, row.name))[:MAX_CLASSES]
    number = images_per_class(sources.recipe, len(shown), sources.attempts)
    accepted = {
        row.class_id: spread([drawn for drawn in sources.generated if drawn.class_id == row.class_id], number)
        for row in shown
    }
    missed = {row.class_id: _missed_at_first(sources, row.class_id) for row in shown}
    chains = {class_id: spread(found, number) for class_id, found in missed.items()}
    needed = [drawn for rows in accepted.values() for drawn in rows]
    needed += [drawn for found in chains.values() for chain in found for drawn in chain]
    images = {image.key: image for image in read_generated(needed)}

    def pictures(rows: Sequence[GeneratedRow], class_name: str) -> tuple[Picture, ...]:
        return tuple(_generated_picture(sources, row, images[row.key], class_name) for row in rows)

    galleries = []
    for row in shown:
        found = [pictures(chain, row.name) for chain in chains[row.class_id]]
        galleries.append(
            ClassGallery(
                row,
                _real_pictures(sources, row, number),
                pictures(accepted[row.class_id], row.name),
                tuple(Chain(each, "accepted" if each[-1].state == "accepted" else "excluded") for each in found),
                len(missed[row.class_id]),
            )
        )
    return tuple(galleries)


def _missed_at_first(sources: Sources, class_id: int) -> list[list[GeneratedRow]]:
    """Return the rounds of each description whose first image was not accepted."""
    rounds: dict[int, list[GeneratedRow]] = defaultdict(list)
    for drawn in sources.all_rounds:
        if drawn.class_id == class_id and drawn.key in sources.scores:
            rounds[drawn.description_id].append(drawn)
    chains = [sorted(chain, key=lambda drawn: drawn.round) for _, chain in sorted(rounds.items())]
    return [chain for chain in chains if not sources.scores[chain[0].key].accepted]


def _real_pictures(sources: Sources, row: ClassRow, number: int) -> tuple[Picture, ...]:
    train = sources.corpus.train
    rows = spread(np.flatnonzero(train.labels == row.class_id).tolist(), number)
    pictures = []
    for index, image in zip(rows, train.images(rows), strict=True):
        key = train.keys[index]
        text = sources.real_texts.get(key, "")
        alt = f"Real image {key} of the class {row.name}" + (f", described as: {text}" if text else "")
        pictures.append(Picture(*data_address(image), alt, without_opening(text, row.name), key))
    return tuple(pictures)


def _generated_picture(sources: Sources, row: GeneratedRow, image: GeneratedImage, class_name: str) -> Picture:
    judged = sources.scores.get(row.key)
    caption = sources.method.describe_image(row, image.init_image or "", class_name, judged, sources.recipe)
    state = "" if judged is None else "accepted" if judged.accepted else "missed"
    return Picture(*data_address(decode_png(image.image)), caption.alt, caption.text, caption.fact, state)
