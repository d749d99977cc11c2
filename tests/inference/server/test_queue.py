"""The visitors' queue: places, limits, stops and errors. An engine that never comes keeps all waiting."""

from __future__ import annotations

import contextlib
import gc
import re
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inference.common.errors import Busy, UserError
from inference.common.settings import DEFAULT_LIMITS, STARTER
from inference.engine.engine import Engine
from inference.model.request import Request
from inference.server.queue import EngineState, RequestQueue
from inference.server.submission import Submission
from inference.server.visitors import Visitor
from inference.ui.answering import watch
from tests.support.samples import problems
from tests.support.serving import WAIT_SECONDS
from training.grading.grader import grade_lenient

ROWS = [Request(Image.new("RGB", (28, 28)), "How many?")]


@pytest.fixture
def queue() -> Iterator[RequestQueue]:
    """One whose engine is still loading, and then fails to."""
    ready = threading.Event()

    def load() -> Any:
        ready.wait()
        raise UserError("no engine in /a/secret/folder")

    made = RequestQueue(load, DEFAULT_LIMITS.model_copy(update={"max_waiting": 3, "questions_at_once": 2}))
    made.fail = ready.set  # type: ignore[attr-defined]
    yield made
    ready.set()


def read(queue: RequestQueue, visitor: Visitor) -> None:
    """A question that is admitted, read, and not submitted."""
    with queue.admit(visitor):
        pass


def test_stop_frees_every_place_while_the_engine_loads(queue: RequestQueue) -> None:
    submissions = [queue.submit(ROWS) for _ in range(4)]
    assert [submission.ahead for submission in submissions] == [0, 1, 2, 3]
    for submission in submissions:
        submission.stop()
        assert submission.wait(0) and submission.error is None
    assert queue.num_waiting == 0
    queue.submit(ROWS)


def test_a_visitor_has_some_places_and_others_have_theirs(queue: RequestQueue) -> None:
    for session in ("a", "b"):
        queue.submit(ROWS, Visitor("one", session))
    for take in (lambda: read(queue, Visitor("one", "c")), lambda: queue.submit(ROWS, Visitor("one", "c"))):
        with pytest.raises(Busy, match="2 questions of yours"):
            take()
    queue.submit(ROWS, Visitor("two", "d"))
    queue.submit(ROWS, Visitor("three", "e"))
    with pytest.raises(Busy, match="3 questions are waiting or being answered already; try again in a minute"):
        read(queue, Visitor("four", "f"))


def test_a_question_counts_from_when_it_is_read(queue: RequestQueue) -> None:
    """A visitor's questions, and everybody's, while their pictures are decoded; a place is given back or handed on."""
    with contextlib.ExitStack() as reading:
        first = Visitor("one", "a")
        for visitor in (first, Visitor("one", "a", first.asked_at), Visitor("two", "c")):  # two that are equal
            reading.enter_context(queue.admit(visitor))
        with pytest.raises(Busy, match="2 questions of yours"):
            read(queue, Visitor("one", "d"))
        submission = queue.submit(ROWS, first)
        with pytest.raises(Busy, match="2 questions of yours"):
            read(queue, Visitor("one", "d"))
        read(queue, Visitor("two", "e"))
        reading.enter_context(queue.admit(Visitor("three", "f")))
        with pytest.raises(Busy, match="3 questions are waiting"):
            read(queue, Visitor("four", "g"))
    read(queue, Visitor("four", "g"))
    submission.stop()
    for session in ("h", "i"):
        queue.submit(ROWS, Visitor("one", session))


def test_a_minute_has_so_many_questions() -> None:
    queue = RequestQueue(
        lambda: threading.Event().wait(), DEFAULT_LIMITS.model_copy(update={"questions_per_minute": 3})
    )  # type: ignore[arg-type,return-value]
    for _ in range(3):
        read(queue, Visitor("one"))
    with pytest.raises(Busy, match="may ask 3 questions a minute here, and none of yours is left; ask again in"):
        read(queue, Visitor("one"))
    read(queue, Visitor("two"))


def test_whoever_leaves_frees_the_place(queue: RequestQueue) -> None:
    first, second = queue.submit(ROWS, Visitor("one", "page")), queue.submit(ROWS, Visitor("one", "other page"))
    queue.disconnect("page")
    assert first.wait(0) and not second.wait(0) and second.ahead == 0
    late = queue.submit(ROWS, Visitor("one", "page", asked_at=0.0))  # asked before the page was closed
    assert late.wait(0)
    queue.disconnect("")
    assert not queue.submit(ROWS, Visitor("one", "page")).wait(0)  # the page was opened again


