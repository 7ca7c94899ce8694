"""What the report asks of a method: titles, sections, and words for its images. The report names no method."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from ltgc_local.datasets import Corpus
from ltgc_local.datasets.groups import SHOTS
from ltgc_local.recipe import RecipeT
from ltgc_local.records import Acceptance, ClassTemplate, Score
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.generated import GeneratedRow

Judged = Score | Acceptance


@dataclass(frozen=True)
class Section:
    """A method's own part of the page. Its template reads ``facts``; ``figures`` go into summary.json."""

    anchor: str
    title: str
    template: str
    facts: Any
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Assessment:
    """How generated images are accepted, for a recipe that tests them."""

    text: str  # shown above the table of rounds
    attempts: int  # how many images a description, or a real image, may get
    again: str  # what happens to an image that misses, such as "refined and generated again"


@dataclass(frozen=True)
class Caption:
    """An image's alternative text, its caption, and what was measured on it."""

    alt: str
    text: str
    fact: str = ""


@dataclass(frozen=True)
class GalleryWords:
    """How the gallery refers to a method's images."""

    real: str = "Real images"
    generated: str = "Generated"
    note: str = ""


class MethodReport(Generic[RecipeT]):
    """What a method adds to the report; a method overrides what it does differently.

    Attributes:
        judgement: the records of the steps that judge images.
        name: the method's name, which is also the name of its arm.
        templates: the folder of its sections' templates.
        groups: the groups of classes whose accuracies are shown.
        control_hint: what to write to get a control, for a recipe without one.
    """

    judgement: type[Judged] = Score
    name: str = ""
    templates: Path = Path(__file__).parent
    groups: tuple[str, ...] = ("all", *SHOTS)
    control_hint: str = ""
    gallery: GalleryWords = GalleryWords()

    def title(self, settings: Mapping[str, Any]) -> str:
        """Return the method's name for people, given a recipe as stored in its run."""
        return self.name

    def describe_arm(self, arm: str, recipe: RecipeT, measured: Mapping[str, Any]) -> tuple[str, str]:
        """Return an arm's title, and how it was trained."""
        return {"control": "Control", self.name: self.title(recipe.dump())}.get(arm, arm), ""

    def sections(
        self, run: RunDirectory, recipe: RecipeT, corpus: Corpus, steps: Sequence[str], tail: Sequence[int]
    ) -> tuple[Section, ...]:
        """Return the method's own sections, in order."""
        return ()

    def assessment(self, recipe: RecipeT) -> Assessment | None:
        """Return how images are accepted; None if every generated image trains."""
        return None

    def judging_steps(self, steps: Sequence[str]) -> list[str]:
        """Return those of the steps that judged images, in order."""
        return []

    def read_templates(self, run: RunDirectory, steps: Sequence[str]) -> list[ClassTemplate]:
        """Return the texts that images are compared with."""
        return []

    def real_texts(self, run: RunDirectory, steps: Sequence[str], keys: Container[str]) -> dict[str, str]:
        """Return the descriptions of the real images with these keys, by key."""
        return {}

    def describe_image(
        self, row: GeneratedRow, made_from: str, class_name: str, judged: Judged | None, recipe: RecipeT
    ) -> Caption:
        """Return a generated image's texts; ``made_from`` is the key of its real image, "" for none."""
        return Caption(f"Generated image {row.description_id} of the class {class_name}", row.description)
