"""The text of a problem: what of it stands in columns of its own, and the options that stand in it already.

parts = problem_parts("instruction", columns, sample)     # ('instruction', 'input')
joined(row, parts)                                        # 'Count them.\\nThe red ones.'
with_options("Which?", options)                           # 'Which?\\nA. red\\nB. blue', {'A': 'A', 'B': 'B'}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from training.data.picture_cells.text import looks_like_pictures
from training.data.refusals import Refusal
from training.data.shapes.cells import first_named, is_empty, value_at
from training.data.shapes.golds import one_answer, says_nothing
from training.data.shapes.options import LETTERS, MAX_TEXT, Options, number_text
from training.data.shapes.turns import turns_of
from training.grading.cleaning import MAX_ANSWER_CHARS, clean
from training.grading.grader import FULL_WIDTH, gold_answer

PROBLEM_NAMES = ("problem", "question", "question_string", "query", "instruction", "prompt", "text", "txt")
"""Columns of problems."""
BEFORE = ("hint", "context", "passage")
"""Columns with a text that the problem is about, which stands before it."""
AFTER = {"instruction": ("input",)}
"""By the name of a problem's column the columns that go on with it: those of Alpaca."""
UNITS = ("unit", "units")
"""Columns with the unit of the answer, which MathVista and TabMWP ask for."""
NOT_READ = ("precision", "system", "system_prompt", "instruction", "lecture", "caption")
"""Columns that matter to some problems, and are named where they are not read."""
_MAX_UNIT_CHARS = 20
_MAX_PLACE = 500
_PLACE = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://|www\.|data:)\S+|(?:[a-z]:)?[./\\~]*(?:[\w.-]+[/\\])+[\w.-]+\.\w{2,5}", re.I
)
"""An address, or the path of a file."""
_MARK = re.compile(r"(?:^|(?<=[\s;,:?。]))(?:\(([A-Za-z])\)|([A-Za-z])[.:)、])\s*(?=\S)")
_POINT = re.compile(r"\(\s*-?[\d.]+\s*,")
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")


