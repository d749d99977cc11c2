"""A pool that looks ahead, on a CPU: the same tokens, no step more than must be, and nobody else's trouble."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.common.settings import STARTER
from inference.engine.batch import Slots
from inference.engine.engine import Engine, Row
from inference.engine.generation import Decode
from inference.model.device import Arrival
from inference.prompt.format import DIRECT_PROMPT
from tests.support.samples import problems
from tests.support.waits import no_waits

LENGTHS = (40, 1, 2, 40, 7, 40)


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Three slots, and an adapter."""
    made = Engine.load(STARTER, num_slots=3)
    made.add_adapter("tuned", STARTER / "adapter")
    made._pool.looks_ahead = True
    return made


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Six: with and without the adapter, greedy and sampled; some come to their end by themselves, some to a limit."""
    return [
        Row(
            p.image.convert("RGB"),
            p.problem,
            None if i % 2 else DIRECT_PROMPT,
            adapter="tuned" if i % 3 else None,
            max_new_tokens=length,
            temperature=0.8 * (i % 2),
            seed=i,
        )
        for i, (p, length) in enumerate(zip(problems(6, seed=3), LENGTHS))
    ]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was done in turn: "step" for one that was begun, "read" for its tokens."""
    turns: list[str] = []
    for owner, name, turn in ((Slots, "step", "step"), (Arrival, "read", "read")):
        monkeypatch.setattr(owner, name, noted(getattr(owner, name), turns, turn))
    yield turns


def noted(method: Any, turns: list[str], turn: str) -> Any:
    def called(self: Any) -> Any:
        turns.append(turn)
        return method(self)

    return called


VISIT = st.tuples(
    st.integers(0, 20), st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 60), st.booleans()
)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(VISIT, min_size=1, max_size=5))
def test_who_comes_and_goes_gets_the_same_tokens_ahead_or_not(
    engine: Engine, rows: list[Row], visits: list[tuple[int, list[int], int, bool]]
) -> None:
    """Each visit comes at a step with some rows, and stops or is given up some steps later if they have not ended."""
    engine._pool.looks_ahead = False
    plain = visited(engine, rows, visits)
    engine._pool.looks_ahead = True
    ahead = visited(engine, rows, visits)
    for one, other in zip(plain, ahead, strict=True):
        for (tokens, is_whole), (found, is_found_whole) in zip(one, other):
            if is_whole and is_found_whole:
                assert found == tokens
            assert all(a == b for a, b in zip(tokens, found)), "one may have been stopped earlier"
    pool = engine._pool
    assert not pool._running and not pool._tickets and not pool._waiting and not pool._flights


def visited(
    engine: Engine, rows: list[Row], visits: list[tuple[int, list[int], int, bool]]
) -> list[list[tuple[tuple[int, ...], bool]]]:
    """Tokens of each visit's rows, and whether they are all that come; nothing for who was given up."""
    under_way: list[tuple[Decode | None, threading.Event, int, bool]] = []
    step = 0
    while step <= 20 or not all(decode is None or decode.is_over for decode, *_ in under_way):
        for begins, numbers, lasts, gives_up in visits:
            if begins == step:
                stop = threading.Event()
                decode = engine.stream([rows[number] for number in numbers], stop)
                under_way.append((decode, stop, step + lasts, gives_up))
                del decode
        for i, (visit, stop, until, gives_up) in enumerate(under_way):
            if visit is not None:
                visit.read()
            if step == until and gives_up:
                under_way[i] = None, stop, until, gives_up
            elif step == until:
                stop.set()
            visit = None
        engine.step()
        step += 1
    return [
        [(c.token_ids, not c.stopped) for c in decode.completions] if decode is not None else []
        for decode, *_ in under_way
    ]


