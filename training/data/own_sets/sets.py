"""Datasets that people make here: a picture, a problem and a solution each, under LOOKTHINK_HOME/sets/NAME.

    sets = OwnSets(settings.home)
    sets.add("bars", "upload.png", "How many bars?", "3")
    config = read_data_config(dataset=str(sets.path("bars")))

A set is a folder as others bring theirs: `metadata.jsonl` and `images/`, each row with a picture of its own, by whose
name it is known. Rows that were left out are in `left_out.jsonl`, which no reader opens beside `metadata.jsonl`.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import changing, read_lines, write_whole
from inference.common.settings import DEFAULT_LIMITS, Limits
from training.config.data_config import COLUMNS
from training.data.clean_row import clean_picture, clean_row
from training.data.pictures import Folders
from training.data.refusals import MAX_PROBLEM_CHARS, MAX_SOLUTION_CHARS, Refusal
from training.data.shapes.options import LETTERS
from training.grading.grader import check_gold, gold_answer

ROWS, LEFT_OUT, PICTURES = "metadata.jsonl", "left_out.jsonl", "images"
MAX_SETS = 200
MAX_ROWS = 100_000
"""Rows of a set."""
STORED_PIXELS = 4_000_000
"""Larger pictures are scaled down when they are kept."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_KEY = re.compile(r"[0-9a-f]{16}")
_EXTRAS = COLUMNS[3:]


@dataclass(frozen=True)
class OwnRow:
    """A row of a set."""

    key: str
    """The stem of its picture's file."""
    file_name: str
    problem: str
    solution: str
    extras: tuple[tuple[str, object], ...] = ()
    """`original_question`, `original_answer` and `kind`, if it came with them."""
    is_left_out: bool = False

    @property
    def cells(self) -> dict[str, object]:
        """The row as its file has it."""
        return {"file_name": self.file_name, "problem": self.problem, "solution": self.solution, **dict(self.extras)}


@dataclass(frozen=True)
class SeenRow:
    """A row as a model and the grader get it."""

    picture: bytes | None
    """PNG or JPEG; `None` where it cannot be read."""
    problem: str
    solution: str
    gold: str
    """The answer that the grader reads in the solution."""
    is_gold_matched: bool
    """False if no answer can be found equal to it."""
    refusal: Refusal | None = None
    """The reason why training drops it."""


