"""What the tabs and the endpoints share: the engine's line, the adapters, and the doors to the other half."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from inference.adapters import BASE_NAME, AdapterRecord
from inference.errors import UserError
from inference.images import load_image
from inference.questions import clean_question
from inference.rows import Row
from inference.settings import Settings
from inference.ui.line import Line
from inference.ui.view import Grade

if TYPE_CHECKING:
    from inference.engine import Engine

MAX_EXPECTED_CHARS = 1_000
MAX_TEMPERATURE = 2.0
MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class Example:
    """A picture with a question and its gold answer."""

    image: Image.Image
    question: str
    expected: str


@dataclass(frozen=True)
class Prompt:
    """A question that was read and found good."""

    image: Image.Image
    question: str
    expected: str
    adapter: str | None
    max_new_tokens: int
    temperature: float
    seed: int

    def row(self, adapter: str | None, prefix: str = "") -> Row:
        """The row that asks it of the base (`None`) or of an adapter."""
        return Row(
            image=self.image,
            question=self.question,
            adapter=adapter,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=self.seed,
            prefix=prefix,
        )


class Service:
    """One engine with its line, as the tabs see it."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Engine],
        records: dict[str, AdapterRecord],
        served: str | None,
        grade: Grade,
        new_problem: Callable[[], Example],
        examples: Sequence[Example],
    ) -> None:
        """`load` gives the engine, in the background; `records` are the adapters it will hold, by name, and `served`
        is the one that answers unless another is picked."""
        self.settings, self.line = settings, Line(load, settings.limits)
        self.records, self.served = records, served
        self.grade, self.new_problem, self.examples = grade, new_problem, tuple(examples)

    @property
    def choices(self) -> list[tuple[str, str]]:
        """What the adapter dropdown offers: (label, name)."""
        return [(name, name) for name in self.records] + [("none: the base alone", BASE_NAME)]

    def read_prompt(
        self,
        image: str | Path | Image.Image | None,
        question: Any,
        expected: Any = None,
        adapter: Any = None,
        temperature: Any = None,
        max_new_tokens: Any = None,
        seed: Any = None,
    ) -> Prompt:
        """Check what a user or a client sent; `None` takes the default. Raises `UserError`."""
        limits = self.settings.limits
        length = "length limit in tokens"
        return Prompt(
            image=load_image(image, limits),
            question=clean_question(question, limits),
            expected=_expected(expected),
            adapter=self.adapter_named(adapter),
            max_new_tokens=_whole(length, max_new_tokens, limits.default_new_tokens, 1, limits.max_new_tokens),
            temperature=_number("temperature", temperature, 0.0, 0.0, MAX_TEMPERATURE),
            seed=_whole("seed", seed, 0, 0, MAX_SEED),
        )

    def adapter_named(self, name: Any) -> str | None:
        """The adapter of that name; `None` or empty is the served one, `base` is none."""
        if name is None or name == "":
            return self.served
        if name == BASE_NAME:
            return None
        if name not in self.records:
            raise UserError(f"There is no adapter {str(name)[:80]!r}; choose {', '.join([*self.records, BASE_NAME])}.")
        return name


def _expected(value: Any) -> str:
    """The expected answer as text; a client may send a number."""
    text = "" if value is None else str(value).strip()
    if len(text) > MAX_EXPECTED_CHARS:
        raise UserError(
            f"The expected answer has {len(text):,} characters; at most {MAX_EXPECTED_CHARS:,} are compared. "
            "Shorten it."
        )
    return text


def _number(name: str, value: Any, default: float, low: float, high: float) -> float:
    """`value` as a number within its bounds."""
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not low <= number <= high:
        raise UserError(f"The {name} is {str(value)[:40]}; give a number from {low:g} to {high:,.10g}.")
    return number


def _whole(name: str, value: Any, default: int, low: int, high: int) -> int:
    number = _number(name, value, default, low, high)
    if number != int(number):
        raise UserError(f"The {name} is {number:g}; give a whole number.")
    return int(number)
