"""The shapes of rows that people bring, read as `image`, `problem`, `solution`.

    shape = recognise(config, columns, sample)      # `sample`: the first rows, as they were read
    shape.words                                     # 'problem = question, with its options; solution = answer …'
    shape.cells(row)                                # {'image': …, 'problem': …, 'solution': 'B'}

Known are the columns of this project, question and answer under their usual names, chat turns (`messages` of ms-swift
and LLaMA-Factory, `conversations` of LLaVA, `prompt` of TRL and verl), and options in a column of their own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from inference.common.errors import UserError
from inference.prompt.format import with_places
from training.config.data_config import COLUMNS, REQUIRED, DataConfig
from training.data.pictures import Folders, looks_like_pictures
from training.data.refusals import Refusal
from training.data.shapes.cells import first_named, holds, is_empty, is_there, value_at
from training.data.shapes.image_columns import image_columns, is_alone, listed_pictures
from training.data.shapes.options import (
    LETTERS,
    GoldReading,
    Options,
    label_of,
    letter_of,
    listed,
    named_options,
    number_text,
    read_options,
)
from training.data.shapes.turns import pictures_in_turns, text_of_turns, turns_of
from training.grading.grader import gold_answer, gold_fault

PROBLEM_NAMES = ("problem", "question", "query", "instruction", "prompt", "text", "txt")
SOLUTION_NAMES = (
    *("solution", "answer", "answers", "label", "ground_truth", "reward_model.ground_truth", "gold", "gt", "target"),
    *("final_answer", "answerkey", "correct_answer", "correct_option", "correct_choice_idx", "answer_idx"),
    *("multiple_choice_answer", "direct_answers", "response", "output", "completion", "cls"),
)
ALTERNATIVES = ("answers", "direct_answers")
"""Columns that hold several people's answers to one question."""
OPTION_NAMES = ("options", "choices", "option", "candidates", "answer_choices")
SEVERAL = ("image", "options")
"""Our columns that may be several of the dataset's."""
TURN_NAMES = ("messages", "conversations", "conversation", "message", "prompt", "turns", "texts")
_WORKED_WORDS = 12
"""A longer solution counts as worked, unless its answer is marked."""
_MARKED = re.compile(r"####|\\boxed|<answer>|\b(?:final )?answer\s*(?:is|:)", re.IGNORECASE)
_ONE_OPTION = re.compile(
    r"(?:(option|choice|answer|opt)s?[ _-]*)?([A-J])|((?:option|choice|opt)s?)[ _-]*(\d{1,2})", re.I
)
"""A column that holds one option, by its letter or its number."""
_SHARE_OF_CHOICES = 0.5
"""Share of golds that must name an option, so that a column is taken for that of the golds beside options."""