class OwnSets:
    """The sets of one home. Changes are made under a lock, and are on the disk when a method returns."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "sets"

    def names(self) -> list[str]:
        """All sets, by name."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())

    def path(self, name: str) -> Path:
        """The folder of a set, whether it exists or not. Raises `UserError` for what is no name."""
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{name[:60]!r} is no name of a set; take 1 to 40 letters, digits, - and _, the first no sign"
                if name
                else "The set has no name yet. Type one, such as my-charts."
            )
        return self.folder / name

    def rows(self, name: str) -> list[OwnRow]:
        """The rows of a set, those that are left out last; none if it does not exist."""
        folder = self.path(name)
        found = {row.key: row for row in _read(folder / ROWS, False)}
        for row in _read(folder / LEFT_OUT, True):
            found.setdefault(row.key, row)
        return list(found.values())

    def num_rows(self, name: str) -> int:
        """Number of rows that are not left out."""
        return sum(1 for _ in _read(self.path(name) / ROWS, False))

    def add(self, name: str, picture: str | Path, problem: str, solution: str, options: str = "") -> OwnRow:
        """Adds a row with the picture in a file; `options` has one a line. Makes the set if there is none."""
        problem, solution = with_options(problem, options), solution.strip()
        _check_texts(problem, solution)
        if not problem or not solution:
            raise UserError(f"The {'answer' if problem else 'question'} is empty. Type it, and add the row again.")
        try:
            data = clean_picture(Path(picture).read_bytes(), None, _limits())
        except Refusal as refusal:
            raise UserError(f"This picture cannot be used: {refusal.detail}") from None
        [row] = self._take(name, [(data, {"problem": problem, "solution": solution})])
        return row

    def take_in(self, name: str, rows: Iterable[tuple[Mapping[str, object] | Refusal, Folders | None]]) -> Counter[str]:
        """Adds rows (cells under our names, and the folders of their pictures), all of them or, on an error, none.

        Rows without a question or an answer are kept, to be labelled. Returns the number of rows by what became of
        them: `""` for those taken, else the reason. Raises `UserError`.
        """
        counts: Counter[str] = Counter()

        def clean() -> Iterator[tuple[bytes, dict[str, object]]]:
            for cells, folders in rows:
                try:
                    if isinstance(cells, Refusal):
                        raise cells
                    cleaned = clean_picture(cells.get("image"), folders, _limits()), _texts(cells)
                except Refusal as refusal:
                    counts[refusal.reason] += 1
                    continue
                counts[""] += 1
                yield cleaned

        self._take(name, clean())
        return counts

    def correct(self, name: str, key: str, problem: str, solution: str) -> None:
        """Replaces the texts of a row."""
        problem, solution = problem.strip(), solution.strip()
        _check_texts(problem, solution)
        self._change(name, key, lambda row: replace(row, problem=problem, solution=solution))

    def leave_out(self, name: str, key: str, is_left_out: bool = True) -> None:
        """Leaves a row out of all runs from now on, or takes it back."""
        self._change(name, key, lambda row: replace(row, is_left_out=is_left_out))

    def delete(self, name: str) -> None:
        """Deletes a set with its pictures."""
        with changing(self.folder, "the sets"):
            if not self.path(name).is_dir():
                raise UserError(f"There is no set {name}.")
            gone = self.folder / f".gone-{secrets.token_hex(8)}"
            self.path(name).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def seen(self, name: str, row: OwnRow) -> SeenRow:
        """A row as training reads it."""
        folder = self.path(name)
        return seen({**row.cells, "image": row.file_name}, Folders.of(folder))

    def _take(self, name: str, rows: Iterable[tuple[bytes, dict[str, object]]]) -> list[OwnRow]:
        """Writes pictures, and then all rows at once; on an error nothing stays."""
        folder = self.path(name)
        taken: list[OwnRow] = []
        with changing(self.folder, "the sets"):
            is_new = not folder.exists()
            if is_new and len(self.names()) >= MAX_SETS:
                raise UserError(f"There are {MAX_SETS} sets already; delete one first.")
            room = MAX_ROWS - len(self.rows(name))
            try:
                (folder / PICTURES).mkdir(parents=True, exist_ok=True)
                for data, texts in rows:
                    if len(taken) >= room:
                        raise UserError(f"A set has at most {MAX_ROWS:,} rows; make another one.")
                    key = secrets.token_hex(8)
                    file_name = f"{PICTURES}/{key}.{'jpg' if data[:2] == bytes([0xFF, 0xD8]) else 'png'}"
                    extras = tuple((extra, texts[extra]) for extra in _EXTRAS if extra in texts)
                    taken.append(OwnRow(key, file_name, str(texts["problem"]), str(texts["solution"]), extras))
                    (folder / file_name).write_bytes(data)
                if taken:
                    _write(folder / ROWS, [*_read(folder / ROWS, False), *taken])
            except BaseException:
                for row in taken:
                    (folder / row.file_name).unlink(missing_ok=True)
                raise
            finally:
                if not (folder / ROWS).exists():
                    shutil.rmtree(folder, ignore_errors=True)
        return taken

    def _change(self, name: str, key: str, change: Callable[[OwnRow], OwnRow]) -> None:
        folder = self.path(name)
        with changing(self.folder, "the sets"):
            rows = {row.key: row for row in self.rows(name)}
            if key not in rows:
                raise UserError("That row is no longer in the set. Look again.")
            rows[key] = change(rows[key])
            # the file that the row belongs to first: a kill between the two writes loses no row
            for is_left_out in (rows[key].is_left_out, not rows[key].is_left_out):
                own = [row for row in rows.values() if row.is_left_out is is_left_out]
                _write(folder / (LEFT_OUT if is_left_out else ROWS), own)


