"""The fixed set outside the reward: the same questions each time, graded by rule, for the base and an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from inference.engine.engine import Engine
from inference.model.request import Completion, Request
from inference.prompt.format import DIRECT_PROMPT
from tests.support.samples import STARTER
from training.evaluation.measures.outside import DESCRIBE, NUM_ROWS, Outside, ask_outside, drawn_rows
from training.evaluation.resume import Parts
from training.grading.grader import gold_answer, grade_answer
from training.starter.problems import load_problems


class Speaker:
    """Says what it is told to for each kind of question, to the base and to the adapter."""

    def __init__(self, base: dict[str, str], adapter: dict[str, str]) -> None:
        self.says, self.asked = {None: base, "tuned": adapter}, 0

    def generate(self, rows: Sequence[Request]) -> list[Completion]:
        self.asked += 1
        return [Completion(self.text(row), (), 5, 1.0, 0.1, False, False) for row in rows]

    def text(self, row: Request) -> str:
        kind = (
            "describe" if row.question == DESCRIBE else "direct" if row.system_prompt == DIRECT_PROMPT else "calculate"
        )
        said = self.says[row.adapter][kind]
        return str(eval_sum(row.question)) if said == "right" else said


def eval_sum(question: str) -> str:
    """The answer of an exercise, worked out from its own words."""
    term, _, options = question.removeprefix("What is ").partition("?")
    a, sign, b = term.split()
    value = str({"+": int(a) + int(b), "-": int(a) - int(b), "×": int(a) * int(b), "/": int(a) // int(b)}[sign])
    letters = dict(line.split(". ") for line in options.split("\n")[2:])
    return next((letter for letter, text in letters.items() if text == value), value)


GOOD = {"describe": "Two red circles.", "direct": "7", "calculate": "right"}
TAGGED = "<think>Look.</think>\n<answer>7</answer>"


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        (GOOD, "Outside the reward nothing is shown to have changed, on 24 rows of each task."),
        (GOOD | {"describe": TAGGED}, "it describes the picture less often (100 % before, 0 % now, of 24 rows; "),
        (GOOD | {"describe": "7"}, "it describes the picture less often (100 % before, 0 % now, of 24 rows; "),
        (GOOD | {"direct": TAGGED}, "it gives the answer without tags less often (100 % before, 0 % now, of 24"),
        (GOOD | {"calculate": "1"}, "it calculates without a picture less often (100 % before, 0 % now, of 24 rows; "),
    ],
)
def test_what_broke_is_named(adapter: dict[str, str], said: str) -> None:
    rows = load_problems("test", 30, seed=2)[:NUM_ROWS]
    speaker: Any = Speaker(GOOD, adapter)
    found = ask_outside(speaker.generate, rows, after="tuned")
    assert said in found.sentence and speaker.asked == 6
    assert {each.before.num_rows for each in found.abilities} == {NUM_ROWS}
    other = ask_outside(speaker.generate, rows, before="tuned", after=None)
    assert other.sentence.replace("less", "more") == other.sentence, "the other way round it is a gain"
    assert [a.difference.value for a in other.abilities] == [-a.difference.value for a in found.abilities]


def test_a_right_answer_counts_with_tags_or_without() -> None:
    rows = load_problems("test", 1, seed=2)[:NUM_ROWS]
    right = gold_answer(rows["solution"][0])
    assert grade_answer(right, right).correct
    speaker: Any = Speaker(GOOD | {"direct": right}, GOOD | {"direct": f"<answer>{right}</answer>"})
    found = ask_outside(speaker.generate, rows, after="tuned")
    shares = {each.name: (each.before.value, each.after.value) for each in found.abilities}
    assert shares["is right when asked for the answer alone"] == (1, 1)
    assert shares["gives the answer without tags"] == (1, 0)
    assert found.sentence.endswith("changed, on 1 to 24 rows of each task."), "arithmetic has 24"


def test_the_starter_keeps_its_descriptions_and_loses_bare_answers(engine: Engine, tmp_path: Path) -> None:
    """The real thing; what is in its parts is not asked again."""
    rows = load_problems("test", 24, seed=0)[:NUM_ROWS]
    engine.add_adapter("tuned", STARTER / "adapter")
    parts = Parts.beside(tmp_path / "evaluation.json", {})
    found = ask_outside(engine.generate, rows, after="tuned", parts=parts)
    engine.remove_adapter("tuned")
    nobody: Any = Speaker({}, {})
    assert ask_outside(nobody.generate, rows, after="tuned", parts=parts) == found and nobody.asked == 0
    parts.close()
    shares: dict[str, Any] = {each.name: each for each in found.abilities}
    assert shares["describes the picture"].after.value > 0.9
    assert shares["calculates without a picture"].before.value > 0.9
    assert (
        shares["gives the answer without tags"].before.value > 0.9 > shares["gives the answer without tags"].after.value
    )
    assert isinstance(found, Outside) and found.to_json()["abilities"][0]["difference"]["num_rows"] == 24


@pytest.mark.parametrize("is_starter", [True, False])
def test_drawn_rows_are_always_the_same_ones_and_can_be_graded(is_starter: bool) -> None:
    rows, again = drawn_rows(is_starter), drawn_rows(is_starter)
    asked = [(image.tobytes(), problem) for image, problem in zip(rows["image"], rows["problem"], strict=True)]
    assert asked == [(image.tobytes(), problem) for image, problem in zip(again["image"], again["problem"])]
    assert len(asked) == len(set(asked)) == NUM_ROWS
    golds = [gold_answer(solution) for solution in rows["solution"]]
    assert all(grade_answer(gold, gold).correct for gold in golds)
