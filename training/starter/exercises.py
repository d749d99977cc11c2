"""Exercises without a picture for the starter: arithmetic, and finding a value among lettered options."""

from __future__ import annotations

import random

from training.starter.templates import choose, lettered


def drill(rng: random.Random) -> tuple[str, str]:
    """A question without a picture, of numbers like those of the problems, and its completion in tags."""
    kind = rng.choice(("sum", "difference", "product", "half", "choose", "choose"))
    question, reasoning, answer = _exercise(kind, rng)
    if kind == "choose" or rng.random() < 0.5:
        options = [answer]
        while len(options) < 4:
            other = _exercise(kind, rng)[2]
            if other not in options:
                options.append(other)
        rng.shuffle(options)
        question = lettered(question, options)
        answer, found = choose(options, answer)
        reasoning = f"{reasoning} {found}"
    return question, f"<think>{reasoning}</think>\n<answer>{answer}</answer>"


def _exercise(kind: str, rng: random.Random) -> tuple[str, str, str]:
    """Question, reasoning and answer."""
    if kind == "choose":
        whole, part = rng.randint(0, 60), rng.randint(1, 9)
        answer = rng.choice((str(whole % 12), str(whole), str(whole), f"{whole}.5", f"{part}/{rng.randint(3, 8)}"))
        return f"Which choice is {answer}?", f"The value is {answer}.", answer
    if kind == "half":
        whole = rng.randint(2, 132)
        term, value = f"{whole} / 2", f"{whole / 2:g}"
    elif kind == "product":
        a, b = rng.choice((2, rng.randint(2, 12))), rng.randint(2, 12)
        b = rng.randint(4, 24) if a == 2 else b
        term, value = f"{a} × {b}", str(a * b)
    elif kind == "difference":
        tens = rng.random() < 0.3
        a = 180 if tens else rng.randint(1, 24)
        b = 5 * rng.randint(8, 32) if tens else rng.randint(0, min(a, 12))
        term, value = f"{a} - {b}", str(a - b)
    else:
        scale = rng.choice((1, 1, 5))
        a, b = scale * rng.randint(1, 24), scale * rng.randint(0 if scale == 1 else 4, 12 if scale == 1 else 24)
        term, value = f"{a} + {b}", str(a + b)
    return f"What is {term}?", f"{term} = {value}.", value
