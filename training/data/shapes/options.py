"""The options of a multiple choice, and the letter among them that a gold names.

    options = read_options(["red", "blue"])                   # A. red, B. blue
    reading = GoldReading.of([("2", options), ("1", options)])
    reading.letter("2", options)                              # 'B': the golds are indices from 1

`2` may be the text of an option, its label, or its index from 0 or from 1. A column has one of these kinds, so it is
the column that decides, by a sample of its rows.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice

from training.data.refusals import Refusal
from training.data.shapes.cells import is_deep
from training.grading.grader import FULL_WIDTH, gold_answer

LETTERS = "ABCDEFGHIJ"
"""Those that the grader knows as options."""
MAX_TEXT = 20_000
"""Characters of a list that was written as text, outside of its texts and bytes; a longer one is not read."""
MAX_WRITTEN_CHARS, MAX_WRITTEN_TEXTS = 4_000_000, 200
"""Of a longer list that was written as text, as pandas writes the bytes of pictures into a CSV."""
_QUOTED = re.compile(r"(?:'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\")(\s+(?=['\"]))?", re.DOTALL)
"""A text or bytes; with a group of the space that stands between it and another one."""
_LABEL = re.compile(r"\(?([A-Ja-j](?=[.):、])|\d{1,2}(?=[)、]|[.:]\s))[.):、]\s*(?=\S)")
_MARKED = re.compile(rf"\s*{_LABEL.pattern}(.*)", re.DOTALL)
_LETTER_MARK = re.compile(r"(?:^|(?<=[\s;,]))\(?([A-Ja-j])[.):、]\s*(?=\S)")
_LINE_MARK = re.compile(rf"^[ \t]*{_LABEL.pattern}", re.MULTILINE)
_NAMED = re.compile(r"(?:(?:option|choice|answer|opt)s?[ _-]*)?([A-Za-z]|\d{1,2})", re.IGNORECASE)
"""The name of one option: `B`, `option_b`, `Choice 2`."""
_GOLD = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)\s*:?\s*)?[(\[]?\s*([A-Ja-j]|\d{1,2})(?:\.0+)?\s*"
    r"(?:[)\]]?[.:、]?|[)\].:、,-]+\s*(\S.*))",
    re.IGNORECASE | re.DOTALL,
)
"""A gold that names an option by its label, perhaps with its text: `B`, `(b)`, `Option B`, `B. blue`."""
_WORDS_CHARS = 400
_WORD = re.compile(r"[^\W_](?:[\w %°.'/+-]*\w)?[%°]?|-\d+(?:\.\d+)?")
"""One of several options that commas without a space keep apart: `red,blue`; a bracket may hold a comma itself."""
_TRUTHS = (("true", "yes", "correct", "right"), ("false", "no", "incorrect", "wrong"))
_LABEL_NAMES, _TEXT_NAMES = ("label", "key", "letter", "id"), ("text", "value", "content", "option", "answer")


@dataclass(frozen=True)
class Options:
    """The options of a row; none of fewer than two."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """By letter, in their order. A letter is left out where its option is empty."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The letter by what the dataset calls it, in lower case: `b`, or `2` of options that are numbered."""

    def __bool__(self) -> bool:
        return bool(self.texts)


def number_text(cell: object) -> object:
    """A number as it is written by hand, `3` of 3.0 and of the decimal 3.00; any other cell as it is."""
    if isinstance(cell, Decimal) and cell.is_finite() and abs(cell.adjusted()) < 1_000:
        text = f"{cell:f}"
        return text.rstrip("0").removesuffix(".") if "." in text else text
    return f"{cell:.15g}" if isinstance(cell, float) and math.isfinite(cell) else cell


