"""Grader: takes the answer out of a completion and compares it with the gold answer of the solution.

    >>> grade("<think>3 + 4 = 7.</think> <answer>7</answer>", "<think>It is 7.</think> <answer>7.0</answer>").correct
    True

The reward, the evaluation and the badge in the page all use it. Letters, numbers, names, points, sets and words are
compared exactly in this process (`training.grading.comparison`); mathematics goes to math-verify in a pool of killable
processes (`training.grading.math_pool`). No torch.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from inference.prompt.format import TAGS, tagged_answers
from training.grading.answers import Formula
from training.grading.cleaning import MAX_ANSWER_CHARS, MAX_NESTING, boxed, clean, closing_brace, nesting
from training.grading.comparison import compare
from training.grading.math_pool import Budget, MathLimit, NotGraded, Unreadable, math_equal, num_workers
from training.grading.parsing import parse
from training.grading.quantities import NO_UNIT

MAX_SHOWN_CHARS = 200
"""Of an answer, in a `Grade`."""
MAX_GOLD_WORDS = 40
"""A gold of more words is a text, not an answer."""
MAX_TAGS = 16
"""A completion with more answer tags than this has no single answer."""
_MAX_STATED_CHARS = 4000
"""The last answer is looked for in this much of a completion's end."""

_ANSWER_IS = re.compile(r"\banswer(?: is|:)\s*:?\s*(.+)", re.IGNORECASE | re.DOTALL)
_INTEGER = r"\d{1,3}(?:,\d{3})+|\d+"
_STATED = re.compile(
    r"(?:^|\n|[.;:!?]\s|\s)(?:####\s*|\**(?:(?:final|correct)\s+)?answer\s*\**\s*[:：]\s*\**\s*|答案\s*(?:是|为|[:：])\s*|"
    r"(?:so\s+|therefore,?\s+|hence,?\s+|thus,?\s+)?the\s+(?:(?:final|correct)\s+)?answer\s+is\s*:?\s+)",
    re.IGNORECASE,
)
_OPTION = re.compile(r"(?:^|(?<=[\s;,:?。]))(?:\(([A-Ja-j])\)|([A-J])[.:)、])\s*(?=\S)")
FULL_WIDTH = {0xFF01 + i: chr(0x21 + i) for i in range(94)}
_RATIO = re.compile(r"\bratios?\b|:1\b|比", re.IGNORECASE)
_CONCLUSION = re.compile(r"<CONCLUSION>(.*?)</CONCLUSION>", re.DOTALL | re.IGNORECASE)
_LAST_VALUE = re.compile(rf"(?<![\w.])-?(?:(?:{_INTEGER})\s*/\s*\d+|(?:{_INTEGER})?\.\d+|(?:{_INTEGER}))|\b[A-H]\b")
_TOO_LARGE = re.compile(
    r"[0-9]{4}\s*[)}]*\s*!|\^\s*[{(]*\s*-?[0-9]{4}|binom\s*\{\s*[0-9]{4}|(?:\^\s*[{(]*\s*[0-9.]+\s*){3}"
)
"""A factorial, power or binomial that would take sympy minutes."""
_log = logging.getLogger(__name__)
Mode = Literal["strict", "lenient", "direct"]
"""Which answer of a completion counts: the one in its tags, the last one stated, or all of it."""


@dataclass(frozen=True)
class Grade:
    """A verdict, with what was compared and the rule that decided, in words a user may read."""

    correct: bool
    gold: str
    """The expected answer as it was read: without tags, dollar signs and other dress."""
    answer: str
    """The completion's answer, likewise; empty if it has none."""
    rule: str
    is_graded: bool = True
    """False where there is no verdict: the gold cannot be read, or the machine failed; `correct` is then False."""


_EXACT = Fraction(0)


@dataclass(frozen=True)
class _Problem:
    """A problem's options, and its wish for a ratio."""

    options: Mapping[str, str]
    is_ratio: bool


class _NeedsMathematics(Exception):
    """The fast path cannot decide."""


def grade(solution: object, completion: str, problem: str = "", tolerance: float = 0.0) -> Grade:
    """Strict: the completion's answer must stand in its `<answer>` tags, once (or several times the same).

    `problem` is the question, whose options (`A. 12 cm`) and wish for a ratio are taken into account. `tolerance` is
    the relative error that a number may have: 0.05 for five percent of the gold.

    >>> grade("B", "<answer>12 cm</answer>", "How long is it? A. 10 cm B. 12 cm").correct
    True
    """
    return grade_many([(solution, completion)], "strict", [problem], tolerance)[0]


