"""The gallery: each tail class's real images, accepted images, and how missed images were refined and regenerated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ltgc_local.datasets import Corpus
from ltgc_local.recipe import Recipe
from ltgc_local.reporting.accuracy import ClassRow
from ltgc_local.reporting.method_report import Judged, MethodReport
from ltgc_local.reporting.pictures import Picture, data_address, spread, without_opening
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import GeneratedImage, decode_png
from ltgc_local.runs.generated import GeneratedRow, read_generated, read_rows
from ltgc_local.runs.image_keys import Key
from ltgc_local.runs.judgements import Judgements
from ltgc_local.runs.row_index import RowIndex

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
    """What the gallery is made from. ``judgements`` are none if nothing was assessed."""

    recipe: Recipe
    method: MethodReport
    attempts: int
    corpus: Corpus
    run: RunDirectory
    all_rounds: RowIndex
    generated: RowIndex  # what trains
    judgements: Judgements
    texts_of: Callable[[Container[str]], Mapping[str, str]]  # keys of real images -> their descriptions


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
    accepted = {row.class_id: _spread_of_class(sources.generated, row.class_id, number) for row in shown}
    missed = {row.class_id: _missed_at_first(sources, row.class_id) for row in shown}
    chains = {class_id: spread(found, number) for class_id, found in missed.items()}
    drawn = np.array([key for found in chains.values() for chain in found for key in chain], np.int64).reshape(-1, 3)
    rows = [row for index in accepted.values() for row in read_rows(index.items())]
    rows += read_rows(sources.all_rounds.find(drawn).items())
    images = {image.key: (row, image) for row, image in zip(rows, read_generated(rows), strict=True)}
    judged = _judgements_of(sources, images)
    real = {row.class_id: _rows_of_class(sources.corpus, row.class_id, number) for row in shown}
    texts = sources.texts_of({sources.corpus.train.keys[place] for places in real.values() for place in places})

    def pictures(keys: Sequence[Key], class_name: str) -> tuple[Picture, ...]:
        return tuple(_generated_picture(sources, *images[key], judged.get(key), class_name) for key in keys)

    galleries = []
    for row in shown:
        found = [pictures(chain, row.name) for chain in chains[row.class_id]]
        galleries.append(
            ClassGallery(
                row,
                _real_pictures(sources, row, real[row.class_id], texts),
                pictures(list(map(tuple, accepted[row.class_id].keys.tolist())), row.name),
                tuple(Chain(each, "accepted" if each[-1].state == "accepted" else "excluded") for each in found),
                len(missed[row.class_id]),
            )
        )
    return tuple(galleries)


def _spread_of_class(index: RowIndex, class_id: int, number: int) -> RowIndex:
    of_class = index.of_class(class_id)
    return of_class.take(np.array(spread(range(len(of_class)), number), np.int64))


def _rows_of_class(corpus: Corpus, class_id: int, number: int) -> list[int]:
    return spread(np.flatnonzero(corpus.train.labels == class_id).tolist(), number)


def _missed_at_first(sources: Sources, class_id: int) -> list[list[Key]]:
    """Return the keys, by round, of each description whose first image was not accepted."""
    judged = sources.judgements
    mine = judged.keys[:, 0] == class_id
    accepted = dict(zip(map(tuple, judged.keys[mine].tolist()), judged.accepted[mine].tolist(), strict=True))
    rounds: dict[int, list[Key]] = defaultdict(list)
    for key in map(tuple, sources.all_rounds.of_class(class_id).keys.tolist()):
        if key in accepted:
            rounds[key[1]].append(key)
    chains = [sorted(chain) for _, chain in sorted(rounds.items())]
    return [chain for chain in chains if not accepted[chain[0]]]


def _judgements_of(sources: Sources, keys: Iterable[Key]) -> dict[Key, Judged]:
    """Read the judgements of some images, of those that were judged."""
    judged, wanted = sources.judgements, set(keys)
    shown = np.flatnonzero(np.isin(judged.keys[:, 0], list({key[0] for key in wanted})))
    places = [place for place in shown.tolist() if tuple(judged.keys[place].tolist()) in wanted]
    return {
        each.key: each for each in judged.records(sources.run, np.array(places, np.int64), sources.method.judgement)
    }


def _real_pictures(
    sources: Sources, row: ClassRow, rows: Sequence[int], texts: Mapping[str, str]
) -> tuple[Picture, ...]:
    train = sources.corpus.train
    pictures = []
    for index, image in zip(rows, train.images(rows), strict=True):
        key = train.keys[index]
        text = texts.get(key, "")
        alt = f"Real image {key} of the class {row.name}" + (f", described as: {text}" if text else "")
        pictures.append(Picture(*data_address(image), alt, without_opening(text, row.name), key))
    return tuple(pictures)


def _generated_picture(
    sources: Sources, row: GeneratedRow, image: GeneratedImage, judged: Judged | None, class_name: str
) -> Picture:
    caption = sources.method.describe_image(row, image.init_image or "", class_name, judged, sources.recipe)
    state = "" if judged is None else "accepted" if judged.accepted else "missed"
    return Picture(*data_address(decode_png(image.image)), caption.alt, caption.text, caption.fact, state)