def seen(cells: Mapping[str, object], folders: Folders | None, limits: Limits = DEFAULT_LIMITS) -> SeenRow:
    """A row under our names as training reads it; of one that is dropped, as much as can be read."""
    problem, solution = cells.get("problem"), cells.get("solution")
    texts = problem if isinstance(problem, str) else "", "" if solution is None else str(solution)[:MAX_PROBLEM_CHARS]
    try:
        row = clean_row(cells, folders, limits)
        picture: bytes | None = clean_picture(row.pictures, None, limits)
    except Refusal as refusal:
        try:
            picture = clean_picture(cells.get("image"), folders, limits)
        except Refusal:
            picture = None
        return SeenRow(picture, *texts, "", False, refusal)
    grade = check_gold(row.solution)
    return SeenRow(picture, row.problem, row.solution, gold_answer(row.solution), grade.correct)


def with_options(problem: str, options: str) -> str:
    """The problem with its options, one a line, under letters. Raises `UserError` for one alone or too many.

    >>> print(with_options("How many?", "three\\n four"))
    How many?
    A. three
    B. four
    """
    found = [line.strip() for line in options.splitlines() if line.strip()]
    if len(found) == 1 or len(found) > len(LETTERS):
        raise UserError(f"There are {len(found)} options; give 2 to {len(LETTERS)}, one a line, or none.")
    return "\n".join([problem.strip(), *(f"{letter}. {text}" for letter, text in zip(LETTERS, found))])


def _limits() -> Limits:
    return DEFAULT_LIMITS.model_copy(update={"max_model_pixels": STORED_PIXELS})


def _texts(cells: Mapping[str, object]) -> dict[str, object]:
    """The texts of a row that is taken in; what is no text, is empty. Raises `Refusal` for what is too long."""
    problem, solution = cells.get("problem"), cells.get("solution")
    is_number = isinstance(solution, int | float) and not isinstance(solution, bool)
    found: dict[str, object] = {
        "problem": problem.strip() if isinstance(problem, str) else "",
        "solution": str(solution).strip() if isinstance(solution, str) or is_number else "",
    }
    if len(str(found["problem"])) > MAX_PROBLEM_CHARS:
        raise Refusal("problem too long", f"{len(str(found['problem'])):,} characters")
    if len(str(found["solution"])) > MAX_SOLUTION_CHARS:
        raise Refusal("gold too long", f"{len(str(found['solution'])):,} characters")
    extras = {name: cells[name] for name in _EXTRAS if isinstance(cells.get(name), str | int | float)}
    return found | {name: str(value)[:MAX_PROBLEM_CHARS] for name, value in extras.items()}


def _check_texts(problem: str, solution: str) -> None:
    for name, text, most in (("question", problem, MAX_PROBLEM_CHARS), ("answer", solution, MAX_SOLUTION_CHARS)):
        if len(text) > most:
            raise UserError(f"The {name} has {len(text):,} characters; at most {most:,} are read. Shorten it.")


def _read(path: Path, is_left_out: bool) -> Iterator[OwnRow]:
    for cells in read_lines(path):
        file_name = str(cells.get("file_name", ""))
        if _KEY.fullmatch(key := Path(file_name).stem):
            extras = tuple((name, cells[name]) for name in _EXTRAS if name in cells)
            yield OwnRow(
                key, file_name, str(cells.get("problem", "")), str(cells.get("solution", "")), extras, is_left_out
            )


def _write(path: Path, rows: Sequence[OwnRow]) -> None:
    lines = (json.dumps(row.cells, ensure_ascii=False) + "\n" for row in rows)
    write_whole(path, "".join(lines).encode("utf-8", "replace"))
