"""Process that runs math-verify: `training.grading.math_pool` starts it, asks it, and kills it at a limit.

Each line on standard input is a JSON list `[gold, answer, relation]`; each line on standard output is the reply as a
JSON string. Started by hand, `python -m training.grading.math_worker`, it answers what is typed:

    ["2\\\\sqrt{3}", "\\\\sqrt{12}", "equal"]   ->   "yes"

`training.grading.cleaning` has put exact fractions in place of decimals, which math-verify would round.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import threading
import time
import zlib
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sympy import Expr as Expression

MEMORY_LIMIT_BYTES = 1024**3
"""Address space of the process."""
CPU_LIMIT_SECONDS = 5
"""The kernel ends the process when one comparison has used this much, even if nobody is left to kill it."""

TAKEN = "taken"
"""Written when a question has been read, before its verdict."""
YES, NO = "yes", "no"
NO_GOLD = "the expected answer cannot be read as mathematics"
NO_ANSWER = "the answer cannot be read as mathematics"
VERDICTS = (YES, NO, NO_GOLD, NO_ANSWER)
"""The replies after which the process goes on."""
COOKBOOK = "cookbook"
"""The relation of the cookbook's accuracy reward."""
NO_MEMORY = "comparing took too much memory"
_DIGITS = 40
"""Significant digits of the values that are compared."""
_PRECISION = Fraction(1, 10**30)
"""Values that differ by more, relative to the larger, belong to different formulas; others are left to algebra."""
Value = tuple[Fraction, Fraction]
"""Real and imaginary part, exactly as evaluated."""


def compare(gold: str, answer: str, relation: str) -> str:
    """`YES`, `NO`, or why there is no verdict.

    `relation` is what must hold: `equal`; `multiple` (one is a constant other than 0 times the other, as the two
    sides' differences of one equation are); `positive multiple` (the same for inequalities); `within 2` (`answer` is
    `gold` rounded or cut to two decimal places); `cookbook` (what `is_accurate_for_cookbook` says of a whole solution
    and a whole completion; `NO_ANSWER` where math-verify raises).
    """
    if relation == COOKBOOK:
        return _compare_for_cookbook(gold, answer)
    expected, actual = read(gold), read(answer)
    if expected is None or actual is None:
        return NO_GOLD if expected is None else NO_ANSWER
    if is_undefined(gold) or is_undefined(answer):
        return NO_GOLD if is_undefined(gold) else NO_ANSWER
    if relation.startswith("within "):
        return YES if _is_rounded(gold, answer, int(relation.removeprefix("within "))) else NO
    if _differ(gold, answer, relation):
        return NO
    return YES if _holds(expected, actual, relation) else NO


def is_accurate_for_cookbook(solution: str, completion: str) -> bool:
    """True if math-verify finds its first match in the completion equal to that in the whole solution.

    In the completion it looks for LaTeX in a box, or after an anchor such as the word `answer`; boxes come first, then
    what stands last. If it finds nothing in the solution, both texts must be the same but for case and the blanks
    around them.
    """
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    expected = parse(solution, extraction_mode="first_match", parsing_timeout=None)  # type: ignore[arg-type]
    if not expected:
        return completion.strip().lower() == solution.strip().lower()
    form = NormalizationConfig(nits=False, malformed_operators=False, basic_latex=True, boxed="all", units=True)
    latex = LatexExtractionConfig(normalization_config=form, boxed_match_priority=0, try_extract_without_anchor=False)
    found = parse(completion, [latex], extraction_mode="first_match", parsing_timeout=None)  # type: ignore[arg-type]
    return bool(verify(expected, found, timeout_seconds=None))


def _compare_for_cookbook(solution: str, completion: str) -> str:
    try:
        return YES if is_accurate_for_cookbook(solution, completion) else NO
    except MemoryError:
        raise
    except Exception:  # as for `_holds`
        return NO_ANSWER


def _differ(gold: str, answer: str, relation: str) -> bool:
    """True if numbers put for the variables already show it: most wrong answers need no algebra."""
    expected, actual = values(gold), values(answer)
    if expected is None or actual is None:
        return False
    if relation == "equal":
        return any(_apart(a, b) for a, b in zip(expected, actual))
    return _apart(
        _product(expected[0], actual[1]), _product(expected[1], actual[0])
    )  # the ratios at two points, across


def _apart(one: Value, other: Value) -> bool:
    """True if two numbers differ, at any size: relative to the larger."""
    size = max(abs(part) for part in (*one, *other))
    return any(abs(a - b) > size * _PRECISION for a, b in zip(one, other))


def _product(one: Value, other: Value) -> Value:
    return one[0] * other[0] - one[1] * other[1], one[0] * other[1] + one[1] * other[0]


def _is_rounded(gold: str, answer: str, places: int) -> bool:
    expected, actual = values(gold), values(answer)
    if expected is None or actual is None:
        return False
    return bool(abs(expected[0][0] - actual[0][0]) * 10**places < 1 and not expected[0][1] and not actual[0][1])


