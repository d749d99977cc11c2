"""Answers that belong to a promotion, from wherever it came: what the adapter before and the new one say to the pinned
questions, and what else the new one changed, against the base.

    promoted = Promoted(settings)
    for promotion in promoted.pending():                    # those that nobody has asked about yet
        promoted.ask(engine, engine.generate, promotion)    # asks and keeps
    promoted.results()                                      # by adapter

What was said lies in `home/pinned/results.json`. A promotion never waits for it: `served.json` remembers each, so who
has an engine next asks (`training.learn.asking`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field, ValidationError

from inference.adapters.record import adapter_name, digest_or_none, evaluation_of, named_folder
from inference.adapters.served import Change, read_served
from inference.adapters.versions import NAME, now, version_folder
from inference.common.errors import Busy, UserError
from inference.common.files import Json, changing, read_json, write_json
from inference.common.logs import failure
from inference.common.settings import Settings
from inference.common.validation import Strict
from inference.engine.engine import Engine
from inference.model.lora_layers import holding
from inference.model.request import Completion, Request
from training.evaluation.measures.outside import Complete, ask_outside, drawn_rows
from training.learn.pinned import MAX_QUESTIONS, WHAT, Asked, PinnedQuestions, PinnedRow, ask_pinned

RESULTS_FILE = "results.json"
ALONE = "the base alone"
MAX_RESULTS = 32
"""Adapters whose results are kept, the newest ones."""
MAX_PENDING = 4
"""Promotions that are asked about afterwards, the newest ones."""
BROKE = "Something broke on our side; the failure has been logged."
_MAX_BYTES = 8_000_000
_ORDER = ("broke", "not asked", "mended", "same")


class Answers(Strict):
    """The answers of an adapter beside those of the one before it."""

    before: str
    """The name of the one before."""
    at: str
    digest: str | None = None
    """Of the new one's files."""
    promoted: str = ""
    """The time of the promotion that it belongs to."""
    rows: list[PinnedRow] = Field(default=[], max_length=MAX_QUESTIONS)
    trouble: str = ""
    """The reason why the pinned questions were not asked."""
    outside: Json | None = None
    """`Outside.to_json`, where it was asked here; that of an evaluation stays beside its adapter."""
    outside_trouble: str = ""
    is_done: bool = True
    """False while the second part is under way."""

    def count(self, change: str) -> int:
        """Number of questions with this change."""
        return sum(row.change == change for row in self.rows)

    def ordered(self) -> list[PinnedRow]:
        """The rows, what broke first."""
        return sorted(self.rows, key=lambda row: _ORDER.index(row.change))


class _Results(Strict):
    results: dict[str, Answers] = {}


@dataclass(frozen=True)
class Promotion:
    """The two adapters to ask, and the time of the promotion; empty if they are asked from a card."""

    before: Asked
    new: Asked
    at: str = ""