@dataclass(frozen=True)
class RowShape:
    """The places of our columns in a row."""

    image: tuple[str, ...]
    """Columns of pictures, in their order."""
    problem: str
    """A column of text or of chat turns."""
    solution: str
    """A column; empty where it is the last of the assistant's turns."""
    options: tuple[str, ...]
    """A column of all options, or one for each in their order; none for open questions."""
    is_chat: bool
    """True if the problem is a turn."""
    others: tuple[tuple[str, str], ...]
    """Our optional columns, and the dataset's name of each."""
    reading: GoldReading
    """The kind of the golds, where there are options."""
    doubts: tuple[str, ...]
    """Sentences on what may be read otherwise than it is meant."""
    notes: tuple[str, ...] = ()
    """On files that are not read, or read in another way."""

    @property
    def columns(self) -> list[str]:
        """The dataset's own columns that are read."""
        paths = [*self.image, self.problem, self.solution, *self.options, *(theirs for _, theirs in self.others)]
        return list(dict.fromkeys(path.split(".")[0] if path else "" for path in paths if path))

    @property
    def words(self) -> str:
        """The shape, for the person who gave the dataset."""
        is_in_turns = self.image == (self.problem,)
        words = f"image = {'the pictures in ' if is_in_turns else ''}{' + '.join(self.image)}, problem = "
        words += f"the last user turn of {self.problem}" if self.is_chat else self.problem
        words += f" with {' + '.join(self.options)}" if self.options else ""
        words += ", solution = " + ("the most frequent of " if self.solution.lower() in ALTERNATIVES else "")
        words += self.solution or "the assistant turn after it"
        words += f", {self.reading.order[0]}" if self.options else ""
        return "; ".join([words, *self.notes])

    def cells(self, row: Mapping[str, object]) -> dict[str, object]:
        """A row under our names, and the number of its `earlier_turns`, which are not read. Raises `Refusal`."""
        problem, answer, earlier = text_of_turns(value_at(row, self.problem))
        solution = _one_answer(value_at(row, self.solution), self.solution) if self.solution else answer
        options = _options_of(row, self.options)
        pictures = self.pictures(row)
        if isinstance(problem, str):
            problem = problem.strip()
            if options and not _has_options(problem, options):
                problem += "\n" + "\n".join(f"{letter}. {text}" for letter, text in options.texts.items())
            problem = with_places(problem, len(pictures) if isinstance(pictures, list | tuple) else 1)
        cells: dict[str, object] = {ours: value_at(row, theirs) for ours, theirs in self.others}
        solution = _gold(solution, options, self.reading)
        return cells | {"image": pictures, "problem": problem, "solution": solution, "earlier_turns": earlier}

    def pictures(self, row: Mapping[str, object]) -> object:
        """The cell of a row's pictures: one, or a list."""
        found = [listed_pictures(value_at(row, name)) for name in self.image]
        if len(found) == 1:
            return pictures_in_turns(found[0]) or found[0]
        lists = [cell if isinstance(cell, list) else [cell] for cell in found if not is_empty(cell)]
        return [picture for of_column in lists for picture in of_column]


def recognise(
    config: DataConfig,
    columns: Sequence[str],
    sample: Sequence[Mapping[str, object]],
    folders: Folders | None = None,
    more: Callable[[Sequence[str]], Iterable[Mapping[str, object]]] = lambda columns: (),
) -> RowShape:
    """The shape of a split's rows, by the mapping of the configuration, the names of the columns and the first rows.

    `folders` tell which of several columns names the pictures' files; `more` brings further rows with these columns,
    where the first ones leave open what the golds are. Raises `UserError`, for a missing column `NoColumn`.
    """
    named, free = _roles(config, columns, sample)
    turns = named.get("problem") or next((name for name in TURN_NAMES if holds(sample, name, turns_of)), None)
    is_chat = turns is not None and holds(sample, turns, turns_of)
    options, are_letters = _option_columns(free, sample)
    if "options" in named:
        options, are_letters = tuple(_paths(named["options"], columns)), False
    problem = turns if is_chat and turns else named.get("problem") or first_named(PROBLEM_NAMES, free, sample) or ""
    image = tuple(_paths(named["image"], columns)) if "image" in named else ()
    image = image or image_columns([name for name in free if name != problem], sample, folders)
    if not image and is_chat and holds(sample, problem, pictures_in_turns):
        image = (problem,)
    solution = named.get("solution") or _solution_column(free, sample, options)
    if are_letters and _share_of_choices(sample, solution, options) < _SHARE_OF_CHOICES:
        options = ()
    for ours, found in (("image", image), ("problem", problem)):
        if not found:
            raise NoColumn(config, ours, ours, columns)
    if not solution and not (is_chat and any(text_of_turns(value_at(row, problem))[1] for row in sample)):
        raise NoColumn(config, "solution", "solution", columns)
    names = {ours: named.get(ours, ours) for ours in COLUMNS[3:]}
    used = {*image, problem, solution, *options}
    others = tuple((o, t) for o, t in names.items() if o in named or t in free and t not in used)
    shape = RowShape(image, problem, solution, options, is_chat, others, GoldReading(), ())
    if options:
        shape = replace(shape, reading=_reading(shape, sample, more))
    return replace(shape, doubts=tuple(_doubts(shape, free, sample)))


