"""The class manifest: head and tail by rank of TRAINING counts, and the numbering that every step uses.

An entry's ``index`` is the class's logit in its network, its label in the generator and its row among the prompts.
Differs from the released code, which numbers each of these by a different list, so that labels, networks and prompts
refer to different classes.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ltgc_local.errors import DataError, RecipeError
from ltgc_local.recipe.tgn import Split
from ltgc_local.records import Record
from ltgc_local.runs.directory import RunDirectory


@dataclass(frozen=True)
class ClassEntry(Record):
    """One class: its ids, its prompt, and its side."""

    class_id: int
    class_name: str
    prompt: str
    num_train: int
    is_head: bool
    index: int  # within head or within tail; the class with the most training images is 0


@dataclass(frozen=True)
class ClassManifest:
    """All classes."""

    entries: tuple[ClassEntry, ...]

    @cached_property
    def sides(self) -> dict[str, tuple[ClassEntry, ...]]:
        """``head`` and ``tail``, each in the order of its indices."""
        ordered = sorted(self.entries, key=lambda entry: entry.index)
        return {side: tuple(e for e in ordered if e.is_head == (side == "head")) for side in ("head", "tail")}

    @property
    def head(self) -> tuple[ClassEntry, ...]:
        return self.sides["head"]

    @property
    def tail(self) -> tuple[ClassEntry, ...]:
        return self.sides["tail"]

    @cached_property
    def by_id(self) -> dict[int, ClassEntry]:
        """Class id -> entry, ascending."""
        return {entry.class_id: entry for entry in sorted(self.entries, key=lambda entry: entry.class_id)}

    @property
    def prompts(self) -> list[str]:
        """The prompt of each class, by class id."""
        return [entry.prompt for entry in self.by_id.values()]


def build_manifest(class_names: Sequence[str], counts: Mapping[int, int], settings: Split) -> ClassManifest:
    """Rank the classes and split them.

    The head is the int(C * head_percent / 100) classes with the most training images (lower ids first on ties), or the
    classes that the recipe names.

    Args:
        counts: class id -> number of training images.

    Raises:
        DataError: a class has no training image, or one side would be empty.
        RecipeError: the recipe names an unknown class.
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
    entries, sizes = [], Counter[bool]()
    for class_id in ranked:
        name, is_head = class_names[class_id], class_id in head
        prompt = settings.prompt.replace("{}", name)
        entries.append(ClassEntry(class_id, name, prompt, counts[class_id], is_head, sizes[is_head]))
        sizes[is_head] += 1
    return ClassManifest(tuple(entries))


def read_manifest(run: RunDirectory, step: str = "classes") -> ClassManifest:
    """Read the manifest that the step ``classes`` wrote."""
    return ClassManifest(tuple(run.records(step, "classes", ClassEntry)))


def _named(text: str, class_names: Sequence[str]) -> set[int]:
    """Return the ids of the classes that ``head_classes`` lists by name or id."""
    ids = {name.casefold(): class_id for class_id, name in enumerate(class_names)}
    found = set()
    for word in filter(None, map(str.strip, text.split(","))):
        if word.isdecimal() and int(word) < len(class_names):
            found.add(int(word))
        elif word.casefold() in ids:
            found.add(ids[word.casefold()])
        else:
            close = difflib.get_close_matches(word.casefold(), ids, n=1)
            hint = f"did you mean '{class_names[ids[close[0]]]}'?" if close else "write class names or ids, with commas"
            raise RecipeError(f"split.head_classes: no class is called '{word}'; {hint}")
    return found
