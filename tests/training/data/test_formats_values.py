"""Values of rows that are easily read otherwise than they are meant: each is read right, or refused by a name."""

from __future__ import annotations

import datetime
import json
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.errors import UserError
from inference.prompt.format import PLACE
from tests.inference.prompt.test_image import encoded, gradient
from training.config.data_config import read_data_config
from training.data.clean_row import clean_row
from training.data.dataset import prepare_rows
from training.data.formats import RowShape, recognise
from training.data.pictures import Folders
from training.data.prepare import Prepared
from training.data.refusals import Refusal
from training.data.shapes.class_labels import features_of_card, with_names
from training.data.shapes.options import read_options
from training.data.shapes.problems import with_options

ONE, TWO, THREE = (encoded(gradient(size=(40 + n, 30))) for n in range(3))
COLOURS = ["red", "green", "blue", "grey"]
MANY = 60
ROW: dict[str, Any] = {"image": "1.png", "question": "Which?", "answer": "3"}


def shape_of(row: dict[str, Any], **columns: str) -> RowShape:
    return recognise(read_data_config(dataset="owner/name", columns=columns), list(row), [row])


def read(row: dict[str, Any], **columns: str) -> dict[str, Any] | str:
    """The clean problem and solution of a row, or the reason of its refusal."""
    row = {"image": ONE, "question": "Which?", "answer": "3"} | row
    try:
        clean = clean_row(shape_of(row, **columns).cells(row), None)
        return {"problem": clean.problem, "solution": clean.solution, "num": len(clean.pictures)}
    except Refusal as refusal:
        return refusal.reason


def lines(folder: Path, rows: list[dict[str, Any]]) -> Path:
    for name, content in (("1.png", ONE), ("2.png", TWO), ("3.png", THREE)):
        (folder / name).write_bytes(content)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def prepared(path: Path, **settings: Any) -> Prepared:
    return prepare_rows(read_data_config(dataset=str(path), test_share=0, drop_repeats=False, **settings))


