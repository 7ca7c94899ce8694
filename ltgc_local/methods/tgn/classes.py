"""The class manifest: head and tail by rank of TRAINING counts, and the one numbering that every step goes by.

An entry's ``index`` is the class's logit in its network, its label in the generator and its row among the prompts. The
released code numbers each of them by another list, so that its labels, networks and prompts are of different classes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltgc_local.errors import DataError, RecipeError
from ltgc_local.recipe.tgn import Split
from ltgc_local.records import Record
from ltgc_local.runs.directory import RunDirectory


@dataclass(frozen=True)
class ClassEntry(Record):
    """One class: ids, what prompts call it, and on which side it is."""

    class_id: int
    class_name: str
    prompt: str
    num_train: int
    is_head: bool
    index: int  # within head or within tail, the class with most training images first


@dataclass(frozen=True)
class ClassManifest:
    """All classes; ``head`` and ``tail`` in the order of their indices."""

    entries: tuple[ClassEntry, ...]

    @property
    def head(self) -> tuple[ClassEntry, ...]:
        return self._side(True)

    @property
    def tail(self) -> tuple[ClassEntry, ...]:
        return self._side(False)

    @property
    def tail_index(self) -> dict[int, int]:
        """Class id -> index, of the tail."""
        return {entry.class_id: entry.index for entry in self.tail}

    def _side(self, is_head: bool) -> tuple[ClassEntry, ...]:
        return tuple(sorted((e for e in self.entries if e.is_head == is_head), key=lambda entry: entry.index))


def build_manifest(class_names: Sequence[str], counts: Mapping[int, int], settings: Split) -> ClassManifest:
    """Rank the classes and split them.

    The head is the int(C * head_percent / 100) classes with most training images (of equal ones the lower id first), or
    those that the recipe names.

    Args:
        counts: class id -> number of training images.

    Raises:
        DataError: a class has no training image, or one side would be empty.
        RecipeError: the recipe names a class that is not there.
    """
    empty = [class_names[class_id] for class_id, count in counts.items() if count == 0]
    if empty:
        raise DataError(
            f"{len(empty)} classes have no training image ({', '.join(empty[:3])}): TGN generates from a class's own "
            "images; give each some, or leave the class out"
        )
    ranked = sorted(counts, key=lambda class_id: (-counts[class_id], class_id))
    if settings.head_classes is None:
        head = set(ranked[: int(len(ranked) * settings.head_percent / 100)])
    else:
        head = _named(settings.head_classes, class_names)
    if not head or len(head) == len(ranked):
        side = "head" if not head else "tail"
        raise DataError(
            f"split: of {len(ranked)} classes none is left for the {side}; type for example --set split.head_percent=50"
        )
    indices = {True: 0, False: 0}
    entries = []
    for class_id in ranked:
        name, is_head = class_names[class_id], class_id in head
        prompt = settings.prompt.replace("{}", name)
        entries.append(ClassEntry(class_id, name, prompt, counts[class_id], is_head, indices[is_head]))
        indices[is_head] += 1
    return ClassManifest(tuple(entries))


def read_manifest(run: RunDirectory, step: str = "classes") -> ClassManifest:
    """Read what the step ``classes`` wrote."""
    return ClassManifest(tuple(run.records(step, "classes", ClassEntry)))


def _named(text: str, class_names: Sequence[str]) -> set[int]:
    ids = {name.casefold(): class_id for class_id, name in enumerate(class_names)}
    found = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        if word.isdecimal() and int(word) < len(class_names):
            found.add(int(word))
        elif word.casefold() in ids:
            found.add(ids[word.casefold()])
        else:
            close = difflib.get_close_matches(word.casefold(), ids, n=1)
            hint = f"did you mean '{class_names[ids[close[0]]]}'?" if close else "write class names or ids, with commas"
            raise RecipeError(f"split.head_classes: no class is called '{word}'; {hint}")
    return found
