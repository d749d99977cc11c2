"""Scheduling: free rows, errors, given-up generations, adapters that do not fit together."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.adapters.live import MAX_ALIVE
from inference.common.settings import STARTER
from inference.engine import kv_cache, scheduler
from inference.engine.batch import Batch
from inference.engine.engine import Engine, Request
from inference.engine.generation import Generation
from inference.model.device import HostCopy
from inference.model.lora_layers import MAX_TOGETHER, Factors, fit_together
from inference.prompt.format import DIRECT_PROMPT
from tests.support.samples import perturbed_adapter, problems
from tests.support.waits import no_waits


@pytest.fixture(scope="module", params=[False, True], ids=["at once", "ahead"])
def small(request: pytest.FixtureRequest) -> Engine:
    """Three slots; the next step is begun after the tokens of the last were read, or before."""
    return looking(Engine.load(STARTER, max_num_seqs=3), request.param)


def looking(engine: Engine, ahead: bool) -> Engine:
    engine._scheduler.runs_ahead = ahead
    return engine


@pytest.fixture(scope="module")
def rows() -> list[Request]:
    return [Request(p.image.convert("RGB"), p.problem, max_new_tokens=6, min_new_tokens=6) for p in problems(5, seed=9)]


def num_running(engine: Engine) -> int:
    return len(engine._scheduler._running)


def test_the_first_come_take_the_slots_and_the_next_whichever_is_free(small: Engine, rows: list[Request]) -> None:
    long, short = replace(rows[0], max_new_tokens=9, min_new_tokens=9), replace(rows[1], max_new_tokens=2)
    first, second = small.stream([long, replace(short, min_new_tokens=2), rows[2]]), small.stream(rows[3:])
    small.step()
    assert num_running(small) == 3 and second.read() is None
    small.step()  # the short one ends, and in the same step one of the second decode is read
    assert num_running(small) == 3 and second.read() is not None
    for _ in first:
        pass
    alone = [small.generate([row])[0].token_ids for row in (long, rows[2], rows[3], rows[4])]
    for _ in second:
        pass
    found = [*first.completions, *second.completions]
    assert [found[i].token_ids for i in (0, 2, 3, 4)] == alone


def test_more_rows_than_slots_are_one_decode_all_the_same(small: Engine, rows: list[Request]) -> None:
    many = [replace(row, max_new_tokens=n, min_new_tokens=n) for n, row in enumerate([*rows, *rows], start=1)]
    assert [c.num_tokens for c in small.generate(many)] == list(range(1, 11))


def test_what_breaks_a_prefill_breaks_its_own_rows_alone(
    small: Engine, rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = small.generate([rows[0]])[0].token_ids
    running = small.stream([rows[0]])
    next(running)
    join = Batch.join

    def no_memory(self: Batch, sequences: Any) -> list[int]:
        raise torch.OutOfMemoryError("no memory for so many")

    monkeypatch.setattr(Batch, "join", no_memory)
    broken = small.stream(rows[1:3])
    with pytest.raises(torch.OutOfMemoryError):
        next(broken)
    monkeypatch.setattr(Batch, "join", join)
    for _ in running:
        pass
    assert running.completions[0].token_ids == alone


def test_what_cannot_be_read_breaks_nobody_who_comes_with_it(small: Engine, rows: list[Request]) -> None:
    """A picture as another model's tower made it; the tokens alone are asked for, or text."""
    alone = [small.generate([row])[0].token_ids for row in rows[:2]]
    [picture] = small.encode([rows[2].image])
    foreign = [replace(picture, features=picture.features[:, :-4]), replace(picture, features=picture.features[:-1])]
    broken = [replace(rows[2], encoding=made) for made in foreign]
    decodes = [small.stream([row]) for row in (rows[0], broken[0], rows[1])]
    assert [finished(decode) for decode in decodes[::2]] == [[ids] for ids in alone]
    with pytest.raises(Exception):  # noqa: B017 (whatever the model says to it)
        list(decodes[1])
    for row in broken:
        with pytest.raises(Exception):  # noqa: B017
            small.token_ids([rows[0], row])
        assert not num_running(small) and not small._scheduler._groups and not small._scheduler._pending
    known = replace(rows[1], encoding=small.encode([rows[1].image])[0])
    assert small.token_ids([rows[0], known]) == [list(ids) for ids in alone]