def numbered(num: int, late: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [ROW | {"question": f"Row {n}?"} | late.get(n, {}) for n in range(num)]


@pytest.mark.parametrize("before", [{}, {"options": None}, {"options": []}])
def test_options_that_come_after_the_first_rows(before: dict[str, Any], tmp_path: Path, home: Path) -> None:
    late = {n: before if n < 30 else {"options": COLOURS, "answer": n % 4} for n in range(MANY)}
    found = prepared(lines(tmp_path, numbered(MANY, late)))
    assert len(found.dropped) == 0
    golds = dict(zip(found.rows["problem"], found.rows["solution"]))
    assert golds["Row 29?"] == "3" and golds["Row 31?\nA. red\nB. green\nC. blue\nD. grey"] == "D"


def test_a_second_picture_that_comes_after_the_first_rows(tmp_path: Path, home: Path) -> None:
    late = {n: {"image_2": None if n < 30 else "2.png"} for n in range(25, MANY)}
    found = prepared(lines(tmp_path, numbered(MANY, late)))
    assert [len(sizes) // 2 for sizes in sorted(found.rows["sizes"], key=len)] == [1] * 30 + [2] * 30


@pytest.mark.parametrize(
    ("cells", "mapping"),
    [
        ({"options": COLOURS, "answer": 2}, {"options": "options"}),
        ({"A": "red", "B": "green", "answer": "B"}, {"options": "A + B"}),
        ({"image_2": "2.png"}, {"image": "image + image_2"}),
        ({"diagram": "2.png"}, {"image": "image + diagram"}),
        ({"images": ["1.png", "2.png"]}, {"image": "image + images"}),
        ({"hint": "It is green."}, {"problem": "question + hint"}),
    ],
)
def test_what_no_row_that_was_looked_at_has_costs_its_row_or_is_mapped(
    cells: dict[str, Any], mapping: dict[str, str], tmp_path: Path, home: Path
) -> None:
    num = 1_000
    rows = numbered(num, {777: cells})
    shape = recognise(read_data_config(dataset="owner/name"), list(ROW), rows[:20])
    with pytest.raises(Refusal, match="unlike the first rows") as refused:
        shape.cells(rows[777])
    ((ours, theirs),) = mapping.items()
    assert f'map it: --columns "{{{ours}: {theirs}}}"' in refused.value.detail
    alone = theirs.partition(" + ")[0]
    if ours != "options":
        assert refused.value.detail.endswith(f', or leave it out: --columns "{{{ours}: {alone}}}"')
        without = recognise(read_data_config(dataset="owner/name", columns={ours: alone}), list(ROW), rows[:20])
        assert without.cells(rows[777])[ours] == rows[777][alone]
    config = read_data_config(dataset="owner/name", columns=mapping)
    mapped = recognise(config, list(ROW | cells), [*rows[:20], rows[777]])
    assert mapped.cells(rows[776])["solution"] == "3" and mapped.cells(rows[777])


def test_a_late_column_is_found_where_it_is_mapped(tmp_path: Path, home: Path) -> None:
    found = prepared(lines(tmp_path, numbered(300, {250: {"options": COLOURS, "answer": "blue"}})))
    alike = prepared(tmp_path, columns={"options": "options"})
    assert [*found.dropped.counts().values(), len(found.rows)] in ([1, 299], [300])
    assert "C" in alike.rows["solution"] and len(alike.dropped) == 0


def test_classes_have_their_names(tmp_path: Path, home: Path) -> None:
    features = {"label": datasets.ClassLabel(names=["cat", "dog", "cow"]), "image": datasets.Image()}
    columns = {"image": [ONE, TWO, THREE, ONE], "problem": [f"Row {n}?" for n in range(4)], "label": [2, 0, 1, -1]}
    rows = datasets.Dataset.from_dict(columns | {"image": [{"bytes": one, "path": None} for one in columns["image"]]})
    for name, feature in features.items():
        rows = rows.cast_column(name, feature)
    rows.to_parquet(tmp_path / "parquet" / "train.parquet")
    rows.save_to_disk(tmp_path / "saved")
    for name in ("parquet", "saved"):
        found = prepared(tmp_path / name)
        assert sorted(found.rows["solution"]) == ["cat", "cow", "dog"]
        assert found.dropped.counts() == {"no gold": 1}
    plain = pq.read_table(tmp_path / "parquet" / "train.parquet")
    wrong = plain.set_column(plain.schema.get_field_index("label"), "label", pa.array([2, 0, 1, 7]))
    (tmp_path / "wrong").mkdir()
    pq.write_table(wrong.replace_schema_metadata(plain.schema.metadata), tmp_path / "wrong" / "train.parquet")
    assert prepared(tmp_path / "wrong").dropped.counts() == {"row unreadable": 1}


CARD = """---
dataset_info:
  features:
  - name: label
    dtype:
      class_label:
        names:
          '0': cat
          '1': dog
          '2': cow
  - name: tags
    sequence:
      class_label:
        names: [big, small]
---
Pets.
"""


@pytest.mark.parametrize("name", ["train.jsonl", "train.csv"])
def test_classes_have_the_names_of_the_card(name: str, tmp_path: Path, home: Path) -> None:
    lines(tmp_path, [{"image": "1.png", "problem": f"Row {n}?", "label": label} for n, label in enumerate([2, 0, 5])])
    if name.endswith("csv"):
        (tmp_path / "train.jsonl").unlink()
        (tmp_path / name).write_text("image,problem,label\n1.png,Row 0?,2\n1.png,Row 1?,0\n1.png,Row 2?,5\n")
    plain = prepared(tmp_path)
    assert sorted(plain.rows["solution"]) == ["0", "2", "5"]
    (tmp_path / "README.md").write_text(CARD)
    found = prepared(tmp_path)
    assert sorted(found.rows["solution"]) == ["cat", "cow"] and found.dropped.counts() == {"row unreadable": 1}


def test_a_card_describes_nested_classes_and_may_be_anything(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(CARD)
    found = features_of_card(card)
    assert with_names([1, 0, None], found["tags"]) == ["small", "big", None]
    infos = "\n".join(
        f"- config_name: {name}\n  features: [{{name: x, dtype: {{class_label: {{names: [{name}]}}}}}}]"
        for name in "ab"
    )
    card.write_text(f"---\ndataset_info:\n{infos}\n---\n")
    assert with_names(0, features_of_card(card, "b")["x"]) == "b" and features_of_card(card) == {}
    repeated = "\n".join(
        f"l{n}: &l{n} [{', '.join(['{name: x, struct: *l' + str(n - 1) + '}'] * 30)}]" for n in range(1, 9)
    )
    bomb = f"---\nclass_label: 1\nl0: &l0 []\n{repeated}\ndataset_info: {{features: *l8}}\n---\n"
    for text in (
        bomb,
        "---\nclass_label: [\n---\n",
        "---\nclass_label\n---\n",
        "",
        "---\ndataset_info: {features: class_label}\n---\n",
    ):
        card.write_text(text)
        assert features_of_card(card) == {}
    assert features_of_card(tmp_path / "none.md") == {}


def test_categories_have_their_names(tmp_path: Path, home: Path) -> None:
    images = pa.array([{"bytes": one, "path": None} for one in (ONE, TWO, THREE)])
    golds = pa.array(["cat", "dog", "cat"]).dictionary_encode()
    table = pa.table({"image": images, "problem": ["a?", "b?", "c?"], "label": golds})
    pq.write_table(table, tmp_path / "train.parquet")
    assert list(prepared(tmp_path).rows["solution"]) == ["cat", "dog", "cat"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"instruction": "Count them.", "input": "The red ones."}, "Count them.\nThe red ones."),
        ({"Instruction": "Count them.", "Input": ""}, "Count them."),
        ({"question": "How many?", "hint": "Each is one unit."}, "Each is one unit.\nHow many?"),
        ({"question": "How many?", "context": "A shop.", "passage": "Of pens."}, "A shop.\nOf pens.\nHow many?"),
        ({"question": "A shop. How many?", "context": "A shop."}, "A shop. How many?"),
        ({"question": "How many?", "hint": "nan"}, "How many?"),
        ({"question": "How many?", "hint": None}, "How many?"),
        ({"question": "How many?", "hint": 7}, "7\nHow many?"),
        ({"question": "How many of 17?", "hint": "7"}, "7\nHow many of 17?"),
        ({"question": "", "hint": "Look."}, None),
        ({"question": "How many?", "hint": float("nan")}, "How many?"),
        ({"question": "How many?", "context": {"a": "b"}}, "How many?"),
        ({"question": "How long?", "unit": "cm"}, "How long?\nUnit: cm"),
        ({"question": "How long (in cm)?", "unit": "cm"}, "How long (in cm)?"),
        ({"question": "How long?", "unit": None}, "How long?"),
        ({"question": "Who?", "unit": "cm", "answer": "Ann"}, "Who?"),
        ({"question": "How long?", "hint": "In cm.", "options": ["2", "3"]}, "In cm.\nHow long?\nA. 2\nB. 3"),
    ],
)  # fmt: skip
def test_what_belongs_to_a_problem_is_in_it(row: dict[str, Any], problem: str | None) -> None:
    row = {"image": ONE, "answer": "3"} | row
    shape = shape_of(row)
    assert shape.cells(row)["problem"] == problem
    for name in ("input", "hint", "passage"):
        assert name not in row or name in shape.words


