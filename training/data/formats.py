"""The shapes of rows that people bring, read as `image`, `problem`, `solution`.

    shape = recognise(config, columns, sample)      # `sample`: the first rows, as they were read
    shape.words                                     # 'problem = question, with its options; solution = answer …'
    shape.cells(row)                                # {'image': …, 'problem': …, 'solution': 'B'}

Known are the columns of this project, question and answer under their usual names, chat turns (`messages` of ms-swift
and LLaMA-Factory, `conversations` of LLaVA, `prompt` of TRL and verl), and options in a column of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from inference.common.errors import UserError
from inference.prompt.format import num_marked, with_places
from training.config.data_config import COLUMNS, REQUIRED, DataConfig
from training.data.picture_cells.text import looks_like_pictures
from training.data.pictures import Folders, is_address
from training.data.refusals import Refusal
from training.data.shapes.answer_columns import (
    SHARE_OF_CHOICES,
    other_answers,
    share_of_choices,
    solution_column,
)
from training.data.shapes.cells import MAX_DEPTH, first_named, holds, is_deep, is_empty, is_there, value_at
from training.data.shapes.golds import ALTERNATIVES, gold, one_answer, several, unwrapped
from training.data.shapes.image_columns import (
    image_columns,
    is_alone,
    late_pictures,
    listed_pictures,
    named_by_id,
    of_several,
)
from training.data.shapes.missing_columns import NoColumn, check_together
from training.data.shapes.option_columns import (
    OPTION_NAMES,
    known_options,
    late_options,
    option_columns,
    options_of,
)
from training.data.shapes.options import LETTERS, GoldReading, Options
from training.data.shapes.problems import (
    PROBLEM_NAMES,
    UNITS,
    is_beside,
    is_problem_text,
    joined,
    problem_parts,
    telling_parts,
    unit_line,
    unread_parts,
    with_options,
)
from training.data.shapes.turns import (
    TURN_NAMES,
    has_system_turn,
    num_earlier_turns,
    pictures_in_turns,
    text_of_turns,
    turns_of,
    unknown_roles,
)

SEVERAL = ("image", "problem", "options")
"""Our columns that may be several of the dataset's."""


