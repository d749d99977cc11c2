"""Who gets a slot, and what becomes of the others when rows break, are given up or bring too many adapters."""

from __future__ import annotations

import gc
import random
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch

from inference.adapters.memory_cache import MOST_ALIVE
from inference.common.settings import STARTER
from inference.engine import kv_cache as slot_cache
from inference.engine import scheduler as pool
from inference.engine.batch import Slots
from inference.engine.engine import Engine, Row
from inference.engine.generation import Decode
from inference.model.lora_layers import MAX_TOGETHER, Factors, fit_together
from tests.support.samples import perturbed_adapter, problems


@pytest.fixture(scope="module", params=[False, True], ids=["at once", "ahead"])
def small(request: pytest.FixtureRequest) -> Engine:
    """Three slots; the next step is begun after the tokens of the last were read, or before."""
    return looking(Engine.load(STARTER, num_slots=3), request.param)


def looking(engine: Engine, ahead: bool) -> Engine:
    engine._pool.looks_ahead = ahead
    return engine


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [Row(p.image.convert("RGB"), p.problem, max_new_tokens=6, min_new_tokens=6) for p in problems(5, seed=9)]


def num_running(engine: Engine) -> int:
    return len(engine._pool._running)


def test_the_first_come_take_the_slots_and_the_next_whichever_is_free(small: Engine, rows: list[Row]) -> None:
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


def test_more_rows_than_slots_are_one_decode_all_the_same(small: Engine, rows: list[Row]) -> None:
    many = [replace(row, max_new_tokens=n, min_new_tokens=n) for n, row in enumerate([*rows, *rows], start=1)]
    assert [c.num_tokens for c in small.generate(many)] == list(range(1, 11))


