"""The service: the queue, the adapters and the functions of the training half, as tabs and endpoints share them."""

from __future__ import annotations

import logging
import math
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from inference.adapters.live import LiveAdapters, Offer
from inference.adapters.record import BASE_NAME
from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS, Limits, Settings
from inference.model.request import Request
from inference.prompt.format import THINK_PROMPT, with_places
from inference.prompt.image import load_images
from inference.server.queue import RequestQueue
from inference.server.shares import Shares

if TYPE_CHECKING:
    from inference.engine.engine import Engine
    from inference.model.lora_layers import Adapter

MAX_EXPECTED_CHARS = 1_000
MAX_TEMPERATURE = 2.0
MAX_SEED = 2**31 - 1
MAX_PREPARING = 4
"""Uploads that are preprocessed at a time before anybody has asked about them."""
SERVED = ""
"""The adapter dropdown's value while the visitor has picked none: the adapter served at the moment."""
ONLY_OWNER = " (only you)"
"""After the label of an adapter that visitors do not see."""
_log = logging.getLogger(__name__)


class Verdict(Protocol):
    """The grader's verdict; `training.grading.grader.Grade` is one."""

    @property
    def correct(self) -> bool: ...
    @property
    def gold(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def rule(self) -> str: ...


Grade = Callable[[str, str], Verdict]
"""From an expected answer and a completion's text to a verdict."""


@dataclass(frozen=True)
class Example:
    """A picture with a question and its gold answer."""

    image: Image.Image
    question: str
    expected: str


@dataclass(frozen=True)
class Question:
    """A visitor's question, checked."""

    image: Image.Image
    question: str
    expected: str
    adapter: str | None
    max_new_tokens: int
    temperature: float
    seed: int
    more_images: tuple[Image.Image, ...]
    """Pictures after the first, in their order."""
    hold: Callable[[str], Callable[[], Adapter]]
    """By an adapter's name, a function that returns it; see `LiveAdapters.hold`."""
    system_prompt_of: Callable[[str], str]
    """By an adapter's name, the system prompt that it was trained with."""

    def request(self, adapter: str | None, prefix: str = "") -> Request:
        """The request to the base (`None`) or to an adapter, which it keeps to its end. Raises `UserError`."""
        return Request(
            image=self.image,
            question=self.question,
            adapter=adapter,
            system_prompt=THINK_PROMPT if adapter is None else self.system_prompt_of(adapter),
            get_adapter=None if adapter is None else self.hold(adapter),
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            repetition_penalty=None,  # the base's own, for base and adapter alike
            seed=self.seed,
            prefix=prefix,
            more_images=self.more_images,
        )


class Service:
    """One engine with its queue and its adapters."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Engine],
        adapters: LiveAdapters,
        grade: Callable[[str, str, str], Verdict],
        new_problem: Callable[[], Example],
        examples: Sequence[Example],
        is_owner: Callable[[Mapping[str, str]], bool] = lambda cookies: False,
        contradiction: Callable[[str, str, str], str] = lambda thought, answer, question: "",
    ) -> None:
        """`load` returns the engine, in the background, and starts `adapters` on it. `is_owner` tells by the cookies of
        a request whether its browser is logged in as the owner, who may ask adapters that visitors do not see.
        `contradiction` returns a sentence on a thought and an answer that contradict each other, else ""."""
        self.settings, self.adapters, self.queue = settings, adapters, RequestQueue(load, settings.limits)
        self._grade, self.new_problem, self.examples = grade, new_problem, tuple(examples)
        self.contradiction = contradiction
        self.is_owner, self.shares = is_owner, Shares(settings.home, settings.sharing)
        self._preparing = threading.Semaphore(MAX_PREPARING)

    def prepare(self, image: Image.Image) -> None:
        """Preprocess an uploaded picture on a thread of its own, since a question about it is likely to follow."""
        engine = self.queue.engine
        if engine is None or not self._preparing.acquire(blocking=False):
            return  # it is prepared with its question

        def work() -> None:
            try:
                engine.prepare([image])
            except Exception as error:  # reported when somebody asks about the picture
                _log.warning("preparing a picture: %s", type(error).__name__)
            finally:
                self._preparing.release()

        threading.Thread(target=work, name="picture", daemon=True).start()

    @property
    def offer(self) -> Offer:
        """The adapters of this moment."""
        return self.adapters.offer

    def choices(self, for_owner: bool = False) -> list[tuple[str, str]]:
        """The adapter dropdown's choices: (label, value). `SERVED` comes first and follows what is served; the base
        alone comes last. The owner's have all adapters."""
        offer = self.offer
        title = offer.shown.title
        served = [] if offer.served is None else [(f"{title(offer.served)} (served now)", SERVED)]
        others = [(title(name), name) for name in offer.visible if name != offer.served]
        if for_owner:
            others += [(f"{title(name)}{ONLY_OWNER}", name) for name in offer.records if name not in offer.visible]
        return [*served, *others, ("Base alone", BASE_NAME)]

    def grader_of(self, question: Question) -> Grade:
        """The grader of completions of a question, whose text may list options."""
        return lambda expected, completion: self._grade(expected, completion, question.question)

    def read_question(
        self,
        image: str | Path | bytes | Image.Image | None,
        question: str | None,
        expected: object = None,
        adapter: object = None,
        temperature: object = None,
        max_new_tokens: object = None,
        seed: object = None,
        more_images: Sequence[str | Path | bytes | Image.Image] | None = None,
        *,
        for_owner: bool = False,
    ) -> Question:
        """Check the values that a user or a client sent; `None` takes the default. Raises `UserError`.

        The owner may name any adapter, others those that visitors see.
        """
        limits = self.settings.limits
        length = "length limit in tokens"
        first, *others = load_images([image, *(more_images or ())], limits)
        return Question(
            image=first,
            more_images=tuple(others),
            question=_placed(clean_question(question, limits), 1 + len(others)),
            expected=_expected(expected),
            adapter=self.adapter_named(adapter, for_owner),
            max_new_tokens=_whole(length, max_new_tokens, limits.default_new_tokens, 1, limits.max_new_tokens),
            temperature=_number("temperature", temperature, 0.0, 0.0, MAX_TEMPERATURE),
            seed=_whole("seed", seed, 0, 0, MAX_SEED),
            hold=self.adapters.hold,
            system_prompt_of=self.adapters.system_prompt,
        )

    def adapter_named(self, name: object, for_owner: bool = False) -> str | None:
        """The adapter of that name; `None` or empty means the served one of this moment, `base` means none.

        Raises `UserError` for another name, and for an adapter that visitors do not see, unless it is for the owner.
        """
        offer = self.offer
        if name is None or name == SERVED:
            return offer.served
        if name == BASE_NAME:
            return None
        if not isinstance(name, str) or name not in (offer.records if for_owner else offer.visible):
            raise UserError(f"There is no adapter {str(name)[:80]!r}; choose {', '.join([*offer.visible, BASE_NAME])}.")
        return name


def clean_question(question: str | None, limits: Limits = DEFAULT_LIMITS) -> str:
    """The question without control characters and lone surrogates, stripped.

    Raises `UserError` if it is empty or too long. Chat markers stay; the engine breaks them.

    >>> clean_question(" How many\\x00? ")
    'How many?'
    """
    if question is not None and not isinstance(question, str):
        raise UserError(f"The question is of type {type(question).__name__}; send text.")
    question = question or ""
    if len(question) > limits.max_question_chars:
        most = limits.max_question_chars
        raise UserError(f"The question has {len(question):,} characters; at most {most:,} are read. Shorten it.")
    cleaned = "".join(c for c in question if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs")).strip()
    if not any(unicodedata.category(c)[0] in "LMNPS" for c in cleaned):  # nothing visible
        raise UserError("There is no question. Type one about the picture.")
    return cleaned


def _placed(question: str, num_pictures: int) -> str:
    """With the places of several pictures; beside one, a mark is text like any other."""
    return question if num_pictures == 1 else clean_question(with_places(question, num_pictures))


def _expected(value: object) -> str:
    """The expected answer as text; a client may send a number."""
    text = "" if value is None else str(value).strip()
    if len(text) > MAX_EXPECTED_CHARS:
        most = MAX_EXPECTED_CHARS
        raise UserError(f"The expected answer has {len(text):,} characters; at most {most:,} are compared. Shorten it.")
    return text


def _number(name: str, value: object, default: float, low: float, high: float) -> float:
    """`value` as a number within its bounds."""
    if value is None or value == "":
        return default
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not low <= number <= high:
        raise UserError(f"The {name} is {str(value)[:40]}; give a number from {low:g} to {high:,.10g}.")
    return number


def _whole(name: str, value: object, default: int, low: int, high: int) -> int:
    number = _number(name, value, default, low, high)
    if number != int(number):
        raise UserError(f"The {name} is {number:g}; give a whole number.")
    return int(number)