def test_a_part_of_a_problem_that_is_no_text_in_a_later_row_costs_the_row() -> None:
    row = {"image": ONE, "question": "How many?", "answer": "3", "context": "A shop."}
    with pytest.raises(Refusal, match="no problem.*its context is a list, not text"):
        shape_of(row).cells(row | {"context": ["A shop."]})


def test_what_is_not_read_is_said() -> None:
    row = {"image": ONE, "question": "How long?", "answer": "3", "precision": 1.0, "system": "Be brief.", "unit": "cm"}
    assert shape_of(row).words == (
        "image = image, problem = question and its unit, solution = answer; not read: the column precision; not read: "
        "the column system"
    )
    own = shape_of(row | {"hint": "Look."}, problem="question")
    assert own.cells(row)["problem"] == "How long?\nUnit: cm" and "not read: the column hint" in own.words
    both = shape_of(row | {"hint": "Look."}, problem="question + hint")
    assert both.cells(row | {"hint": "Look."})["problem"] == "How long?\nLook.\nUnit: cm"


@pytest.mark.parametrize("history", [[["Who?", "Ann"], ["Why?", "So."]], '[["Who?", "Ann"], ["Why?", "So."]]'])
def test_rounds_in_a_history_are_counted(history: Any) -> None:
    row = {"images": [ONE], "query": "How many?", "response": "3", "history": history}
    assert shape_of(row).cells(row)["earlier_turns"] == 2


