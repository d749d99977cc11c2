"""Pinned questions: kept with their pictures, asked of two adapters through the queue, and graded."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inference.common.errors import Busy, UserError
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.server.queue import MAX_SEQS_BESIDE_OTHERS, RequestQueue
from inference.server.visitors import OWNER
from tests.support.samples import problems, random_adapter
from training.learn.pinned import MAX_QUESTIONS, MAX_RESULTS, Asked, PinnedQuestions, PinnedResult

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
    ],
)
def test_what_cannot_be_asked_or_graded_is_refused(
    pinned: PinnedQuestions, picture: Path, content: Any, question: Any, gold: Any, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        pinned.add(picture if content == "good" else content, question, gold)
    assert not pinned.all() and not list(pinned.folder.glob("*.png"))


def test_there_are_at_most_so_many_and_broken_files_are_none(pinned: PinnedQuestions, picture: Path) -> None:
    for number in range(MAX_QUESTIONS):
        pinned.add(picture, f"Question {number}?", "4")
    with pytest.raises(UserError, match=f"{MAX_QUESTIONS} questions are pinned"):
        pinned.add(picture, "One more?", "4")
    assert len(pinned.all()) == len(list(pinned.folder.glob("*.png"))) == MAX_QUESTIONS
    hostile = '{"questions": [{"key": "../x", "question": "", "gold": ""}]}'
    for text in ("[]", "{", hostile, '{"results": {"a": 3}}'):
        for name in ("questions.json", "results.json"):
            (pinned.folder / name).write_text(text)
        assert not pinned.all() and not pinned.results()


def test_both_adapters_are_asked_and_graded_behind_visitors(
    pinned: PinnedQuestions, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin_problems(pinned, tmp_path, 3)
    broken = Asked("broken", random_adapter(tmp_path / "broken", strength=3.0))
    queue = RequestQueue(lambda: engine)
    with pytest.raises(UserError, match="not loaded"):
        pinned.ask(None, SHIPPED, broken)
    queue.wait_loaded()
    asked: list[tuple[str, int]] = []
    submit = queue.submit
    monkeypatch.setattr(
        queue, "submit", lambda rows, visitor: asked.append((visitor.id, len(rows))) or submit(rows, visitor)
    )
    worse = pinned.ask(queue, SHIPPED, broken)
    assert set(asked) <= {(OWNER, MAX_SEQS_BESIDE_OTHERS), (OWNER, 2)} and len(asked) == 2
    assert worse.count("broke") == sum(row.before.right for row in worse.rows) >= 2 and not worse.count("mended")
    better = pinned.ask(queue, broken, SHIPPED)
    assert better.count("mended") == worse.count("broke") and not better.count("broke")
    assert [row.new for row in better.rows] == [row.before for row in worse.rows]
    assert pinned.ask(queue, SHIPPED, SHIPPED).count("same") == 3 and pinned.ask(queue, BASE, BASE).count("same") == 3
    assert pinned.results()["broken"] == worse and pinned.results()["starter-adapter"].before == "starter-adapter"
    queue.rest("A run needs the GPU.")
    with pytest.raises(Busy, match="needs the GPU"):
        pinned.ask(queue, SHIPPED, broken)
    assert pinned.results()["broken"] == worse
    queue.wake()


def test_only_the_newest_results_are_kept(pinned: PinnedQuestions, engine: Engine, picture: Path) -> None:
    pinned.add(picture, "How many?", "4")
    result = PinnedResult(before="x", at="", rows=[])
    old = {f"a{number}": result.model_dump() for number in range(MAX_RESULTS)}
    (pinned.folder / "results.json").write_text(json.dumps({"results": old}))
    queue = RequestQueue(lambda: engine)
    queue.wait_loaded()
    pinned.ask(queue, BASE, BASE)
    assert len(pinned.results()) == MAX_RESULTS and "a0" not in pinned.results() and BASE.name in pinned.results()


def test_two_who_pin_at_once_lose_nothing(pinned: PinnedQuestions, picture: Path) -> None:
    threads = [threading.Thread(target=pinned.add, args=(picture, f"Question {i}?", "4")) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pinned.all()) == 6