def read_options(cell: object) -> Options:
    """The options in a cell: a list, a mapping by label, pairs of label and text, or one of these as text.

    Raises `Refusal` for more than the grader knows.
    """
    if isinstance(cell, str):
        cell = listed(cell) if len(cell) <= MAX_TEXT else None
    if isinstance(cell, Mapping) and isinstance(cell.get("text"), list):  # ARC's {"text": […], "label": […]}
        labels = cell.get("label")
        return _by_label(labels if isinstance(labels, list) else [], cell["text"])
    if isinstance(cell, Mapping):
        cell = list(cell.items())
    if not isinstance(cell, list):
        return Options()
    if cell and all(isinstance(one, tuple) and len(one) == 2 for one in cell):  # of a mapping, Arrow's too
        return _by_label([key for key, _ in cell], [text for _, text in cell])
    if cell and all(isinstance(one, Mapping) for one in cell):
        labels, texts = ([_first_of(one, names) for one in cell] for names in (_LABEL_NAMES, _TEXT_NAMES))
        return _by_label(labels, texts)
    marks = [_MARKED.fullmatch(one.translate(FULL_WIDTH)) if isinstance(one, str) else None for one in cell]
    found = [mark[1].upper() for mark in marks if mark]
    if len(found) == len(cell) > 1 and _is_in_order(found):
        return _by_label(found, [one[mark.start(2) :] for one, mark in zip(cell, marks) if mark])
    return _by_label([], cell)


def named_options(cells: Mapping[str, object]) -> Options:
    """The options in columns of one each, by the columns' names."""
    return _by_label(list(cells), list(cells.values()))


def label_of(name: str) -> str:
    """The letter or the number in the name of one option, such as `b` of `Option_B`; empty if it names none."""
    match = _NAMED.fullmatch(name.strip())
    return match[1].lower() if match else ""


def _by_label(names: Sequence[object], cells: Sequence[object]) -> Options:
    """Options by their labels, or by their places without labels; those that are letters keep them."""
    labels = [label_of(str(name)) for name in names]
    if len(set(labels)) == len(cells) and "" not in labels:
        pairs = sorted(zip(labels, cells), key=lambda pair: (len(pair[0]), pair[0]))
        labels, cells = [label for label, _ in pairs], [cell for _, cell in pairs]
    elif names and len({str(name) for name in names}) == len(cells):
        labels = [str(name).strip().lower() for name in names]
    else:
        labels = []
    texts = [_option_text(cell) for cell in cells]
    if None in texts:
        return Options()
    while texts and not texts[-1]:
        texts.pop()
    if sum(map(bool, texts)) < 2:
        return Options()
    if len(texts) > len(LETTERS):
        raise Refusal("too many options", f"{len(texts)} options; the grader knows {len(LETTERS)}")
    letters = [label.upper() for label in labels] if set("".join(labels).upper()) <= set(LETTERS) else []
    if len(set(letters)) != len(cells) or any(len(letter) != 1 for letter in letters):
        letters = list(LETTERS)
    by_letter = {letter: text for letter, text in zip(letters, texts) if text}
    called = {letter.lower(): letter for letter in by_letter}
    called |= {label: letter for label, letter in zip(labels, letters) if letter in by_letter}
    return Options(by_letter, called)


def _option_text(cell: object) -> str | None:
    """The text of an option; empty of an empty cell, `None` of what is no option."""
    if cell is None or isinstance(cell, float) and math.isnan(cell):
        return ""
    text = number_text(cell)
    if not isinstance(text, str | int):
        return None
    text = " ".join(str(text).split())
    return "" if text.lower() in ("nan", "<na>") else text  # as pandas writes nothing; `None` is an option


def _first_of(cell: Mapping[str, object], names: Sequence[str]) -> object:
    return next((cell[name] for name in names if name in cell), "")