@pytest.mark.parametrize(
    ("problem", "options", "gold", "read"),
    [
        ("How long? A) 5 B) 3", ["3", "5"], 0, "B"),
        ("How long?\n(A) 5\n(B) 3", ["3", "5"], "5", "A"),
        ("How long? A. 3 B. 5", ["3", "5"], 1, "B"),
        ("How long? A. 3cm B. 5cm", ["3", "5"], 1, "B"),
        ("How long? A. 5cm B. 3cm", ["3", "5"], 1, "A"),
        ("How long? A. $3$. B. $5$.", ["3", "5"], "B", "B"),
        ("How long? A) 5 B) 3", ["3", "5"], "A", "options differ"),
        ("How long? A) 5 B) 7", ["3", "5"], 0, "options differ"),
        ("Who? A. Ann B. Bob C. Cy", ["Di", "Ed", "Flo"], 0, "options differ"),
        ("Who? A. Ann B. Bob", ["A", "B"], "B", "B"),
        ("Is A: the first, or B: the second higher?", ["yes", "no"], "no", "B"),
        ("How long? A) -3 B) 3", ["3", "-3"], 0, "B"),
        (r"How long? A. $\frac{1}{3}$ B. $\frac{1}{2}$", ["1/2", "1/3"], "1/2", "B"),
        (r"How long? A. $x^2$ B. $y$", ["p", "q"], "p", "options differ"),
        ("How long? A. 5 B. 3", ["3", "5", "7", "9"], "7", "options differ"),
        ("How long? A) 53 B) 5", ["5", "53"], 0, "B"),
    ],
)  # fmt: skip
def test_options_in_the_problem_and_in_a_column(problem: str, options: list[str], gold: Any, read: str) -> None:
    rows = [
        {"image": ONE, "question": problem, "options": options, "answer": one}
        for one in {0: (0, 1), 1: (0, 1)}.get(gold, (gold,))
    ]
    shape = recognise(read_data_config(dataset="owner/name"), list(rows[0]), rows)
    try:
        cells = shape.cells(rows[0] | {"answer": gold})
        assert cells["solution"] == read and str(cells["problem"]).count("A") == problem.count("A") + (
            "higher" in problem
        )
    except Refusal as refusal:
        assert refusal.reason == read


TEXTS = ["5", "53", "5 cm", "-5", "5.3", "red", "Red wine", "1/2", "None"]


@given(st.permutations(TEXTS), st.integers(2, 4), st.sampled_from(["{}. {}", "({}) {}", "{}) {}"]), st.randoms())
def test_options_in_any_order_are_found_by_their_texts(texts: list[str], num: int, form: str, random: Any) -> None:
    options = texts[:num]
    shown = random.sample(options, num)
    problem = "Which?\n" + "\n".join(form.format(letter, text) for letter, text in zip("ABCD", shown))
    text, there = with_options(problem, read_options(options))
    assert text == problem and [shown["ABCD".index(there[letter])] for letter in "ABCD"[:num]] == options


@given(st.text("ABCab1. :)(\n<>{}[]!$", max_size=60), st.lists(st.text("ABab1 $", max_size=4), max_size=5))
def test_any_problem_with_any_options_is_read_or_refused(problem: str, options: list[str]) -> None:
    with suppress(Refusal):
        text, there = with_options(problem, read_options(options))
        assert text.startswith(problem) and set(there) == set(read_options(options).texts)
        assert len(set(there.values())) == len(there)


