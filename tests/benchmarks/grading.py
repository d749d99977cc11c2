"""The grader: completions a second on a mix as in the dataset, where each needs mathematics, and with nasty answers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from tests.benchmarks.table import Measurement
from training.grading.grader import grade_many
from training.grading.math_pool import num_workers

NASTY = ["9^{9^{9^9}}", "9^{9^9}", "(9!)!", "10000000!", "\\binom{10^9}{5\\cdot 10^8}", "x^{" * 200 + "2" + "}" * 200]
GROUP = 8
"""Completions of one prompt, and so of one gold."""


def measure() -> Iterator[Measurement]:
    """All of the grader's lines. Every answer is new to the grader; the workers are up before the clock runs."""
    rng = random.Random(0)
    grade_many(_mathematics(rng, 4 * GROUP))
    mixed = _mix(rng, 2000)
    speed = len(mixed) / _seconds(mixed)
    note = "of 100: 50 letters, 25 integers, 15 decimals and fractions, 5 with units, 5 formulas"
    yield Measurement("grading, the dataset's mix", f"{speed:.0f} completions/s", "at least 300 completions/s", note)
    formulas = _mathematics(rng, 400)
    speed = len(formulas) / _seconds(formulas)
    note = f"{num_workers()} workers; groups of {GROUP} to one gold"
    yield Measurement("grading, each by math-verify", f"{speed:.0f} completions/s", "at least 100 completions/s", note)
    waits = [_seconds([("x + 1", f"<answer>{nasty} + {i}</answer>")]) for i, nasty in enumerate(NASTY)]
    yield Measurement("grading, nastiest answer", f"{max(waits):.1f} s", "at most 3 s", f"of {len(NASTY)}, one by one")


def _seconds(pairs: list[tuple[str, str]]) -> float:
    started = time.perf_counter()
    grade_many(pairs)
    return time.perf_counter() - started


def _mix(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """Solutions and completions, half of them right."""
    pairs = []
    for i in range(count):
        kind, value, is_right = i % 100, rng.randrange(2, 10_000), rng.random() < 0.5
        wrong = 0 if is_right else 1
        if kind < 50:
            letter = rng.choice("ABCD")
            given = "ABCDA"["ABCD".index(letter) + wrong]
            gold, answer = letter, rng.choice(["{}", "{}.", "({})", "{}. 24"]).format(given)
        elif kind < 75:
            gold, answer = str(value), rng.choice(["{}", "${}$", "x = {}"]).format(value + wrong)
        elif kind < 90:
            quarters, hundredths = (f"{value}/4", f"{value / 4 + wrong}"), (f"{value / 100}", f"{value + wrong}/100")
            gold, answer = rng.choice([quarters, hundredths])
        elif kind < 95:
            gold, answer = f"{value} cm", f"The perimeter is {value + wrong} centimetres."
        else:
            gold, answer = f"{value}\\sqrt{{3}}", f"\\sqrt{{{3 * value**2 + wrong}}}"
        pairs.append((f"<answer>{gold}</answer>", f"<think>{value}</think>\n<answer>{answer}</answer>"))
    return pairs


def _mathematics(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """Surds, multiples of π, polynomials and equations, to `count / GROUP` golds."""
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        a, b = rng.randrange(2, 1000), rng.randrange(2, 1000)
        gold, answer = [
            (f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}"),
            (f"\\frac{{{a}\\pi}}{{{b}}}", f"\\pi \\cdot {a} / {b}"),
            (f"(x+{a})(x-{b})", f"x^2 + ({a - b})x - {a * b}"),
            (f"{a}x + {b}y = 1", f"{a}x = 1 - {b}y"),
        ][len(pairs) // GROUP % 4]
        answers = [f"{answer} + {i}" if i else answer for i in range(GROUP)]
        pairs += [(gold, f"<answer>{given}</answer>") for given in answers]
    return pairs
