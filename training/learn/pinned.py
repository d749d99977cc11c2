"""Pinned questions: the owner's own questions with their right answers, and what two adapters say to them.

    home/pinned/
        questions.json          at most `MAX_QUESTIONS`
        3f9c0d12a4b5c6d7.png    the picture of each, as the model gets it
        results.json            what was said with each promotion (`training.learn.promoted`)

They are asked greedily, as a visitor asks, and graded by the one grader.
"""

from __future__ import annotations

import io
import secrets
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from PIL import Image
from pydantic import AfterValidator, Field, ValidationError

from inference.adapters.record import read_record
from inference.common.errors import Busy, UserError
from inference.common.files import changing, read_json, write_json, write_whole
from inference.common.settings import DEFAULT_LIMITS, Limits
from inference.common.validation import Strict
from inference.engine.engine import Engine
from inference.model.lora_layers import holding
from inference.model.request import Request
from inference.prompt.format import THINK_PROMPT
from inference.prompt.image import load_image
from inference.server.service import clean_question
from training.evaluation.measures.outside import Complete
from training.grading.grader import gold_answer, gold_fault, grade_lenient, last_answer

FOLDER, QUESTIONS_FILE = "pinned", "questions.json"
WHAT = "the pinned questions"
"""For the lock of the folder."""
MAX_QUESTIONS = 24
MAX_SHOWN_CHARS, MAX_ANSWER_CHARS = 600, 200
"""Of a question, and of an answer or a reason, that are kept with a result."""
_MAX_BYTES = 4_000_000
_AT_ONCE = 2
"""Questions that are asked together, each of two adapters."""


def _whole(text: str) -> str:
    text.encode()  # half a character, which could not be written again, is a `ValueError`
    return text


Text = Annotated[str, AfterValidator(_whole)]


class Pinned(Strict):
    """A question with its right answer."""

    key: str = Field(pattern="^[0-9a-f]{16}$")
    """The stem of its picture's file."""
    question: Text
    gold: Text


class _Questions(Strict):
    questions: list[Pinned] = Field(default=[], max_length=MAX_QUESTIONS)


class Said(Strict):
    """An adapter's answer."""

    answer: str
    """As the grader reads it; empty if none is stated."""
    right: bool


class PinnedRow(Strict):
    """A question, and what the two adapters said to it."""

    question: str
    gold: str
    before: Said | None = None
    new: Said | None = None
    trouble: str = ""
    """The reason why it was not asked: then neither said anything."""

    @property
    def change(self) -> str:
        """`broke`, `not asked`, `mended` or `same`."""
        if self.before is None or self.new is None:
            return "not asked"
        return "same" if self.before.right == self.new.right else "mended" if self.new.right else "broke"


@dataclass(frozen=True)
class Asked:
    """One of the two adapters: its name, and its folder; `None` is the base alone."""

    name: str
    path: Path | None