@pytest.mark.parametrize(
    ("question", "image", "images", "column", "has_doubt"),
    [
        ("<image>\n<image>\nWhich?", ONE, [ONE, TWO], "images", False),
        ("<image>\nWhich?", ONE, [ONE, TWO], "image", False),
        ("Which?", ONE, [ONE, TWO], "image", True),
        ("Which?", ONE, [ONE], "image", False),
        ("Which?", {"bytes": ONE, "path": None}, [{"bytes": ONE, "path": "1.png"}], "image", False),
        ("Which?", ONE, [TWO], "image", True),
        ("<image>Which?", None, [TWO], "images", False),
    ],
)
def test_marks_decide_between_one_picture_and_a_list(
    question: str, image: Any, images: Any, column: str, has_doubt: bool
) -> None:
    shape = shape_of({"image": image, "images": images, "question": question, "answer": "3"})
    assert shape.image == (column,) and bool(shape.doubts) is has_doubt
    if has_doubt:
        assert shape.doubts[0].endswith('If it is the others: --columns "{image: images}".')


@pytest.mark.parametrize(
    ("cell", "gold"),
    [
        ("['3']", "3"), ('["3"]', "3"), ("[3]", "3"), ("[-2.5]", "-2.5"), ("'None'", "no gold"),
        (["3"], "3"), ([["3"]], "3"), ("[1, 2]", "[1, 2]"),
        ("{1, 2}", "{1, 2}"), ("['3', '4']", "no gold"), (["3", "4"], "no gold"), ([], "no gold"),
        *((word, "no gold") for word in ("None", "null", "N/A", "-", "nan", "?", "unknown", "Unknown", " ", "<NA>")),
        ("none", "none"), ("None of the above", "None of the above"), ("-3", "-3"), ("#### N/A", "no gold"),
        ({"value": 3, "unit": "cm"}, "3 cm"), ('{"value": 3.0, "unit": "cm"}', "3 cm"), ({"value": 3}, "3"),
        ({"value": 3, "unit": None}, "3"),
        ({"value": Decimal("3.0"), "unit": "m"}, "3 m"), ({"number": 3}, "no gold"), ('{"answer": "7"}', "7"),
        ({"text": ["Ann", "Ann B.", "Ann"], "answer_start": [1, 1, 1]}, "Ann"),
        ({"text": [], "answer_start": []}, "no gold"),
        ("{'text': ['Ann'], 'answer_start': [1]}", "Ann"),
        (datetime.date(2024, 5, 1), "2024-05-01"), (datetime.datetime(2024, 5, 1), "2024-05-01"),
        (datetime.datetime(2024, 5, 1, 14, 30), "2024-05-01 14:30"), (datetime.time(14, 30), "14:30"),
        (datetime.timedelta(1), "no gold"), (b"3", "3"), (b"\xff\xfe", "no gold"), (b"\x00\x01", "no gold"),
    ],
)  # fmt: skip
def test_golds_in_every_form(cell: Any, gold: str) -> None:
    found = read({"answer": cell})
    assert (found if isinstance(found, str) else found["solution"]) == gold


@pytest.mark.parametrize("problem", ["nan", "None", "N/A", "-", "?", "null"])
def test_no_problem_is_none(problem: str) -> None:
    assert read({"question": problem}) == "no problem"


