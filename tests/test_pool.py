"""Who gets a slot, and what becomes of the others when rows break, are given up or bring too many adapters."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.engine import Engine, Row
from inference.lora import MAX_TOGETHER, Factors
from inference.settings import STARTER
from inference.slots import Slots
from tests.samples import perturbed_adapter, problems


@pytest.fixture(scope="module")
def small() -> Engine:
    """Three slots."""
    return Engine.load(STARTER, num_slots=3)


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
    assert num_running(small) == 3
    del decode
    gc.collect()
    assert num_running(small) == 0 and not small._pool._waiting and not small._pool._tickets


def test_rows_of_one_adapter_too_many_wait(rows: list[Row], tmp_path: Path) -> None:
    engine = Engine.load(STARTER)
    names = [f"adapter-{i}" for i in range(MAX_TOGETHER + 1)]
    for i, name in enumerate(names):
        engine.add_adapter(name, perturbed_adapter(tmp_path / name, seed=i, strength=0.1))
    asked = [
        replace(rows[i % 5], adapter=name, max_new_tokens=3 + i, min_new_tokens=3 + i) for i, name in enumerate(names)
    ]
    alone = [engine.generate([row])[0].token_ids for row in asked]
    decode = engine.stream(asked)
    next(decode)
    assert num_running(engine) == MAX_TOGETHER
    for _ in decode:
        pass
    assert [c.token_ids for c in decode.completions] == alone


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
