"""The column of the answers, among those that may hold them by their names.

solution_column(["label", "gt"], sample, ())              # 'gt': a label may be a topic
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from training.data.shapes.cells import first_named, is_empty, value_at
from training.data.shapes.golds import gold, one_answer, several
from training.data.shapes.option_columns import holds_options, known_options
from training.data.shapes.options import GoldReading, Options, letter_of
from training.grading.grader import gold_answer, gold_fault, grade_answer

SOLUTION_NAMES = (
    *("solution", "answer", "answers", "ground_truth", "reward_model.ground_truth", "gold", "gt", "final_answer"),
    *("correct_answer", "multiple_choice_answer", "direct_answers"),
    *("answerkey", "correct_option", "correct_choice_idx", "answer_idx"),
    *("label", "target", "response", "output", "completion", "cls"),
)
_SURE, _WITHOUT_INDEX, _WEAK = SOLUTION_NAMES[:-6], SOLUTION_NAMES[:-10], SOLUTION_NAMES[-6:]
"""Names of nothing else than answers, those of them that hold no index, and names of other things too."""
_WORKED_WORDS = 12
"""A longer solution counts as worked, unless its answer is marked."""
_MARKED = re.compile(r"####|\\boxed|<answer>|\b(?:final )?answer\s*(?:is|:)", re.IGNORECASE)
_COMPARED_ROWS = 20
"""Rows in which two columns of answers are compared."""
_MOST = 0.8
"""Share of a column's cells that must be answers, so that its name decides."""
SHARE_OF_CHOICES = 0.5
"""Share of golds that must name an option, so that a column is taken for that of the golds beside options."""


def solution_column(columns: Sequence[str], sample: Sequence[Mapping[str, object]], options: tuple[str, ...]) -> str:
    """The column of the answers: beside options of those that name one, else the first with short or marked ones."""
    present = list(dict.fromkeys(found for name in SOLUTION_NAMES if (found := first_named((name,), columns, sample))))
    if options:
        shares = {name: share_of_choices(sample, name, options) for name in present}
        if max(shares.values(), default=0) >= SHARE_OF_CHOICES:
            return max(present, key=lambda name: round(shares[name], 1))
    shares = {name: _share_of_answers([one_answer(value_at(row, name), name) for row in sample]) for name in present}
    sure = [name for name in present if _is_named(name, _SURE) and shares[name] >= _MOST]
    texts = [name for name in sure if not all(_is_truth(value_at(row, name)) for row in sample)]
    return max(texts or sure or present, key=lambda name: round(shares[name], 1), default="")


def _is_named(column: str, names: Sequence[str]) -> bool:
    return first_named(names, [column], ()) is not None or column in names


def _is_truth(cell: object) -> bool:
    return isinstance(cell, bool) or is_empty(cell) or str(cell).strip().lower() in ("true", "false")


def other_answers(
    solution: str,
    columns: Sequence[str],
    sample: Sequence[Mapping[str, object]],
    of_options: Sequence[str],
    reading: GoldReading,
    problem: str,
) -> Iterator[str]:
    """Doubts about those of the columns whose answers differ from those of the solution's column."""
    names = _WITHOUT_INDEX if _is_named(solution, _SURE) else _WEAK
    found = dict.fromkeys(first_named((name,), columns, sample) for name in names)
    for other in (name for name in found if name and name != solution):
        both, differing = 0, list[str]()
        for row in sample[:_COMPARED_ROWS]:
            options = known_options(row, of_options)
            cells = (one_answer(value_at(row, name), name, options) for name in (solution, other))
            golds = [gold(cell, options, reading) for cell in cells]
            if not all(map(_is_answer, golds)):
                continue
            if options and any(letter_of(one, options) is None for one in golds):  # a rationale beside an answer
                continue
            both += 1
            one, two = map(gold_answer, golds)
            if one != two and not grade_answer(one, two, str(value_at(row, problem))).correct:
                differing.append(f"{one[:40]!r} and {two[:40]!r}")
        if differing:
            yield (
                f"The columns {solution!r} and {other!r} differ in {len(differing)} of {both} rows, as {differing[0]}; "
                f'{solution!r} is read. If the other one is meant: --columns "{{solution: {other}}}".'
            )


def share_of_choices(sample: Sequence[Mapping[str, object]], solution: str, columns: Sequence[str]) -> float:
    """The share of golds that name an option, of those beside options; beside too many every letter does."""
    rows = [(row, known_options(row, columns)) for row in sample if holds_options(row, columns)]
    cells = [(one_answer(value_at(row, solution), solution, options), options) for row, options in rows]
    golds = [(one, options) for cell, options in cells for one in several(cell)]
    named = [letter_of(one, options) if options else re.fullmatch("[A-Za-z]", str(one)) for one, options in golds]
    return sum(one is not None for one in named) / max(1, len(golds))


def _share_of_answers(cells: Sequence[object]) -> float:
    """The share of cells that are an answer: readable, and short or with the answer marked."""
    return sum(_is_answer(gold(cell, Options(), GoldReading())) for cell in cells) / max(1, len(cells))


def _is_answer(cell: object) -> bool:
    if isinstance(cell, str) and len(cell.split()) > _WORKED_WORDS and not _MARKED.search(cell):
        return False
    return not gold_fault(cell)
