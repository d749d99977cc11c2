"""Attacks the grader: looks for answers that are right for two golds whose values differ.

    python -m training.grading.attack --seconds 120 --seed 7

Golds are made from values (numbers, ratios, times, dates, ranges, labelled values, sets, vectors, formulas, choices,
words), so that it is known without the grader which golds are the same. Answers are those golds, degenerate texts, and
both mutated.
Every answer that is right for two golds of different value is printed, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from inference.common.logs import replace_odd_characters
from training.grading.grader import grade_many

DEGENERATE = (
    r"¦0¦0:0¦0:00¦0 to 0¦x-x:0¦0/0¦1/0¦0=0¦x=x¦(0:0, 0:0)¦x > 0:0¦0:0:0¦0-0¦0 × 0¦oo¦nan¦∞¦-∞¦\infty¦"
    r"undefined¦{}¦()¦[]¦\emptyset¦x¦y¦all¦any¦none¦yes¦A, B, C, D¦ABCD¦A. 1 B. 2 C. 3 D. 4¦A or B¦cm¦%¦$¦°¦"
    r"the answer¦answer¦unknown¦?¦...¦x-x¦1-1¦0 cm¦0%¦\frac{0}{0}¦0^0¦x:x¦0.0:0.0¦\sqrt{0}:0¦(0,0)¦0, 0¦"
    r"0:0, 0:0¦0:0 = 0:0"
).split("¦")
"""Texts that no gold is, or that a careless reading would find equal to everything."""
_WRAPPERS = (
    r"{}¦${}$¦\boxed{{{}}}¦**{}**¦The answer is {}.¦Final Answer: {}¦{} is the answer¦({})¦\text{{{}}}¦{}.¦"
    r"x = {}¦It is {}¦`{}`¦Answer: {}¦So {}¦{} (since it fits)¦{}, because it fits¦\({}\)"
).split("¦")
_JOINERS = [" or ", ", ", " and ", " = ", ":", " - ", " ", "; ", "/", " to ", "\n", " not ", ". ", "^", "_", " (", "*"]
_UNITS = {"cm": ("m", Fraction(1, 100)), "m": ("m", Fraction(1)), "kg": ("g", Fraction(1000)), "N": ("N", Fraction(1))}
_WORDS = "blue red isosceles square cat dog north parabola hexagon increasing obtuse triangle rhombus steel bus".split()
_LABELS = ["mean", "median", "mode", "length", "width", "height", "max", "min"]
_MONTHS = "January February March April May June July August September October November December".split()


@dataclass(frozen=True)
class Gold:
    """A gold answer that was made from a value."""

    text: str
    value: Hashable
    """Equal for two golds that are the same answer, and only then."""
    has_sign: bool = False
    """It has a unit, a currency, a percent sign, am or pm, which an answer may leave out."""


@dataclass(frozen=True)
class Finding:
    """An answer that is right for two golds whose values differ."""

    answer: str
    golds: tuple[str, str]


def make_gold(rng: random.Random) -> Gold:
    """A gold of a random kind."""
    return rng.choice(_KINDS)(rng)


def _number(rng: random.Random) -> Gold:
    value = rng.choice(
        [
            Fraction(rng.randint(-60, 400)),
            Fraction(rng.randint(1, 99), 10),
            Fraction(rng.randint(1, 9), rng.randint(2, 9)),
        ]
    )
    is_decimal = 10 % value.denominator == 0 and value.denominator > 1 and rng.random() < 0.7
    text = f"{float(value):.1f}" if is_decimal else str(value)
    if value.denominator > 1 and not is_decimal and rng.random() < 0.5:
        text = f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    return Gold(text, ("number", value))


def _quantity(rng: random.Random) -> Gold:
    number, unit = rng.randint(1, 300), rng.choice(list(_UNITS))
    dimension, factor = _UNITS[unit]
    return Gold(f"{number} {unit}", ("quantity", dimension, number * factor), True)


def _percent(rng: random.Random) -> Gold:
    number = rng.randint(1, 300)
    return Gold(f"{number}%", ("percent", number), True)


def _money(rng: random.Random) -> Gold:
    number, sign = rng.randint(1, 300), rng.choice("$€£")
    return Gold(f"{sign}{number}", ("money", sign, number), True)


def _ratio(rng: random.Random) -> Gold:
    one, other = rng.randint(1, 40), rng.randint(1, 9)
    return Gold(f"{one}:{other}", ("number", Fraction(one, other)))  # a ratio of two terms is a quotient


def _time(rng: random.Random) -> Gold:
    hours, minutes, half = rng.randint(1, 12), rng.randint(0, 59), rng.choice(["", "", " AM", " PM"])
    if not half:
        return Gold(f"{hours}:{minutes:02d}", ("time", hours * 60 + minutes))
    return Gold(
        f"{hours}:{minutes:02d}{half}", ("time of day", hours % 12 * 60 + minutes + 720 * (half == " PM")), True
    )


def _date(rng: random.Random) -> Gold:
    year, month, day = rng.randint(1990, 2026), rng.randint(1, 12), rng.randint(1, 28)
    name = _MONTHS[month - 1]
    forms = [f"{name} {day}, {year}", f"{day} {name} {year}", f"{year}-{month:02d}-{day:02d}"]
    return Gold(rng.choice(forms), ("date", year, month, day))


def _range(rng: random.Random) -> Gold:
    low = rng.randint(0, 60)
    high = low + rng.randint(1, 60)
    return Gold(f"{low}-{high}", ("range", low, high))


def _labelled(rng: random.Random) -> Gold:
    labels, values = rng.sample(_LABELS, 2), [rng.randint(1, 30) for _ in range(2)]
    form = rng.choice(["{}: {}, {}: {}", "{} = {}, {} = {}"])
    return Gold(form.format(labels[0], values[0], labels[1], values[1]), ("labelled", frozenset(zip(labels, values))))


def _parts(rng: random.Random) -> Gold:
    values = [rng.randint(1, 30) for _ in range(2)]
    return Gold("(a) {}, (b) {}".format(*values), ("parts", *values))


def _set(rng: random.Random) -> Gold:
    values = rng.sample(range(1, 30), rng.randint(2, 3))
    text = ", ".join(map(str, values))
    return Gold(rng.choice([text, f"\\{{{text}\\}}"]), ("set", frozenset(values)))


def _vector(rng: random.Random) -> Gold:
    values = [rng.randint(-9, 9) for _ in range(rng.randint(2, 3))]
    return Gold(f"({', '.join(map(str, values))})", ("vector", *values))


def _surd(rng: random.Random) -> Gold:
    factor, root = rng.randint(2, 9), rng.choice([2, 3, 5, 7])
    return Gold(f"{factor}\\sqrt{{{root}}}", ("surd", factor, root))


def _multiple_of_pi(rng: random.Random) -> Gold:
    factor = rng.randint(2, 60)
    return Gold(f"{factor}\\pi", ("pi", factor))


def _line(rng: random.Random) -> Gold:
    slope, start = rng.randint(2, 9), rng.randint(1, 9)
    return Gold(f"{slope}x+{start}", ("line", slope, start))


def _choice(rng: random.Random) -> Gold:
    letter = rng.choice("ABCDE")
    return Gold(letter, ("choice", letter))


def _word(rng: random.Random) -> Gold:
    word = rng.choice(_WORDS)
    return Gold(word, ("word", word))


def _inequality(rng: random.Random) -> Gold:
    bound, sign = rng.randint(-9, 9), rng.choice([">", "<", "\\ge", "\\le"])
    return Gold(f"x {sign} {bound}", ("inequality", sign, bound))


def _tiny(rng: random.Random) -> Gold:
    power = rng.randint(20, 70)
    return Gold(f"\\frac{{1}}{{2^{{{power}}}}}", ("number", Fraction(1, 2**power)))


_KINDS = [
    _number,
    _number,
    _quantity,
    _percent,
    _money,
    _ratio,
    _time,
    _date,
    _range,
    _labelled,
    _parts,
    _set,
    _vector,
    _surd,
]
_KINDS += [_multiple_of_pi, _line, _choice, _word, _inequality, _tiny]


def make_answers(golds: Sequence[Gold], rng: random.Random, count: int) -> list[str]:
    """`count` answers: degenerate texts, golds in every dress, golds joined, and mutations of all of these."""
    answers = list(DEGENERATE)
    while len(answers) < count:
        text = rng.choice(golds).text if rng.random() < 0.8 else rng.choice(DEGENERATE)
        for _ in range(rng.randint(0, 2)):
            text = _mutate(text, golds, rng)
        answers.append(text[:200])
    return answers[:count]


def _mutate(text: str, golds: Sequence[Gold], rng: random.Random) -> str:
    move = rng.randrange(5)
    if move == 0:
        return rng.choice(_WRAPPERS).format(text)
    if move == 1:
        return text + rng.choice(_JOINERS) + rng.choice(golds).text
    if move == 2 and text:
        at = rng.randrange(len(text))
        return text[:at] + text[at + 1 :]
    if move == 3:
        at = rng.randint(0, len(text))
        return text[:at] + rng.choice("0123456789:./-+*^_%$()[]{}xABC ,;=<>") + text[at:]
    return rng.choice(
        [
            "not {}",
            "{} or so",
            "about {}",
            "{} billion",
            "{} dozen",
            "-{}",
            "{}!",
            "{}?",
            "{} cm",
            "{}%",
            "0:{}",
            "{}:0",
            "{}^0",
        ]
    ).format(text)


def search(golds: Sequence[Gold], answers: Sequence[str]) -> Iterator[Finding]:
    """Answers that are right for two golds whose values differ."""
    for answer in dict.fromkeys(answers):
        verdicts = grade_many([(gold.text, answer) for gold in golds], "direct")
        right = [gold for gold, verdict in zip(golds, verdicts) if verdict.correct]
        has_sign = bool(re.search(r"[a-zA-Z%$€£°]", _without_wrappers(answer)))
        for group in ([g for g in right if not g.has_sign], [g for g in right if g.has_sign] if has_sign else []):
            values = {gold.value: gold.text for gold in group}
            if len(values) > 1 and not _is_allowed(answer, list(values)):
                first, second = list(values.values())[:2]
                yield Finding(answer, (first, second))


def _without_wrappers(answer: str) -> str:
    """An answer without the words of `_WRAPPERS`, LaTeX's commands and names: a sign is what is left of letters.

    A name divided by itself is the number 1, and no sign.
    """
    words = {word for wrapper in _WRAPPERS for word in re.findall(r"[A-Za-z]+", wrapper)}
    bare = re.sub(r"\\[a-z]+|[xA-E]\b|\b([a-z]+) ?/ ?\1\b", "", answer)
    bare = re.sub(r"\$(.*)\$", r"\1", bare)
    return re.sub(r"[A-Za-z]+", lambda match: "" if match[0] in words else match[0], bare)


def _is_allowed(answer: str, values: Sequence[Hashable]) -> bool:
    """The overlaps of `docs/grading.md`: a percentage as share and as number, `2 to 3`, a letter with its text."""
    kinds = {value[0] for value in values if isinstance(value, tuple)}
    if "%" in answer or "percent" in answer:
        return kinds == {"number"}
    return (" to " in answer and kinds <= {"range", "number"}) or ("choice" in kinds and len(kinds) > 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Search until the time is up; returns 1 if an answer was found that is right for two different golds."""
    parser = argparse.ArgumentParser("python -m training.grading.attack", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="time to search (120)")
    parser.add_argument("--seed", type=int, default=None, help="seed of golds and answers; a fresh one if not given")
    parser.add_argument("--golds", type=int, default=300, help="golds of one round (300)")
    args = parser.parse_args(argv)
    replace_odd_characters()
    seed = random.randrange(2**32) if args.seed is None else args.seed
    rng, end, num_answers, findings = random.Random(seed), time.monotonic() + args.seconds, 0, 0
    print(f"seed {seed}", flush=True)
    while time.monotonic() < end:
        golds = [make_gold(rng) for _ in range(args.golds)]
        for answer in make_answers(golds, rng, 200):
            if time.monotonic() >= end:
                break
            num_answers += 1
            for finding in search(golds, [answer]):
                findings += 1
                print(f"{finding.answer!r} is right for {finding.golds[0]!r} and {finding.golds[1]!r}", flush=True)
    print(f"{num_answers:,} answers to {args.golds} golds each: {findings} right for two different golds")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
