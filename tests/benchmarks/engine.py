"""The engine on the starter: first token, one row, Compare, many rows, visitors; transformers beside it.

Every side reads its pictures anew each time: what one side has kept from before is no part of a comparison.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from inference.common.settings import STARTER
from inference.engine.engine import Engine, Request
from tests.benchmarks import visitors
from tests.benchmarks.peer import Peer
from tests.benchmarks.table import Measurement, median_ratio, seconds_of
from tests.support.samples import problems, random_adapter

NUM_TOKENS = 64
"""Every completion is forced to this length."""


def measure() -> Iterator[Measurement]:
    """All of the engine's lines."""
    with tempfile.TemporaryDirectory() as folder:
        own = STARTER / "adapter"
        adapter = own if own.is_dir() else random_adapter(Path(folder) / "adapter")
        engine = Engine.load(STARTER)
        engine.add_adapter("tuned", adapter)
        yield _first_token(engine)
        peer = Peer(adapter)
        yield from _speed(engine, peer)
        yield _batch(engine, peer)
        yield from visitors.measure(engine, peer)


def _first_token(engine: Engine) -> Measurement:
    """New pictures each time, so that their encoding counts."""
    waits = []
    for problem in problems(8, seed=1):
        row = Request(problem.image.convert("RGB"), problem.problem, adapter="tuned", max_new_tokens=1)
        waits.append(engine.generate([row])[0].first_token_seconds)
    wait = statistics.median(waits[1:])
    return Measurement("first token, new picture", f"{wait:.3f} s", "at most 0.5 s", f"first of all {waits[0]:.3f} s")


def _speed(engine: Engine, peer: Peer) -> Iterator[Measurement]:
    base, tuned = _row(None), _row("tuned")
    names = ("base", "adapter", "both", "transformers' base", "transformers' adapter")
    actions: list[Callable[[], object]] = [
        lambda: _complete(engine, base),
        lambda: _complete(engine, tuned),
        lambda: _complete(engine, base, tuned),
        lambda: peer.generate(base),
        lambda: peer.generate(tuned),
    ]
    seconds = dict(zip(names, seconds_of(*actions, repeats=9)))
    for name in ("base", "adapter"):
        ratio = median_ratio(seconds[f"transformers' {name}"], seconds[name])
        speed = NUM_TOKENS / statistics.median(seconds[name])
        theirs = NUM_TOKENS / statistics.median(seconds[f"transformers' {name}"])
        note = f"picture read anew on both sides; transformers' generate {theirs:.0f}: {ratio:.2f} times as fast"
        yield Measurement(f"one row, {name}", f"{speed:.0f} tokens/s", "at least 150 tokens/s", note)
    both = median_ratio(seconds["both"], seconds["adapter"])
    note = f"{NUM_TOKENS} tokens each, the picture read anew"
    yield Measurement("Compare, both sides", f"{both:.2f} of the adapter side alone", "at most 1.25", note)


def _complete(engine: Engine, *rows: Request) -> None:
    """The rows together, of pictures that are new to the engine, as they are to transformers every time."""
    engine.encoder.forget()
    engine.generate(rows)


def _batch(engine: Engine, peer: Peer) -> Measurement:
    """Rows of an evaluation: other pictures and questions, half of them with the adapter."""
    length: dict[str, Any] = {"max_new_tokens": 60, "min_new_tokens": 60}
    base, tuned = (
        [Request(p.image.convert("RGB"), p.problem, adapter=adapter, **length) for p in problems(32, seed)]
        for adapter, seed in ((None, 2), ("tuned", 3))
    )
    mixed = [row for pair in zip(base, tuned) for row in pair]

    def peers() -> None:
        peer.generate(*base)
        peer.generate(*tuned)

    ours, theirs = seconds_of(lambda: _complete(engine, *mixed), peers, repeats=5)
    speed, beside = (64 * 60 / statistics.median(seconds) for seconds in (ours, theirs))
    note = f"60 tokens each, pictures read anew; transformers' generate, 32 and 32, {beside:.0f}"
    times = median_ratio(theirs, ours)
    return Measurement("64 rows, half adapter", f"{speed:.0f} tokens/s", "", f"{note}: {times:.2f} times as fast")


def _row(adapter: str | None) -> Request:
    problem = problems(1)[0]
    image = problem.image.convert("RGB")
    return Request(image, problem.problem, adapter=adapter, max_new_tokens=NUM_TOKENS, min_new_tokens=NUM_TOKENS)