def grade_lenient(solution: object, completion: str, problem: str = "") -> Grade:
    """As `grade`, of the last answer that the completion states, with tags or without."""
    return grade_many([(solution, completion)], "lenient", [problem])[0]


def grade_answer(gold: str, answer: str, problem: str = "", tolerance: float = 0.0) -> Grade:
    """Compare two bare answers; the gold decides how: as a choice letter, a number, a set, words, mathematics, …

    >>> grade_answer("1/2", "0.5").rule
    'equal numbers'

    Never raises on any text. What cannot be compared within the limits is wrong, and the rule says why.
    """
    return _grade_clean(gold, answer, _read_problem(problem), tolerance, may_wait=True)


def grade_many(
    pairs: Sequence[tuple[object, str]],
    mode: Mode = "strict",
    problems: Sequence[str] | None = None,
    tolerance: float = 0.0,
) -> list[Grade]:
    """Of every pair of solution and completion its grade, in order; the mathematics of several side by side.

    `strict` as `grade`, `lenient` as `grade_lenient`; `direct` takes the whole completion for the answer. `problems`
    has the question of each pair.

    >>> [verdict.correct for verdict in grade_many([("7", "<answer>7</answer>"), ("7", "It is 7.")])]
    [True, False]
    >>> [verdict.correct for verdict in grade_many([("7", "It is 7."), ("7", "8")], "lenient")]
    [True, False]
    """
    grades: dict[tuple[str, str, str], Grade] = {}
    waiting: dict[tuple[str, str, str], tuple[str, str, _Problem]] = {}
    keys = []
    for (solution, completion), problem in zip(pairs, problems or [""] * len(pairs), strict=True):
        key = (solution if isinstance(solution, str) else f"\0{type(solution)}{solution!r}", completion, problem)
        keys.append(key)
        if key in grades or key in waiting:
            continue
        gold = gold_answer(solution)
        answer, fault = _answer_of(completion, mode)
        if not gold and (no_gold := gold_fault(solution)):
            grades[key] = Grade(False, "", _shown(answer), no_gold, is_graded=False)
            continue
        about = _read_problem(problem)
        try:
            refused = Grade(False, _shown(gold), _shown(answer), fault) if fault else None
            grades[key] = refused or _grade_clean(gold, answer, about, tolerance, may_wait=False)
        except _NeedsMathematics:
            waiting[key] = (gold, answer, about)
    if waiting:
        with ThreadPoolExecutor(min(num_workers(), len(waiting)), thread_name_prefix="grading") as threads:
            verdicts = threads.map(
                lambda each: _grade_clean(each[0], each[1], each[2], tolerance, may_wait=True), waiting.values()
            )
            grades.update(zip(waiting, verdicts))
    return [grades[key] for key in keys]


@lru_cache(maxsize=1024)
def options_of(problem: str) -> Mapping[str, str]:
    """The options of a problem by letter, as they are compared; empty if it has none.

    >>> dict(options_of("Which one? A. red B. blue"))
    {'A': 'red', 'B': 'blue'}
    """
    return _read_problem(problem).options


def _read_problem(problem: str) -> _Problem:
    """The options of a problem, by letter, and whether it asks for a ratio."""
    problem = problem[-_MAX_STATED_CHARS:].translate(FULL_WIDTH)
    marks = [mark for mark in _OPTION.finditer(problem)]
    starts = [i for i, mark in enumerate(marks) if (mark[1] or mark[2]).upper() == "A"]
    options: dict[str, str] = {}
    for start in starts[-1:]:
        expected = "A"
        for i, mark in enumerate(marks[start:], start):
            letter = (mark[1] or mark[2]).upper()
            is_gap = letter > expected and problem[: mark.start()].endswith("\n")  # a line of its own, after a gap
            if letter != expected and not is_gap:
                break
            expected = chr(ord(letter) + 1)
            end = marks[i + 1].start() if i + 1 < len(marks) else len(problem)
            text = problem[mark.end() : end].split("\n")[0].strip(" ,;")
            options[letter] = clean(text[:MAX_ANSWER_CHARS])
    usable = len(options) > 1 and all(options.values())
    return _Problem(options if usable else {}, bool(_RATIO.search(problem)))


