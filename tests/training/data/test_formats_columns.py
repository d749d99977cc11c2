"""Columns that a person maps, and chat turns of several rounds."""

from __future__ import annotations

from typing import Any

import pytest

from inference.common.errors import UserError
from training.config.data_config import read_data_config
from training.data.clean_row import clean_row
from training.data.formats import RowShape, recognise
from training.data.refusals import Refusal
from training.data.shapes.missing_columns import NoColumn

ROW: dict[str, Any] = {
    "image": b"x", "question": "How many?", "answer": "3",
    "meta": {"ask": "How much?", "golds": ["4", "5"], "kind": "bars"},
}  # fmt: skip
TURNS = [
    {"role": "system", "content": "Be brief."},
    *({"role": "user", "content": "How many?"}, {"role": "assistant", "content": "3"}),
    *({"role": "user", "content": "And more?"}, {"role": "assistant", "content": "4"}),
]


def shape_of(row: dict[str, Any], **columns: str) -> RowShape:
    return recognise(read_data_config(dataset="owner/name", columns=columns), list(row), [row])


@pytest.mark.parametrize(
    ("columns", "read"),
    [
        ({"problem": "meta.ask", "solution": "meta.golds.1"}, {"problem": "How much?", "solution": "5"}),
        ({"solution": "meta.golds.0", "kind": "meta.kind"}, {"solution": "4", "kind": "bars"}),
        ({"original_question": "question"}, {"problem": "How many?", "original_question": "How many?"}),
        ({"original_answer": "answer", "solution": "answer"}, {"solution": "3", "original_answer": "3"}),
        ({"image": "image"}, {"image": b"x", "problem": "How many?", "solution": "3"}),
    ],
)
def test_mapped_columns_are_read(columns: dict[str, str], read: dict[str, Any]) -> None:
    assert shape_of(ROW, **columns).cells(ROW).items() >= read.items()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"problem": "question", "solution": "question"},
            "--columns names 'question' for problem and solution; name a",
        ),
        ({"image": "answer", "solution": "answer"}, "--columns names 'answer' for image and solution; name a column"),
        (
            {"solution": "meta.golds.2"},
            "has no column 'meta.golds.2' for `solution`; it has image, question, answer, meta",
        ),
        ({"problem": "meta.ask.deeper"}, "has no column 'meta.ask.deeper' for `problem`"),
        ({"kind": "meta.none"}, "has no column 'meta.none' for `kind`"),
        ({"solution": "question"}, "has no column 'problem' for `problem`"),
        ({"problem": "answer"}, "has no column 'solution' for `solution`"),
    ],
)
def test_columns_that_cannot_be_are_refused(columns: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        shape_of(ROW, **columns)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"qa": [{"question": "How?", "answer": "3"}]}, "'qa' has several in a row: write a row for each.$"),
        ({"questions": ["How?", "Why?"], "answers": ["3", "4"]}, "'questions' has several in a row: write a row"),
        ({"data": {"Question": "How?", "image": "1.png"}}, "It may lie in 'data': {problem: data.Question}.$"),
        ({"label": 1}, "{problem: NAME}.* or write it into the rows.$"),
    ],
)  # fmt: skip
def test_a_column_that_lies_in_cells_is_said(row: dict[str, Any], words: str) -> None:
    with pytest.raises(NoColumn, match=words):
        shape_of({"image": b"x"} | row)
    if "data" in row:
        assert shape_of({"image": b"x"} | row | {"answer": "3"}, problem="data.Question").parts == ("data.Question",)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        ({"en": "How?", "de": None}, 'a mapping of en, de: name the text in it, as --columns "{problem: COLUMN.NAME}"'),
        (["How?", "Why?"], "a list of 2: write a row for each"),
        (None, "empty"),
        (7, "a int, not text: write it as text"),
    ],
)
def test_a_problem_that_is_no_text_says_what_to_do(problem: object, words: str) -> None:
    row = {"image": b"x", "question": problem, "answer": "3"}
    with pytest.raises(Refusal) as refused:
        clean_row(shape_of(row).cells(row), None)
    assert refused.value.detail == words


def test_the_last_round_is_read_and_those_before_are_counted() -> None:
    row = {"messages": TURNS, "image": b"x"}
    shape = shape_of(row)
    assert shape.words.endswith(
        "problem = the last user turn of messages, solution = the assistant turn after it; the system turns are not "
        "read: the run has its own"
    )
    assert shape.cells(row).items() >= {"problem": "And more?", "solution": "4", "earlier_turns": 1}.items()
    assert shape.cells(row | {"messages": TURNS[:3]})["earlier_turns"] == 0
    assert shape.cells(row | {"messages": TURNS[:4]})["solution"] is None
    both = shape_of(row, problem="messages", solution="messages")
    assert both.cells(row).items() >= {"problem": "And more?", "solution": "4"}.items()
    with pytest.raises(NoColumn):
        shape_of({"messages": TURNS[:2], "image": b"x"})
