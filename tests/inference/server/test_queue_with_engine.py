"""The visitors' queue with a real engine: order, places, stops and errors."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, cast

import pytest
from PIL import Image

from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS
from inference.engine.engine import Engine
from inference.model.request import Request
from inference.server.queue import RequestQueue
from inference.server.visitors import Visitor
from tests.support.serving import WAIT_SECONDS, SteeredEngine

IMAGE = Image.new("RGB", (112, 112), "white")


def rows(length: int = 8, **options: Any) -> list[Request]:
    return [Request(IMAGE, "How many circles?", max_new_tokens=length, min_new_tokens=length, **options)]


def test_the_line_serves_in_order_and_gives_places(engine: Engine) -> None:
    queue = RequestQueue(lambda: cast(Engine, SteeredEngine(engine, max_num_seqs=1)))
    queue.wait_loaded()
    submissions = [queue.submit(rows(200)) for _ in range(3)]
    assert [submission.ahead for submission in submissions][1:] == [1, 2] or submissions[0].wait(0)
    submissions[1].stop()
    assert submissions[1].wait(WAIT_SECONDS) and submissions[1].progress()[0].num_tokens == 0
    assert submissions[2].wait(WAIT_SECONDS) and submissions[0].wait(0)
    assert submissions[2].progress()[0].num_tokens == 200


def test_nobody_waits_for_the_end_of_another(engine: Engine) -> None:
    queue = RequestQueue(lambda: engine)
    alone = engine.generate(rows(12))[0].token_ids
    long = queue.submit(rows(1000))
    while not long.progress()[0].num_tokens:
        assert not long.wait(0.005)
    others = [queue.submit(rows(12)) for _ in range(5)]
    for submission in others:
        assert submission.wait(WAIT_SECONDS) and submission.ahead == 0
        completion = submission.progress()[0].completion
        assert completion is not None and completion.token_ids == alone
    assert not long.wait(0) and queue.is_answering and queue.num_waiting == 0
    long.stop()
    assert long.wait(WAIT_SECONDS)


def test_a_pair_takes_two_slots_and_nobody_passes_it(engine: Engine) -> None:
    queue = RequestQueue(lambda: cast(Engine, SteeredEngine(engine, max_num_seqs=2)))
    queue.wait_loaded()
    long = queue.submit(rows(1000))
    while not long.progress()[0].num_tokens:
        assert not long.wait(0.005)
    pair, single = queue.submit(rows(4) * 2), queue.submit(rows(4))
    assert not pair.wait(0.1) and [submission.ahead for submission in (long, pair, single)] == [0, 1, 2]
    long.stop()
    assert pair.wait(WAIT_SECONDS) and single.wait(WAIT_SECONDS)
    assert [progress.num_tokens for progress in pair.progress()] == [4, 4]


def test_stop_ends_a_decode_and_the_line_goes_on(engine: Engine) -> None:
    queue = RequestQueue(lambda: engine)
    submission = queue.submit(rows(1000))
    while not submission.progress()[0].num_tokens:
        assert not submission.wait(0.005)
    submission.stop()
    assert submission.wait(WAIT_SECONDS)
    completion = submission.progress()[0].completion
    assert completion is not None and completion.stopped and completion.num_tokens < 1000
    assert queue.submit(rows(2)).wait(WAIT_SECONDS)


def test_a_full_line_refuses(engine: Engine) -> None:
    ready = threading.Event()
    queue = RequestQueue(lambda: (ready.wait(), engine)[1], DEFAULT_LIMITS.model_copy(update={"max_waiting": 2}))
    submissions = [queue.submit(rows()) for _ in range(3)]
    assert submissions[0].is_loading
    with pytest.raises(UserError, match="2 questions are waiting"):
        queue.submit(rows())
    ready.set()
    assert submissions[2].wait(WAIT_SECONDS)


def test_an_engine_that_does_not_load_is_told() -> None:
    def load() -> Engine:
        raise UserError("no such base")

    with pytest.raises(UserError, match="no such base"):
        RequestQueue(load).wait_loaded()


class CountingEngine(SteeredEngine):
    """The real engine, whose steps are counted."""

    num_steps = 0

    def step(self) -> None:
        self._engine.step()
        self.num_steps += 1


LONG = "How many circles are there? " + "Count them one by one, and say which. " * 20


def steps_of(engine: CountingEngine, queue: RequestQueue, length: int) -> int:
    """The engine's steps from a polite visitor's question to its end."""
    before = engine.num_steps
    submission = queue.submit(rows(length), Visitor("polite"))
    assert submission.wait(WAIT_SECONDS) and submission.progress()[0].num_tokens == length
    return engine.num_steps - before


def slowed(engine: Engine, addresses: int, tabs: int, questions: int, length: int) -> float:
    """The most that a polite visitor's question is slowed by others with long questions and 1,024 tokens, in steps."""
    counting = CountingEngine(engine)
    queue = RequestQueue(lambda: cast(Engine, counting))
    queue.wait_loaded()
    alone = steps_of(counting, queue, length)
    greedy = [
        queue.submit([replace(row, question=f"{LONG} {address} {tab}") for row in rows(1024)], Visitor(str(address)))
        for tab in range(tabs)
        for address in range(addresses)
    ]
    beside = [steps_of(counting, queue, length) for _ in range(questions)]
    assert engine.num_free_seqs > 0 and not any(submission.wait(0) for submission in greedy)
    assert sum(not submission.ahead for submission in greedy) == 4 * addresses, "each has its share"
    for submission in greedy:
        submission.stop()
    assert all(submission.wait(WAIT_SECONDS) for submission in greedy)
    queue.close("The test is over.")
    return max(beside) / alone


