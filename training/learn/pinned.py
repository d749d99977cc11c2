"""Pinned questions: the owner's own questions with their right answers, and what two adapters say to them.

    home/pinned/
        questions.json          at most `MAX_QUESTIONS`
        3f9c0d12a4b5c6d7.png    the picture of each, as the model gets it
        results.json            by adapter, what it and the one before it said when they were asked

They are asked greedily, as a visitor asks, and graded by the one grader.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from inference.adapters.record import read_record
from inference.adapters.versions import now
from inference.common.errors import UserError
from inference.common.files import exclusive, read_json, write_json, write_whole
from inference.common.settings import DEFAULT_LIMITS, Limits
from inference.common.validation import Strict
from inference.model.lora_layers import holding
from inference.model.request import Request
from inference.prompt.format import THINK_PROMPT
from inference.prompt.image import load_image
from inference.server.queue import MAX_SEQS_BESIDE_OTHERS, RequestQueue
from inference.server.service import clean_question
from inference.server.visitors import OWNER, Visitor
from training.grading.grader import gold_fault, grade_lenient, last_answer

FOLDER, QUESTIONS_FILE, RESULTS_FILE = "pinned", "questions.json", "results.json"
MAX_QUESTIONS = 24
MAX_RESULTS = 32
"""Adapters whose results are kept, the newest ones."""
MAX_ANSWER_CHARS = 200
"""Of an answer that is kept."""
ASK_SECONDS = 120.0
"""The most that the questions of one submission may take."""
WAIT_SECONDS = 20.0
"""Time that a change waits for another one."""
_MAX_BYTES = 4_000_000


class Pinned(Strict):
    """A question with its right answer."""

    key: str = Field(pattern="^[0-9a-f]{16}$")
    """The stem of its picture's file."""
    question: str
    gold: str


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
    before: Said
    new: Said

    @property
    def change(self) -> str:
        """`broke`, `mended` or `same`."""
        return "same" if self.before.right == self.new.right else "mended" if self.new.right else "broke"


class PinnedResult(Strict):
    """The answers of an adapter beside those of the one before it."""

    before: str
    """The name of the one before."""
    at: str
    rows: list[PinnedRow] = Field(max_length=MAX_QUESTIONS)

    def count(self, change: str) -> int:
        """Number of questions with this change."""
        return sum(row.change == change for row in self.rows)


class _Results(Strict):
    results: dict[str, PinnedResult] = {}


@dataclass(frozen=True)
class Asked:
    """One of the two adapters: its name, and its folder; `None` is the base alone."""

    name: str
    path: Path | None


