"""The shapes of rows that people bring, read as `image`, `problem`, `solution`.

    shape = recognise(config, columns, sample)      # `sample`: the first rows, as they were read
    shape.words                                     # 'problem = question, with its options; solution = answer …'
    shape.cells(row)                                # {'image': …, 'problem': …, 'solution': 'B'}

Known are the columns of this project, question and answer under their usual names, chat turns (`messages` of ms-swift
and LLaMA-Factory, `conversations` of LLaVA, `prompt` of TRL and verl), and options in a column of their own.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from inference.common.errors import UserError
from inference.prompt.format import with_places
from training.config.data_config import COLUMNS, DataConfig
from training.data.pictures import looks_like_pictures
from training.grading.grader import gold_fault

IMAGE_NAMES = ("image", "images", "file_name", "decoded_image", "picture", "img", "image_path", "image_bytes", "photo")
IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp")
"""Columns of pictures in a tar archive."""
PROBLEM_NAMES = ("problem", "question", "query", "instruction", "prompt", "text", "txt")
SOLUTION_NAMES = (
    *("solution", "answer", "answers", "label", "ground_truth", "reward_model.ground_truth", "gold", "gt", "target"),
    *("final_answer", "answerkey", "correct_answer", "correct_option", "correct_choice_idx", "answer_idx"),
    *("multiple_choice_answer", "direct_answers", "response", "output", "completion", "cls"),
)
ALTERNATIVES = ("answers", "direct_answers")
"""Columns that hold several people's answers to one question."""
OPTION_NAMES = ("options", "choices", "option", "candidates", "answer_choices")
TURN_NAMES = ("messages", "conversations", "conversation", "message", "prompt", "turns", "texts")
LETTERS = "ABCDEFGHIJ"
"""Those that the grader knows as options."""
_NUMBERED = re.compile(r"(image|picture|img)_?(\d{1,2})", re.IGNORECASE)
_WORKED_WORDS = 12
"""A longer solution counts as worked, unless its answer is marked."""
_MARKED = re.compile(r"####|\\boxed|<answer>|\b(?:final )?answer\s*(?:is|:)", re.IGNORECASE)
_MARKED_OPTION = re.compile(r"\s*\(?([A-Ja-j])[.):、]\s*(.*)", re.DOTALL)
_SEVERAL_OPTIONS = re.compile(r"(?:^|[\s;,])\(?([A-J])[.):、]\s*")
_MAX_LITERAL = 20_000
_LETTERED = re.compile(r"[A-J]|(?:option|choice|answer)s?_?([A-Ja-j])")
"""A column that holds one option, by its letter."""
_TAGGED_PICTURE = re.compile(r"(?:Picture \d+: ?)?<img>(.{1,1000}?)</img>\n?")
"""A picture in the text of a turn, as the first Qwen-VL has it."""


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
    others: tuple[tuple[str, str], ...]
    """Our optional columns, and the dataset's name of each."""
    words: str
    """The shape, for the person who gave the dataset."""

    @property
    def columns(self) -> list[str]:
        """The dataset's own columns that are read."""
        paths = [*self.image, self.problem, self.solution, *self.options, *(theirs for _, theirs in self.others)]
        return list(dict.fromkeys(path.split(".")[0] if path else "" for path in paths if path))

    def cells(self, row: Mapping[str, object]) -> dict[str, object]:
        """A row under our names. Raises `Refusal`."""
        problem, answer = _text_of_turns(value_at(row, self.problem))
        solution = _one_answer(value_at(row, self.solution), self.solution) if self.solution else answer
        options = _options_of(row, self.options)
        pictures = self._pictures(row)
        if isinstance(problem, str):
            problem = problem.strip()
            if options and not _has_options(problem, options):
                problem += "\n" + "\n".join(f"{letter}. {text}" for letter, text in options.items())
            problem = with_places(problem, len(pictures) if isinstance(pictures, list | tuple) else 1)
        cells: dict[str, object] = {ours: value_at(row, theirs) for ours, theirs in self.others}
        return cells | {"image": pictures, "problem": problem, "solution": _gold(solution, options)}

    def _pictures(self, row: Mapping[str, object]) -> object:
        found = [value_at(row, name) for name in self.image]
        if len(found) == 1:
            return _pictures_in_turns(found[0]) or _several(found[0])
        return [picture for picture in found if not _is_empty(picture)]