def listed(text: str) -> object:
    """The list or the mapping that was written as text: JSON, Python, `A. …; B. …`, or items apart."""
    text = text.strip()
    if text[:1] in ("[", "{"):
        if len(text) > MAX_TEXT and not _holds_few(text):
            return None
        of_numpy = _QUOTED.sub(
            lambda one: one[0] if one[1] is None else f"{one[0].rstrip()}, ", text
        )  # it writes ['a' 'b'], which to Python is one text
        for written, read in ((text, json.loads), (of_numpy, ast.literal_eval)):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                found = read(written)
                return None if is_deep(found) else found
        return None
    marks = _marks(text.translate(FULL_WIDTH))
    if marks:
        ends = [mark.start() for mark in marks[1:]] + [len(text)]
        return {mark[1].upper(): text[mark.end() : end].strip(" \t;,\n\u3000；，") for mark, end in zip(marks, ends)}
    for separator in ("\n", "|", ";", "；", ", ", "，", "、"):
        if separator in text:
            return [part.strip() for part in text.split(separator) if part.strip()]
    parts = text.split(",")
    is_number = re.fullmatch(r"\D?\d{1,3}(,\d{3})+\D{0,3}|-?\d+,\d+", text[:_WORDS_CHARS])
    return parts if len(text) <= _WORDS_CHARS and all(map(_WORD.fullmatch, parts)) and not is_number else None


def _holds_few(text: str) -> bool:
    """True for a list of few long texts or bytes, which takes little memory to read."""
    if (
        len(text) > MAX_WRITTEN_CHARS
        or len(list(islice(_QUOTED.finditer(text), MAX_WRITTEN_TEXTS))) == MAX_WRITTEN_TEXTS
    ):
        return False
    return len(_QUOTED.sub("", text)) <= MAX_TEXT


def _marks(text: str) -> list[re.Match[str]]:
    """The labels of a text's options, in their order; none if it has no two."""
    by_line = list(_LINE_MARK.finditer(text))
    if len(by_line) > 1 and len(by_line) == len([line for line in text.split("\n") if line.strip()]):
        if _is_in_order([mark[1].upper() for mark in by_line]):
            return by_line
    marks: list[re.Match[str]] = []
    for mark in _LETTER_MARK.finditer(text):
        if mark[1].upper() == LETTERS[len(marks) : len(marks) + 1]:
            marks.append(mark)
    return marks if len(marks) > 1 and not text[: marks[0].start()].strip() else []


def _is_in_order(labels: Sequence[str]) -> bool:
    """True for `A C D` and `1 2 3`."""
    if all(label in LETTERS for label in labels):
        return labels[0] == "A" and list(labels) == sorted(set(labels))
    return list(labels) in ([str(n + first) for n in range(len(labels))] for first in (0, 1))


def _by_text(gold: object, options: Options) -> str | None:
    texts = {letter: _plain(text) for letter, text in options.texts.items()}
    wanted = str(gold).strip()
    truths = next((group for group in _TRUTHS if _plain(wanted) in group), ())
    exact = (letter for letter, text in options.texts.items() if text == " ".join(wanted.split()))
    alike = (letter for word in (_plain(wanted), *truths) for letter, text in texts.items() if text == word)
    return next(exact, None) or next(alike, None)


def _by_name(gold: object, options: Options) -> str | None:
    text = str(gold).strip().translate(FULL_WIDTH)
    if isinstance(gold, bool) or not (match := _GOLD.fullmatch(text)):
        return options.labels.get(text.lower())
    letter = options.labels.get(match[1].lower())
    if letter is None or match[2] and _plain(match[2]) != _plain(options.texts[letter]):
        return None
    return letter


def _by_index(first: int) -> Callable[[object, Options], str | None]:
    def read(gold: object, options: Options) -> str | None:
        match = None if isinstance(gold, bool) else _GOLD.fullmatch(str(gold).strip())
        if match is None or match[2] or not match[1].isdecimal() or any(map(str.isdecimal, options.labels)):
            return None
        at = int(match[1]) - first
        return LETTERS[at] if 0 <= at < len(LETTERS) and LETTERS[at] in options.texts else None

    return read


def _plain(text: str) -> str:
    """A text for comparing: one case, single spaces, without a full stop, `3` of 3.0."""
    text = " ".join(text.casefold().split()).removesuffix(".").removeprefix("$").removesuffix("$")
    return re.sub(r"(-?\d+)\.0+", r"\1", text) if re.fullmatch(r"-?\d+\.0+", text) else text