def test_who_waits_for_an_engine_that_does_not_come_is_told(queue: RequestQueue) -> None:
    submission = queue.submit(ROWS)
    assert queue.state is EngineState.LOADING
    queue.fail()  # type: ignore[attr-defined]
    with pytest.raises(Busy, match="could not be loaded") as told:
        list(watch(submission, "", grade_lenient))
    assert "secret" not in str(told.value)
    with pytest.raises(UserError, match="no engine"):
        queue.wait_loaded(WAIT_SECONDS)
    assert queue.state is EngineState.FAILED
    with pytest.raises(Busy):
        read(queue, Visitor("one"))


def test_a_line_that_closes_tells_everybody(queue: RequestQueue) -> None:
    submission = queue.submit(ROWS)
    queue.close("Come back later.")
    with pytest.raises(Busy, match="Come back later"):
        list(watch(submission, "", grade_lenient))
    with pytest.raises(Busy, match="Come back later"):
        queue.submit(ROWS)
    assert queue.state is EngineState.STOPPING


LENGTH = 3


class HeldEngine:
    """A real engine behind a queue; the tower tells how many pictures each of its passes has, and may be held up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes: list[int] = []
        self.may_load, self.may_encode, self.encodes = threading.Event(), threading.Event(), threading.Event()
        self.may_encode.set()
        self.engine = Engine.load(STARTER)
        encode = self.engine.family.encode

        def noted(batch: Sequence[Any]) -> Any:
            self.passes.append(len(batch))
            self.encodes.set()
            assert self.may_encode.wait(WAIT_SECONDS)
            return encode(batch)

        monkeypatch.setattr(self.engine.family, "encode", noted)
        self.queue = RequestQueue(self._load)

    def _load(self) -> Engine:
        assert self.may_load.wait(WAIT_SECONDS)
        return self.engine

    def together(self, rows: Sequence[Request]) -> list[Submission]:
        """Questions that wait for the engine, which comes then."""
        submissions = [self.queue.submit([row]) for row in rows]
        self.may_load.set()
        return submissions


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldEngine]:
    made = HeldEngine(monkeypatch)
    yield made
    made.may_load.set()
    made.may_encode.set()
    made.queue.close("The test is over.")


def rows() -> list[Request]:
    options: dict[str, Any] = {"max_new_tokens": LENGTH, "min_new_tokens": LENGTH}
    return [Request(p.image.convert("RGB"), p.problem, **options) for p in problems(4, seed=21)]


def num_tokens(submission: Submission) -> int | None:
    assert submission.wait(WAIT_SECONDS)
    completion = submission.progress()[0].completion
    return completion.num_tokens if completion is not None else None


def test_pictures_of_questions_that_begin_together_are_one_pass(held: HeldEngine) -> None:
    submissions = held.together(rows())
    assert [num_tokens(submission) for submission in submissions] == [LENGTH] * 4 and held.passes == [4]


@pytest.mark.parametrize("place", [0, 2])
def test_a_broken_picture_is_told_to_its_asker_alone(
    held: HeldEngine, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processor refuses it, wherever it stands among them."""
    asked = rows()
    process, broken = held.engine.family.process, asked[place].image

    def refuses(image: Any) -> Any:
        if image is broken:
            raise OSError("broken pixels")
        return process(image)

    monkeypatch.setattr(held.engine.family, "process", refuses)
    submissions = held.together(asked)
    found = [num_tokens(submission) for submission in submissions]
    assert found == [None if i == place else LENGTH for i in range(4)]
    assert [str(submission.error) for submission in submissions if submission.error] == [
        "broken pixels"
    ] and submissions[place].error


