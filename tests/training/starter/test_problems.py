"""The starter problems: repeatable, split clean, right, and not to be answered without looking."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections import Counter

import pytest

from training.grading.grader import grade, grade_answer, last_answer
from training.starter import problems
from training.starter.drawing import SIZE, digit_scans
from training.starter.problems import (
    MULTIPLE_CHOICE_SHARE,
    Problem,
    draw,
    iterate_problems,
    load_problems,
    make_problem,
    sample_values,
    split_of,
)
from training.starter.templates import KINDS, TEMPLATES, WAYS, Question, Template

HUB_COLUMNS = ["image", "problem", "solution", "original_question", "original_answer"]


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Problem]]:
    """A hundred and twenty problems of each side."""
    return {split: list(itertools.islice(iterate_problems(split, 11), 120)) for split in problems.SPLITS}


def picture_hash(problem: Problem) -> str:
    return hashlib.sha256(problem.image.tobytes()).hexdigest()


def shown(kind: str, values: tuple) -> tuple:
    """What the picture shows, whatever the order, and the labels of a figure whatever it is."""
    return kind, *sorted(values[1:] if kind == "figures" else values)


def options_of(problem: Problem) -> dict[str, str]:
    _, marker, lines = problem.problem.partition("\nChoices:\n")
    return dict(line.split(". ", 1) for line in lines.split("\n")) if marker else {}


def test_rows_have_the_columns_of_the_hub_dataset() -> None:
    rows = load_problems("test", 6, seed=3)
    assert rows.column_names[:5] == HUB_COLUMNS
    row = rows[0]
    assert row["image"].size == (SIZE, SIZE) and row["image"].mode == "RGB"
    assert row["solution"].startswith("<think>") and row["solution"].endswith("</answer>")


def test_the_same_seed_gives_the_same_bytes() -> None:
    one, other = (load_problems("train", 8, seed=5) for _ in range(2))
    assert one.data.table.equals(other.data.table)
    assert not one.data.table.equals(load_problems("train", 8, seed=6).data.table)


@pytest.mark.parametrize(("split", "num_rows"), [("validation", 4), ("test", 0)])
def test_wrong_arguments_are_named(split: str, num_rows: int) -> None:
    with pytest.raises(ValueError, match=split if num_rows else "num_rows is 0"):
        load_problems(split, num_rows)


def test_every_kind_and_template_comes_up(drawn: dict[str, list[Problem]]) -> None:
    assert {p.template for p in itertools.chain(*drawn.values())} == {t.name for t in TEMPLATES}
    for side in drawn.values():
        assert {p.kind for p in side} == set(KINDS)
        assert abs(sum(bool(options_of(p)) for p in side) / len(side) - MULTIPLE_CHOICE_SHARE) < 0.12
        assert any("/" in p.answer for p in side) and any("." in p.answer for p in side)


def test_sides_share_no_picture_and_no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    scans: dict[str, set[int]] = {split: set() for split in problems.SPLITS}
    pictures: dict[str, set[str]] = {}
    side, draw_digits = "train", problems.draw_digits

    def recording(digits: tuple, indices: tuple, rng: random.Random):
        scans[side].update(indices)
        assert tuple(digit_scans()[1][list(indices)]) == digits
        return draw_digits(digits, indices, rng)

    monkeypatch.setattr(problems, "draw_digits", recording)
    of_digits = [t for t in TEMPLATES if t.kind == "digits"]
    for side in problems.SPLITS:
        rng = random.Random(2)
        pictures[side] = {picture_hash(make_problem(rng, side, t)) for t in of_digits for _ in range(30)}
    assert len(scans["train"]) > 150 and len(scans["test"]) > 100
    assert not scans["train"] & (scans["test"] | scans["beyond"])
    assert not pictures["train"] & (pictures["test"] | pictures["beyond"])
    pixels = {side: {digit_scans()[0][i].tobytes() for i in indices} for side, indices in scans.items()}
    assert not pixels["train"] & (pixels["test"] | pixels["beyond"])


def test_sides_share_no_picture(drawn: dict[str, list[Problem]]) -> None:
    pictures = {side: {picture_hash(p) for p in drawn[side]} for side in drawn}
    assert {len(side) for side in pictures.values()} == {120}
    assert not pictures["train"] & (pictures["test"] | pictures["beyond"])


@pytest.mark.parametrize("kind", KINDS)
def test_sides_share_no_values(kind: str) -> None:
    """Of all templates of a kind together: the labels 3 and 5 are on one side for a rectangle and for a triangle."""
    rng = random.Random(kind)
    values = {
        side: {
            shown(kind, sample_values(template, side, rng))
            for template in TEMPLATES
            if template.kind == kind
            for _ in range(200)
        }
        for side in problems.SPLITS
    }
    assert len(values["train"]) > len(values["test"]) >= 60
    assert not values["train"] & values["test"] and not values["train"] & values["beyond"]


def test_the_column_of_values_names_what_is_held_out(drawn: dict[str, list[Problem]]) -> None:
    train, test, beyond = ({problem.picture_values for problem in drawn[side]} for side in problems.SPLITS)
    assert not train & test and not train & beyond and len(test) > 80
    for problem in drawn["test"]:
        assert problem.kind == "figures" or split_of(problem.kind, tuple(reversed(problem.values))) == "test"


def test_problems_beyond_are_larger_than_those_of_train() -> None:
    rng = random.Random(4)
    for template in TEMPLATES:
        train, beyond = ([sample_values(template, side, rng) for _ in range(100)] for side in ("train", "beyond"))
        if template.kind == "shapes" and template.name != "shapes-fraction":
            assert min(max(group[2] for group in values) for values in beyond) >= 8
            assert max(max(group[2] for group in values) for values in train) < 8
        elif template.figure and template.figure != "triangle angles":
            assert min(max(v[1:]) for v in beyond) > 29
        elif not template.figure:
            assert min(map(len, beyond)) > max(map(len, train)), template.name


@pytest.mark.parametrize("split", problems.SPLITS)
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_every_template_has_options_on_every_side(template: Template, split: str) -> None:
    rng = random.Random(9)
    asked = [problems._ask(template, split, rng, is_choice=True) for _ in range(30)]
    assert all(len(set(options)) == 4 and question.answer in options for _, question, options in asked)


def test_the_order_of_scattered_things_does_not_change_the_side() -> None:
    groups = (("red", "circle", 3), ("blue", "square", 2), ("green", "triangle", 1))
    assert len({split_of("shapes", order) for order in itertools.permutations(groups)}) == 1
    assert len({split_of("digits", order) for order in itertools.permutations((3, 7, 9))}) == 1


def test_every_solution_grades_itself_right(drawn: dict[str, list[Problem]]) -> None:
    for p in itertools.chain(*drawn.values()):
        assert grade(p.solution, p.solution).correct, p.solution
        assert p.solution == f"<think>{p.thoughts['careful']}</think>\n\n<answer>{p.answer}</answer>"


def test_every_way_to_think_states_only_what_is_true(drawn: dict[str, list[Problem]]) -> None:
    """Each equation of each thought holds, each ends with the answer, and the ways begin differently."""
    equations = 0
    for p in itertools.chain(*drawn.values()):
        assert list(p.thoughts) == list(WAYS)
        for way, thought in p.thoughts.items():
            assert thought.startswith(WAYS[way])
            assert grade_answer(p.answer, last_answer(f"{thought} The answer is {p.answer}.")).correct
            assert p.original_answer.rstrip(".") in thought or p.answer in thought
            for left, right in re.findall(r"((?:[\d×+/() -]|\.(?=\d))*\d)\)? = (\d+(?:\.\d+)?)(?=[. ])", thought):
                value = eval(
                    left.replace("×", "*") + ")" * (left.count("(") - left.count(")"))
                )  # digits and signs only
                assert value == float(right), (way, thought)
                equations += 1
        assert len(p.thoughts["glance"]) <= len(p.thoughts["short"]) <= len(p.thoughts["careful"])
    assert equations > 800


def test_exactly_one_option_is_right(drawn: dict[str, list[Problem]]) -> None:
    choices = [(p, options_of(p)) for p in itertools.chain(*drawn.values()) if options_of(p)]
    assert len(choices) > 50
    for p, options in choices:
        assert list(options) == ["A", "B", "C", "D"]
        right = [letter for letter, option in options.items() if grade_answer(p.original_answer, option).correct]
        assert right == [p.answer]
        assert p.thoughts["careful"].endswith(f" That is choice {p.answer}.")


def ask_choices(template: Template, num: int) -> list[tuple[str, str, list[str]]]:
    """(wording, gold, options) of train-side multiple choices, without drawing them."""
    rng = random.Random(f"choices-{template.name}")
    asked = [problems._ask(template, "train", rng, is_choice=True) for _ in range(num)]
    return [(question.text, question.answer, options) for _, question, options in asked]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_options_give_nothing_away_without_the_picture(template: Template) -> None:
    """Whoever knows how often each answer is right, but not the picture, guesses one in four."""
    num = 500
    choices = ask_choices(template, num)
    places = Counter(options.index(gold) for _, gold, options in choices)
    assert all(abs(places[i] / num - 0.25) < 0.08 for i in range(4))
    often = Counter(gold for _, gold, _ in ask_choices(template, 2 * num)[num:])
    guesses = {
        "the commonest": lambda options: max(options, key=lambda o: often[o]),
        "the largest": lambda options: max(options, key=number),
        "the smallest": lambda options: min(options, key=number),
        "the second": lambda options: sorted(options, key=number)[1],
        "the third": lambda options: sorted(options, key=number)[2],
    }
    for word in ("largest", "smallest", ""):
        of_word = [(gold, options) for text, gold, options in choices if word in text]
        for name, guess in guesses.items():
            if len(of_word) < num / 4:  # the word is of another template
                continue
            hits = sum(guess(options) == gold for gold, options in of_word) / len(of_word)
            assert abs(hits - 0.25) < 0.1, f"{name} option is right in {hits:.0%} of {template.name} ({word})"


def test_options_are_possible_for_the_stated_perimeter() -> None:
    template = next(t for t in TEMPLATES if t.name == "rectangle-missing-side")
    for text, _, options in ask_choices(template, 200):
        half = int("".join(c for c in text if c.isdigit())) // 2
        assert all(2 <= half - int(option) for option in options)


def number(text: str) -> float:
    top, _, bottom = text.partition("/")
    return float(top) / float(bottom or 1)


def test_a_rectangle_with_a_hidden_side_is_drawn_where_no_train_picture_is() -> None:
    """Both splits show such a rectangle with the same one label; the picture must differ all the same."""

    def places(split: str) -> set[tuple[float, ...]]:
        rng = random.Random(split)
        asked = Question("", "", "", "", hidden=1)
        drawn = [draw("figures", ("rectangle", 3, 5), asked, split, rng) for _ in range(150)]
        return {tuple(mark.y for mark in marks) for _, marks in drawn}

    train, test = places("train"), places("test")
    assert len(train) > 20 and len(test) >= 4
    assert not train & test
