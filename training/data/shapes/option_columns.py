"""The columns of options: one of all, or one for each, by their names and by what the first rows hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from training.data.refusals import Refusal
from training.data.shapes.cells import first_named, is_empty, value_at
from training.data.shapes.golds import several
from training.data.shapes.options import LETTERS, Options, letter_of, named_options, read_options

OPTION_NAMES = ("options", "choices", "option", "candidates", "answer_choices")
_ONE_OPTION = re.compile(
    r"(?:(option|choice|answer|opt)s?[ _-]*)?([A-Z])|((?:option|choice|opt)s?)[ _-]*(\d{1,2})", re.I
)
"""A column that holds one option, by its letter or its number."""


def option_columns(columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> tuple[tuple[str, ...], bool]:
    """The column of all options, or the columns of one each: `A`, `B`, `C`; `choice_a`, `choice_b`.

    The second value is true where the columns' names are letters alone.
    """
    for name in OPTION_NAMES:
        found = first_named((name,), columns, sample)
        if found and any(holds_options(row, (found,)) for row in sample):
            return (found,), False
    families: dict[str, dict[str, str]] = {}
    for name in columns:
        if match := _ONE_OPTION.fullmatch(name.strip()):
            word = match[1] or match[3] or ""
            families.setdefault(word.lower().removesuffix("s") + "#" * bool(match[4]), {}).setdefault(
                (match[2] or match[4]).lower(), name
            )
    for word, by_label in sorted(families.items(), key=lambda item: -len(item[1])):
        labels = sorted(by_label, key=lambda label: (len(label), label))
        for at, label in enumerate(labels):  # `x` and `y` are no options behind `a` and `b`
            if label.upper() > LETTERS[-1] and (not at or ord(label) - ord(labels[at - 1]) > 1):
                labels = labels[:at]
                break
        if len(labels) > 1 and (labels[0].isdigit() or labels[0] == "a" and (word or labels[1] == "b")):
            return tuple(by_label[label] for label in labels), not word
    return (), False


def options_of(row: Mapping[str, object], columns: Sequence[str]) -> Options:
    """The options of a row. Raises `Refusal`."""
    if len(columns) == 1:
        return read_options(value_at(row, columns[0]))
    return named_options({name.rpartition(".")[2]: value_at(row, name) for name in columns})


def known_options(row: Mapping[str, object], columns: Sequence[str]) -> Options:
    """The options of a row; none where there are too many."""
    try:
        return options_of(row, columns)
    except Refusal:
        return Options()


def holds_options(row: Mapping[str, object], columns: Sequence[str]) -> bool:
    """True for options, also for too many."""
    try:
        return bool(options_of(row, columns))
    except Refusal:
        return True


def late_options(row: Mapping[str, object], names: Sequence[str], solution: object) -> tuple[str, ...]:
    """Those of a row's columns that hold its options, where the first rows had none; columns of letters if its gold
    is one."""
    found, are_letters = option_columns([name for name in names if not is_empty(row[name])], [row])
    if not found or not holds_options(row, found):
        return ()
    options = known_options(row, found)
    return found if not are_letters or all(letter_of(one, options) for one in several(solution)) else ()