def test_greedy_visitors_slow_a_polite_one_by_two_at_most(engine: Engine) -> None:
    assert slowed(engine, addresses=2, tabs=5, questions=2, length=64) <= 2


@pytest.mark.torture
def test_four_greedy_addresses_with_eight_tabs_slow_a_polite_one_by_two_at_most(engine: Engine, figure: Any) -> None:
    times = slowed(engine, addresses=4, tabs=8, questions=8, length=64)
    figure(f"beside 4 addresses x 8 tabs of 1,024 tokens a question of 64 takes at most {times:.2f} times the steps")
    assert times <= 2


def test_a_visitor_alone_has_all_sequences(engine: Engine) -> None:
    """And no more than a share of them once others ask."""
    queue = RequestQueue(lambda: engine)
    queue.wait_loaded()
    first = [queue.submit(rows(300), Visitor("one")) for _ in range(6)]
    while not all(submission.progress()[0].num_tokens for submission in first):
        assert not first[0].wait(0.005)
    other = queue.submit(rows(1000), Visitor("two"))
    more = [queue.submit(rows(4), Visitor("one")) for _ in range(2)]
    assert other.ahead == 0 or not other.wait(0.05)
    assert [submission.wait(0) for submission in more] == [False, False]
    for submission in first[:3]:
        submission.stop()
    assert more[0].wait(WAIT_SECONDS) and more[1].wait(WAIT_SECONDS)
    for submission in (*first, other):
        submission.stop()
        assert submission.wait(WAIT_SECONDS)
    queue.close("The test is over.")


def test_completions_are_waited_for_and_their_end_is_told(engine: Engine) -> None:
    queue = RequestQueue(lambda: engine)
    queue.wait_loaded()
    first, second = queue.submit(rows(4) * 2).completions(WAIT_SECONDS)
    assert first.token_ids == second.token_ids == engine.generate(rows(4))[0].token_ids
    late = queue.submit(rows(1000))
    with pytest.raises(UserError, match="took more than 0 s"):
        late.completions(0.01)
    with pytest.raises(UserError, match="were stopped"):
        late.completions(WAIT_SECONDS)
    with pytest.raises(UserError, match="at least 1"):
        queue.submit(rows(0)).completions(WAIT_SECONDS)