def test_an_adapter_of_another_model_leaves_no_trace(small: Engine, rows: list[Request]) -> None:
    """Some of its layers are found, and one is not."""
    alone = small.generate([rows[0]])[0].token_ids
    foreign = small.read_adapter(STARTER / "adapter")
    foreign = {name: replace(f, b=f.b + 1) for name, f in foreign.items()} | {"nowhere": next(iter(foreign.values()))}
    decodes = [small.stream([row]) for row in (replace(rows[1], adapter="it", get_adapter=lambda: foreign), rows[0])]
    with pytest.raises(KeyError, match="nowhere"):
        list(decodes[0])
    assert finished(decodes[1]) == [alone] and small.generate([rows[0]])[0].token_ids == alone


def test_what_breaks_a_step_breaks_who_is_in_it_and_the_next_are_served(
    small: Engine, rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = small.generate([rows[0]])[0].token_ids
    decodes = [small.stream([row]) for row in rows[:2]]
    for decode in decodes:
        next(decode)
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "step", lambda self: 1 / 0)
        small.step()
    for decode in decodes:
        with pytest.raises(ZeroDivisionError):
            list(decode)
    assert num_running(small) == 0 and small.generate([rows[0]])[0].token_ids == alone


def test_a_decode_that_nobody_holds_frees_its_slots_at_once(small: Engine, rows: list[Request]) -> None:
    decode = small.stream(rows)  # three run, two wait
    next(decode)
    next(decode)
    assert num_running(small) == 3 and len(small._scheduler._pending) == small._scheduler.runs_ahead
    del decode
    gc.collect()
    assert num_running(small) == 0 and not small._scheduler._waiting and not small._scheduler._groups
    assert not small._scheduler._pending


@pytest.fixture(scope="module", params=[False, True], ids=["at once", "ahead"])
def crowded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """With one adapter more than rows of one batch may have: ranks count as if the model were as narrow as can be."""
    engine, root = looking(Engine.load(STARTER), request.param), tmp_path_factory.mktemp("adapters")
    engine._scheduler._hidden_size = 0
    for i in range(MAX_TOGETHER + 1):
        engine.add_adapter(f"adapter-{i}", perturbed_adapter(root / f"adapter-{i}", seed=i, strength=0.1))
    return engine


def test_rows_of_one_adapter_too_many_wait(crowded: Engine, rows: list[Request]) -> None:
    asked = [
        replace(rows[i % 5], adapter=name, max_new_tokens=3 + i, min_new_tokens=3 + i)
        for i, name in enumerate(crowded.adapters)
    ]
    alone = [crowded.generate([row])[0].token_ids for row in asked]
    decode = crowded.stream(asked)
    next(decode)
    assert num_running(crowded) == MAX_TOGETHER
    for _ in decode:
        pass
    assert [c.token_ids for c in decode.completions] == alone


def test_who_waits_for_room_for_an_adapter_is_overtaken_for_a_while(
    crowded: Engine, rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "MAX_OVERTAKEN_STEPS", 2)
    names = crowded.adapters
    running = crowded.stream([replace(rows[0], adapter=name, max_new_tokens=12, min_new_tokens=12) for name in names])
    next(running)  # the last of them waits
    short: dict[str, Any] = {"max_new_tokens": 1, "min_new_tokens": 1}
    for name, passes in ((None, True), (names[0], True), (None, False)):
        decode = crowded.stream([replace(rows[1], adapter=name, **short)])
        crowded.step()
        assert decode.has_ended() is passes
    for _ in running:
        pass
    assert decode.has_ended(), "once the one before it had its turn"
    assert [c.num_tokens for c in running.completions] == [12] * len(names)


def test_ranks_decide_how_many_adapters_run_together() -> None:
    def adapter(rank: int) -> dict[str, Factors]:
        return {"layer": Factors(torch.zeros(8, rank), torch.zeros(rank, 8), 1.0)}

    assert fit_together([adapter(512)] * MAX_TOGETHER, 64) and MAX_TOGETHER >= MAX_ALIVE
    assert fit_together([adapter(8)] * 16, 256) and not fit_together([adapter(8)] * 17, 256)


