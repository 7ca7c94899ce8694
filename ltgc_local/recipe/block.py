"""What every block of the recipe is: strict, frozen, and able to say which of its values contradict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Self

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


class Block(BaseModel):
    """Base of the recipe's blocks: frozen, no unknown keys, no silent conversion (``"3"`` is not 3, 3.0 is not 3)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Let a field that a class narrows mean what it means in the class above."""
        for name, field in cls.model_fields.items():
            above = (base.model_fields.get(name) for base in cls.__mro__[1:] if issubclass(base, Block))
            field.description = next((f.description for f in (field, *above) if f and f.description), None)

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield (key, problem) for values that are right by themselves and wrong together."""
        yield from ()

    @model_validator(mode="after")
    def _refuse_conflicts(self) -> Self:
        found = list(self.conflicts())
        if found:
            text = "; ".join(f"{key}: {problem}" for key, problem in found)
            raise PydanticCustomError("conflict", "{text}", {"text": text, "found": found})
        return self
