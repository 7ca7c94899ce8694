"""Markers on the recipe's fields: where a default comes from, and what a field changes.

    steps: Annotated[int, RELEASED, Shapes("draw")] = Field(default=30, ge=1)

A field without a ``Source`` has a default of our own, and one without another marker shapes every step that names its
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


@dataclass(frozen=True)
class Runtime:
    """The field changes speed or memory, and no result."""


@dataclass(frozen=True)
class Plans:
    """The field says which steps there are, and shapes none of them."""


@dataclass(frozen=True)
class Digested:
    """The field says where files are or which images are read of them: the digest of the data or the model tells it."""


@dataclass(frozen=True)
class Presents:
    """The field says how results are shown or stored, and changes none of them."""


@dataclass(frozen=True, init=False)
class _Names:
    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


class Loads(_Names):
    """The field changes what the models of these roles make."""


class Shapes(_Names):
    """The field shapes only steps that name one of these parts of its block, as in ``diffusion:draw``."""


#: Markers of fields that are in no step's fingerprint.
NOT_FINGERPRINTED = (Runtime, Plans, Digested)
#: Markers of fields by which two runs of a comparison do not differ.
NOT_COMPARED = (Runtime, Digested, Presents)
Marker = TypeVar("Marker")


def marker(field: FieldInfo, kind: type[Marker] | tuple[type[Marker], ...]) -> Marker | None:
    """Return a field's marker of a kind, if it has one."""
    return next((found for found in field.metadata if isinstance(found, kind)), None)


def block_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the block that a field of the recipe is, if it is one."""
    kind: object = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def iterate_fields(recipe: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the dotted name and the field of every key of a class of recipes; blocks are not keys."""
    for name, field in recipe.model_fields.items():
        block = block_of(field)
        if block is None:
            yield name, field
        else:
            yield from ((f"{name}.{key}", inner) for key, inner in block.model_fields.items())
