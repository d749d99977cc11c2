"""What an audit says of rows that were read, and may be read otherwise than they are meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.inference.prompt.test_image import encoded, gradient
from training.audit.report import AuditReport
from training.audit.scan import _is_outside, audit
from training.config.data_config import read_data_config

COLOURS = ["red", "green", "blue", "grey"]


def audited(folder: Path, rows: list[dict[str, Any]]) -> AuditReport:
    (folder / "train.jsonl").write_text(
        "".join(json.dumps({"image": f"{n}.png"} | row) + "\n" for n, row in enumerate(rows))
    )
    for n in range(len(rows)):
        (folder / f"{n}.png").write_bytes(encoded(gradient(size=(40 + n, 30))))
    return audit(read_data_config(dataset=str(folder), test_share=0), num_examples=0)


@pytest.mark.parametrize(
    ("golds", "outside"),
    [
        (["A", "b", "(C)", "option D"], []),
        (["Red", "grey", "GREEN.", "blue"], []),
        (["A", "purple", "B", "E", "C"], ["purple", "E"]),
        ([0, 1, 2, 3, 4, 0], ["4"]),
        ([1, 2, 3, 4, 0, 4], ["0"]),
        (["A, C", "B", "A and D"], []),
    ],
)
def test_golds_outside_their_options_are_counted(
    golds: list[Any], outside: list[str], tmp_path: Path, home: Path
) -> None:
    rows = [{"question": f"Row {n}?", "options": COLOURS, "answer": gold} for n, gold in enumerate(golds)]
    found = audited(tmp_path, rows)
    assert (found.num_kept, found.num_outside) == (len(golds), len(outside))
    words = [finding for finding in found.findings() if "none of the options" in finding]
    assert len(words) == bool(outside)
    if outside:
        rows_of = "1 row" if len(outside) == 1 else f"{len(outside)} rows"
        assert words[0].startswith(f"{rows_of}: the gold is none of the options, e.g. “{outside[0]}” of train-")
    assert (found.outside.gold if found.outside else None) == (outside[0] if outside else None)
    assert found.to_json()["outside_options"]["rows"] == len(outside)


@pytest.mark.parametrize(
    ("gold", "problem", "is_outside"),
    [
        ("B", "Which? A. red B. blue", False),
        ("(b)", "Which? A. red B. blue", False),
        ("blue", "Which? A. red B. blue", False),
        ("12 cm", "How long? A. 10 cm B. 12cm", False),
        ("C", "Which? A. red B. blue", True),
        ("purple", "Which? A. red B. blue", True),
        ("D", "Which?\nA. red\nB. blue\nD. grey", False),
        ("C", "Which?\nA. red\nB. blue\nD. grey", True),
        ("7", "How many bars are there?", False),
    ],
)
def test_a_gold_and_the_options_in_its_problem(gold: str, problem: str, is_outside: bool) -> None:
    assert _is_outside(gold, problem) is is_outside


@pytest.mark.parametrize(
    ("golds", "num", "first"),
    [
        (["A, C", "B", "A and D", ["B", "C"], "AC"], 4, "A, C"),
        ([["red", "blue"], "B", "grey", "purple"], 1, "A, C"),
        (["A", "B", "C"], 0, None),
    ],
)
def test_golds_of_several_options_are_counted(
    golds: list[Any], num: int, first: str | None, tmp_path: Path, home: Path
) -> None:
    rows = [{"question": f"Row {n}?", "options": COLOURS, "answer": gold} for n, gold in enumerate(golds)]
    found = audited(tmp_path, rows)
    assert (found.num_several, found.several and found.several.gold) == (num, first)
    words = [finding for finding in found.findings() if "several options" in finding]
    assert [word.split(",")[0] for word in words] == [
        f"{num} gold{'s name' if num > 1 else ' names'} several options"
    ] * (num > 0)
    assert found.to_json()["several_options"]["rows"] == num and len(found.dropped) == 0


def test_open_indices_earlier_turns_and_unread_pictures_are_findings(tmp_path: Path, home: Path) -> None:
    (tmp_path / "a").mkdir()
    found = audited(
        tmp_path / "a",
        [{"question": f"Row {n}?", "options": COLOURS, "answer": 1 + n % 2, "mask": "0.png"} for n in range(4)],
    )
    said = found.text()
    assert (
        "train  image = image, problem = question with options, solution = answer, the index of an option, from 0"
        in said
    )
    assert "- The 4 golds that were looked at may be the index of an option, from 1, and are read as" in said
    assert (
        '- Pictures in mask are not read. If the problems are about them too, name them all: --columns "{image:' in said
    )
    turns = [{"role": role, "content": text} for text in ("3", "4") for role in ("user", "assistant")]
    (tmp_path / "b").mkdir()
    found = audited(tmp_path / "b", [{"messages": turns[: 2 + 2 * (n % 2)]} for n in range(4)])
    assert (
        found.earlier_turns == 2
        and "- 2 rows have several user turns: the last one and the answer after" in found.text()
    )
