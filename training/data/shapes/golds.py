"""The answer in the cell of a gold: of one answer in a list or a mapping that answer, of options their letters.

gold("['B']", options, reading)                           # 'B'
gold({"value": 3, "unit": "cm"}, Options(), GoldReading())  # '3 cm'
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal

from training.data.shapes.options import LETTERS, MAX_TEXT, GoldReading, Options, letter_of, listed, number_text
from training.data.shapes.turns import text_of_turns, turns_of
from training.grading.cleaning import MAX_ANSWER_CHARS
from training.grading.grader import gold_answer

ALTERNATIVES = ("answers", "direct_answers")
"""Columns that hold several people's answers to one question."""
_NOTHING = {"nan", "<na>", "null", "n/a", "#n/a", "nil", "undefined", "unknown", "-", "--", "–", "—", "?", "??", "..."}
_PYTHON_NOTHING = ("None", "NA")
"""In this case alone: `none` is an answer, and `Na` is sodium."""
_ANSWERS = ("ground_truth", "answer", "value", "text")
"""Names of the answer in a mapping."""
_BETWEEN = re.compile(r"\s*(?:[,;/&|+、]|\band\b)\s*|\s+")
_ONE_NUMBER = re.compile(r"\[\s*(-?\d+(?:\.\d+)?)\s*\]")
_MAX_DEPTH = 4
NO_OPTIONS = Options()


def says_nothing(text: str) -> bool:
    """True for what programs and people write where there is nothing: `NaN`, `null`, `N/A`, `None`, `-`, `?`."""
    text = text.strip().strip("\"'").strip()
    return text in _PYTHON_NOTHING or text.lower() in _NOTHING


def one_answer(cell: object, column: str, options: Options = NO_OPTIONS) -> object:
    """The most frequent of several people's answers, the first of equals; a completion's text; else the cell.

    A list that names each of several options once is left as it is.
    """
    if isinstance(cell, str) and column.lower() in ALTERNATIVES and cell.startswith("["):
        cell = listed(cell)
    if turns := turns_of(cell):
        return text_of_turns(cell)[1] or turns[-1][1]
    if not isinstance(cell, list) or len(cell) < 2:
        return cell
    letters = [letter_of(one, options) if isinstance(one, str | int) else None for one in cell]
    if all(letters) and len(set(letters)) == len(cell):
        return cell
    if all(isinstance(one, Mapping) and isinstance(one.get("answer"), str) for one in cell):
        cell = [one["answer"] for one in cell]
    elif column.lower() not in ALTERNATIVES or not all(isinstance(one, str) for one in cell):
        return cell
    return Counter(cell).most_common(1)[0][0]  # of equals the first


def unwrapped(solution: object) -> object:
    """The one answer in a list or a mapping, also one that was written as text; any other solution as it is."""
    for _ in range(_MAX_DEPTH):
        if isinstance(solution, bytes):
            solution = _text_of(solution)
        inner = _written(solution) if isinstance(solution, str) else solution
        if isinstance(inner, list | tuple) and len(inner) == 1:
            solution = inner[0]
        elif isinstance(inner, list | tuple):
            return inner
        elif isinstance(inner, Mapping) and (found := _of_mapping(inner)) is not inner:
            solution = found
        else:
            break
    return solution


def several(solution: object) -> Iterator[object]:
    """The golds in a cell: those of a list, else the one that it holds."""
    solution = unwrapped(solution)
    yield from solution if isinstance(solution, list | tuple) else (solution,)


def gold(solution: object, options: Options, reading: GoldReading, there: Mapping[str, str] | None = None) -> object:
    """The solution: of a list with one answer that answer, of what names options their letters, `yes` of True.

    `there` has by its letter in the column the one that an option has in the problem. Raises `Refusal`.
    """
    solution = unwrapped(solution)
    if letters := _letters(solution, options, reading, there or {}):
        return letters
    if isinstance(solution, bool):
        return "yes" if solution else "no"
    if isinstance(solution, datetime.datetime):
        is_day = solution.time() == datetime.time()
        return str(solution.date()) if is_day else solution.isoformat(" ", "minutes" if not solution.second else "auto")
    if isinstance(solution, datetime.time):
        return solution.isoformat("minutes" if not solution.second else "auto")
    return str(solution) if isinstance(solution, datetime.date) else number_text(solution)


def _letters(solution: object, options: Options, reading: GoldReading, there: Mapping[str, str]) -> str:
    """The letters of the options that a solution names; empty if it names none, or is their letter as it is."""
    letter = None if isinstance(solution, list | tuple) else reading.letter_there(solution, options, there)
    if letter:
        return letter if gold_answer(solution) != letter else ""
    if isinstance(solution, str):
        text = gold_answer(solution)[: MAX_ANSWER_CHARS + 1].strip(" ()[].")
        parts = [*text] if text.isalpha() else _BETWEEN.split(text)  # `BD`, `B, D`, `B and D`
        solution = parts if len(parts) > 1 and all(part in LETTERS and len(part) == 1 for part in parts) else None
    if not isinstance(solution, list | tuple) or len(set(map(str, solution))) < max(2, len(solution)):
        return ""
    if len(solution) == len(options.texts) and all(one in (0, 1) for one in solution):  # for each option, yes or no
        return ""
    letters = [reading.letter_there(one, options, there) for one in solution]
    return ", ".join(dict.fromkeys(filter(None, letters))) if all(letters) else ""


def _written(text: str) -> object:
    """The list or the mapping that was written as text; the text itself where it may be mathematics."""
    text = text.strip()
    if match := _ONE_NUMBER.fullmatch(text[:MAX_TEXT]):
        return [match[1]]
    if len(text) <= MAX_TEXT and re.match(r"""\[\s*["'{]|\{\s*["']""", text) and text.endswith(("]", "}")):
        found = listed(text)
        if isinstance(found, list) or isinstance(found, Mapping) and _of_mapping(found) is not found:
            return found
    return text


def _of_mapping(found: Mapping[str, object]) -> object:
    """The answer in a mapping, with its unit; the mapping itself if it tells none."""
    name = next((name for name in _ANSWERS if name in found), None)
    if name is None:
        return found
    answer = found[name]
    if isinstance(answer, list) and all(isinstance(one, str) for one in answer):  # SQuAD's
        return Counter(answer).most_common(1)[0][0] if answer else None
    unit = found.get("unit") or found.get("units")
    if isinstance(unit, str) and isinstance(answer, str | int | float | Decimal) and not isinstance(answer, bool):
        return f"{number_text(answer)} {unit.strip()}".strip()
    return answer


def _text_of(content: bytes) -> object:
    """The text in bytes, or the bytes if they are none."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return content
    return text if text.isprintable() or text.replace("\n", "").replace("\t", "").isprintable() else content
