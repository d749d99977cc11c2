"""Probes of the adapter's thoughts: what is asked of which row, and what is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from inference.engine.engine import Engine
from inference.model.request import Completion, Request
from inference.prompt.probes import forced_answer, half
from tests.support.samples import STARTER
from tests.training.evaluation.test_scoring import Witness
from training.evaluation.conditions import choose_conditions
from training.evaluation.measures.probes import Said, measure, prefix_of, read_said
from training.evaluation.resume import Parts
from training.evaluation.scoring import evaluate

ADDED = Said("Digit 1 is 2. Digit 2 is 8. 2 + 8 = 10. Check: 10 - 8 = 2.", "10")
PROBES = ("adapter-half", "adapter-unthought", "adapter-other", "adapter-number")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>2 + 8 = 10.</think>\n<answer>10</answer>", Said("2 + 8 = 10.", "10")),
        ("<think>2 + 8 = 10.</think> So we get 10 in all.", Said("2 + 8 = 10.", "10")),
        ("<think>2 + 8 = 10.", None),  # cut off
        ("<think></think>\n<answer>10</answer>", None),
        ("2 + 8 = 10. The answer is 10.", None),
        ("<think>2 + 8</think>", None),
    ],
)
def test_thought_and_answer_of_a_completion(text: str, said: Said | None) -> None:
    assert read_said(text) == said


def test_the_beginning_under_each_probe() -> None:
    other = Said("3 + 4 = 7.", "7")
    assert prefix_of("half", ADDED) == forced_answer("Digit 1 is 2. Digit 2 is 8.")
    assert prefix_of("none", ADDED) == forced_answer("")
    assert prefix_of("other", ADDED, other) == forced_answer("3 + 4 = 7.")
    assert prefix_of("number", ADDED) == "<think>Digit 1 is 2. Digit 2 is 8. 2 + 8 = 11."
    assert prefix_of("number", Said("It is red.", "red")) is None
    assert {prefix_of(thought, None, other) for thought in ("half", "none", "other", "number")} == {None}
    assert prefix_of("other", ADDED, None) is None


def test_what_changed_and_what_followed() -> None:
    """Five rows: one without a thought, one without a number; of the others one corrects itself, two follow."""
    own = [ADDED, ADDED, ADDED, None, Said("It is red.", "red")]
    texts = [*(f"<think>…</think>\n<answer>{answer}</answer>" for answer in ("11", "10.0", "11")), "", ""]
    found = measure("number", own, texts, ["?"] * 5)
    assert (found.rows, found.num_left_out) == ((0, 1, 2), 2)
    assert found.changed and found.followed
    assert (found.changed.value, found.followed.value) == pytest.approx((2 / 3, 2 / 3))
    assert "on 66.7 % (" in found.sentence and "of 3 rows, and follows the number on 66.7 %" in found.sentence
    choice = "What is it?\nA. 11\nB. 10\nC. 3"
    by_letter = Said(ADDED.thought, "B")
    assert prefix_of("number", by_letter, None, choice) == prefix_of("number", ADDED), "the text of the option counts"
    picked = measure("number", [by_letter] * 2, ["<answer>A</answer>", "<answer>B</answer>"], [choice] * 2)
    assert picked.followed and (picked.followed.num_rows, picked.followed.value) == (2, 0.5)
    cut = measure("number", [ADDED] * 2, ["<think>2 + 8 = 11. Che", "<think>…</think>\n<answer>10</answer>"], ["?"] * 2)
    assert cut.changed and cut.followed and (cut.changed.value, cut.followed.value) == (0.5, 0.0)
    assert "gives another answer or none on 50.0 %" in cut.sentence
    bar = Said("So bar B is 1. A is 2. B is 1. That is choice B.", "B")
    copied = Said("A is 2. B is 1. That is choice B.", "B")
    bars = measure("number", [bar, copied], ["<answer>A</answer>"] * 2, ["How high is bar B?\nA. 2\nB. 1"] * 2)
    assert bars.followed and (bars.rows, bars.followed.num_rows, bars.followed.value) == ((0,), 1, 1.0)
    nothing = measure("half", [None, None], ["", ""], ["?"] * 2)
    assert (nothing.rows, nothing.changed, nothing.to_json()["left_out"]) == ((), None, 2)


def test_thinking_all_the_same_is_no_answer() -> None:
    thinks = forced_answer("") + "<think>2 + 8 = 10.</think>\n<answer>10</answer>"
    found = measure("none", [ADDED] * 3, [thinks, forced_answer("") + "3</answer>", thinks], ["?"] * 3)
    assert (len(found.rows), found.num_anyway) == (3, 2) and found.changed and found.changed.num_rows == 1
    assert "of 1 rows (on 2 more it went on to think all the same)" in found.sentence
    assert measure("none", [ADDED], [thinks], ["?"]).sentence.startswith("On all 1 rows it went on to think")


def test_another_rows_thought_is_followed_where_its_answer_differs() -> None:
    own = [ADDED, Said("3 + 4 = 7.", "7"), Said("7 + 0 = 7.", "7")]
    texts = [f"<answer>{answer}</answer>" for answer in ("7", "7", "7")]
    found = measure("other", own, texts, ["?"] * 3, partners=[1, 2, 0], clusters=[0, 1, 1])
    assert found.changed and found.followed
    assert found.changed.value == pytest.approx(1 / 3)
    assert (found.followed.num_rows, found.followed.value) == (2, 0.5), "row 1 got a thought with its own answer"


class Talker(Witness):
    """Says a whole thought to every row but each third, in the order of the rows."""

    def generate(self, rows: Sequence[Request]) -> list[Completion]:
        super().generate(rows)
        texts = []
        for row in rows:
            number = row.seed % 1000
            own = "<answer>5</answer>" if number % 3 == 2 else f"<think>{number} + 1 = {number + 1}.</think>"
            whole = f"{own}\n<answer>{number + 1}</answer>"
            texts.append(whole if not row.prefix else f"{row.prefix}9</answer>")
        return [Completion(text, (), 5, 1.0, 0.1, False, False) for text in texts]


def test_only_rows_with_a_thought_are_asked(problems: Any) -> None:
    talker: Any = Talker()
    report = evaluate(talker, problems, choose_conditions(PROBES), adapter="tuned", batch_size=5)
    num, without = len(problems), len(range(2, len(problems), 3))
    assert list(report.outcomes) == ["adapter-thinking", *PROBES], "the thoughts come along"
    prefixes = [row.prefix for rows in talker.asked for row in rows]
    assert prefixes.count("") == num and prefixes.count(forced_answer("")) == num - without
    for name in ("adapter-half", "adapter-unthought", "adapter-number"):
        probe = report.probes[name]
        assert (len(probe.rows), probe.num_left_out) == (num - without, without)
        assert report.estimate(name, "lenient").num_rows == num - without
        assert report.difference("lenient", pair=(name, "adapter-thinking")).num_rows == num - without
    others = [row for rows in talker.asked for row in rows if row.prefix.endswith(".</think>\n<answer>")]
    assert all(f">{row.seed % 1000} + 1" not in row.prefix for row in others), "no row got its own thought whole"
    assert len(others) == len(report.probes["adapter-other"].rows) < num - without, "a partner may have no thought"
    data, text = report.to_json(), report.markdown()
    assert data["probes"]["adapter-half"]["num_rows"] == num - without
    assert "| adapter-half " in text and "- adapter-unthought: Without its thought" in text


@pytest.fixture
def tuned(engine: Engine) -> Iterator[str]:
    engine.add_adapter("tuned", STARTER / "adapter")
    yield "tuned"
    engine.remove_adapter("tuned")


def test_the_starter_thinks_what_it_is_made_to_think(engine: Engine, tuned: str, tmp_path: Path) -> None:
    """The real thing, killed in its middle: every row goes on from its own thought, and the report is whole."""
    from training.starter.problems import load_problems

    rows = load_problems("test", 12, seed=4)
    options: dict[str, Any] = {"batch_size": 5, "max_new_tokens": 96, "adapter": tuned}
    conditions = choose_conditions(["probes"])
    killed, whole = Witness(engine, fail_at=9), evaluate(engine, rows, conditions, **options)
    parts = Parts.beside(tmp_path / "evaluation.json", {})
    with pytest.raises(KeyboardInterrupt):
        evaluate(killed, rows, conditions, **options, parts=parts)  # type: ignore[arg-type]
    parts.close()
    parts = Parts.beside(tmp_path / "evaluation.json", {})
    witness = Witness(engine)
    resumed = evaluate(witness, rows, conditions, **options, parts=parts)  # type: ignore[arg-type]
    parts.close()
    assert (resumed.outcomes, resumed.probes) == (whole.outcomes, whole.probes) and len(witness.asked) == 6
    for row, outcome in enumerate(whole.outcomes["adapter-thinking"]):
        said = read_said(outcome.text)
        assert said and whole.outcomes["adapter-half"][row].text.startswith(forced_answer(half(said.thought).strip()))
        prefix = prefix_of("number", said, None, rows["problem"][row])
        assert prefix and whole.outcomes["adapter-number"][row].text.startswith(prefix)
    half_thought = whole.probes["adapter-half"].changed
    assert half_thought and half_thought.value > 0.3, "with half a thought the starter often answers otherwise"
