"""Eight visitors at once, through the line as the page asks it, beside transformers' generate for one of them; and a
polite visitor beside greedy ones."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from inference.engine.engine import Engine, Request
from inference.server.queue import RequestQueue
from inference.server.visitors import Visitor
from tests.benchmarks.peer import Peer
from tests.benchmarks.table import Measurement, median_ratio
from tests.support.samples import problems

VISITORS = 8
LENGTH = 64
"""Tokens of every completion, forced."""
ROUNDS = 5


def measure(engine: Engine, peer: Peer) -> Iterator[Measurement]:
    """Every picture is new to both sides, so that reading it counts."""
    line = RequestQueue(lambda: engine)
    line.wait_loaded()
    fresh, waits = _fresh_rows(), []
    for adapter, title in ((None, "base"), ("tuned", "adapter")):
        together, alone = [], []
        for number in range(ROUNDS + 1):
            rows = [replace(next(fresh), adapter=adapter) for _ in range(VISITORS)]
            seconds, first = _visit(line, rows)
            started = time.perf_counter()
            peer.generate(replace(next(fresh), adapter=adapter))
            if number:  # the first round is not measured
                together.append(VISITORS * LENGTH / seconds)
                alone.append(LENGTH / (time.perf_counter() - started))
                waits.append(first)
        times = median_ratio(together, alone)
        yield Measurement(
            f"{VISITORS} visitors at once, {title}",
            f"{statistics.median(together):.0f} tokens/s",
            "4.5 times generate for one",
            f"transformers' generate, one of them, {statistics.median(alone):.0f}: {times:.2f} times as fast",
        )
    note = f"of {VISITORS} who ask at once, each with a new picture"
    yield Measurement("first token, the last of them", f"{statistics.median(waits):.2f} s", "", note)
    yield _tower_passes(engine, line, next(fresh))
    yield _beside_greedy(engine)
    yield _longest_stop(engine)


def _fresh_rows() -> Iterator[Request]:
    for problem in problems(2 * (ROUNDS + 1) * (VISITORS + 1) + 1, seed=17):
        image = problem.image.convert("RGB")
        yield Request(image, problem.problem, adapter="tuned", max_new_tokens=LENGTH, min_new_tokens=LENGTH)


def _visit(line: RequestQueue, rows: list[Request]) -> tuple[float, float]:
    """Seconds until all are answered, and until the last one has a first token."""
    started = time.perf_counter()
    jobs = [line.submit([row]) for row in rows]
    for job in jobs:
        job.wait()
        if job.error is not None:
            raise job.error
    seconds = time.perf_counter() - started
    completions = [completion for job in jobs if (completion := job.progress()[0].completion) is not None]
    if [completion.num_tokens for completion in completions] != [LENGTH] * len(rows):
        raise RuntimeError("the visitors did not get completions of equal length")
    return seconds, max(completion.first_token_seconds for completion in completions)


def _beside_greedy(engine: Engine) -> Measurement:
    """Seconds of a question beside 4 addresses x 8 tabs with long questions and 1,024 tokens, and alone."""
    line = RequestQueue(lambda: engine)
    line.wait_loaded()
    fresh = _fresh_rows()

    def polite() -> float:
        started = time.perf_counter()
        submission = line.submit([next(fresh)], Visitor("polite"))
        submission.wait()
        if submission.error is not None:
            raise submission.error
        return time.perf_counter() - started

    polite()
    alone = [polite() for _ in range(2 * ROUNDS)]
    greedy = [line.submit([row], Visitor(str(i % 4))) for i, row in enumerate(_long_rows(32))]
    beside = [polite() for _ in range(ROUNDS)]
    if any(submission.wait(0) for submission in greedy[:16]):
        raise RuntimeError("the greedy visitors' completions ended too early")
    for submission in greedy:
        submission.stop()
    for submission in greedy:
        submission.wait()
    times = statistics.median(beside) / statistics.median(alone)
    note = f"{statistics.median(beside):.2f} s beside 4 addresses x 8 tabs of 1,024 tokens, {LENGTH} tokens; at most "
    note += f"{max(beside):.2f} s; alone {statistics.median(alone):.2f} s"
    return Measurement("a polite visitor beside greedy ones", f"{times:.2f} of alone", "at most 2", note)


def _longest_stop(engine: Engine) -> Measurement:
    """The longest time in which a stream gets no token while 4 visitors ask long questions at once."""
    line = RequestQueue(lambda: engine)
    line.wait_loaded()
    stream = line.submit([replace(next(_fresh_rows()), max_new_tokens=1024, min_new_tokens=1024)], Visitor("reader"))
    while stream.progress()[0].num_tokens < 8:
        stream.wait(0.01)
    others = [line.submit([row], Visitor(str(i))) for i, row in enumerate(_long_rows(4))]
    longest, last, seen = 0.0, time.perf_counter(), stream.progress()[0].num_tokens
    while not stream.wait(0.001) and not all(other.progress()[0].num_tokens for other in others):
        if stream.progress()[0].num_tokens > seen:
            now = time.perf_counter()
            longest, last, seen = max(longest, now - last), now, stream.progress()[0].num_tokens
    for submission in (stream, *others):
        submission.stop()
        submission.wait()
        if submission.error is not None:
            raise submission.error
    note = "while 4 visitors ask questions of 4,000 characters"
    return Measurement("longest stop of a stream", f"{longest:.2f} s", "at most 0.5 s", note)


def _long_rows(count: int) -> list[Request]:
    """Questions as long as the page takes them, with completions of 1,024 tokens."""
    filler = "Count them one by one, and say which. " * 120
    long: dict[str, Any] = {"max_new_tokens": 1024, "min_new_tokens": 1024}
    return [
        Request(p.image.convert("RGB"), f"{i} {p.problem} {filler}"[:4000], **long)
        for i, p in enumerate(problems(count, seed=19))
    ]


def _tower_passes(engine: Engine, line: RequestQueue, row: Request) -> Measurement:
    """One picture: two questions, both sides of Compare, and a group of eight."""
    before = engine.encoder.num_encodings, engine.encoder.num_preparations
    short: dict[str, Any] = {"max_new_tokens": 4, "min_new_tokens": 4}
    asked = [replace(row, question=question, **short) for question in ("How many?", "What is on the left?")]
    jobs = [line.submit([asked[0]]), line.submit([asked[1]]), line.submit([asked[0], replace(asked[0], adapter=None)])]
    for job in jobs:
        job.wait()
    engine.generate([replace(asked[0], temperature=1.0, seed=seed) for seed in range(8)])
    passes, preparations = engine.encoder.num_encodings - before[0], engine.encoder.num_preparations - before[1]
    return Measurement(
        "tower passes of a picture",
        str(passes),
        "1",
        f"2 questions, both sides of Compare, a group of 8: 12 rows; {preparations} preprocessing",
    )
