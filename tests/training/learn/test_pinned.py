"""Pinned questions: kept with their pictures, asked of two adapters, and graded; one that cannot be asked says so."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inference.common.errors import Busy, UserError
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.model.request import Completion, Request
from tests.support.samples import problems, random_adapter
from training.learn.pinned import MAX_QUESTIONS, Asked, PinnedQuestions, PinnedRow, ask_pinned

SHIPPED = Asked("starter-adapter", STARTER / "adapter")
BASE = Asked("the base alone", None)


@pytest.fixture
def pinned(home: Path) -> PinnedQuestions:
    return PinnedQuestions(home)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    problems(1)[0].image.save(path)
    return path


def pin_problems(pinned: PinnedQuestions, folder: Path, num: int) -> None:
    for i, problem in enumerate(problems(num, seed=3)):
        problem.image.save(folder / f"{i}.png")
        pinned.add(folder / f"{i}.png", problem.problem, problem.answer)


def edit(pinned: PinnedQuestions, place: int, **values: str) -> None:
    """As somebody edits the file."""
    content = json.loads((pinned.folder / "questions.json").read_text())
    content["questions"][place] |= values
    (pinned.folder / "questions.json").write_text(json.dumps(content))


def changes(rows: Sequence[PinnedRow]) -> list[str]:
    return [row.change for row in rows]


def test_questions_are_kept_with_the_picture_that_the_model_gets_and_removed(
    pinned: PinnedQuestions, tmp_path: Path
) -> None:
    Image.new("RGBA", (40, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    one = pinned.add(tmp_path / "clear.png", " How many\x00? ", " 4 ")
    assert [(kept.question, kept.gold) for kept in pinned.all()] == [("How many?", "4")] and pinned.all() == [one]
    with Image.open(pinned.picture(one)) as kept:
        assert (kept.mode, kept.size, kept.getpixel((0, 0))) == ("RGB", (56, 28), (255, 255, 255))
    with pytest.raises(UserError, match="no longer pinned"):
        pinned.remove("../served.json")
    pinned.remove(one.key)
    assert not pinned.all() and not pinned.picture(one).exists()


@pytest.mark.parametrize(
    ("content", "question", "gold", "words"),
    [
        (None, "How many?", "4", "no picture"),
        (b"<svg></svg>", "How many?", "4", "SVG"),
        (b"nonsense", "How many?", "4", "not a picture"),
        ("good", " \n", "4", "no question"),
        ("good", "q" * 9_000, "4", "Shorten it"),
        ("good", ["q"], "4", "send text"),
        ("good", "How many?", " ", "no right answer"),
        ("good", "How many?", 4, "no right answer"),
        ("good", "How many?", "w " * 900, "cannot be graded"),
        ("good", "How many?", "???", "no letter, digit or sign of mathematics"),
        ("good", "How many?", "\N{SLIGHTLY SMILING FACE}", "no letter, digit or sign of mathematics"),
        ("good", "How many?", "<answer>...</answer>", "no letter, digit or sign of mathematics"),
    ],
)
def test_what_cannot_be_asked_or_graded_is_refused(
    pinned: PinnedQuestions, picture: Path, content: Any, question: Any, gold: Any, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        pinned.add(picture if content == "good" else content, question, gold)
    assert not pinned.all() and not list(pinned.folder.glob("*.png"))


@pytest.mark.parametrize("gold", ["-3", "½", "π", "C", "是", "∞", ">", "\\frac{1}{2}", "50 %"])
def test_what_can_be_right_is_kept(pinned: PinnedQuestions, picture: Path, gold: str) -> None:
    assert pinned.add(picture, "Which?", gold).gold == gold


def test_an_equal_picture_and_question_is_pinned_once(pinned: PinnedQuestions, picture: Path, tmp_path: Path) -> None:
    one = pinned.add(picture, "How many?", "6")
    for again in (picture, Image.open(picture)):
        with pytest.raises(UserError, match="already pinned with the right answer 6; remove it first"):
            pinned.add(again, " How many? ", "7")
    pinned.add(picture, "How many more?", "7")
    Image.new("RGB", Image.open(picture).size).save(tmp_path / "other.png")
    pinned.add(tmp_path / "other.png", "How many?", "7")
    pinned.picture(one).unlink()
    pinned.remove(one.key)
    pinned.add(picture, "How many?", "7")
    assert [kept.gold for kept in pinned.all()] == ["7"] * 3


def test_there_are_at_most_so_many(pinned: PinnedQuestions, picture: Path) -> None:
    for number in range(MAX_QUESTIONS):
        pinned.add(picture, f"Question {number}?", "4")
    with pytest.raises(UserError, match=f"{MAX_QUESTIONS} questions are pinned"):
        pinned.add(picture, "One more?", "4")
    assert len(pinned.all()) == len(list(pinned.folder.glob("*.png"))) == MAX_QUESTIONS


HOSTILE = {
    "not an object": "[]",
    "cut short": '{"questions": [',
    "a path for a key": '{"questions": [{"key": "../x", "question": "q", "gold": "4"}]}',
    "numbers for text": '{"questions": [{"key": "0123456789abcdef", "question": 3, "gold": "4"}]}',
    "other fields": '{"questions": [{"key": "0123456789abcdef", "question": "q", "gold": "4", "run": "x"}]}',
    "half a character": '{"questions": [{"key": "0123456789abcdef", "question": "\\ud800", "gold": "4"}]}',
    "too many": json.dumps({"questions": [{"key": f"{i:016x}", "question": "q", "gold": "4"} for i in range(25)]}),
    "too deep": '{"questions": ' + "[" * 100_000,
    "too large": '{"questions": [], "more": "' + "x" * 5_000_000 + '"}',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_list_that_cannot_be_read_is_told_and_never_written_over(
    pinned: PinnedQuestions, picture: Path, engine: Engine, text: str
) -> None:
    pinned.folder.mkdir(parents=True)
    (pinned.folder / "questions.json").write_text(text)
    for act in (pinned.all, lambda: pinned.add(picture, "How many?", "4"), lambda: pinned.remove("0123456789abcdef")):
        with pytest.raises(UserError, match="cannot be read as a list of at most 24 questions .* remove it"):
            act()
    with pytest.raises(UserError, match="cannot be read"):
        ask_pinned(pinned, engine, engine.generate, BASE, BASE)
    assert (pinned.folder / "questions.json").read_text() == text and not list(pinned.folder.glob("*.png"))


def test_both_adapters_are_asked_and_graded(pinned: PinnedQuestions, engine: Engine, tmp_path: Path) -> None:
    pin_problems(pinned, tmp_path, 3)
    broken = Asked("broken", random_adapter(tmp_path / "broken", strength=3.0))
    worse = ask_pinned(pinned, engine, engine.generate, SHIPPED, broken)
    assert changes(worse).count("broke") == sum(bool(row.before and row.before.right) for row in worse) >= 2
    assert "mended" not in changes(worse)
    better = ask_pinned(pinned, engine, engine.generate, broken, SHIPPED)
    assert changes(better) == [{"broke": "mended"}.get(change, change) for change in changes(worse)]
    assert [row.new for row in better] == [row.before for row in worse]
    for one in (SHIPPED, BASE):
        assert changes(ask_pinned(pinned, engine, engine.generate, one, one)) == ["same"] * 3
    with pytest.raises(UserError, match="gone"):
        ask_pinned(pinned, engine, engine.generate, SHIPPED, Asked("gone", tmp_path / "gone"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda pinned, one: pinned.picture(one).write_bytes(b"nonsense"), "not a picture"),
        (lambda pinned, one: pinned.picture(one).unlink(), "no picture"),
        (lambda pinned, one: edit(pinned, 1, question="q" * 9_000), "Shorten it"),
        (lambda pinned, one: edit(pinned, 1, question="\u200b"), "no question"),
        (lambda pinned, one: edit(pinned, 1, gold="w " * 900), "cannot be graded"),
    ],
)
def test_one_that_cannot_be_asked_says_so_and_keeps_no_other(
    pinned: PinnedQuestions, engine: Engine, tmp_path: Path, spoil: Any, words: str
) -> None:
    pin_problems(pinned, tmp_path, 3)
    spoil(pinned, pinned.all()[1])
    rows = ask_pinned(pinned, engine, engine.generate, SHIPPED, SHIPPED)
    assert changes(rows) == ["same", "not asked", "same"] and words in rows[1].trouble
    assert all(row.new and row.new.answer for row in (rows[0], rows[2]))


def test_one_that_the_engine_refuses_keeps_no_other_and_what_breaks_is_raised(
    pinned: PinnedQuestions, engine: Engine, tmp_path: Path
) -> None:
    """Such as a question that is too long for this base."""
    pin_problems(pinned, tmp_path, 3)
    edit(pinned, 0, question="Refuse this?")

    def complete(requests: Sequence[Request]) -> Sequence[Completion]:
        if any(request.question == "Refuse this?" for request in requests):
            raise UserError("It has too many tokens.")
        return engine.generate(requests)

    rows = ask_pinned(pinned, engine, complete, BASE, SHIPPED)
    assert [row.trouble for row in rows] == ["It has too many tokens.", "", ""] and changes(rows)[1:] != [
        "not asked"
    ] * 2
    for error in (Busy("later"), RuntimeError("broke")):
        with pytest.raises(type(error)):
            ask_pinned(pinned, engine, lambda requests, error=error: (_ for _ in ()).throw(error), BASE, SHIPPED)


def test_the_largest_questions_that_can_be_pinned_are_asked_a_few_at_a_time(
    pinned: PinnedQuestions, engine: Engine, tmp_path: Path
) -> None:
    """24 pictures of the most pixels that are read: two are in memory at a time."""
    side = int(pinned.limits.max_pixels**0.5)
    Image.linear_gradient("L").resize((side, side)).save(tmp_path / "large.png")
    pinned.add(tmp_path / "large.png", "How many?", "4")
    content = json.loads((pinned.folder / "questions.json").read_text())
    (pinned.folder / "questions.json").write_text(json.dumps({"questions": content["questions"] * MAX_QUESTIONS}))
    asked: list[int] = []

    def complete(requests: Sequence[Request]) -> Sequence[Completion]:
        asked.append(len(requests))
        assert max(request.image.width * request.image.height for request in requests) <= pinned.limits.max_model_pixels
        return [Completion("<answer>4</answer>", (), 5, 1.0, 0.1, False, False) for _ in requests]

    assert changes(ask_pinned(pinned, engine, complete, BASE, BASE)) == ["same"] * MAX_QUESTIONS
    assert asked == [4] * (MAX_QUESTIONS // 2)


def test_two_who_pin_at_once_lose_nothing(pinned: PinnedQuestions, picture: Path) -> None:
    threads = [threading.Thread(target=pinned.add, args=(picture, f"Question {i}?", "4")) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pinned.all()) == 6