def recognise(config: DataConfig, columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> RowShape:
    """The shape of a split's rows, by the mapping of the configuration, the names of the columns and the first rows.

    Raises `NoColumn`, which lists the columns, if a required or mapped one is missing.
    """
    named = dict(config.columns)
    for ours, theirs in named.items():
        if not _is_there(theirs, columns, sample):
            raise NoColumn(config, ours, theirs, columns)
    turns = named.get("problem") or next((name for name in TURN_NAMES if _holds(sample, name, _turns)), None)
    is_chat = turns is not None and _holds(sample, turns, _turns)
    image = _image_columns(named, columns, sample)
    if not image and turns is not None and _holds(sample, turns, _pictures_in_turns):
        image = (turns,)
    options = _option_columns(columns, sample)
    if is_chat and turns is not None:
        problem = turns
    else:
        problem = named.get("problem") or _first(PROBLEM_NAMES, columns, sample) or ""
    solution = named.get("solution") or _solution_column(columns, sample, options)
    for ours, found in (("image", image), ("problem", problem)):
        if not found:
            raise NoColumn(config, ours, ours, columns)
    if not solution and not (is_chat and any(_text_of_turns(value_at(row, problem))[1] for row in sample)):
        raise NoColumn(config, "solution", "solution", columns)
    used = {*image, problem, solution}
    names = {ours: named.get(ours, ours) for ours in COLUMNS[3:]}
    others = tuple((ours, theirs) for ours, theirs in names.items() if theirs in columns and theirs not in used)
    words = f"image = {'the pictures in ' if image == (problem,) else ''}{' + '.join(image)}, problem = "
    words += f"the last user turn of {problem}" if is_chat else problem
    words += f" with {' + '.join(options)}" if options else ""
    words += ", solution = " + ("the most frequent of " if solution.lower() in ALTERNATIVES else "")
    words += solution or "the assistant turn after it"
    return RowShape(image, problem, solution, options, others, words)


def value_at(row: Mapping[str, object], path: str) -> object:
    """The cell of a column, or what lies in it by names and numbers: `reward_model.ground_truth`, `images.0`."""
    if path in row:
        return row[path]
    value: object = row
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


class NoColumn(UserError):
    """A column that a row needs is not there; `words` say so without a remedy."""

    def __init__(self, config: DataConfig, ours: str, theirs: str, columns: Sequence[str]) -> None:
        has = ", ".join(map(str, list(columns)[:40])) or "none"
        self.words = f"has no column {theirs!r} for `{ours}`; it has {has}."
        remedy = f'Map one of them: --columns "{{{ours}: NAME}}" (`columns` under `data` in a file).'
        super().__init__(f"The dataset {config.dataset} {self.words} {remedy}")


def _is_there(path: str, columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> bool:
    return path in columns or any(value_at(row, path) is not None for row in sample)


def _first(names: Sequence[str], columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> str | None:
    """The first of these names that is a column, whatever its case."""
    by_lower = {column.lower().removesuffix(".txt"): column for column in reversed(columns)}
    found = (
        by_lower.get(name) or (name if "." in name and _is_there(name, columns, sample) else None) for name in names
    )
    return next((name for name in found if name), None)


def _holds(sample: Sequence[Mapping[str, object]], path: str, test: Callable[[object], object]) -> bool:
    """True if the first cell of that column that is not empty passes a test."""
    cells = (value_at(row, path) for row in sample)
    return bool(test(next((cell for cell in cells if not _is_empty(cell)), None)))


def _is_empty(cell: object) -> bool:
    return (
        cell is None
        or (isinstance(cell, str | bytes | list | dict) and not cell)
        or (isinstance(cell, Mapping) and not any(cell.values()))
    )


def _image_columns(
    named: Mapping[str, str], columns: Sequence[str], sample: Sequence[Mapping[str, object]]
) -> tuple[str, ...]:
    if "image" in named:
        return (named["image"],)
    candidates = [found for name in IMAGE_NAMES if (found := _first((name,), columns, sample))]
    if "decoded_image" in columns:  # beside a path that leads nowhere
        candidates.insert(0, "decoded_image")
    filled = [name for name in candidates if not sample or any(not _is_empty(value_at(row, name)) for row in sample)]
    if filled:
        return (filled[0],)
    numbered = [(int(match[2]), name) for name in columns if (match := _NUMBERED.fullmatch(name))]
    if numbered:
        return tuple(name for _, name in sorted(numbered))
    suffixed = [name for name in columns if name.rpartition(".")[2] in IMAGE_SUFFIXES]
    shown = [name for name in columns if _holds(sample, name, looks_like_pictures)]
    return tuple((suffixed or shown or candidates)[:1])


def _option_columns(columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """The column of all options, or the columns of one each: `A`, `B`, `C`; `choice_a`, `choice_b`."""
    for name in OPTION_NAMES:
        if _holds(sample, name, lambda cell: len(_options(cell)) > 1):
            return (name,)
    lettered = {(match[1] or match[0]).upper(): name for name in columns if (match := _LETTERED.fullmatch(name))}
    found = tuple(lettered[letter] for letter in LETTERS if letter in lettered)
    return found if len(found) > 1 and set(LETTERS[: len(found)]) == set(lettered) else ()


def _solution_column(columns: Sequence[str], sample: Sequence[Mapping[str, object]], options: tuple[str, ...]) -> str:
    """The column of the answers: of letters or indices beside options, else the first with short or marked ones."""
    present = [name for name in SOLUTION_NAMES if _first((name,), columns, sample)]
    present = [str(_first((name,), columns, sample)) for name in present]
    if options:
        for name in present:
            pairs = [(value_at(row, name), _options_of(row, options)) for row in sample]
            if pairs and all(_is_choice(answer, choices) for answer, choices in pairs if choices):
                return name
    shares = {name: _share_of_answers([_one_answer(value_at(row, name), name) for row in sample]) for name in present}
    return max(present, key=lambda name: round(shares[name], 1), default="")


def _is_choice(answer: object, options: Mapping[str, str]) -> bool:
    return _gold(answer, options) in options or answer in options.values()


def _share_of_answers(cells: Sequence[object]) -> float:
    """The share of cells that are an answer: readable, and short or with the answer marked."""

    def is_answer(cell: object) -> bool:
        cell = _gold(cell, {})
        if isinstance(cell, str) and len(cell.split()) > _WORKED_WORDS and not _MARKED.search(cell):
            return False
        return not gold_fault(cell)

    return sum(map(is_answer, cells)) / max(1, len(cells))


def _turns(cell: object) -> list[tuple[str, str]]:
    """Role and text of chat turns; none if the cell holds no turns."""
    if isinstance(cell, str) and cell.lstrip().startswith("[") and len(cell) < _MAX_LITERAL:
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return []
    if not isinstance(cell, list) or not cell or not all(isinstance(turn, Mapping) for turn in cell):
        return []
    found = []
    for turn in cell:
        if isinstance(turn.get("user"), str) and isinstance(turn.get("assistant"), str):  # of The Cauldron
            found += [("user", turn["user"]), ("assistant", turn["assistant"])]
            continue
        role, content = turn.get("role") or turn.get("from"), turn.get("content", turn.get("value"))
        if not isinstance(role, str):
            return []
        found.append((role, "".join(_texts(content))))
    return found


def _texts(content: object) -> Iterator[str]:
    """The texts of a turn's content, which is a text or a list of parts, with marks for its pictures."""
    if isinstance(content, str):
        yield _TAGGED_PICTURE.sub("<image>", content)
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, str):
                yield part
            elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
                yield part["text"]
            elif isinstance(part, Mapping) and part.get("type") in ("image", "image_url"):
                yield "<image>"


def _pictures_in_turns(cell: object) -> list[object]:
    """The pictures that chat turns hold themselves, in their order."""
    if isinstance(cell, str) and _turns(cell):
        cell = json.loads(cell)
    if not isinstance(cell, list) or not all(isinstance(turn, Mapping) for turn in cell):
        return []
    found: list[object] = []
    for content in (turn.get("content", turn.get("value")) for turn in cell):
        if isinstance(content, str):
            found += _TAGGED_PICTURE.findall(content)
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Mapping):
                names = ("image", "image_url", "url", "path", "data")
                found += [part[name] for name in names if not _is_empty(part.get(name))][:1]
    return found


def _text_of_turns(cell: object) -> tuple[object, object]:
    """The last user turn and the assistant's turn after it; any other cell as it is."""
    turns = _turns(cell)
    users = [at for at, (role, _) in enumerate(turns) if role.lower() in ("user", "human")]
    if not users:
        return cell, None
    after = [text for role, text in turns[users[-1] + 1 :] if role.lower() in ("assistant", "gpt", "model")]
    return turns[users[-1]][1], after[0] if after else None


def _options_of(row: Mapping[str, object], columns: Sequence[str]) -> dict[str, str]:
    """The options of a row by letter; empty cells of lettered columns are none."""
    if len(columns) < 2:
        return _options(value_at(row, columns[0])) if columns else {}
    cells = {letter: row.get(name) for letter, name in zip(LETTERS, columns)}
    found = {n: str(cell).strip() for n, cell in cells.items() if isinstance(cell, str | int | float) and cell == cell}
    found = {letter: text for letter, text in found.items() if text}
    return found if len(found) > 1 else {}


def _options(cell: object) -> dict[str, str]:
    """Options by letter, from a list, a mapping, a list as text, or `A. …; B. …`; none if there are fewer than two."""
    if isinstance(cell, str) and len(cell) <= _MAX_LITERAL:
        cell = _listed(cell)
    if isinstance(cell, Mapping):
        if isinstance(cell.get("text"), list):  # ARC's {"text": […], "label": […]}
            cell = cell["text"]
        else:
            cell = [text for _, text in sorted(cell.items()) if text is not None]
    if not isinstance(cell, list) or not 2 <= len(cell) <= len(LETTERS):
        return {}
    if not all(isinstance(text, str | int | float) and str(text).strip() for text in cell):
        return {}
    found = {}
    for letter, text in zip(LETTERS, map(str, cell)):
        match = _MARKED_OPTION.fullmatch(text)
        found[letter] = (match[2] if match and match[1].upper() == letter and match[2].strip() else text).strip()
    return found


def _listed(text: str) -> object:
    """A list that was written as text."""
    if text.strip()[:1] in ("[", "{"):
        for read in (json.loads, ast.literal_eval):
            try:
                return read(text.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
        return None
    marks = list(_SEVERAL_OPTIONS.finditer(text))
    if [mark[1] for mark in marks] != list(LETTERS[: len(marks)]):
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [text[mark.end() : end].strip(" ;,\n") for mark, end in zip(marks, ends)]


def _several(cell: object) -> object:
    """The list of pictures that was written as text, or any other cell as it is."""
    if isinstance(cell, str) and cell.startswith(("['", '["')):
        found = _listed(cell)
        return found if isinstance(found, list) else cell
    return cell


def _one_answer(cell: object, column: str) -> object:
    """The most frequent of several people's answers, the first of equals; a completion's text; else the cell."""
    if isinstance(cell, str) and column.lower() in ALTERNATIVES and cell.startswith("["):
        cell = _listed(cell)
    if turns := _turns(cell):
        return turns[-1][1]
    if not isinstance(cell, list) or len(cell) < 2:
        return cell
    if all(isinstance(one, Mapping) and isinstance(one.get("answer"), str) for one in cell):
        cell = [one["answer"] for one in cell]
    elif column.lower() not in ALTERNATIVES or not all(isinstance(one, str) for one in cell):
        return cell
    return Counter(cell).most_common(1)[0][0]  # of equals the first


def _has_options(problem: str, options: Mapping[str, str]) -> bool:
    """True if the problem gives its options already, each with its letter."""
    return all(re.search(rf"(?:^|[\s(;,]){letter}\s*[.):、]", problem) for letter in options)


def _gold(solution: object, options: Mapping[str, str]) -> object:
    """The solution: of a list with one answer that answer, of an index among options its letter, `yes` of True."""
    if isinstance(solution, list | tuple) and len(solution) == 1:
        solution = solution[0]
    if isinstance(solution, Mapping):
        solution = next((solution[n] for n in ("ground_truth", "answer", "value", "text") if n in solution), solution)
    if isinstance(solution, bool):
        return "yes" if solution else "no"
    if not options:
        return solution
    if isinstance(solution, float) and solution.is_integer():
        solution = int(solution)
    if isinstance(solution, int) and str(solution) not in options.values() and 0 <= int(str(solution)) < len(options):
        return LETTERS[int(str(solution))]
    if isinstance(solution, str):
        text = solution.strip()
        if match := re.fullmatch(r"\(?([A-Ja-j])[.)]?", text):
            return match[1].upper()
        if text.isdigit() and text not in options.values() and int(text) < len(options):
            return LETTERS[int(text)]
    return solution