class PinnedQuestions:
    """The pinned questions of one home. Changes are made under a lock, and are on the disk when a method returns."""

    def __init__(self, home: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self.folder, self._limits = home / FOLDER, limits

    def all(self) -> list[Pinned]:
        """The questions; none for a file that cannot be read."""
        try:
            return _Questions.model_validate(read_json(self.folder / QUESTIONS_FILE, _MAX_BYTES) or {}).questions
        except ValidationError:
            return []

    def picture(self, one: Pinned) -> Path:
        """The file of a question's picture."""
        return self.folder / f"{one.key}.png"

    def add(self, picture: str | Path | bytes | None, question: object, gold: object) -> Pinned:
        """Pins a question. Raises `UserError` for what could not be asked or graded."""
        image = load_image(picture, self._limits)
        asked = clean_question(question, self._limits)  # type: ignore[arg-type]
        answer = gold.strip() if isinstance(gold, str) else ""
        if not answer:
            raise UserError("There is no right answer. Type it, and pin the question again.")
        if fault := gold_fault(answer):
            raise UserError(f"The right answer cannot be graded: {fault}. Type it as short as an answer should be.")
        content = io.BytesIO()
        image.save(content, "PNG")
        pinned = Pinned(key=secrets.token_hex(8), question=asked, gold=answer)
        with self._locked():
            others = self.all()
            if len(others) >= MAX_QUESTIONS:
                raise UserError(f"{MAX_QUESTIONS} questions are pinned, which is the limit. Remove one first.")
            write_whole(self.picture(pinned), content.getvalue())
            self._write(QUESTIONS_FILE, _Questions(questions=[*others, pinned]))
        return pinned

    def remove(self, key: str) -> None:
        """Removes a question and its picture."""
        with self._locked():
            questions = self.all()
            gone = next((one for one in questions if one.key == key), None)
            if gone is None:
                raise UserError("That question is no longer pinned. Look again.")
            self._write(QUESTIONS_FILE, _Questions(questions=[one for one in questions if one is not gone]))
            self.picture(gone).unlink(missing_ok=True)

    def results(self) -> Mapping[str, PinnedResult]:
        """By an adapter's name, what was said when it was asked last; empty for a file that cannot be read."""
        try:
            return _Results.model_validate(read_json(self.folder / RESULTS_FILE, _MAX_BYTES) or {}).results
        except ValidationError:
            return {}

    def ask(self, queue: RequestQueue | None, before: Asked, new: Asked) -> PinnedResult:
        """Asks both adapters all questions through the visitors' queue, a few at a time, and keeps the result.

        They are the owner's own questions there, so they go behind those of visitors that asked for less. Raises
        `UserError`, `Busy`, and what the engine fails with.
        """
        questions = self.all()
        if not questions:
            raise UserError("No question is pinned yet. Pin one under Pinned questions.")
        if queue is None or queue.engine is None:
            raise UserError("The model is not loaded yet. Ask the pinned questions when it is.")
        begin_of = [self._requester(queue, one) for one in (before, new)]
        texts: list[str] = []
        for first in range(0, len(questions), _AT_ONCE):
            requests = [begin(one) for one in questions[first : first + _AT_ONCE] for begin in begin_of]
            completions = queue.submit(requests, Visitor(OWNER)).completions(ASK_SECONDS)
            texts += [completion.text for completion in completions]
        rows = [
            PinnedRow(question=one.question, gold=one.gold, before=_said(one, of_before), new=_said(one, of_new))
            for one, of_before, of_new in zip(questions, texts[::2], texts[1::2], strict=True)
        ]
        result = PinnedResult(before=before.name, at=now(), rows=rows)
        with self._locked():
            others = {name: kept for name, kept in self.results().items() if name != new.name}
            newest = dict([*others.items(), (new.name, result)][-MAX_RESULTS:])
            self._write(RESULTS_FILE, _Results(results=newest))
        return result

    def _requester(self, queue: RequestQueue, asked: Asked) -> Callable[[Pinned], Request]:
        """Makes the request of a question to one of the two."""
        assert queue.engine is not None, "`ask` looks"
        weights = queue.engine.read_adapter(asked.path) if asked.path else None
        prompt = (read_record(asked.path).system_prompt if asked.path else None) or THINK_PROMPT

        def request(one: Pinned) -> Request:
            return Request(
                image=load_image(self.picture(one), self._limits),
                question=one.question,
                system_prompt=prompt,
                adapter=asked.name if weights else None,
                get_adapter=holding(weights) if weights else None,
                max_new_tokens=self._limits.default_new_tokens,
                repetition_penalty=None,  # the base's own, as for visitors
            )

        return request

    def _write(self, name: str, content: Strict) -> None:
        write_json(self.folder / name, content.model_dump())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds the lock of the folder; an error of the disk becomes words."""
        try:
            with exclusive(self.folder / ".lock", WAIT_SECONDS):
                yield
        except TimeoutError as error:
            raise UserError("Another change to the pinned questions is under way. Try again in a moment.") from error
        except OSError as error:
            why = error.strerror or error
            raise UserError(f"{self.folder} cannot be written: {why}. Free some space there.") from error


_AT_ONCE = MAX_SEQS_BESIDE_OTHERS // 2
"""Questions of one submission; each is asked twice."""


def _said(pinned: Pinned, text: str) -> Said:
    grade = grade_lenient(f"<answer>{pinned.gold}</answer>", text, pinned.question)
    return Said(answer=last_answer(text)[:MAX_ANSWER_CHARS], right=grade.correct)