class Promoted:
    """The promotions of one home, and the answers that were given with each."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.questions = PinnedQuestions(settings.home, settings.limits)

    def results(self) -> Mapping[str, Answers]:
        """By an adapter's name, what was said when it was asked last; empty for a file that cannot be read."""
        path = self.questions.folder / RESULTS_FILE
        try:
            return _Results.model_validate((path.is_file() and read_json(path, _MAX_BYTES)) or {}).results
        except ValidationError:
            return {}

    def pending(self) -> list[Promotion]:
        """The newest promotions that were not asked about, the oldest first; none if `served.json` cannot be read."""
        try:
            history = read_served(self._settings.home).history
        except UserError:
            return []
        results, found = self.results(), list[Change]()
        for change in reversed([one for one in history if one.action == "promote" and one.adapter]):
            if len(found) == MAX_PENDING or self._is_answered(results.get(str(change.adapter)), change):
                break
            found.append(change)
        return [self._promotion(change) for change in reversed(found)]

    def folder(self, name: str) -> Path | None:
        """The folder of an adapter by its name in the results; `None` if there is none such."""
        home, named = self._settings.home, named_folder(self._settings)
        if named is not None and adapter_name(named) == name:
            return named
        return version_folder(home, name) if NAME.fullmatch(name) and version_folder(home, name).is_dir() else None

    def has_work(self, promotion: Promotion) -> bool:
        """True if something must be asked: a question is pinned, or nothing is known of it outside the reward."""
        return bool(self._num_pinned()) or not self.outside_of(promotion.new)

    def outside_of(self, asked: Asked) -> Json | None:
        """The figures of an adapter outside the reward, against the base: of its evaluation, or as asked here."""
        evaluated = evaluation_of(asked.path).get("outside") if asked.path else None
        if isinstance(evaluated, dict):
            return evaluated
        kept = self.results().get(asked.name)
        return kept.outside if kept and kept.digest == _digest(asked) else None

    def ask(self, engine: Engine, complete: Complete, promotion: Promotion) -> Answers:
        """Asks, and keeps each part as it is there; what fails is kept in words.

        `engine` reads the adapters, `complete` has the questions answered. Raises `Busy`, and then keeps nothing.
        """
        rows, trouble, new = list[PinnedRow](), "", promotion.new
        try:
            rows = ask_pinned(self.questions, engine, complete, promotion.before, new)
        except Exception as error:  # whatever an engine fails with: the adapter is served already
            trouble = _words(error)
        answers = self._answers(promotion, rows=rows, trouble=trouble)
        if self.outside_of(new) is not None:
            return self._keep(new.name, answers)
        self._keep(new.name, answers.model_copy(update={"is_done": False}))
        try:
            answers = answers.model_copy(update={"outside": self._ask_outside(engine, complete, new)})
        except Exception as error:  # as above
            answers = answers.model_copy(update={"outside_trouble": _words(error)})
        return self._keep(new.name, answers)

    def keep_without_asking(self, promotion: Promotion) -> Answers:
        """Keeps that there was nothing to ask."""
        return self._keep(promotion.new.name, self._answers(promotion))

    def _answers(self, promotion: Promotion, **values: object) -> Answers:
        about = {"before": promotion.before.name, "digest": _digest(promotion.new), "promoted": promotion.at}
        return Answers.model_validate({"at": now(), **about, **values})

    def _ask_outside(self, engine: Engine, complete: Complete, new: Asked) -> Json:
        weights = engine.read_adapter(new.path) if new.path else {}

        def with_weights(requests: list[Request]) -> list[Completion]:
            held = [replace(one, get_adapter=holding(weights)) if one.adapter else one for one in requests]
            return list(complete(held))

        rows = drawn_rows(self._settings.is_starter)
        return ask_outside(with_weights, rows, after=new.name).to_json()  # type: ignore[arg-type]

    def _promotion(self, change: Change) -> Promotion:
        home, name = self._settings.home, str(change.adapter)
        if change.before is not None:
            before = Asked(change.before, version_folder(home, change.before))
        else:
            named = named_folder(self._settings)
            before = Asked(adapter_name(named), named) if named else Asked(ALONE, None)
        return Promotion(before, Asked(name, version_folder(home, name)), change.at)

    def _is_answered(self, answers: Answers | None, change: Change) -> bool:
        return answers is not None and answers.promoted == change.at and answers.is_done

    def _num_pinned(self) -> int:
        try:
            return len(self.questions.all())
        except UserError:
            return 1  # it is told when they are asked

    def _keep(self, name: str, answers: Answers) -> Answers:
        """Keeps the newest results. What is known outside the reward of these weights stays, and the promotion."""
        folder = self.questions.folder
        with changing(folder, WHAT):
            others = dict(self.results())
            earlier = others.pop(name, None)
            if earlier:
                is_same = earlier.digest == answers.digest
                outside = answers.outside or (earlier.outside if is_same else None)
                kept = {"outside": outside, "promoted": answers.promoted or earlier.promoted}
                answers = answers.model_copy(update=kept)
            newest = dict([*others.items(), (name, answers)][-MAX_RESULTS:])
            write_json(folder / RESULTS_FILE, _Results(results=newest).model_dump())
        return answers


def _digest(asked: Asked) -> str | None:
    return digest_or_none(asked.path) if asked.path else None


def _words(error: Exception) -> str:
    """The reason in words. Raises the error again if it is `Busy`: later the same can be asked."""
    if isinstance(error, Busy):
        raise error
    if isinstance(error, UserError):
        return str(error)[:600]
    failure("The questions of a promotion failed.", error)
    return BROKE