@dataclass(frozen=True)
class RowShape:
    """The places of our columns in a row."""

    image: tuple[str, ...]
    """Columns of pictures, in their order."""
    problem: str
    """A column of text or of chat turns, or several of text: `hint + question`."""
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
    parts: tuple[str, ...] = ()
    """The columns whose texts make the problem, in their order."""
    unit: str = ""
    """The column of the golds' unit."""
    mapped: frozenset[str] = frozenset()
    """Our columns whose place the configuration says."""
    known: frozenset[str] = frozenset()
    """The dataset's columns by whose cells this shape was decided."""

    @property
    def columns(self) -> list[str]:
        """The dataset's own columns that are read."""
        paths = [
            *self.image,
            *(part for part in self.parts if not is_beside(part)),
            self.solution,
            *self.options,
            *(theirs for _, theirs in self.others),
        ]
        return list(dict.fromkeys(path.split(".")[0] if path else "" for path in paths if path))

    @property
    def words(self) -> str:
        """The shape, for the person who gave the dataset."""
        is_in_turns = self.image == (self.problem,)
        words = f"image = {'the pictures in ' if is_in_turns else ''}{' + '.join(self.image)}, problem = "
        words += f"the last user turn of {self.problem}" if self.is_chat else self.problem
        words += f" and its {self.unit}" if self.unit else ""
        words += f" with {' + '.join(self.options)}" if self.options else ""
        words += ", solution = " + ("the most frequent of " if self.solution.lower() in ALTERNATIVES else "")
        words += self.solution or "the assistant turn after it"
        words += f", {self.reading.order[0]}" if self.options else ""
        return "; ".join([words, *self.notes])

    def cells(self, row: Mapping[str, object]) -> dict[str, object]:
        """A row under our names, and the number of its `earlier_turns`, which are not read. Raises `Refusal`."""
        if is_deep(row):
            raise Refusal("row unreadable", f"more than {MAX_DEPTH} lists and objects within one another")
        text = joined(row, self.parts)
        if isinstance(text, list) and len(text) == 1 and isinstance(text[0], str):
            text = text[0]
        if roles := unknown_roles(text):
            raise Refusal("no problem", roles)
        problem, answer, earlier = text_of_turns(unwrapped(text) if isinstance(text, bytes) else text)
        earlier += num_earlier_turns(row)
        options = options_of(row, self.options)
        answer = one_answer(value_at(row, self.solution), self.solution, options) if self.solution else answer
        self._check_foreseen(row, answer)
        pictures = self.pictures(row)
        there: Mapping[str, str] = {}
        if options and all(map(looks_like_pictures, options.texts.values())):
            first = next(iter(options.texts.values()))[:80]
            raise Refusal(
                "options are pictures", f"{first!r}; write them into the picture, or map their columns to `image`"
            )
        if isinstance(problem, str):
            problem, there = with_options(problem.strip(), options)
        solution = gold(answer, options, self.reading, there)
        if isinstance(problem, str):
            num = len(pictures) if isinstance(pictures, list | tuple) else 1
            if num < (num_marks := num_marked(problem)) and not is_empty(pictures):
                raise Refusal(
                    "picture missing", f"the problem has marks for {num_marks} pictures, and the row has {num}"
                )
            problem += unit_line(value_at(row, self.unit), solution, problem) if self.unit else ""
            problem = with_places(problem, num)
        cells: dict[str, object] = {ours: value_at(row, theirs) for ours, theirs in self.others}
        return cells | {"image": pictures, "problem": problem, "solution": solution, "earlier_turns": earlier}

    def _check_foreseen(self, row: Mapping[str, object], solution: object) -> None:
        """Raises `Refusal` for a row that would be read otherwise by what it has where the first rows have nothing."""
        late = [name for name, cell in row.items() if name not in self.known and not is_empty(cell)]
        if not late:
            return
        found: dict[str, tuple[str, ...]] = {}
        if "options" not in self.mapped and not self.options:
            found["options"] = late_options(row, late, solution)
        if "image" not in self.mapped and self.image != (self.problem,):
            found["image"] = late_pictures(row, late, self.image)
        if "problem" not in self.mapped and not self.is_chat:
            more = (name for part in self.parts for name in problem_parts(part, late, [row]) if name in late)
            found["problem"] = tuple(dict.fromkeys(more))
        for ours, names in found.items():
            if names:
                before = {"image": self.image, "problem": self.parts}.get(ours, ())
                mapping = f"{{{ours}: {' + '.join([*before, *names])}}}"
                without = f', or leave it out: --columns "{{{ours}: {" + ".join(before)}}}"' if before else ""
                detail = f'{", ".join(names)}: empty in those; map it: --columns "{mapping}"{without}'
                raise Refusal("unlike the first rows", detail)

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
    sample = [row for row in sample if not is_deep(row)]
    named, free = _roles(config, columns, sample)
    turns = named.get("problem") or next((name for name in TURN_NAMES if holds(sample, name, turns_of)), None)
    is_chat = turns is not None and holds(sample, turns, turns_of)
    options, are_letters = option_columns(free, sample)
    if "options" in named:
        options, are_letters = tuple(_paths(named["options"], columns)), False
    problem = turns if is_chat and turns else named.get("problem") or _problem_column(free, sample)
    not_text = [name for name in free if name != problem]
    image, doubt = tuple(_paths(named["image"], columns)) if "image" in named else (), ""
    if not image and (image := image_columns(not_text, sample, folders)):
        image, doubt = of_several(image, not_text, sample, [_num_marked(row, problem) for row in sample])
    if not image and is_chat and holds(sample, problem, pictures_in_turns):
        image = (problem,)
    elif "image" not in named:
        image = named_by_id(image, not_text, sample, folders)
    solution = named.get("solution") or solution_column(free, sample, options)
    if are_letters and share_of_choices(sample, solution, options) < SHARE_OF_CHOICES:
        options = ()
    for ours, found in (("image", image), ("problem", problem)):
        if not found:
            raise NoColumn(config, ours, ours, columns, sample)
    roles = [unknown_roles(value_at(row, problem)) for row in sample] if is_chat else []
    if roles and all(roles):
        raise UserError(f"The dataset {config.dataset} has chat turns in {problem!r}: {roles[0]}.")
    if not solution and not (is_chat and any(text_of_turns(value_at(row, problem))[1] for row in sample)):
        raise NoColumn(config, "solution", "solution", columns, sample)
    if solution and not is_chat:
        check_together(config, problem, solution, sample)
    names = {ours: named.get(ours, ours) for ours in COLUMNS[3:]}
    left = [name for name in free if name not in {*image, problem, solution, *options}]
    others = tuple((ours, theirs) for ours, theirs in names.items() if ours in named or theirs in left)
    shape = RowShape(image, problem, solution, options, is_chat, others, GoldReading(), (), mapped=frozenset(named))
    shape = _with_parts(shape, columns, left, sample)
    if options:
        shape = replace(shape, reading=_reading(shape, sample, more))
    return replace(shape, doubts=tuple(filter(None, (doubt, *_doubts(shape, free, sample)))))


