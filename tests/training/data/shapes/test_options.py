"""Options in every shape, and golds as letters, labels, texts and indices, decided by their column."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.config.data_config import read_data_config
from training.data.formats import RowShape, recognise
from training.data.refusals import Refusal
from training.data.shapes.options import LETTERS, GoldReading, letter_of, listed, number_text, read_options
from training.grading.grader import options_of

COLOURS = ["red", "green", "blue", "grey"]
A_TO_C = {"A": "red", "B": "green", "C": "blue"}
TEXT, LETTER, FROM_0, FROM_1 = (
    *("the text of an option", "the letter of an option"),
    *("the index of an option, from 0", "the index of an option, from 1"),
)


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        (["red", "green", "blue"], A_TO_C),
        (["A. red", "(B) green", "c) blue"], A_TO_C),
        (["1. red", "2. green", "3. blue"], A_TO_C),
        ({"A": "red", "B": "green", "C": "blue", "D": None}, A_TO_C),
        ({"c": "blue", "a": "red", "b": "green"}, A_TO_C),
        ({"option_b": "green", "option_a": "red", "option_c": "blue"}, A_TO_C),
        ({"1": "red", "2": "green", "10": "grey", "3": "blue"}, A_TO_C | {"D": "grey"}),
        ({"text": ["red", "green", "blue"], "label": ["1", "2", "3"]}, A_TO_C),
        ([{"label": "A", "text": "red"}, {"label": "C", "text": "blue"}], {"A": "red", "C": "blue"}),
        ([("A", "red"), ("B", "green")], {"A": "red", "B": "green"}),
        (json.dumps(["red", "green", "blue"]), A_TO_C),
        (json.dumps({"A": "red", "B": "green", "C": "blue"}), A_TO_C),
        ("['red', 'green', 'blue']", A_TO_C),
        ("['red' 'green'\n 'blue']", A_TO_C),
        ("A. red\nB. green\nC. blue", A_TO_C),
        ("A) red B) green C) blue", A_TO_C),
        ("(a) red (b) green (c) blue", A_TO_C),
        ("A: red; B: green; C: blue", A_TO_C),
        ("1) red\n2) green\n3) blue", A_TO_C),
        ("red\ngreen\nblue\n", A_TO_C),
        ("red | green | blue", A_TO_C),
        ("red, green, blue", A_TO_C),
        ("red,green,blue", A_TO_C),
        ("A．red B．green C．blue", A_TO_C),
        ("（A）red　（B）green　（C）blue", A_TO_C),
        ("A：red；B：green；C：blue", A_TO_C),
        (["A．red", "Ｂ．green", "C）blue"], A_TO_C),
        ("red、green、blue", A_TO_C),
        ("3,4,5", {"A": "3", "B": "4", "C": "5"}),
        ("-1,0.5", {"A": "-1", "B": "0.5"}),
        ("1,000", {}),
        ("12,345,678", {}),
        ("$1,000", {}),
        ("1,000 kg", {}),
        ("1,5", {}),
        ("(1,2)", {}),
        ("f(x,y)", {}),
        ("A. red\nB. green\nD. grey", {"A": "red", "B": "green", "D": "grey"}),
        ("A. vitamin C. B. iron", {"A": "vitamin C.", "B": "iron"}),
        (["red", None, "blue", ""], {"A": "red", "C": "blue"}),
        ([1.0, 2.5, float("nan"), Decimal("3.50")], {"A": "1", "B": "2.5", "D": "3.5"}),
        (["two\n lines", "one"], {"A": "two lines", "B": "one"}),
        (["J. Adams", "A. Lincoln"], {"A": "J. Adams", "B": "A. Lincoln"}),
        ("1.5\n2.5", {"A": "1.5", "B": "2.5"}),
        ([True, False], {"A": "True", "B": "False"}),
        (["red"], {}),
        ([], {}),
        (None, {}),
        ("red", {}),
        ([["red"], ["green"]], {}),
        ("[" * 15_000, {}),
        ("x" * 30_000 + "\nred", {}),
    ],
)
def test_options_in_every_shape(cell: Any, texts: dict[str, str]) -> None:
    assert read_options(cell).texts == texts


def test_more_options_than_letters_are_refused() -> None:
    assert len(read_options([str(n) for n in range(10)]).texts) == 10
    with pytest.raises(Refusal, match="11 options; the grader knows 10"):
        read_options([str(n) for n in range(11)])


@pytest.mark.parametrize(
    ("gold", "options", "letters"),
    [
        # text, letter, from 0, from 1
        ("B", COLOURS, (None, "B", None, None)),
        (" b ", COLOURS, (None, "B", None, None)),
        ("(B)", COLOURS, (None, "B", None, None)),
        ("option B", COLOURS, (None, "B", None, None)),
        ("Choice (b).", COLOURS, (None, "B", None, None)),
        ("B. green", COLOURS, (None, "B", None, None)),
        ("(b) Green", COLOURS, (None, "B", None, None)),
        ("B. grey", COLOURS, (None, None, None, None)),
        ("<answer>B</answer>", COLOURS, (None, "B", None, None)),
        ("So it is.\n#### 2", COLOURS, (None, None, "C", "B")),
        ("GREEN", COLOURS, ("B", None, None, None)),
        ("green.", COLOURS, ("B", None, None, None)),
        (2, COLOURS, (None, None, "C", "B")),
        (2.0, COLOURS, (None, None, "C", "B")),
        ("2.0", COLOURS, (None, None, "C", "B")),
        (Decimal("2.00"), COLOURS, (None, None, "C", "B")),
        (0, COLOURS, (None, None, "A", None)),
        (4, COLOURS, (None, None, None, "D")),
        (5, COLOURS, (None, None, None, None)),
        (-1, COLOURS, (None, None, None, None)),
        (2.5, COLOURS, (None, None, None, None)),
        (float("nan"), COLOURS, (None, None, None, None)),
        (None, COLOURS, (None, None, None, None)),
        ("", COLOURS, (None, None, None, None)),
        ("2", ["1", "2", "3"], ("B", None, "C", "B")),
        (2, [1.0, 2.0, 3.0], ("B", None, "C", "B")),
        (0.1, [0.2, 0.1], ("B", None, None, None)),
        ("A", ["B", "A"], ("B", "A", None, None)),
        ("Red", ["red", "Red"], ("B", None, None, None)),
        (True, ["no", "yes"], ("B", None, None, None)),
        (False, ["True", "False"], ("B", None, None, None)),
        ("false", ["Incorrect", "Correct"], ("A", None, None, None)),
        (True, COLOURS, (None, None, None, None)),
        ("2", {"1": "red", "2": "green"}, (None, "B", None, None)),
        ("C", {"A": "red", "C": "blue"}, (None, "C", None, None)),
        ("B", {"A": "red", "C": "blue"}, (None, None, None, None)),
        (2, ["red", None, "blue"], (None, None, "C", None)),
        ("B", [], (None, None, None, None)),
    ],
)
def test_what_a_gold_names(gold: Any, options: Any, letters: tuple[str | None, ...]) -> None:
    assert tuple(letter_of(gold, read_options(options), kind) for kind in (TEXT, LETTER, FROM_0, FROM_1)) == letters


def reading(golds: list[Any], options: Any = COLOURS, more: list[Any] | None = None) -> GoldReading:
    choices = read_options(options)
    return GoldReading.of([(gold, choices) for gold in golds], [(gold, choices) for gold in more or []])


@pytest.mark.parametrize(
    ("golds", "options", "kind", "letters", "rival"),
    [
        ([1, 2, 3, 4], COLOURS, FROM_1, "ABCD", ""),
        ([0, 1, 2], COLOURS, FROM_0, "ABC", ""),
        ([1, 2, 3], COLOURS, FROM_0, "BCD", FROM_1),
        (["1", "4"], COLOURS, FROM_1, "AD", ""),
        ([1.0, 4.0, float("nan")], COLOURS, FROM_1, ["A", "D", None], ""),
        ([0, 1, 2, 4], COLOURS, FROM_0, ["A", "B", "C", None], FROM_1),
        ([0, 1, 0, 4], COLOURS, FROM_0, ["A", "B", "A", None], ""),
        ([1, 4, 4, 0], COLOURS, FROM_1, ["A", "D", "D", None], ""),
        (["B", "b", "(C)", "option D"], COLOURS, LETTER, "BBCD", ""),
        (["Red", "grey"], COLOURS, TEXT, "AD", ""),
        (["Red", "B", "C"], COLOURS, LETTER, "ABC", ""),
        (["1", "3", "2"], ["3", "1", "2"], TEXT, "BAC", ""),
        ([1, 3, 2], ["3", "1", "2"], TEXT, "BAC", FROM_1),
        ([0, 1, 2], ["1", "2", "3"], FROM_0, "ABC", ""),
        (["A", "B"], ["B", "A"], TEXT, "BA", LETTER),
        (["A", "B", "C"], ["B", "A", "red"], LETTER, "ABC", ""),
        (["A", "B"], ["A", "B"], TEXT, "AB", ""),
        (["1", "2"], {"1": "red", "2": "blue"}, LETTER, "AB", ""),
        ([True, False], ["false", "true"], TEXT, "BA", ""),
        (["purple", "B"], COLOURS, LETTER, [None, "B"], ""),
    ],
)
def test_the_column_decides(golds: list[Any], options: Any, kind: str, letters: Any, rival: str) -> None:
    found, choices = reading(golds, options), read_options(options)
    assert [found.letter(gold, choices) for gold in golds] == list(letters)
    assert (found.order[0], found.rival) == (kind, rival)


def test_further_rows_are_read_until_they_tell_the_indices_apart() -> None:
    choices = read_options(COLOURS)
    seen = []

    def more() -> Any:
        for gold in (2, 3, 4, 1, 1):
            seen.append(gold)
            yield gold, choices

    assert GoldReading.of([(1, choices)], more()).order[0] == FROM_1 and seen == [2, 3, 4]
    seen.clear()
    assert GoldReading.of([(0, choices), ("3", choices)], more()).order[0] == FROM_0 and seen == []
    assert GoldReading.of([("B", choices)], more()).order[0] == LETTER and seen == []


def shape_of(rows: list[dict[str, Any]], **settings: Any) -> RowShape:
    rows = [{"image": b"\x89PNG", "question": "Which?"} | row for row in rows]
    return recognise(read_data_config(dataset="owner/name", **settings), list(rows[0]), rows)


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"Options": COLOURS[:3]}, "ABC"),
        ({"CHOICES": json.dumps(COLOURS[:3])}, "ABC"),
        ({"Answer Choices": COLOURS[:3]}, "ABC"),
        ({"option_a": "red", "option_b": "green", "option_c": "blue"}, "ABC"),
        ({"Choice A": "red", "Choice B": "green", "Choice C": "blue"}, "ABC"),
        ({"optionC": "blue", "optionB": "green", "optionA": "red"}, "ABC"),
        ({"Option 1": "red", "Option 2": "green", "Option 3": "blue"}, "ABC"),
        ({"A": "red", "B": "green", "C": "blue"}, "ABC"),
        ({"a": "red", "b": "green", "c": "blue"}, "ABC"),
        ({"A": "red", "B": "green", "D": "grey"}, "ABD"),
        ({"A": "red", "B": None, "C": "blue"}, "AC"),
        ({"A": "red", "B": float("nan"), "C": "blue", "D": ""}, "AC"),
    ],
)
def test_columns_of_options_under_their_names(row: dict[str, Any], options: str) -> None:
    shape = shape_of([row | {"answer": letter} for letter in options])
    names = dict(zip("ABCD", COLOURS))
    for letter in options:
        cells = shape.cells({"image": b"\x89PNG", "question": "Which?"} | row | {"answer": letter.lower()})
        assert cells["problem"] == "Which?\n" + "\n".join(f"{one}. {names[one]}" for one in options)
        assert cells["solution"] == letter
        assert dict(options_of(str(cells["problem"]))) == {one: names[one] for one in options}


def test_columns_of_one_letter_that_are_no_options_are_left() -> None:
    shape = shape_of([{"a": 3, "b": 4, "answer": "25"}, {"a": 6, "b": 8, "answer": "100"}])
    assert shape.options == () and shape.cells({"question": "How long?", "answer": "25"})["solution"] == "25"


def test_what_was_decided_is_said() -> None:
    clear = shape_of([{"options": COLOURS, "answer": answer} for answer in (1, 4)])
    assert clear.words.endswith("problem = question with options, solution = answer, the index of an option, from 1")
    assert clear.doubts == ()
    open_ = shape_of([{"options": COLOURS, "answer": answer} for answer in (1, 2)])
    assert open_.words.endswith(FROM_0)
    assert open_.doubts == (
        f"The 2 golds that were looked at may be {FROM_1}, and are read as {FROM_0}. If that is wrong, write their "
        "letters into the column 'answer'.",
    )


def test_options_are_mapped_and_what_is_no_option_is_said() -> None:
    row = {"image": b"x", "question": "Which?", "task": {"set": COLOURS, "gold": 4}, "x_a": "red", "x_b": "green"}
    nested = shape_of([row], columns={"options": "task.set", "solution": "task.gold"})
    assert nested.cells(row)["solution"] == "D" and nested.words.endswith(
        f"with task.set, solution = task.gold, {FROM_1}"
    )
    apart = shape_of([row | {"answer": "green"}], columns={"options": "x_a + x_b"})
    assert (
        apart.cells(row | {"answer": "green"}).items()
        >= {"solution": "B", "problem": "Which?\nA. red\nB. green"}.items()
    )
    unread = shape_of([{"options": "see the picture", "answer": "B"}])
    assert unread.options == () and unread.doubts == (
        "The column 'options' is not read: its cells are no options. Write a list of 2 to 10, or one option a line.",
    )
    assert shape_of([{"options": [], "answer": "3"}]).doubts == ()


def test_a_gold_outside_its_options_stays_as_it_is() -> None:
    shape = shape_of([{"options": COLOURS, "answer": answer} for answer in ("A", "B", "C", "purple")])
    assert shape.cells({"options": COLOURS, "answer": "purple"})["solution"] == "purple"
    assert shape.cells({"options": COLOURS, "answer": "E"})["solution"] == "E"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (3.0, "3"), (0.1, "0.1"), (1e-7, "1e-07"), (Decimal("0.10"), "0.1"), (Decimal("300"), "300"),
        (Decimal("-2.50"), "-2.5"), (Decimal("1E+999999"), Decimal("1E+999999")), (7, 7), ("3.0", "3.0"), (None, None),
    ],
)  # fmt: skip
def test_numbers_as_they_are_written_by_hand(cell: Any, text: Any) -> None:
    assert number_text(cell) == text


cells = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals(),
    lambda inner: (
        st.lists(inner, max_size=12)
        | st.dictionaries(st.sampled_from([*"ABab12", "text", "label", ""]), inner)
        | st.lists(st.tuples(st.text(), inner))
    ),
    max_leaves=8,
)


@given(cells, cells, st.text("ABCabc123.:()\n ;|[]{}'\","))
def test_anything_is_options_or_none(cell: Any, gold: Any, text: str) -> None:
    listed(text)
    for one in (cell, text):
        try:
            options = read_options(one)
        except Refusal:
            continue
        assert list(options.texts) == [letter for letter in LETTERS if letter in options.texts]
        assert len(options.texts) != 1 and all(options.texts.values())
        assert letter_of(gold, options) in (None, *options.texts)


@given(st.permutations(COLOURS), st.sampled_from([TEXT, LETTER, FROM_0, FROM_1]), st.randoms())
def test_any_column_is_read_as_it_was_written(options: list[str], kind: str, random: Any) -> None:
    letters = [*"ABCD", *random.choices("ABCD", k=8)]
    write = {
        TEXT: lambda letter: options["ABCD".index(letter)].upper(),
        LETTER: lambda letter: random.choice([letter, letter.lower(), f"({letter})", f"Option {letter}"]),
        FROM_0: "ABCD".index,
        FROM_1: lambda letter: str("ABCD".index(letter) + 1),
    }[kind]
    golds = [write(letter) for letter in letters]
    found = reading(golds, options)
    assert [found.letter(gold, read_options(options)) for gold in golds] == letters and not found.rival
