"""What pydantic refuses, in the one line that a user reads: the setting, its value, and what it must be.

>>> try:
...     Limits(max_side=1)
... except ValidationError as error:
...     print(explain(error, Limits))
max_side is 1: Input should be greater than or equal to 28
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

_FORMS = {
    "dict_type": "write it as {name: value, name: value}",
    "tuple_type": "write it as [value, value]",
    "model_type": "write its settings below it, indented, each as name: value",
}
"""What to write, where pydantic only says which type it wants."""
MAX_SHOWN_CHARS = 200
"""Of a value that is refused."""


class Strict(BaseModel):
    """A section of a file that a user writes: it knows its settings, and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Section(Strict):
    """One whose values are of the kind they look like: `"30"` and `true` are no numbers, and `1` is no yes."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Contradiction(ValueError):
    """Settings that are each right and do not go together."""

    def __init__(self, message: str, *fields: str) -> None:
        """`fields` are their names as seen from the model that refuses them, `section.name` where they are nested."""
        super().__init__(message)
        self.fields = fields


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing wrong with settings that `model` refused."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    shown = repr(first["input"])
    shown = shown if len(shown) <= MAX_SHOWN_CHARS else shown[: MAX_SHOWN_CHARS - 1] + "…"
    if first["type"] == "extra_forbidden":
        known = sorted(_fields(model, first["loc"][:-1]))
        return f"{place} is not a setting; there are {', '.join(known)} (it was given as {shown})"
    if first["type"] == "missing":
        return f"{place} is missing; it must be given"
    problem = _FORMS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and not isinstance(first["input"], str | int | float):
        return f"{place}: {problem}" if place else problem  # of several values together: the message names them
    return f"{place or 'the whole'} is {shown}: {problem}"


def _fields(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """The names of the settings at a place within a model."""
    found: Any = model
    for name in path:
        field = found.model_fields.get(name)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        found = field.annotation
    return list(found.model_fields)