def test_a_pass_that_breaks_for_all_is_made_for_each(held: HeldEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many pictures for the memory there is, say."""
    encode = held.engine.family.encode

    def small(batch: Sequence[Any]) -> Any:
        if len(batch) > 1:
            raise MemoryError("too many at once")
        return encode(batch)

    monkeypatch.setattr(held.engine.family, "encode", small)
    assert [num_tokens(submission) for submission in held.together(rows())] == [LENGTH] * 4 and held.passes == [1] * 4


def test_a_stop_while_pictures_are_encoded_ends_that_question_alone(held: HeldEngine) -> None:
    held.may_encode.clear()
    first, second, *others = held.together(rows())
    assert held.encodes.wait(WAIT_SECONDS)
    second.stop()
    assert not second.wait(0), "it is the engine's by now"
    held.may_encode.set()
    assert [num_tokens(submission) for submission in (first, *others)] == [LENGTH] * 3
    assert num_tokens(second) == 0 and second.progress()[0].completion.stopped and second.error is None  # type: ignore[union-attr]


def test_a_line_that_waits_keeps_no_question_that_has_ended(held: HeldEngine) -> None:
    """Nor the adapter and the picture that came with it."""
    [submission] = held.together(rows()[:1])
    assert num_tokens(submission) == LENGTH
    kept, deadline = weakref.ref(submission), time.monotonic() + WAIT_SECONDS
    del submission
    while gc.collect() >= 0 and kept() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert kept() is None


def test_a_question_begins_as_soon_as_the_engine_has_a_free_sequence() -> None:
    """Beside the other half of a Compare, whose first half has ended."""
    queue = RequestQueue(lambda: Engine.load(STARTER, max_num_seqs=2))
    [first, second, third, _] = rows()
    long: dict[str, Any] = {"max_new_tokens": 400, "min_new_tokens": 400}
    pair, single = queue.submit([first, replace(second, **long)]), queue.submit([third])
    assert num_tokens(single) == LENGTH and not pair.wait(0)
    pair.stop()
    assert pair.wait(WAIT_SECONDS)
    queue.close("The test is over.")


def asked(queue: RequestQueue, visitor: str, tokens: int = 100) -> Submission:
    return queue.submit([replace(ROWS[0], max_new_tokens=tokens)], Visitor(visitor))


@pytest.fixture
def roomy() -> RequestQueue:
    """One whose engine never comes, with places for 25 questions."""
    limits = DEFAULT_LIMITS.model_copy(update={"max_waiting": 24})
    return RequestQueue(lambda: threading.Event().wait(), limits)  # type: ignore[arg-type,return-value]


def test_whoever_asks_for_much_goes_behind_whoever_asks_for_little(roomy: RequestQueue) -> None:
    greedy = [asked(roomy, "greedy", 1024) for _ in range(4)]
    polite = [asked(roomy, "polite") for _ in range(3)]
    assert [one.ahead for one in greedy] == [0, 4, 5, 6], "all but the first, which was there before"
    assert [one.ahead for one in polite] == [1, 2, 3], "in the order in which they came"
    late = asked(roomy, "late")
    assert late.ahead == 2, "beside the first ones of the others, which came before"
    for one in (greedy[0], polite[0], late):
        one.stop()
    assert [one.ahead for one in polite[1:]] == [0, 1]
    again = asked(roomy, "late")
    assert again.ahead == 1, "beside the first that waits"
    for one in (*greedy, *polite, again):
        one.stop()
    assert asked(roomy, "greedy").turn == 0.0, "with nobody there all debts are over"


def test_what_was_stopped_before_its_turn_costs_nothing(roomy: RequestQueue) -> None:
    others = [asked(roomy, f"other {number}", 16) for number in range(4)]
    asked(roomy, "reloads", 1024).stop()
    first, second = asked(roomy, "reloads", 64), asked(roomy, "reloads", 64)
    assert (first.turn, second.turn) == (0.0, 64.0)
    first.stop()
    third = asked(roomy, "reloads", 64)
    assert third.turn == 128.0, "after the one that waits"
    assert all(one.ahead < second.ahead < third.ahead for one in others)


def test_a_few_greedy_visitors_never_fill_the_queue(roomy: RequestQueue) -> None:
    """Four addresses, each with as many tabs as it may open."""
    refused = 0
    for tab in range(8):
        for address in range(4):
            try:
                asked(roomy, f"address {address}", 1024)
            except Busy as busy:
                refused += 1
                assert re.match("[56] questions of yours are not answered yet, and 4 more can wait", str(busy)), tab
    assert refused == 11 and roomy.num_waiting == 21
    for number in range(4):
        asked(roomy, f"polite {number}")
    with pytest.raises(Busy, match="24 questions are waiting"), roomy.admit(Visitor("one more")):
        pass


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 1024), st.booleans()), max_size=40))
def test_in_any_order_a_visitor_never_waits_for_more_than_was_asked_for(events: list[tuple[int, int, bool]]) -> None:
    """Between a question and its turn each other visitor gets at most as many tokens as its own, and one question."""
    limits = DEFAULT_LIMITS.model_copy(update={"max_waiting": 100, "questions_at_once": 100})
    queue = RequestQueue(lambda: threading.Event().wait(), limits)  # type: ignore[arg-type,return-value]
    for visitor, tokens, leaves in events:
        before = list(queue._waiting)
        mine = [one for one in before if one.visitor.id == str(visitor)]
        new = asked(queue, str(visitor), tokens)
        place = queue._waiting.index(new)
        assert [one for one in queue._waiting if one is not new] == before, "nobody else's order changes"
        assert all(queue._waiting.index(one) < place for one in mine)
        if not mine and before:
            ahead = Counter(one.visitor.id for one in queue._waiting[:place] if one.turn < new.turn)
            debt = queue._paid_until[str(visitor)] - tokens - min(one.turn for one in before)
            assert all(count <= 1 + debt for count in ahead.values())
        if leaves:
            queue._waiting[0].stop()
    assert len(queue._paid_until) <= 6