@pytest.mark.parametrize(
    ("options", "cell", "gold"),
    [
        (COLOURS, ["A", "C"], "A, C"), (COLOURS, "['A', 'C']", "A, C"), (COLOURS, "AC", "A, C"),
        (COLOURS, [0, 2], "A, C"),
        (COLOURS, ["red", "blue"], "A, C"), (COLOURS, "A, C", "A, C"), (["AB", "AC"], "AC", "B"),
        (["None", "One"], "None", "A"), (["Unknown", "N/A"], "N/A", "B"),
        (["1", "None of these"], "None of these", "B"),
        (COLOURS, "['B']", "B"), (COLOURS, "N/A", "no gold"), (COLOURS, ["A", "K"], "no gold"),
        (COLOURS, "A;C", "A, C"), (COLOURS, "A/C", "A, C"), (COLOURS, "#### B and D", "B, D"),
        (COLOURS, "(B) (D)", "(B) (D)"),
        (COLOURS, [1, 0, 1, 0], "no gold"), (["no", "yes"], [0, 1], "no gold"), (COLOURS, [2, 2], "no gold"),
        (["red", "nan", "blue", "NaN"], "B", "B"),
    ],
)  # fmt: skip
def test_golds_beside_options(options: list[str], cell: Any, gold: str) -> None:
    found = read({"answer": cell, "options": options})
    assert (found if isinstance(found, str) else found["solution"]) == gold


@pytest.mark.parametrize(
    ("cell", "gold"),
    [
        (["A", "C"], "A, C"),
        ("['A', 'C']", "A, C"),
        (["red", "blue"], "A, C"),
        (["A", "A", "C"], "A"),
        (["red"] * 3, "A"),
    ],
)
def test_answers_beside_options_are_several_people_s_or_several_options(cell: Any, gold: str) -> None:
    row = {"image": ONE, "question": "Which?", "options": COLOURS, "answers": cell}
    assert shape_of(row).cells(row)["solution"] == gold


@pytest.mark.parametrize("num", [11, 14])
@pytest.mark.parametrize("apart", [False, True])
def test_more_options_than_letters_are_refused_in_all_rows(num: int, apart: bool) -> None:
    texts = [f"colour {n}" for n in range(num)]
    row = dict(zip("ABCDEFGHIJKLMN", texts)) if apart else {"options": texts}
    assert read(row | {"answer": "B"}) == "too many options"


def test_more_options_in_the_problem_than_letters_are_refused() -> None:
    problem = "Which?" + "".join(f"\n{letter}. colour {letter.lower()}x" for letter in "ABCDEFGHIJKL")
    assert read({"question": problem, "answer": "L"}) == "too many options"
    assert isinstance(read({"question": problem.partition("\nK")[0], "answer": "J"}), dict)
    assert isinstance(read({"question": "Who? A. Ann, or J. Kay and K. Lee?"}), dict)


MARKS = [
    '<img src="a.png">', '<img src="a.png" width="40"/>', "![](a.png)", "![the bars](images/a b.png)", "[image]",
    "[IMG]",
    "{image}", "<image_1>", "[image 1]", "<|image_1|>", "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>",
    "<img>a.png</img>", "<image>./</image>", "<|begin_of_image|><|image|><|end_of_image|>", "{{image}}",
    "<img1>", "<Image 1>",
    "<start_of_image><end_of_image>", "<img><IMG_CONTEXT><IMG_CONTEXT></img>", "<image>",
]  # fmt: skip


@pytest.mark.parametrize("mark", MARKS)
def test_marks_of_every_kind_are_places_of_pictures(mark: str) -> None:
    assert read({"question": f"{mark}\nWhich?"}) == {"problem": "Which?", "solution": "3", "num": 1}
    assert read({"question": f"Is {mark} red?"}) == {"problem": "Is  red?", "solution": "3", "num": 1}
    second = mark.replace("1", "2")
    found = read({"image": [ONE, TWO], "question": f"Is {mark} like {second}?"})
    assert found == {"problem": f"Is {PLACE} like {PLACE}?", "solution": "3", "num": 2}


def test_words_that_are_no_marks_stay() -> None:
    for text in (r"What is $\text{image}$ of f?", "See [the image] and (image).", "Is a < b > c? <imgs>", "[1](2)"):
        assert read({"question": text}) == {"problem": text, "solution": "3", "num": 1}


def test_more_marks_than_pictures_are_refused() -> None:
    assert read({"question": "Is <image> like <image>?"}) == "picture missing"