def test_what_breaks_a_prefill_breaks_its_own_rows_alone(
    small: Engine, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = small.generate([rows[0]])[0].token_ids
    running = small.stream([rows[0]])
    next(running)
    join = Slots.join

    def no_memory(self: Slots, prompts: Any) -> list[int]:
        raise torch.OutOfMemoryError("no memory for so many")

    monkeypatch.setattr(Slots, "join", no_memory)
    broken = small.stream(rows[1:3])
    with pytest.raises(torch.OutOfMemoryError):
        next(broken)
    monkeypatch.setattr(Slots, "join", join)
    for _ in running:
        pass
    assert running.completions[0].token_ids == alone


def test_what_cannot_be_read_breaks_nobody_who_comes_with_it(small: Engine, rows: list[Row]) -> None:
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
        assert not num_running(small) and not small._pool._tickets and not small._pool._flights
    known = replace(rows[1], encoding=small.encode([rows[1].image])[0])
    assert small.token_ids([rows[0], known]) == [list(ids) for ids in alone]


def test_an_adapter_of_another_model_leaves_no_trace(small: Engine, rows: list[Row]) -> None:
    """Some of its layers are found, and one is not."""
    alone = small.generate([rows[0]])[0].token_ids
    foreign = small.read_adapter(STARTER / "adapter")
    foreign = {name: replace(f, b=f.b + 1) for name, f in foreign.items()} | {"nowhere": next(iter(foreign.values()))}
    decodes = [small.stream([row]) for row in (replace(rows[1], adapter="it", held=lambda: foreign), rows[0])]
    with pytest.raises(KeyError, match="nowhere"):
        list(decodes[0])
    assert finished(decodes[1]) == [alone] and small.generate([rows[0]])[0].token_ids == alone


def test_what_breaks_a_step_breaks_who_is_in_it_and_the_next_are_served(
    small: Engine, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = small.generate([rows[0]])[0].token_ids
    decodes = [small.stream([row]) for row in rows[:2]]
    for decode in decodes:
        next(decode)
    with monkeypatch.context() as patch:
        patch.setattr(Slots, "step", lambda self: 1 / 0)
        small.step()
    for decode in decodes:
        with pytest.raises(ZeroDivisionError):
            list(decode)
    assert num_running(small) == 0 and small.generate([rows[0]])[0].token_ids == alone


def test_a_decode_that_nobody_holds_frees_its_slots_at_once(small: Engine, rows: list[Row]) -> None:
    decode = small.stream(rows)  # three run, two wait
    next(decode)
    next(decode)
    assert num_running(small) == 3 and len(small._pool._flights) == small._pool.looks_ahead
    del decode
    gc.collect()
    assert num_running(small) == 0 and not small._pool._waiting and not small._pool._tickets
    assert not small._pool._flights


@pytest.fixture(scope="module", params=[False, True], ids=["at once", "ahead"])
def crowded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """With one adapter more than rows of one batch may have: ranks count as if the model were as narrow as can be."""
    engine, root = looking(Engine.load(STARTER), request.param), tmp_path_factory.mktemp("adapters")
    engine._pool._hidden_size = 0
    for i in range(MAX_TOGETHER + 1):
        engine.add_adapter(f"adapter-{i}", perturbed_adapter(root / f"adapter-{i}", seed=i, strength=0.1))
    return engine


def test_rows_of_one_adapter_too_many_wait(crowded: Engine, rows: list[Row]) -> None:
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
    crowded: Engine, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "PATIENCE_STEPS", 2)
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

    assert fit_together([adapter(512)] * MAX_TOGETHER, 64) and MAX_TOGETHER >= MOST_ALIVE
    assert fit_together([adapter(8)] * 16, 256) and not fit_together([adapter(8)] * 17, 256)


def test_memory_that_is_short_amid_a_join_spoils_no_other_row(
    small: Engine, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some layers of the cache have grown by then, and others not."""
    small._pool.release()
    long = replace(rows[0], max_new_tokens=20, min_new_tokens=20)
    alone = [c.token_ids for c in small.generate([long, rows[1]])]
    small._pool.release()
    running = small.stream([long])
    next(running)
    grown, calls = slot_cache._grown, []

    def no_memory(*arguments: Any) -> torch.Tensor:
        calls.append(arguments)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("no memory for so many")
        return grown(*arguments)

    monkeypatch.setattr(slot_cache, "_grown", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        list(small.stream([rows[1]]))
    second = small.stream([rows[1]])
    assert finished(second) == [alone[1]] and finished(running) == [alone[0]] and len(calls) > 4


def finished(decode: Decode) -> list[tuple[int, ...]]:
    for _ in decode:
        pass
    return [completion.token_ids for completion in decode.completions]


def test_what_breaks_a_leave_breaks_who_is_left(
    small: Engine, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = small.generate([rows[0]])[0].token_ids
    short, long = small.stream([replace(rows[1], max_new_tokens=2, min_new_tokens=2)]), small.stream([rows[0]])
    with monkeypatch.context() as patch:
        patch.setattr(Slots, "leave", lambda self, places: 1 / 0)
        assert len(finished(short)[0]) == 2
        with pytest.raises(ZeroDivisionError):
            list(long)
    assert num_running(small) == 0 and small.generate([rows[0]])[0].token_ids == alone


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_adapter_that_makes_nan_spoils_no_other_row(small: Engine, rows: list[Row], temperature: float) -> None:
    """Finite weights, as the check of an adapter asks for, whose products are not; its slot is then another's."""
    good = [replace(row, temperature=temperature, seed=3) for row in rows]
    alone = [small.generate([row])[0].token_ids for row in good]
    layers = small.read_adapter(STARTER / "adapter")
    huge = {name: Factors(torch.full_like(f.a, 3e38), torch.full_like(f.b, 3e38), 1.0) for name, f in layers.items()}
    bad = replace(good[0], adapter="huge", held=lambda: huge, max_new_tokens=2, min_new_tokens=2)
    found = small.generate([good[0], bad, good[1], *good[2:]])
    assert [found[i].token_ids for i in (0, 2, 3, 4, 5)] == alone and found[1].num_tokens == 2


def test_threads_that_stop_and_drop_what_they_ask_get_and_leave_what_they_should(
    small: Engine, rows: list[Row]
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
    assert not wrong and num_running(small) == 0 and not small._pool._waiting and not small._pool._tickets
    assert not small._pool._flights