def _holds(expected: Expression, actual: Expression, relation: str) -> bool:
    """By expansion where that shows it at once, else by math-verify (`equal`) or simplification of the ratio."""
    from math_verify import verify

    try:
        if relation == "equal":
            cancels = _cancels(expected, actual)
            return bool(verify([expected], [actual], timeout_seconds=None)) if cancels is None else cancels
        expected, actual = expected.doit(), actual.doit()
        ratio = (expected / actual).subs(_sample_points(expected / actual)[0])
        if (expected - ratio * actual).expand() != 0:
            ratio = (expected / actual).simplify()
        is_constant = bool(ratio.is_number and ratio.is_finite and not ratio.is_zero)
        return is_constant and (relation == "multiple" or bool(ratio.is_positive))
    except MemoryError:
        raise
    except Exception:  # model output can be anything, and sympy raises nearly anything on it
        return False


def _cancels(expected: Expression, actual: Expression) -> bool | None:
    """True if the difference expands to nothing, or to a number other than 0; `None` where that does not tell."""
    try:
        difference = (expected - actual).doit().expand()
    except MemoryError:
        raise
    except Exception:  # as above; not everything can be subtracted
        return None
    return True if difference == 0 else False if difference.is_Rational else None


def is_undefined(text: str) -> bool:
    """True if a formula divides by 0 or has no finite value, so that it equals nothing: `1/0`, `0/0`, `\\infty`."""
    from sympy import S

    expression = evaluated(text)
    return expression is not None and bool(expression.has(S.NaN, S.ComplexInfinity, S.Infinity, S.NegativeInfinity))


@functools.lru_cache(maxsize=2048)
def evaluated(text: str) -> Expression | None:
    """A formula with what it says to do done; `None` if that is no expression (sets and matrices come here too)."""
    try:
        expression = read(text).doit()  # type: ignore[union-attr]
        return expression if hasattr(expression, "free_symbols") and hasattr(expression, "has") else None
    except MemoryError:
        raise
    except Exception:  # as above
        return None


@functools.lru_cache(maxsize=2048)
def values(text: str) -> tuple[Value, Value] | None:
    """The value of a formula at two points, the same for the same variables; `None` if it is not finite."""
    expression = evaluated(text)
    if expression is None:
        return None
    try:
        numbers = [_parts(expression.subs(point).evalf(_DIGITS)) for point in _sample_points(expression)]
    except MemoryError:
        raise
    except Exception:  # as above
        return None
    return (numbers[0], numbers[1])


def _parts(number: Expression) -> Value:
    """Real and imaginary part, 0 where all digits cancelled. Raises `ValueError` if one is not a finite number."""
    parts = [Fraction(0) if getattr(part, "_prec", 99) < 20 else Fraction(str(part)) for part in number.as_real_imag()]
    return parts[0], parts[1]


def _sample_points(expression: Expression) -> list[dict[Expression, Fraction]]:
    """Two positive numbers for each variable, by its name."""
    codes = {symbol: zlib.crc32(str(symbol).encode()) for symbol in expression.free_symbols}
    return [{symbol: Fraction(code % size + 11, 37) for symbol, code in codes.items()} for size in (89, 97)]


@functools.lru_cache(maxsize=2048)
def read(text: str) -> Expression | None:
    """`text` as a sympy expression; `None` if it cannot be read."""
    from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from math_verify.grader import should_treat_as_complex

    config = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none")
    try:
        latex = normalize_latex(text, config)
        return latex2sympy(
            latex,
            is_real=not should_treat_as_complex(latex),
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=False),  # R is not r
        )
    except MemoryError:
        raise
    except Exception:  # as above
        return None


def main() -> None:
    """Answer line after line until the input ends or the process that started this one is gone."""
    import logging

    import math_verify  # noqa: F401  if it is missing, the pool must hear of it

    parent = os.getppid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    logging.disable(logging.CRITICAL)
    print(json.dumps(compare("2\\sqrt{3}", "\\sqrt{12}", "equal")), flush=True)  # imports all; the pool waits for it
    limit = _limit_memory()
    for line in sys.stdin:
        print(json.dumps(TAKEN), flush=True)
        limit()
        try:
            reply = compare(*json.loads(line))
        except MemoryError:
            print(json.dumps(NO_MEMORY), flush=True)
            os._exit(1)  # what is left of the memory may not be enough for the next comparison
        print(json.dumps(reply), flush=True)


def _end_with(parent: int) -> None:
    """End with the process that started this one, also when it is killed and another holds the pipe open."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _limit_memory() -> Callable[[], None]:
    """Limit this process's memory; returns what to call before each comparison, which limits its CPU time."""
    try:
        import resource
    except ImportError:  # Windows: the pool's wall-clock limit is all there is
        return lambda: None
    with contextlib.suppress(ValueError, OSError):  # macOS may refuse
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]

    def limit() -> None:
        used = time.process_time()
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 1 + CPU_LIMIT_SECONDS, hard))

    return limit


if __name__ == "__main__":
    main()
