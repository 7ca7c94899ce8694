"""Markers on the recipe's fields: where a default comes from, and what a field changes.

    steps: Annotated[int, RELEASED, Shapes("draw")] = Field(default=30, ge=1)

A field without a ``Source`` has a default of our own. One without another marker shapes every step that names its
block. Fingerprints (``pipeline.plan``), comparisons and the reference (``recipe.reference``) are derived from these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Source:
    """Where a field's default comes from."""

    work: Literal["paper", "released code"]


PAPER, RELEASED = Source("paper"), Source("released code")


class Runtime:
    """The field changes speed or memory, and no result."""


class Plans:
    """The field decides which steps there are, and shapes none of them."""


class Digested:
    """The field says where files are or which images are read; the digest of the data or the model covers it."""


class Presents:
    """The field changes how results are shown or stored, and no result."""


class _Names:
    def __init__(self, *names: str) -> None:
        self.names = names


class Loads(_Names):
    """The field changes the output of the models of these roles."""


class Shapes(_Names):
    """The field shapes only steps that name one of these parts of its block, as in ``diffusion:draw``."""


#: Markers of fields that are in no step's fingerprint.
NOT_FINGERPRINTED = (Runtime, Plans, Digested)
#: Markers of fields that do not make two runs of a comparison different.
NOT_COMPARED = (Runtime, Digested, Presents)
Marker = TypeVar("Marker")


def marker(field: FieldInfo, kind: type[Marker] | tuple[type[Marker], ...]) -> Marker | None:
    """Return a field's marker of a kind, if it has one."""
    return next((found for found in field.metadata if isinstance(found, kind)), None)


def block_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the class of the block if the field is a block."""
    kind: object = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def iterate_fields(recipe: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the dotted name and the field of every key of a class of recipes, without the blocks themselves."""
    for name, field in recipe.model_fields.items():
        block = block_of(field)
        if block is None:
            yield name, field
        else:
            yield from ((f"{name}.{key}", inner) for key, inner in block.model_fields.items())
