"""The base of every block of the recipe: strict, frozen, and able to say which of its values contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        json_schema_extra={"expected": "a name (letters, digits, '-', '_' and '.', 100 at most)"},
    ),
]
#: Key and problem.
Conflict = tuple[str, str]


class Block(BaseModel):
    """Base of the recipe's blocks: frozen, no unknown keys, no silent conversion (``"3"`` is not 3, 3.0 is not 3)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Let a field that a class redeclares without a docstring keep its description."""
        for name, field in cls.model_fields.items():
            above = (base.model_fields.get(name) for base in cls.__mro__[1:] if issubclass(base, Block))
            field.description = next((f.description for f in (field, *above) if f and f.description), None)

    def conflicts(self) -> Iterator[Conflict]:
        """Yield the problem of each value that is valid by itself but not together with the others."""
        yield from ()

    @model_validator(mode="after")
    def _refuse_conflicts(self) -> Self:
        found = list(self.conflicts())
        if found:
            text = "; ".join(f"{key}: {problem}" for key, problem in found)
            raise PydanticCustomError("conflict", "{text}", {"text": text, "found": found})
        return self


StoredSize = Annotated[
    int | None,
    Field(
        ge=8,
        le=4096,
        description="Size at which images are stored; null stores them as generated. If the originals are small, give "
        "their size, so that resampling artefacts do not tell the two apart.",
    ),
]
StoredMode = Annotated[Literal["RGB", "L"], Field(description="Colour or greyscale, whichever the originals are.")]


def stored_size_conflicts(size_px: int, stored_size_px: int | None) -> Iterator[Conflict]:
    """Yield the problem of images that would be stored larger than they are generated."""
    if stored_size_px is not None and stored_size_px > size_px:
        yield "stored_size_px", f"{stored_size_px} is larger than size_px, {size_px}; images only shrink"