def _roles(
    config: DataConfig, columns: Sequence[str], sample: Sequence[Mapping[str, object]]
) -> tuple[dict[str, str], list[str]]:
    """The mapped columns, and those that are not mapped. Raises `UserError`."""
    named = dict(config.columns)
    if repeated := next((name for name, times in Counter(columns).items() if times > 1), None):
        raise UserError(
            f"The dataset {config.dataset} has {columns.count(repeated)} columns {repeated!r}. Rename all but one."
        )
    for ours, theirs in named.items():
        for path in _paths(theirs, columns) if ours in SEVERAL else (theirs,):
            if not is_there(path, columns, sample):
                raise NoColumn(config, ours, path, columns)
    roles_of_rows = [ours for ours in (*REQUIRED, "options") if ours in named]
    for theirs, times in Counter(named[ours] for ours in roles_of_rows).items():
        if times > 1 and not holds(sample, theirs, turns_of):
            roles = " and ".join(ours for ours in roles_of_rows if named[ours] == theirs)
            raise UserError(f"--columns names {theirs!r} for {roles}; name a column of its own for each.")
    mapped = {path for ours in roles_of_rows for path in _paths(named[ours], columns)}
    return named, [name for name in columns if name not in mapped]


def _paths(theirs: str, columns: Sequence[str]) -> list[str]:
    """The columns in a mapping that may name several: `left + right`."""
    return [theirs] if theirs in columns else [part.strip() for part in theirs.split("+")]


def _reading(
    shape: RowShape,
    sample: Sequence[Mapping[str, object]],
    more: Callable[[Sequence[str]], Iterable[Mapping[str, object]]],
) -> GoldReading:
    """The kind of a split's golds, among their options."""

    def pair(row: Mapping[str, object]) -> tuple[object, Options]:
        answer = None if shape.solution else text_of_turns(value_at(row, shape.problem))[1]
        solution = _one_answer(value_at(row, shape.solution), shape.solution) if shape.solution else answer
        return _unwrapped(solution), _known_options(row, shape.options)

    names = [path.split(".")[0] for path in (shape.solution or shape.problem, *shape.options)]
    further = (pair(row) for rows in (more,) for row in rows(list(dict.fromkeys(names))))
    return GoldReading.of(map(pair, sample), further)


def _doubts(shape: RowShape, free: Sequence[str], sample: Sequence[Mapping[str, object]]) -> Iterator[str]:
    if shape.reading.rival:
        yield (
            f"The {shape.reading.num_golds:,} golds that were looked at may be {shape.reading.rival}, and are read as "
            f"{shape.reading.order[0]}. If that is wrong, write their letters into the column {shape.solution!r}."
        )
    named = first_named(OPTION_NAMES, free, sample)
    if named and not shape.options and holds(sample, named, lambda cell: isinstance(cell, str | list | Mapping)):
        yield (
            f"The column {named!r} is not read: its cells are no options. Write a list of 2 to {len(LETTERS)}, or one "
            "option a line."
        )
    used = {*shape.image, shape.problem, shape.solution, *shape.options}
    others = [name for name in free if name not in used and not is_alone(name)]
    unread = [name for name in others if holds(sample, name, looks_like_pictures)]
    if unread and set(shape.image) != {shape.problem}:
        both = " + ".join([*shape.image, *unread])
        yield (
            f"Pictures in {', '.join(unread[:20])} are not read. If the problems are about them too, name them all: "
            f'--columns "{{image: {both}}}".'
        )


class NoColumn(UserError):
    """A column that a row needs is not there; `words` say so without a remedy."""

    def __init__(self, config: DataConfig, ours: str, theirs: str, columns: Sequence[str]) -> None:
        has = ", ".join(map(str, list(columns)[:40])) or "none"
        self.words = f"has no column {theirs!r} for `{ours}`; it has {has}."
        remedy = f'Map one of them: --columns "{{{ours}: NAME}}" (`columns` under `data` in a file).'
        super().__init__(f"The dataset {config.dataset} {self.words} {remedy}")


