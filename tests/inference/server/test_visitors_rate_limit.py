"""Allowances that refill: never more than is allowed, never for ever, and never more memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.server.visitors import RateLimit, whole_seconds


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_used_up_comes_back_with_time() -> None:
    clock = Clock()
    limit = RateLimit(3, 60, clock=clock)
    assert [limit.take("a") for _ in range(4)] == [0, 0, 0, 20]
    assert limit.take("b") == 0
    clock.now += 20
    assert [limit.take("a"), limit.take("a")] == [0, 20]
    limit.give_back("a")
    assert limit.take("a") == 0


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0.01, 5)), max_size=60))
def test_in_no_time_more_is_spent_than_allowed(steps: list[tuple[float, float]]) -> None:
    clock = Clock()
    limit = RateLimit(5, 10, clock=clock)
    spent = 0.0
    for passed, cost in steps:
        clock.now += passed
        wait = limit.take("a", cost)
        if wait:
            clock.now += wait + 1e-6  # who waits as long as told gets it
            assert limit.take("a", cost) == 0
        spent += cost
        assert spent <= 5 + clock.now * 5 / 10 + 1e-6


def test_what_is_owed_is_paid_off_first() -> None:
    clock = Clock()
    limit = RateLimit(10, 10, clock=clock)
    limit.owe("a", 30)
    assert limit.take("a") == 21
    clock.now += 21
    assert limit.take("a") == 0


def test_memory_is_bounded_and_whoever_came_last_is_kept() -> None:
    limit = RateLimit(1, 60, max_keys=100)
    for i in range(1000):
        limit.take(f"visitor {i}")
    assert len(limit) == 100
    assert limit.take("visitor 999") > 0 and limit.take("visitor 0") == 0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    clock = Clock()
    limit = RateLimit(1, 60, clock=clock)
    limit.take("a")
    clock.now -= 1000
    assert limit.take("a") > 0


def test_waiting_in_words() -> None:
    assert [whole_seconds(s) for s in (0.1, 1, 1.5, 60, 61, 3600)] == [
        "1 second",
        "1 second",
        "2 seconds",
        "60 seconds",
        "2 minutes",
        "60 minutes",
    ]