def test_the_next_step_is_begun_before_the_tokens_of_the_last_are_read(
    engine: Engine, rows: list[Row], begun: list[str]
) -> None:
    """And none for nobody: a limit is known beforehand."""
    asked = [replace(row, max_new_tokens=n, min_new_tokens=n) for row, n in zip(rows, (1, 3, 5))]
    assert [c.num_tokens for c in engine.generate(asked)] == [1, 3, 5]
    assert begun == ["step", "step", "read", "step", "read", "step", "read", "read"]
    del begun[:]
    assert [c.num_tokens for c in engine.generate(asked[:1] * 5)] == [1] * 5 and not begun


def test_an_end_token_is_found_out_one_step_late(engine: Engine, rows: list[Row], begun: list[str]) -> None:
    [alone] = engine.generate([rows[0]])
    assert 1 < alone.num_tokens < 40 and alone.token_ids[-1] in engine.tokens.vocabulary.ends
    assert begun.count("step") == alone.num_tokens, "the first token is the prompt's; one more is nobody's"
    assert begun.count("read") == alone.num_tokens - 1, "and it is not waited for"


def test_what_breaks_a_step_breaks_nobody_whose_end_was_made_before_it(
    engine: Engine, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a row that came to its limit nor one that came to an end token, read or not by then."""
    [ended] = engine.generate([rows[0]])
    limited = replace(rows[1], max_new_tokens=ended.num_tokens, min_new_tokens=ended.num_tokens)
    longer = replace(rows[2], max_new_tokens=40, min_new_tokens=40)
    [whole] = engine.generate([limited])
    decodes, step, num_steps = [engine.stream([row]) for row in (rows[0], limited, longer)], Slots.step, 0

    def breaks(self: Slots) -> torch.Tensor:
        nonlocal num_steps
        num_steps += 1
        return 1 / 0 if num_steps == ended.num_tokens else step(self)

    monkeypatch.setattr(Slots, "step", breaks)
    for decode, expected in zip(decodes, (ended, whole)):
        assert sum(1 for _ in decode) and decode.completions[0].token_ids == expected.token_ids
    with pytest.raises(ZeroDivisionError):
        list(decodes[2])
    assert num_steps == ended.num_tokens and engine.generate([limited])[0].token_ids == whole.token_ids


def test_tokens_that_do_not_arrive_break_who_waits_for_them(
    engine: Engine, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = engine.generate([rows[0]])[0].token_ids
    decodes = [engine.stream([rows[0]]), engine.stream([replace(rows[1], max_new_tokens=2, min_new_tokens=2)])]
    with monkeypatch.context() as patch:
        patch.setattr(Arrival, "read", lambda self: 1 / 0)
        for decode in decodes:
            with pytest.raises(ZeroDivisionError):
                list(decode)
    pool = engine._pool
    assert not pool._running and not pool._flights and engine.generate([rows[0]])[0].token_ids == alone


def test_a_row_at_its_limit_gets_its_last_token_though_all_others_stop(engine: Engine, rows: list[Row]) -> None:
    short, long = replace(rows[1], max_new_tokens=3, min_new_tokens=3), replace(rows[0], min_new_tokens=40)
    alone, stop = engine.generate([short])[0].token_ids, threading.Event()
    first, second = engine.stream([short]), engine.stream([long], stop)
    for _ in range(3):
        engine.step()
    assert len(engine._pool._running) == 1, "it has left, and its last token is on its way"
    stop.set()
    engine.step()
    assert first.has_ended() and second.has_ended() and not engine._pool._flights
    first.skip()
    assert first.completions[0].token_ids == alone and not first.completions[0].stopped


def test_what_would_wait_is_seen() -> None:
    numbers = torch.arange(3)
    waits: list[Callable[[], Any]] = [
        lambda: numbers.tolist(),
        lambda: numbers.sum().item(),
        lambda: bool(numbers.any()),
        lambda: numbers[numbers > 1],
        lambda: torch.tensor([1]),
    ]
    for wait in waits:
        with pytest.raises(AssertionError, match="the host waits"), no_waits():
            wait()