_READINGS: dict[str, Callable[[object, Options], str | None]] = {
    "the text of an option": _by_text,
    "the letter of an option": _by_name,
    "the index of an option, from 0": _by_index(0),
    "the index of an option, from 1": _by_index(1),
}
"""By what a gold is; of equals the first is taken."""
_TEXT, _NAME, *_INDICES = _READINGS


def letter_of(gold: object, options: Options, kind: str | None = None) -> str | None:
    """The letter of the option that a gold of one kind, or of any, names; `None` if it names none."""
    answer = gold if isinstance(gold, bool) else gold_answer(number_text(gold))
    if not options or answer == "":
        return None
    kinds = _READINGS if kind is None else (kind,)
    return next((letter for kind in kinds if (letter := _READINGS[kind](answer, options))), None)


class _Votes:
    """Counts, of the kinds that golds may be, the golds that each fits."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.differing = set[frozenset[str]]()
        """Pairs of kinds that give some gold two letters."""
        self.num_golds, self.are_texts = 0, True

    def add(self, gold: object, options: Options) -> None:
        letters = {kind: letter for kind in _READINGS if (letter := letter_of(gold, options, kind))}
        self.counts.update(letters.keys())
        self.differing |= {frozenset((a, b)) for a in letters for b in letters if letters[a] != letters[b]}
        self.num_golds += bool(letters)
        self.are_texts &= not letters or isinstance(gold, str)

    @property
    def is_open(self) -> bool:
        """True while indices may count from 0 as well as from 1."""
        first, second = (self.counts[kind] for kind in _INDICES)
        return first == second == max(self.counts.values(), default=0)


@dataclass(frozen=True)
class GoldReading:
    """The kind of a column's golds, among the options of their rows."""

    order: tuple[str, ...] = tuple(_READINGS)[:3]
    """The kinds that a gold may be; the first that fits is taken."""
    rival: str = ""
    """Another kind that fits all golds of the sample just as well, with other letters."""
    num_golds: int = 0
    """Golds of the sample."""

    @classmethod
    def of(cls, sample: Iterable[tuple[object, Options]], more: Iterable[tuple[object, Options]] = ()) -> GoldReading:
        """Decides by a sample of golds with their options, and by as many `more` as tell indices from 0 or 1 apart."""
        votes = _Votes()
        for gold, options in sample:
            votes.add(gold, options)
        if votes.is_open:
            for gold, options in more:
                votes.add(gold, options)
                if not votes.is_open:
                    break
        counts = votes.counts
        index = max(_INDICES, key=lambda kind: counts[kind])
        kinds = [kind for kind in (_TEXT, _NAME, index) if counts[kind] or kind != index]
        order = sorted(kinds, key=lambda kind: -counts[kind])
        rivals = [kind for kind in _READINGS if 0 < counts[kind] == counts[order[0]]]
        if order[0] == _TEXT and votes.are_texts:  # of options that are numbers too
            rivals = [kind for kind in rivals if kind not in _INDICES]
        rivals = [kind for kind in rivals if frozenset((kind, order[0])) in votes.differing]
        return cls(tuple(order), "".join(rivals[:1]), votes.num_golds)

    def letter(self, gold: object, options: Options) -> str | None:
        """The letter of the option that a gold names; `None` if it names none."""
        return next((letter for kind in self.order if (letter := letter_of(gold, options, kind))), None)

    def letter_there(self, gold: object, options: Options, there: Mapping[str, str]) -> str | None:
        """As `letter`, the one that the option has in a problem; `there` has it by the column's letters.

        Raises `Refusal` for a gold that is a letter itself, where the two differ.
        """
        letter = self.letter(gold, options)
        if letter is None or all(ours == theirs for ours, theirs in there.items()):
            return letter
        if _NAME == next(kind for kind in self.order if letter_of(gold, options, kind)):
            raise Refusal("options differ", f"{gold!r} is one option in the problem, and another one in its column")
        return there.get(letter, letter)