def gold_answer(solution: object) -> str:
    """The gold answer of a solution, as people's data have it; "" if it has none.

    Between the last answer tags; else in its boxes (several are joined); else after `####`, `Final Answer:`, `Answer:`,
    `The answer is`, `答案：`; in `<CONCLUSION>` or the JSON `{"answer": …}`; else all of it. Numbers are taken too.

    >>> gold_answer("3 + 4 = 7\\n#### 7"), gold_answer("It is \\\\boxed{2} or \\\\boxed{3}."), gold_answer(7.0)
    ('7', '2, 3', '7')
    """
    if isinstance(solution, list | tuple) and len(solution) == 1:
        solution = solution[0]
    if isinstance(solution, float) and not math.isfinite(solution):
        return ""
    if isinstance(solution, float | int) and not isinstance(solution, bool):
        return f"{solution:.15g}" if isinstance(solution, float) else str(solution)
    if not isinstance(solution, str):
        return ""
    before, closing, _ = solution.rpartition("</answer>")
    if closing and "<answer>" in before:
        solution = before.rpartition("<answer>")[2]
    text = solution.strip()
    if (match := _CONCLUSION.search(text)) and not closing:
        text = match[1].strip()
    if text.startswith("{") and text.endswith("}"):
        with contextlib.suppress(ValueError, RecursionError):
            fields = json.loads(text)
            if isinstance(fields, dict) and len(fields) <= 8 and "answer" in fields:
                return gold_answer(fields["answer"])
    if len(text) <= MAX_ANSWER_CHARS and not _STATED.search(text):
        return _all_boxes(text) or text
    if boxes := _all_boxes(text):
        return boxes
    stated = _STATED.split(text[-_MAX_STATED_CHARS:])
    return stated[-1].strip().removesuffix(".").strip() if len(stated) > 1 and stated[-1].strip() else text


def gold_fault(solution: object) -> str:
    """The reason, in words, why nothing can be graded against a solution; "" if nothing does.

    >>> gold_fault(None), gold_fault("3 + 4 = 7, so we add 2.\\n#### 9")
    ('the solution is a NoneType, neither text nor a number', '')
    """
    if isinstance(solution, list | tuple) and len(solution) == 1:
        solution = solution[0]
    if isinstance(solution, bool) or not isinstance(solution, str | int | float):
        return f"the solution is a {type(solution).__name__}, neither text nor a number"
    if isinstance(solution, float) and not math.isfinite(solution):
        return f"the solution is {solution}, no finite number"
    gold = gold_answer(solution)
    if not gold.strip():
        return "the solution holds no answer"
    if len(gold) > MAX_ANSWER_CHARS:
        return f"the gold has {len(gold):,} characters, of which {MAX_ANSWER_CHARS} are compared: mark it, as in #### 7"
    if len(gold.split()) > MAX_GOLD_WORDS:
        return f"the gold has {len(gold.split())} words; at most {MAX_GOLD_WORDS} are compared: mark it, as in #### 7"
    if nesting(gold) > MAX_NESTING:
        return f"the gold answer has more than {MAX_NESTING} brackets within one another"
    if gold.count("{") != gold.count("}") or re.search(r"\\frac\\s*$", gold):
        return "the gold answer's braces do not match"
    return ""


def check_gold(solution: object) -> Grade:
    """Grade a gold in answer tags, a formula in other words, so that a gold which no answer can match is found."""
    if fault := gold_fault(solution):
        return Grade(False, _shown(gold_answer(solution)), "", fault, is_graded=False)
    gold = gold_answer(solution)
    kind = parse(clean(gold)) if len(gold) <= MAX_ANSWER_CHARS else None
    is_formula = isinstance(kind, Formula) and kind.unit == NO_UNIT and "\\infty" not in kind.text
    return grade(solution, f"<answer>{f'0 + {gold}' if is_formula else gold}</answer>")


def _all_boxes(text: str) -> str:
    """The contents of the boxes of a text, without repeats, joined by commas."""
    contents: list[str] = []
    start = text.find("\\boxed{")
    while start >= 0 and len(contents) <= MAX_TAGS:
        end = closing_brace(text, start + len("\\boxed"))
        if end < 0:
            break
        contents.append(text[start + len("\\boxed{") : end].strip())
        start = text.find("\\boxed{", end)
    return ", ".join(filter(None, dict.fromkeys(contents)))