@pytest.mark.parametrize(
    ("cell", "num"),
    [
        ("1.png;2.png", 2), ("1.png|2.png", 2), ("1.png, 2.png,3.png", 3), ('["1.png","2.png"]', 2), ("['1.png']", 1),
        ("1.png;", 1), ("1.png\n2.png", 2), ("1.png;9.png", "picture missing"), ("1.png;2", "picture missing"),
    ],
)  # fmt: skip
def test_several_paths_in_a_cell(cell: str, num: Any, tmp_path: Path) -> None:
    row = ROW | {"image": cell}
    lines(tmp_path, [])
    try:
        assert len(clean_row(shape_of(row).cells(row), Folders.of(tmp_path)).pictures) == num
    except Refusal as refusal:
        assert refusal.reason == num


@pytest.mark.parametrize(
    ("cells", "solution", "doubt"),
    [
        ({"label": "geometry", "ground_truth": "5"}, "5", ""),
        ({"target": "test", "response": "7", "gt": "5"}, "5", ""),
        ({"label": "positive", "final_answer": "5", "correct_option": "B"}, "5", ""),
        ({"label": "cat", "category": "5"}, "cat", ""),
        ({"solution": True, "answer": "3"}, "3", "'answer' and 'solution' differ"),
        ({"solution": "True", "answer": "3"}, "3", "'answer' and 'solution' differ"),
        ({"answer": True, "label": "geometry"}, "yes", ""),
        ({"answer": "3", "gt": "3.0"}, "3", ""),
        ({"solution": "1 + 2 = 3\n#### 3", "answer": "3"}, "1 + 2 = 3\n#### 3", ""),
        ({"answer": "3", "gt": "5"}, "3", "'answer' and 'gt' differ in 1 of 1 rows, as '3' and '5'; 'answer' is read"),
        ({"label": "geometry", "response": "5"}, "geometry", "'label' and 'response' differ"),
        ({"options": ["red", "blue"], "answer": "B", "correct_answer": "blue"}, "B", ""),
        ({"options": ["red", "blue"], "answer": "A", "correct_answer": "blue"}, "A", "differ in 1 of 1 rows"),
        ({"options": ["red", "blue"], "answer": "A", "solution": "Compare the two"}, "A", ""),
        ({"answer": "blue", "answer_idx": 1}, "blue", ""),
    ],
)
def test_of_several_columns_of_answers(cells: dict[str, Any], solution: str, doubt: str) -> None:
    row = {"image": "1.png", "question": "Which?"} | cells
    shape = shape_of(row)
    assert shape.cells(row)["solution"] == solution
    assert doubt in " ".join(shape.doubts) and bool(doubt) == bool(shape.doubts)


@pytest.mark.parametrize(
    "cells",
    [
        {"options": ["images/p1.png", "images/p2.png"]},
        {"options": "A. images/p1.png\nB. images/p2.png"},
        {"A": "p1.jpg", "B": "p2.jpg"},
        {"options": ["data:image/png;base64," + "A" * 80, "data:image/png;base64," + "B" * 80]},
    ],
)
def test_options_that_are_pictures_drop_the_row(cells: dict[str, Any]) -> None:
    assert read(cells | {"answer": "B"}) == "options are pictures"


def test_one_option_may_be_the_name_of_a_file() -> None:
    found = read({"options": ["logo.png", "a folder"], "answer": "B"})
    assert found == {"problem": "Which?\nA. logo.png\nB. a folder", "solution": "B", "num": 1}


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ({"hint": True}, "Which?"),
        ({"context": "https://a.org/b?c=1"}, "Which?"),
        ({"passage": "texts/1.txt"}, "Which?"),
        ({"hint": "images/1.png"}, "Which?"),
        ({"hint": "Is 3/4 it?"}, "Is 3/4 it?\nWhich?"),
        ({"hint": "and/or"}, "and/or\nWhich?"),
        ({"query": "https://a.org/b", "question": None, "text": "How many?"}, "How many?"),
        ({"question": True, "prompt": "How many?"}, "How many?"),
    ],
)
def test_a_truth_value_an_address_and_a_path_are_no_text_of_a_problem(cells: dict[str, Any], problem: str) -> None:
    row = {"image": ONE, "question": "Which?", "answer": "3"} | cells
    row = {name: cell for name, cell in row.items() if cell is not None}
    shape = shape_of(row)
    assert shape.cells(row)["problem"] == problem
    assert any(name in shape.words for name in cells)