def _option_columns(columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> tuple[tuple[str, ...], bool]:
    """The column of all options, or the columns of one each: `A`, `B`, `C`; `choice_a`, `choice_b`.

    The second value is true where the columns' names are letters alone.
    """
    for name in OPTION_NAMES:
        found = first_named((name,), columns, sample)
        if found and any(_known_options(row, (found,)) for row in sample):
            return (found,), False
    families: dict[str, dict[str, str]] = {}
    for name in columns:
        if match := _ONE_OPTION.fullmatch(name.strip()):
            word = match[1] or match[3] or ""
            families.setdefault(word.lower().removesuffix("s") + "#" * bool(match[4]), {}).setdefault(
                label_of(name), name
            )
    for word, by_label in sorted(families.items(), key=lambda item: -len(item[1])):
        labels = sorted(by_label, key=lambda label: (len(label), label))
        if len(labels) > 1 and (labels[0].isdigit() or labels[0] == "a" and (word or labels[1] == "b")):
            return tuple(by_label[label] for label in labels), not word
    return (), False


def _options_of(row: Mapping[str, object], columns: Sequence[str]) -> Options:
    """The options of a row. Raises `Refusal`."""
    if len(columns) == 1:
        return read_options(value_at(row, columns[0]))
    return named_options({name.rpartition(".")[2]: value_at(row, name) for name in columns})


def _known_options(row: Mapping[str, object], columns: Sequence[str]) -> Options:
    """The options of a row; none where there are too many."""
    try:
        return _options_of(row, columns)
    except Refusal:
        return Options()


def _solution_column(columns: Sequence[str], sample: Sequence[Mapping[str, object]], options: tuple[str, ...]) -> str:
    """The column of the answers: beside options of those that name one, else the first with short or marked ones."""
    present = list(dict.fromkeys(found for name in SOLUTION_NAMES if (found := first_named((name,), columns, sample))))
    if options:
        shares = {name: _share_of_choices(sample, name, options) for name in present}
        if max(shares.values(), default=0) >= _SHARE_OF_CHOICES:
            return max(present, key=lambda name: round(shares[name], 1))
    shares = {name: _share_of_answers([_one_answer(value_at(row, name), name) for row in sample]) for name in present}
    return max(present, key=lambda name: round(shares[name], 1), default="")


def _share_of_choices(sample: Sequence[Mapping[str, object]], solution: str, columns: Sequence[str]) -> float:
    """The share of golds that name an option, of those beside options."""
    rows = [(row, options) for row in sample if (options := _known_options(row, columns))]
    golds = [(_unwrapped(_one_answer(value_at(row, solution), solution)), options) for row, options in rows]
    return sum(letter_of(gold, options) is not None for gold, options in golds) / max(1, len(golds))


def _share_of_answers(cells: Sequence[object]) -> float:
    """The share of cells that are an answer: readable, and short or with the answer marked."""

    def is_answer(cell: object) -> bool:
        cell = _gold(cell, Options(), GoldReading())
        if isinstance(cell, str) and len(cell.split()) > _WORKED_WORDS and not _MARKED.search(cell):
            return False
        return not gold_fault(cell)

    return sum(map(is_answer, cells)) / max(1, len(cells))


def _one_answer(cell: object, column: str) -> object:
    """The most frequent of several people's answers, the first of equals; a completion's text; else the cell."""
    if isinstance(cell, str) and column.lower() in ALTERNATIVES and cell.startswith("["):
        cell = listed(cell)
    if turns := turns_of(cell):
        return text_of_turns(cell)[1] or turns[-1][1]
    if not isinstance(cell, list) or len(cell) < 2:
        return cell
    if all(isinstance(one, Mapping) and isinstance(one.get("answer"), str) for one in cell):
        cell = [one["answer"] for one in cell]
    elif column.lower() not in ALTERNATIVES or not all(isinstance(one, str) for one in cell):
        return cell
    return Counter(cell).most_common(1)[0][0]  # of equals the first


def _has_options(problem: str, options: Options) -> bool:
    """True if the problem gives its options already, each with its letter."""
    return all(re.search(rf"(?:^|[\s(;,]){letter}\s*[.):、]", problem) for letter in options.texts)


def _unwrapped(solution: object) -> object:
    """The one answer in a list or a mapping; any other solution as it is."""
    if isinstance(solution, list | tuple) and len(solution) == 1:
        solution = solution[0]
    if isinstance(solution, Mapping):
        solution = next((solution[n] for n in ("ground_truth", "answer", "value", "text") if n in solution), solution)
    return solution


def _gold(solution: object, options: Options, reading: GoldReading) -> object:
    """The solution: of a list with one answer that answer, of what names an option its letter, `yes` of True."""
    solution = _unwrapped(solution)
    if (letter := reading.letter(solution, options)) and gold_answer(solution) != letter:
        return letter
    if isinstance(solution, bool):
        return "yes" if solution else "no"
    return number_text(solution)