def last_answer(text: str) -> str:
    """The last answer that `text` states, or "" if it states none; tags are not required.

    >>> last_answer("There are 3 circles. 3 + 1 = 4.")
    '4'
    """
    tagged, _ = _strict_answers(text)
    if tagged:
        return tagged[-1]
    scope = text.rpartition("</think>")[2].strip() or text
    scope = scope.rpartition("<answer>")[2]
    for tag in TAGS:
        scope = scope.replace(tag, " ")
    scope = scope.strip()[-_MAX_STATED_CHARS:]
    stated = _ANSWER_IS.split(scope)
    if len(stated) > 1 and stated[-2].strip():
        scope = stated[-2].strip()
    if (inside := boxed(scope)) is not None:
        return inside
    scope = scope.rpartition("=")[2].strip() if "=" in scope else scope
    if len(scope.split()) <= 3:
        return scope.rstrip(".").strip()
    values = _LAST_VALUE.findall(scope)
    return values[-1] if values else scope


def _answer_of(completion: str, mode: Mode) -> tuple[str, str]:
    """The answer that counts, and what keeps it from being one ("" if nothing does)."""
    if mode == "lenient":
        return last_answer(completion), ""
    if mode == "direct":
        return completion, ""
    answers, fault = _strict_answers(completion)
    return (answers[-1] if answers else ""), fault


def _strict_answers(completion: str) -> tuple[list[str], str]:
    """The tagged answers after the thought, and what keeps them from being one answer ("" if nothing does)."""
    rest = completion.partition("</think>")[2] if "</think>" in completion else completion
    opened, closed = rest.count("<answer>"), rest.count("</answer>")
    if max(opened, closed) > MAX_TAGS:
        return [], "several different answers"
    answers = tagged_answers(completion)
    if not answers:
        return [], "an answer tag is not closed" if opened > closed else "no answer in tags"
    if opened != closed:
        return answers, "an answer tag is not closed" if opened > closed else "an answer tag is not opened"
    return answers, "several different answers" if len(set(answers)) > 1 else ""


def _grade_clean(gold: str, answer: str, problem: _Problem, tolerance: float, may_wait: bool) -> Grade:
    gold, answer = gold.strip(), answer.strip()
    shown = _shown(gold), _shown(answer)
    if max(len(gold), len(answer)) > MAX_ANSWER_CHARS:
        same = gold == answer
        return Grade(same, *shown, "same words" if same else "too long to compare")
    gold, answer = clean(gold), clean(answer)
    try:
        if max(nesting(gold), nesting(answer)) > MAX_NESTING and gold != answer:
            raise MathLimit("too deep to compare")
        mathematics = _Mathematics(may_wait)
        correct, rule = compare(
            gold,
            answer,
            mathematics,
            problem.options,
            problem.is_ratio,
            Fraction(str(tolerance)) if tolerance else _EXACT,
        )
        return Grade(correct, *shown, rule)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        # Model output can be anything; a fault of ours on one of a million answers must not end a run, but be seen.
        _log.error("not graded: the grader failed with %s", type(error).__name__, exc_info=error)
        return Grade(False, *shown, f"not graded: the grader failed ({type(error).__name__})", is_graded=False)
    except MathLimit as limit:
        level = logging.INFO if isinstance(limit, Unreadable) else logging.WARNING
        _log.log(level, "graded as wrong, %s; the rollouts of a run have the answer", limit)
        return Grade(False, *shown, str(limit), is_graded=not isinstance(limit, NotGraded))


def _shown(answer: str) -> str:
    """An answer as a user reads it: without its dress, on one line, of bounded length."""
    text = clean(answer) if len(answer) <= MAX_ANSWER_CHARS else " ".join(answer[: 2 * MAX_SHOWN_CHARS].split())
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 1] + "…"


class _Mathematics:
    """Asks the pool; all questions of one grading share its time limit."""

    def __init__(self, may_wait: bool) -> None:
        self._may_wait = may_wait
        self._budget = Budget()

    def __call__(self, gold: str, answer: str, relation: str) -> bool:
        if _TOO_LARGE.search(gold) or _TOO_LARGE.search(answer):
            raise MathLimit("too large to compare")
        if not self._may_wait:
            raise _NeedsMathematics
        return math_equal(gold, answer, relation, self._budget)
