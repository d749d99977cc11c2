"""Grades pairs of gold and answer: `python -m training grade FILE`, a JSONL or CSV file with `gold` and `answer`.

Prints for each pair whether it is right, what was read of both, and the rule that decided. A column `problem` gives the
options of a choice; a column `expected` (1 or 0) is compared with the verdicts.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

from inference.common.errors import UserError
from training.grading.grader import Grade, grade_many

MAX_FILE_BYTES = 100_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m training grade`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="JSONL or CSV with gold and answer, perhaps problem")
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative error a number may have (0: exact)")
    parser.add_argument("--wrong", action="store_true", help="print the wrong ones only, or where expected differs")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def main(args: argparse.Namespace) -> int:
    """Grade every pair; returns 1 if the file says what was expected and a verdict differs."""
    if not 0 <= args.tolerance < 1:
        raise UserError(f"The tolerance is {args.tolerance:g}; give a share from 0 to below 1, such as 0.05.")
    rows = read_pairs(args.file)
    pairs = [(row.get("solution", row.get("gold")), _completion(row["answer"])) for row in rows]
    grades = grade_many(pairs, "strict", [str(row.get("problem") or "") for row in rows], args.tolerance)
    num_unexpected = 0
    for row, grade in zip(rows, grades):
        expected = row.get("expected")
        is_unexpected = expected not in (None, "") and (str(expected) in ("1", "1.0", "true", "True")) != grade.correct
        num_unexpected += is_unexpected
        if not args.wrong or is_unexpected or (expected in (None, "") and not grade.correct):
            print(_line(row, grade, args.json) + ("  (expected otherwise)" if is_unexpected and not args.json else ""))
    num_right, num_failed = sum(g.correct for g in grades), sum(not g.is_graded for g in grades)
    if not args.json:
        print(
            f"{num_right} of {len(grades)} right, {len(grades) - num_right - num_failed} wrong, {num_failed} not graded"
        )
        if num_unexpected:
            print(f"{num_unexpected} not as expected")
    return 1 if num_unexpected else 0


def read_pairs(path: Path) -> list[dict[str, object]]:
    """The rows of a JSONL or CSV file; raises `UserError` if there is no such file, or a row lacks gold or answer."""
    if not path.is_file():
        raise UserError(f"There is no file {path}. Give a JSONL or CSV file with the columns gold and answer.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UserError(f"{path} has {path.stat().st_size / 1e6:.0f} MB; at most {MAX_FILE_BYTES / 1e6:.0f} are read.")
    rows: list[dict[str, object]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in (".jsonl", ".json", ".ndjson"):
                rows = [json.loads(line) for line in file if line.strip()]
            else:
                rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as JSONL or CSV: {error}.") from error
    for i, row in enumerate(rows, 1):
        if (
            not isinstance(row, dict)
            or not ({"gold", "solution"} & row.keys())
            or not isinstance(row.get("answer"), str)
        ):
            raise UserError(f"Row {i} of {path} lacks a gold or an answer in text; name the columns gold and answer.")
    return rows


def _completion(answer: object) -> str:
    text = str(answer)
    return text if "<answer>" in text or "<think>" in text else f"<think>-</think><answer>{text}</answer>"


def _line(row: dict[str, object], grade: Grade, as_json: bool) -> str:
    verdict = "right" if grade.correct else "wrong" if grade.is_graded else "not graded"
    if as_json:
        fields = {"verdict": verdict, "rule": grade.rule, "gold_read": grade.gold, "answer_read": grade.answer}
        return json.dumps(row | fields, ensure_ascii=False, default=str)
    return f"{verdict:10}  gold {grade.gold!r}  answer {grade.answer!r}  {grade.rule}"