def _problem_column(columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> str:
    """The first column by the names of problems whose first cell may be one, else the first of those names."""
    found = [here for name in PROBLEM_NAMES if (here := first_named((name,), columns, sample))]
    return next((name for name in found if holds(sample, name, is_problem_text)), *found[:1] or [""])


def _with_parts(
    shape: RowShape, columns: Sequence[str], left: Sequence[str], sample: Sequence[Mapping[str, object]]
) -> RowShape:
    """The shape with what `left` columns have of the problem, and the names of those that are not read."""
    problem = shape.problem
    parts = tuple(_paths(problem, columns))
    if "problem" not in shape.mapped and not shape.is_chat:
        parts = problem_parts(problem, left, sample)
    full = [name for name in left if name not in parts and any(not is_empty(value_at(row, name)) for row in sample)]
    unit = first_named(UNITS, full, sample) or ""
    notes = [f"not read: the column {name}" for name in unread_parts(full, sample) if name != unit]
    if shape.is_chat and any(has_system_turn(value_at(row, problem)) for row in sample):
        notes.insert(0, "the system turns are not read: the run has its own")
    known = [*full, *parts, *shape.image, shape.solution, *shape.options, *(theirs for _, theirs in shape.others)]
    return replace(
        shape,
        problem=" + ".join(parts),
        parts=parts,
        unit=unit,
        notes=tuple(notes),
        known=_known(known, columns, () if shape.options else OPTION_NAMES),
    )


def _known(paths: Sequence[str], columns: Sequence[str], but: Sequence[str]) -> frozenset[str]:
    """The columns in these paths without those of some names."""
    others = {first_named((name,), columns, ()) for name in but}
    parts = [part for path in paths for part in _paths(path, columns)]
    return frozenset(part if part in columns else part.split(".")[0] for part in parts) - others


def _num_marked(row: Mapping[str, object], problem: str) -> int:
    """The number of pictures that a problem, or all turns of a chat, have marks for."""
    cell = value_at(row, problem)
    text = "\n".join(text for _, text in turns_of(cell)) or cell
    return num_marked(text) if isinstance(text, str) else 0


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

    def pairs(row: Mapping[str, object]) -> Iterator[tuple[object, Options]]:
        answer = None if shape.solution else text_of_turns(value_at(row, shape.problem))[1]
        options = known_options(row, shape.options)
        solution = one_answer(value_at(row, shape.solution), shape.solution, options) if shape.solution else answer
        yield from ((one, options) for one in several(solution))

    names = [path.split(".")[0] for path in (shape.solution or shape.problem, *shape.options)]
    further = (one for rows in (more,) for row in rows(list(dict.fromkeys(names))) for one in pairs(row))
    return GoldReading.of((one for row in sample for one in pairs(row)), further)


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
    if shape.solution and "solution" not in shape.mapped:
        but = [shape.problem, *shape.image]
        columns = [name for name in free if name not in but]
        yield from other_answers(shape.solution, columns, sample, shape.options, shape.reading, shape.problem)
        yield from telling_parts(shape.parts, shape.solution, sample)
    used = {*shape.image, shape.problem, shape.solution, *shape.options}
    others = [name for name in free if name not in used and not is_alone(name)]
    unread = [
        name for name in others if holds(sample, name, lambda cell: looks_like_pictures(cell) and not is_address(cell))
    ]
    if unread and set(shape.image) != {shape.problem}:
        both = " + ".join([*shape.image, *unread])
        yield (
            f"Pictures in {', '.join(unread[:20])} are not read. If the problems are about them too, name them all: "
            f'--columns "{{image: {both}}}".'
        )