def test_a_hint_that_holds_the_answer_is_a_doubt() -> None:
    rows = [ROW | {"hint": f"It is {n}." if n else "Look.", "answer": str(n or 17)} for n in range(4)]
    (doubt,) = recognise(read_data_config(dataset="owner/name"), list(rows[0]), rows).doubts
    assert doubt == (
        "'hint', which is read with the problem, holds the answer in 3 of the 4 rows that were looked at. If it gives "
        'it away: --columns "{problem: question}".'
    )
    plain = [row | {"answer": "1"} for row in rows[2:]]
    assert recognise(read_data_config(dataset="owner/name"), list(rows[0]), plain).doubts == ()


@pytest.mark.parametrize(
    ("problem", "options", "is_added"),
    [
        ("x? (A) 5 cm^2 (B) 6 cm^2", ["5 cm²", "6 cm²"], False),
        ("x?\nA. 1,000\nB. 2,000", ["1000", "2000"], False),
        ("x?\nA. 1,000,000\nB. 2,000", ["1000000", "2000"], False),
        ("x? (A) $x^{2}$ (B) $x^{3}$", ["x^2", "x^3"], False),
        ("x?\nA. (1,200)\nB. (2,300)", ["(1,200)", "(2,300)"], False),
        ("In figure A. the cat sits. In figure B. the dog runs. Who?", ["cat", "dog"], True),
        ("In figure A. the cat sits. In B. the dog runs. Which?", ["cat", "dog"], True),
        ("Given A: (1,2), B: (3,4), C: (0,0). Which is the area?", ["1", "2", "3"], True),
        ("Which? A. red B. green", ["red", "blue"], None),
        ("Which?\nA. red\nB. green", ["cat", "dog"], None),
        ("Choose A. red B. green", ["green", "red"], False),
        ("选哪个？A．３ B．４", ["3", "4"], False),
        ("选哪个？（A）3（B）4", ["3", "4"], True),
    ],
)
def test_options_in_a_problem_are_compared_as_answers_are(
    problem: str, options: list[str], is_added: bool | None
) -> None:
    found = read({"question": problem, "options": options, "answer": options[1]})
    if is_added is None:
        assert found == "options differ"
    else:
        added = "".join(f"\n{letter}. {text}" for letter, text in zip("ABC", options)) if is_added else ""
        assert isinstance(found, dict) and found["problem"] == problem + added
        assert found["solution"] == ("A" if problem.startswith("Choose") else "B")


def test_a_problem_in_a_list_is_read() -> None:
    for cell in (["Which?"], "Which?", b"Which?"):
        assert read({"question": cell}) == {"problem": "Which?", "solution": "3", "num": 1}
    assert read({"question": ["Which?", "How?"]}) == "no problem"


@pytest.mark.parametrize(("user", "model"), [("Human", "bot"), ("user", "Chatbot"), ("HUMAN ", "Assistant")])
def test_the_roles_of_turns(user: str, model: str) -> None:
    row = {"image": ONE, "messages": [{"role": user, "content": "Which?"}, {"role": model, "content": "3"}]}
    cells = shape_of(row).cells(row)
    assert (cells["problem"], cells["solution"]) == ("Which?", "3")


def test_unknown_roles_are_said() -> None:
    row = {"image": ONE, "messages": [{"role": "Frage", "content": "Which?"}, {"role": "Antwort", "content": "3"}]}
    words = "none is the user's; the roles are 'Frage', 'Antwort', and known are user, human, assistant, gpt"
    for cells in ({}, {"answer": "3"}):
        with pytest.raises(UserError, match=words):
            shape_of(row | cells)
    known = {"image": ONE, "messages": [{"role": "user", "content": "Which?"}, {"role": "bot", "content": "3"}]}
    with pytest.raises(Refusal, match=words):
        shape_of(known).cells(row)