class PinnedQuestions:
    """The pinned questions of one home. Changes are made under a lock, and are on the disk when a method returns."""

    def __init__(self, home: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self.folder, self.limits = home / FOLDER, limits

    def all(self) -> list[Pinned]:
        """The questions. Raises `UserError` for a list that cannot be read, which stays as it is."""
        path = self.folder / QUESTIONS_FILE
        if not path.exists():
            return []
        content = read_json(path, _MAX_BYTES) if path.is_file() else None
        try:
            return _Questions.model_validate(content).questions
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip() if content else "it is no JSON object"
            raise UserError(
                f"{path} cannot be read as a list of at most {MAX_QUESTIONS} questions ({why[:200]}). Correct it, or "
                "remove it and pin them again."
            ) from error

    def picture(self, one: Pinned) -> Path:
        """The file of a question's picture."""
        return self.folder / f"{one.key}.png"

    def add(self, picture: str | Path | bytes | Image.Image | None, question: object, gold: object) -> Pinned:
        """Pins a question. Raises `UserError` for what could not be asked or graded."""
        image = load_image(picture, self.limits)
        asked = clean_question(question, self.limits)  # type: ignore[arg-type]
        answer = gold.strip() if isinstance(gold, str) else ""
        if not answer:
            raise UserError("There is no right answer. Type it, and pin the question again.")
        if fault := gold_fault(answer):
            raise UserError(f"The right answer cannot be graded: {fault}. Type it as short as an answer should be.")
        if not any(sign.isalnum() or unicodedata.category(sign) == "Sm" for sign in gold_answer(answer)):
            shown = answer[:MAX_ANSWER_CHARS]
            raise UserError(
                f"The right answer {shown!r} has no letter, digit or sign of mathematics. Type another one."
            )
        content = io.BytesIO()
        image.save(content, "PNG")
        pinned = Pinned(key=secrets.token_hex(8), question=asked, gold=answer)
        with changing(self.folder, WHAT):
            others = self.all()
            if equal := next((one for one in others if one.question == asked and self._shows(one, content)), None):
                raise UserError(
                    f"This picture and question are already pinned with the right answer "
                    f"{equal.gold[:MAX_ANSWER_CHARS]}; remove it first."
                )
            if len(others) >= MAX_QUESTIONS:
                raise UserError(f"{MAX_QUESTIONS} questions are pinned, which is the limit. Remove one first.")
            write_whole(self.picture(pinned), content.getvalue())
            self._write([*others, pinned])
        return pinned

    def remove(self, key: str) -> None:
        """Removes a question and its picture."""
        with changing(self.folder, WHAT):
            questions = self.all()
            gone = next((one for one in questions if one.key == key), None)
            if gone is None:
                raise UserError("That question is no longer pinned. Look again.")
            self._write([one for one in questions if one is not gone])
            self.picture(gone).unlink(missing_ok=True)

    def _shows(self, one: Pinned, content: io.BytesIO) -> bool:
        """True if this is the picture of a question, byte for byte."""
        path, data = self.picture(one), content.getbuffer()
        return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data

    def _write(self, questions: list[Pinned]) -> None:
        write_json(self.folder / QUESTIONS_FILE, _Questions(questions=questions).model_dump())


def ask_pinned(
    pinned: PinnedQuestions, engine: Engine, complete: Complete, before: Asked, new: Asked
) -> list[PinnedRow]:
    """Asks both adapters all questions, a few at a time; one that cannot be asked says why and keeps no other.

    `engine` reads the adapters. Raises `UserError` for an adapter or a list that cannot be read, and what `complete`
    raises but `UserError`; `Busy`, too.
    """
    questions = pinned.all()
    if not questions:
        return []
    templates = [_template(engine, asked, pinned.limits) for asked in (before, new)]
    rows: list[PinnedRow] = []
    for first in range(0, len(questions), _AT_ONCE):
        rows += _ask_some(pinned, complete, questions[first : first + _AT_ONCE], templates)
    return rows


def _template(engine: Engine, asked: Asked, limits: Limits) -> Request:
    """A request to one of the two, without its question."""
    weights = engine.read_adapter(asked.path) if asked.path else None
    return Request(
        image=Image.new("RGB", (1, 1)),
        question="",
        system_prompt=(read_record(asked.path).system_prompt if asked.path else None) or THINK_PROMPT,
        adapter=asked.name if weights else None,
        get_adapter=holding(weights) if weights else None,
        max_new_tokens=limits.default_new_tokens,
        repetition_penalty=None,  # the base's own, as for visitors
    )


def _ask_some(
    pinned: PinnedQuestions, complete: Complete, questions: Sequence[Pinned], templates: Sequence[Request]
) -> Iterator[PinnedRow]:
    """Rows in the order of the questions. Together if all can be asked, else one by one."""
    requests, troubles = [], [""] * len(questions)
    for place, one in enumerate(questions):
        try:
            image, text = load_image(pinned.picture(one), pinned.limits), clean_question(one.question, pinned.limits)
            if fault := gold_fault(one.gold):
                raise UserError(f"The right answer cannot be graded: {fault}.")
            requests += [replace(template, image=image, question=text) for template in templates]
        except UserError as error:
            troubles[place] = str(error)
    try:
        texts = iter([completion.text for completion in (complete(requests) if requests else ())])
    except Busy:
        raise
    except UserError as error:
        if len(questions) > 1:
            for one in questions:
                yield from _ask_some(pinned, complete, [one], templates)
            return
        troubles, texts = [str(error)], iter(())
    for one, trouble in zip(questions, troubles):
        said = [None, None] if trouble else [_said(one, next(texts)) for _ in templates]
        yield PinnedRow(
            question=one.question[:MAX_SHOWN_CHARS],
            gold=one.gold[:MAX_ANSWER_CHARS],
            before=said[0],
            new=said[1],
            trouble=trouble[:MAX_SHOWN_CHARS],
        )


def _said(pinned: Pinned, text: str) -> Said:
    grade = grade_lenient(f"<answer>{pinned.gold}</answer>", text, pinned.question)
    return Said(answer=last_answer(text)[:MAX_ANSWER_CHARS], right=grade.correct)