def problem_parts(problem: str, columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """The columns whose texts make the problem, in their order."""

    def is_text(name: str) -> bool:
        with suppress(Refusal):
            return all(is_problem_text(cell := value_at(row, name)) and [_text(cell, name)] for row in sample)
        return False

    names = (*BEFORE, *AFTER.get(problem.strip().lower(), ()))
    columns_of = (first_named((name,), columns, sample) for name in names)
    found = [column for column in columns_of if column and column != problem and is_text(column)]
    before = [column for column in found if column.strip().lower() in BEFORE]
    return (*before, problem, *(column for column in found if column not in before))


def is_problem_text(cell: object) -> bool:
    """False for a truth value, an address and the path of a picture or a file."""
    if isinstance(cell, str):
        return not _PLACE.fullmatch(cell.strip()[:_MAX_PLACE]) and not looks_like_pictures(cell.strip())
    return not isinstance(cell, bool)


def telling_parts(parts: Sequence[str], solution: str, sample: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Doubts about those of the columns beside a problem's that hold the answer."""
    for part in filter(is_beside, parts if len(parts) > 1 else ()):
        both = [(str(text), gold) for row in sample if (text := value_at(row, part)) and (gold := _gold(row, solution))]
        num = sum(re.search(rf"(?<!\w){re.escape(gold)}(?!\w)", text[:MAX_TEXT]) is not None for text, gold in both)
        if num:
            left = " + ".join(one for one in parts if one != part)
            yield (
                f"{part!r}, which is read with the problem, holds the answer in {num} of the {len(both)} rows that "
                f'were looked at. If it gives it away: --columns "{{problem: {left}}}".'
            )


def _gold(row: Mapping[str, object], solution: str) -> str:
    """The answer of a row as text; empty of a long one."""
    answer = gold_answer(number_text(one_answer(value_at(row, solution), solution))).strip()
    return answer if len(answer) <= MAX_ANSWER_CHARS else ""


def is_beside(column: str) -> bool:
    """True for a column that is read with that of the problem."""
    return column.strip().lower() in (*BEFORE, *(name for names in AFTER.values() for name in names))


def unread_parts(columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> list[str]:
    """Those of the columns that belong to a problem by their names."""
    names = (*BEFORE, *UNITS, *NOT_READ)
    return [found for name in names if (found := first_named((name,), columns, sample))]


def joined(row: Mapping[str, object], parts: Sequence[str]) -> object:
    """The texts of a row's columns, each on a line of its own, without what stands in another one already.

    Nothing without that of the problem itself. Raises `Refusal` for what is no text.
    """
    if len(parts) == 1:
        return value_at(row, parts[0])
    found = {part: text for part in parts if (text := _text(value_at(row, part), part))}
    if all(map(is_beside, found)) and not all(map(is_beside, parts)):
        return None
    texts = list(found.values())
    return "\n".join(text for at, text in enumerate(texts) if not any(_stands_in(text, one) for one in texts[at + 1 :]))


def _stands_in(text: str, other: str) -> bool:
    """True if a text stands in another one, as whole words."""
    at = other.find(text)
    return at >= 0 and not (other[:at][-1:].isalnum() or other[at + len(text) :][:1].isalnum())


def _text(cell: object, column: str) -> str:
    """A cell as a part of a problem; empty of one that says nothing. Raises `Refusal` for what is no text."""
    text = number_text(cell)
    if is_empty(text) or isinstance(text, float):  # not a number
        return ""
    if not isinstance(text, str | int) or turns_of(text):
        raise Refusal("no problem", f"its {column} is a {type(cell).__name__}, not text")
    return "" if says_nothing(str(text)) else str(text).strip()


def unit_line(unit: object, gold: object, problem: str) -> str:
    """The line that names the unit of a number which is the answer; empty without one, and if the problem names it."""
    if not isinstance(unit, str) or not 0 < len(unit.strip()) <= _MAX_UNIT_CHARS or says_nothing(unit):
        return ""
    is_number = re.fullmatch(r"[-+]?[\d,]*\.?\d+(?:/\d+)?", str(gold).strip())
    is_there = re.search(rf"(?<!\w){re.escape(unit.strip())}(?!\w)", problem)  # at most 20 characters
    return f"\nUnit: {unit.strip()}" if is_number and not is_there else ""


def with_options(problem: str, options: Options) -> tuple[str, Mapping[str, str]]:
    """The problem with its options, and for each option the letter that it has in there.

    Options that stand in the problem already, perhaps in another order, are left as they are. Raises `Refusal` if those
    that stand there are others.
    """
    same = {letter: letter for letter in options.texts}
    written = written_options(problem)
    if options and written and (letters := _letters_there(options, written, problem)):
        return problem, letters
    return problem + "".join(f"\n{letter}. {text}" for letter, text in options.texts.items()), same


def _letters_there(options: Options, written: Mapping[str, str], problem: str) -> Mapping[str, str]:
    """For each option the letter of the written one that is the same; none if the written ones are no options.

    Raises `Refusal` for other options.
    """
    there = {letter: _plain(text) for letter, text in written.items()}
    wanted = {letter: _plain(text) for letter, text in options.texts.items()}
    are_letters = all(text == letter.lower() for letter, text in wanted.items())
    if are_letters or all(there.get(letter) == text for letter, text in wanted.items()):
        return {letter: letter for letter in wanted}
    for is_one in (str.__eq__, _begins):
        found = {letter: [other for other in there if is_one(there[other], text)] for letter, text in wanted.items()}
        letters = {letter: others[0] for letter, others in found.items() if len(others) == 1}
        if len(set(letters.values())) == len(wanted):
            return letters
    moved = any(others and letter not in others for letter, others in found.items())
    is_prose = len(wanted) < len(there) or all(map(_POINT.match, written.values()))
    is_prose |= bool(re.search(r"\bB:", problem) and len(there) == 2)  # `Is A: the first higher?`
    is_prose |= bool(re.search(r"[^\W\d_][ \t]\(?A[.:)、]", problem))  # `In figure A. the cat sits.`
    other = next((letter for letter in wanted if letter in there and there[letter] != wanted[letter]), None)
    if other and (moved or set(there) >= set(wanted) and (any(map(len, found.values())) or not is_prose)):
        raise Refusal(
            "options differ",
            f"{other} is {written[other][:40]!r} in the problem and {options.texts[other][:40]!r} in its column",
        )
    return {}


def written_options(problem: str) -> dict[str, str]:
    """The options that stand in a problem, by their letters: the last ones that begin with A.

    Raises `Refusal` for more than the grader knows.
    """
    problem = problem.translate(FULL_WIDTH)
    marks = list(_MARK.finditer(problem))
    letters = [(mark[1] or mark[2]).upper() for mark in marks]
    start = max((at for at, letter in enumerate(letters) if letter == "A"), default=len(marks))
    found: dict[str, str] = {}
    for at in range(start, len(marks)):
        if letters[at] not in LETTERS and len(found) == len(LETTERS):
            raise Refusal("too many options", f"more than {len(LETTERS)} in the problem; the grader knows no others")
        if letters[at] in found or letters[at] not in LETTERS or found and letters[at] < max(found):
            break
        end = marks[at + 1].start() if at + 1 < len(marks) else len(problem)
        found[letters[at]] = problem[marks[at].end() : end].strip().split("\n")[0].strip(" ,;")
    return found if len(found) > 1 else {}


def _plain(text: str) -> str:
    """A text for comparing: one case, without the dress of formulas, spaces and a full stop."""
    text = clean(_FRACTION.sub(r"\1/\2", text[:MAX_ANSWER_CHARS]))
    text = re.sub(r"\^\{(\w+)\}", r"^\1", text)  # the superscript of `cm²`
    text = re.sub(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])", lambda number: number[0].replace(",", ""), text)
    return "".join(text.casefold().split()).removesuffix(".")


def _begins(one: str, other: str) -> bool:
    """True if one text goes on where the other ends, with a unit or in words: `5cm` and `5`."""
    shorter, longer = sorted((one, other), key=len)
    return bool(shorter) and longer.startswith(shorter) and not re.match(r"[\d./^]", longer[len(shorter) :])
