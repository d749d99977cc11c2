"""Validation errors of pydantic as one line for users: the setting, its value, and what it must be.

>>> from inference.common.space_file import Limits
>>> try:
...     Limits(max_side=1)
... except ValidationError as error:
...     print(explain(error, Limits))
max_side is 1: Input should be greater than or equal to 28
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

_FORMS = {
    "dict_type": "write it as {name: value, name: value}",
    "tuple_type": "write it as [value, value]",
    "model_type": "write its settings below it, indented, each as name: value",
}
"""The form to write, for errors in which pydantic only names a type."""
_KINDS = ("int", "constrained-int", "bool")
"""Parts of an error's path that name one type of several which a setting may have."""
MAX_LISTED = 30
"""Settings that a message lists; of more it names the nearest."""
MAX_SHOWN_CHARS = 200
"""Characters of a refused value, and of a name, that a message shows."""


class Strict(BaseModel):
    """A frozen section of a file that a user writes; unknown settings are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Section(Strict):
    """A section with strict types: `"30"` and `true` are not numbers, and `1` is not a boolean."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Contradiction(ValueError):
    """Settings that are each valid and exclude each other."""

    def __init__(self, message: str, *fields: str) -> None:
        """`fields` are their names as seen from the model that refuses them, `section.name` where they are nested."""
        super().__init__(message)
        self.fields = fields


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem with settings that `model` refused."""
    first = error.errors()[0]
    path = _short(".".join(str(part) for part in first["loc"] if part not in _KINDS))
    shown = _short(repr(first["input"]))
    if first["type"] == "extra_forbidden":
        known = sorted(_fields(model, first["loc"][:-1]))
        if len(known) > MAX_LISTED:
            near = difflib.get_close_matches(str(first["loc"][-1]), known, n=5, cutoff=0.0)
            return f"{path} is not a setting; the nearest are {', '.join(near)} (it was given as {shown})"
        return f"{path} is not a setting; there are {', '.join(known)} (it was given as {shown})"
    if first["type"] == "missing":
        return f"{path} is missing; it must be given"
    problem = _FORMS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and not isinstance(first["input"], str | int | float):
        return f"{path}: {problem}" if path else problem  # of several values together: the message names them
    return f"{path or 'the whole'} is {shown}: {problem}"


def _fields(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """The names of the settings at a path within a model."""
    for name in path:
        field = model.model_fields.get(str(name))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        model = field.annotation
    return list(model.model_fields)


def _short(text: str) -> str:
    """One line of at most `MAX_SHOWN_CHARS`."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 1] + "…"