def test_memory_that_is_short_amid_a_join_spoils_no_other_row(
    small: Engine, rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some layers of the cache have grown by then, and others not."""
    small._scheduler.release()
    long = replace(rows[0], max_new_tokens=20, min_new_tokens=20)
    alone = [c.token_ids for c in small.generate([long, rows[1]])]
    small._scheduler.release()
    running = small.stream([long])
    next(running)
    grown, calls = kv_cache._grown, []

    def no_memory(*arguments: Any) -> torch.Tensor:
        calls.append(arguments)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("no memory for so many")
        return grown(*arguments)

    monkeypatch.setattr(kv_cache, "_grown", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        list(small.stream([rows[1]]))
    second = small.stream([rows[1]])
    assert finished(second) == [alone[1]] and finished(running) == [alone[0]] and len(calls) > 4


def finished(decode: Generation) -> list[tuple[int, ...]]:
    for _ in decode:
        pass
    return [completion.token_ids for completion in decode.completions]


def test_what_breaks_a_leave_breaks_who_is_left(
    small: Engine, rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = small.generate([rows[0]])[0].token_ids
    short, long = small.stream([replace(rows[1], max_new_tokens=2, min_new_tokens=2)]), small.stream([rows[0]])
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "leave", lambda self, places: 1 / 0)
        assert len(finished(short)[0]) == 2
        with pytest.raises(ZeroDivisionError):
            list(long)
    assert num_running(small) == 0 and small.generate([rows[0]])[0].token_ids == alone


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_adapter_that_makes_nan_spoils_no_other_row(small: Engine, rows: list[Request], temperature: float) -> None:
    """Finite weights, as the check of an adapter asks for, whose products are not; its slot is then another's."""
    good = [replace(row, temperature=temperature, seed=3) for row in rows]
    alone = [small.generate([row])[0].token_ids for row in good]
    layers = small.read_adapter(STARTER / "adapter")
    huge = {name: Factors(torch.full_like(f.a, 3e38), torch.full_like(f.b, 3e38), 1.0) for name, f in layers.items()}
    bad = replace(good[0], adapter="huge", get_adapter=lambda: huge, max_new_tokens=2, min_new_tokens=2)
    found = small.generate([good[0], bad, good[1], *good[2:]])
    assert [found[i].token_ids for i in (0, 2, 3, 4, 5)] == alone and found[1].num_tokens == 2


def test_threads_that_stop_and_drop_what_they_ask_get_and_leave_what_they_should(
    small: Engine, rows: list[Request]
) -> None:
    """Each reads some rows and, at random, to the end, until it stops them, or until it lets go of them."""
    asked = [replace(row, max_new_tokens=9 + i, min_new_tokens=9, temperature=i / 4) for i, row in enumerate(rows)]
    alone = [small.generate([row])[0].token_ids for row in asked]
    wrong: list[Any] = []

    def visit(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(6):
            numbers, stop = [rng.randrange(len(asked)) for _ in range(rng.choice((1, 1, 2, 4)))], threading.Event()
            decode, end, until = small.stream([asked[i] for i in numbers], stop), rng.randrange(3), rng.randrange(1, 9)
            for step, _ in enumerate(decode, start=1):
                if end == 1 and step == until:
                    stop.set()
                if end == 2 and step == until:
                    break
            for number, completion in zip(numbers, decode.completions, strict=True):
                whole = alone[number] if end == 0 else alone[number][: completion.num_tokens]
                if completion.token_ids != whole:
                    wrong.append((seed, number, completion.token_ids, whole))

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive()
    gc.collect()
    assert not wrong and num_running(small) == 0 and not small._scheduler._waiting and not small._scheduler._groups
    assert not small._scheduler._pending


LENGTHS = (40, 1, 2, 40, 7, 40)


@pytest.fixture(scope="module")
def ahead() -> Engine:
    """Three slots, and an adapter."""
    made = Engine.load(STARTER, max_num_seqs=3)
    made.add_adapter("tuned", STARTER / "adapter")
    made._scheduler.runs_ahead = True
    return made


@pytest.fixture(scope="module")
def six_rows() -> list[Request]:
    """Six: with and without the adapter, greedy and sampled; some come to their end by themselves, some to a limit."""
    return [
        Request(
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
    for owner, name, turn in ((Batch, "step", "step"), (HostCopy, "read", "read")):
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
    ahead: Engine, six_rows: list[Request], visits: list[tuple[int, list[int], int, bool]]
) -> None:
    """Each visit comes at a step with some rows, and stops or is given up some steps later if they have not ended."""
    ahead._scheduler.runs_ahead = False
    plain = visited(ahead, six_rows, visits)
    ahead._scheduler.runs_ahead = True
    early = visited(ahead, six_rows, visits)
    for one, other in zip(plain, early, strict=True):
        for (tokens, is_whole), (found, is_found_whole) in zip(one, other):
            if is_whole and is_found_whole:
                assert found == tokens
            assert all(a == b for a, b in zip(tokens, found)), "one may have been stopped earlier"
    pool = ahead._scheduler
    assert not pool._running and not pool._groups and not pool._waiting and not pool._pending


def visited(
    ahead: Engine, six_rows: list[Request], visits: list[tuple[int, list[int], int, bool]]
) -> list[list[tuple[tuple[int, ...], bool]]]:
    """Tokens of each visit's rows, and whether they are all that come; nothing for who was given up."""
    under_way: list[tuple[Generation | None, threading.Event, int, bool]] = []
    step = 0
    while step <= 20 or not all(decode is None or decode.is_over for decode, *_ in under_way):
        for begins, numbers, lasts, gives_up in visits:
            if begins == step:
                stop = threading.Event()
                decode = ahead.stream([six_rows[number] for number in numbers], stop)
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
        ahead.step()
        step += 1
    return [
        [(c.token_ids, not c.stopped) for c in decode.completions] if decode is not None else []
        for decode, *_ in under_way
    ]


def test_the_next_step_is_begun_before_the_tokens_of_the_last_are_read(
    ahead: Engine, six_rows: list[Request], begun: list[str]
) -> None:
    """And none for nobody: a limit is known beforehand."""
    asked = [replace(row, max_new_tokens=n, min_new_tokens=n) for row, n in zip(six_rows, (1, 3, 5))]
    assert [c.num_tokens for c in ahead.generate(asked)] == [1, 3, 5]
    assert begun == ["step", "step", "read", "step", "read", "step", "read", "read"]
    del begun[:]
    assert [c.num_tokens for c in ahead.generate(asked[:1] * 5)] == [1] * 5 and not begun


def test_an_end_token_is_found_out_one_step_late(ahead: Engine, six_rows: list[Request], begun: list[str]) -> None:
    [alone] = ahead.generate([six_rows[0]])
    assert 1 < alone.num_tokens < 40 and alone.token_ids[-1] in ahead.tokenizer.vocabulary.ends
    assert begun.count("step") == alone.num_tokens, "the first token is the prompt's; one more is nobody's"
    assert begun.count("read") == alone.num_tokens - 1, "and it is not waited for"


def test_what_breaks_a_step_breaks_nobody_whose_end_was_made_before_it(
    ahead: Engine, six_rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a row that came to its limit nor one that came to an end token, read or not by then."""
    [ended] = ahead.generate([six_rows[0]])
    limited = replace(six_rows[1], max_new_tokens=ended.num_tokens, min_new_tokens=ended.num_tokens)
    longer = replace(six_rows[2], max_new_tokens=40, min_new_tokens=40)
    [whole] = ahead.generate([limited])
    decodes, step, num_steps = [ahead.stream([row]) for row in (six_rows[0], limited, longer)], Batch.step, 0

    def breaks(self: Batch) -> torch.Tensor:
        nonlocal num_steps
        num_steps += 1
        return 1 / 0 if num_steps == ended.num_tokens else step(self)

    monkeypatch.setattr(Batch, "step", breaks)
    for decode, expected in zip(decodes, (ended, whole)):
        assert sum(1 for _ in decode) and decode.completions[0].token_ids == expected.token_ids
    with pytest.raises(ZeroDivisionError):
        list(decodes[2])
    assert num_steps == ended.num_tokens and ahead.generate([limited])[0].token_ids == whole.token_ids


def test_tokens_that_do_not_arrive_break_who_waits_for_them(
    ahead: Engine, six_rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = ahead.generate([six_rows[0]])[0].token_ids
    decodes = [ahead.stream([six_rows[0]]), ahead.stream([replace(six_rows[1], max_new_tokens=2, min_new_tokens=2)])]
    with monkeypatch.context() as patch:
        patch.setattr(HostCopy, "read", lambda self: 1 / 0)
        for decode in decodes:
            with pytest.raises(ZeroDivisionError):
                list(decode)
    pool = ahead._scheduler
    assert not pool._running and not pool._pending and ahead.generate([six_rows[0]])[0].token_ids == alone


def test_a_row_at_its_limit_gets_its_last_token_though_all_others_stop(ahead: Engine, six_rows: list[Request]) -> None:
    short, long = replace(six_rows[1], max_new_tokens=3, min_new_tokens=3), replace(six_rows[0], min_new_tokens=40)
    alone, stop = ahead.generate([short])[0].token_ids, threading.Event()
    first, second = ahead.stream([short]), ahead.stream([long], stop)
    for _ in range(3):
        ahead.step()
    assert len(ahead._scheduler._running) == 1, "it has left, and its last token is on its way"
    stop.set()
    ahead.step()
    assert first.has_ended() and second.has_ended() and not ahead._scheduler._pending
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
