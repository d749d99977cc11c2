"""Evaluation on an engine: what each condition asks, resumption, grading with the real grader, and majority votes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Image, List

from inference.common.errors import UserError
from inference.engine.engine import Engine
from inference.model.request import Completion, Request
from inference.prompt.format import DIRECT_PROMPT, THINK_PROMPT
from tests.support.samples import STARTER
from training.data.pictures import picture_files
from training.evaluation.conditions import CONDITIONS, GROUPS, Condition, choose_conditions
from training.evaluation.outcomes import GradedCompletion
from training.evaluation.resume import KeptCompletion, Parts
from training.evaluation.scoring import count_votes, evaluate, grade_rows

SOLUTION = "<think>3 + 4 = 7.</think>\n\n<answer>7</answer>"


class Witness:
    """The real engine, or none; keeps every row that it was asked, and fails at the call it is told to fail at."""

    def __init__(self, engine: Engine | None = None, fail_at: int | None = None) -> None:
        self.engine, self.fail_at = engine, fail_at
        self.asked: list[list[Request]] = []
        self.own_prompt: str | None = None
        self.repetition_penalty = 1.0

    def system_prompt(self, name: str) -> str | None:
        return self.own_prompt

    def generate(self, rows: Sequence[Request]) -> list[Completion]:
        """With an engine its completions; without one an empty completion for each row."""
        if len(self.asked) == self.fail_at:
            raise KeyboardInterrupt
        self.asked.append(list(rows))
        if self.engine is None:
            return [Completion(row.prefix, (), 5, 1.0, 0.1, False, False) for row in rows]
        return self.engine.generate(rows)


@pytest.fixture
def tuned(engine: Engine) -> Iterator[str]:
    """The starter's adapter, held for a test."""
    engine.add_adapter("tuned", STARTER / "adapter")
    yield "tuned"
    engine.remove_adapter("tuned")


def test_all_pictures_of_a_row_are_blank_or_swapped(problems: Any) -> None:
    files = [files[0] for files in picture_files(problems.select(range(8)))]
    second = [[{"bytes": files[i - 4], "path": None}] * (i % 2) for i in range(8)]
    rows = problems.select(range(8)).add_column("more_images", second, feature=List(Image()))
    witness: Any = Witness()
    chosen = [c for c in CONDITIONS if not c.tuned and not c.temperature]
    report = evaluate(witness, rows, chosen, batch_size=3)
    asked = {c.name: [row for call in witness.asked[i :: len(chosen)] for row in call] for i, c in enumerate(chosen)}
    assert list(report.outcomes) == list(asked)
    for requests in asked.values():
        assert [len(row.images) for row in requests] == [1 + i % 2 for i in range(8)]
    [blank] = [asked[c.name] for c in chosen if c.picture == "blank"][:1]
    assert {len(image.getcolors() or ()) for row in blank for image in row.images} == {1}
    [swapped] = [asked[c.name] for c in chosen if c.picture == "swapped"][:1]
    own = [tuple(image.tobytes() for image in row.images) for row in asked["base-thinking"]]
    others = [tuple(image.tobytes() for image in row.images) for row in swapped]
    assert sorted(own) == sorted(others) and all(a != b for a, b in zip(own, others))
    assert own[1][1] == own[5][0] and len(set(report.clusters)) == 8


def test_each_condition_asks_in_its_way(problems: Any) -> None:
    witness: Any = Witness()
    witness.repetition_penalty = 1.05
    report = evaluate(witness, problems, adapter="tuned", seed=3, batch_size=len(problems))
    assert list(report.outcomes) == [c.name for c in CONDITIONS if c.thought == "own"]
    assert {name for name, probe in report.probes.items() if not probe.rows} == set(GROUPS["probes"][1:]), "no thought"
    asked = dict(zip(report.outcomes, witness.asked, strict=True))
    assert {row.system_prompt for row in asked["base-direct"]} == {DIRECT_PROMPT}
    assert {row.system_prompt for row in asked["base-thinking"]} == {THINK_PROMPT}
    assert {row.temperature for row in asked["base-sampled"]} == {1.0}
    assert len({row.seed for row in asked["base-sampled"]}) == len(problems)
    assert {row.prefix for row in asked["base-forced"]} == {"<think>"}
    white = [(448 * 448, (255, 255, 255))]
    for name in ("base-blank", "adapter-blank"):
        assert {row.image.getcolors() == white for row in asked[name]} == {True}
    assert {row.adapter for name, rows in asked.items() for row in rows if name.startswith("adapter")} == {"tuned"}
    assert {row.adapter for name, rows in asked.items() for row in rows if name.startswith("base")} == {None}
    own, swapped = ([row.image.tobytes() for row in asked[name]] for name in ("base-thinking", "base-swapped"))
    assert sorted(own) == sorted(swapped) and all(one != other for one, other in zip(own, swapped))
    assert [row.image.tobytes() for row in asked["adapter-swapped"]] == swapped
    assert {row.question for row in asked["base-swapped"]} == set(problems["problem"])
    assert {row.repetition_penalty for rows in asked.values() for row in rows} == {None}, "the base's, for both alike"
    assert "- the base's repetition penalty, 1.05, holds in all conditions." in report.markdown()
    report.about["repetition_penalty"] = 1.0
    assert "penalty" not in report.markdown()


def test_several_samples_have_seeds_of_their_own(problems: Any) -> None:
    witness: Any = Witness()
    conditions = choose_conditions(["base-thinking", "base-sampled"], temperature=0.5)
    report = evaluate(witness, problems, conditions, batch_size=5, num_samples=3)
    sampled = [row for rows in witness.asked for row in rows if row.temperature]
    assert len({row.seed for row in sampled}) == len(sampled) == 3 * len(problems)
    assert {row.temperature for row in sampled} == {0.5}
    assert [len(rows) for rows in witness.asked] == [5] * 8 + [2] * 4, "greedy ones are asked once"
    assert [len(row) for row in report.samples["base-sampled"]] == [3] * len(problems)
    assert list(report.samples) == ["base-sampled"] == list(report.votes)


def test_without_an_adapter_its_conditions_are_left_out(problems: Any) -> None:
    witness: Any = Witness()
    report = evaluate(witness, problems, batch_size=5, conditions=[CONDITIONS[1], Condition("tuned", tuned=True)])
    assert list(report.outcomes) == ["base-thinking"]
    with pytest.raises(UserError, match="0 conditions"):
        evaluate(witness, problems, [Condition("tuned", tuned=True)])
    with pytest.raises(UserError, match="0 rows"):
        evaluate(witness, problems.select([]))


@pytest.mark.parametrize("fail_at", [0, 1, 4, 7])
def test_a_killed_evaluation_goes_on(engine: Engine, problems: Any, tmp_path: Path, capsys: Any, fail_at: int) -> None:
    """Killed at any batch and started again: the same report, and nothing is decoded twice."""
    conditions = choose_conditions(["base-thinking", "base-sampled", "base-swapped"])
    options: dict[str, Any] = {"batch_size": 6, "max_new_tokens": 12, "num_samples": 2}
    rows = problems
    fingerprint = {"rows": "these"}
    first, second = Witness(engine, fail_at), Witness(engine)
    parts = Parts.beside(tmp_path / "evaluation.json", fingerprint)
    with pytest.raises(KeyboardInterrupt):
        evaluate(first, rows, conditions, **options, parts=parts)  # type: ignore[arg-type]
    parts.close()
    parts = Parts.beside(tmp_path / "evaluation.json", fingerprint)
    resumed = evaluate(
        second,  # type: ignore[arg-type]
        rows,
        conditions,
        **options,
        parts=parts,
        progress=True,
    )
    parts.close()
    whole = evaluate(engine, rows, conditions, **options)
    assert resumed.outcomes == whole.outcomes and resumed.samples == whole.samples and resumed.votes == whole.votes
    assert (len(first.asked), len(second.asked)) == (fail_at, 8 - fail_at)
    bar = capsys.readouterr().err.replace("\r", "\n").split("\n")
    shown = [line.split("|")[2].split()[0] for line in bar if line.startswith("completing:")]
    assert shown[0] == f"{6 * fail_at}/48" and shown[-1] == "48/48", "the bar begins with what was kept"


def test_the_starter_on_sixteen_rows(engine: Engine, tuned: str) -> None:
    """The real thing: three columns, twice the same; pictures that are another's or white do not help."""
    from training.starter.problems import load_problems

    rows = load_problems("test", 16, seed=0)
    conditions = choose_conditions(["main", "adapter-swapped"])
    one, other = (evaluate(engine, rows, conditions, adapter=tuned, max_new_tokens=96) for _ in range(2))
    assert one.outcomes == other.outcomes
    assert one.estimate("adapter-thinking", "format").value > 0.8
    right, swapped = (one.estimate(name, "lenient").value for name in ("adapter-thinking", "adapter-swapped"))
    assert right > 0.25 and swapped < right
    assert all(o.strict == o.lenient and not o.well_formed for o in one.outcomes["base-direct"])
    assert one.verdict and one.kinds == rows["kind"] and len(one.kinds) == 16
    assert one.about["num_rows"] == 16 and "| base-direct " in one.markdown()


def test_an_adapter_with_a_system_prompt_of_its_own_is_asked_with_it(problems: Any) -> None:
    witness: Any = Witness()
    witness.own_prompt = "Look first."
    report = evaluate(witness, problems, choose_conditions(["main", "looks"]), adapter="tuned", batch_size=99)
    asked = {name: rows[0].system_prompt for name, rows in zip(report.outcomes, witness.asked, strict=True)}
    own = {name: prompt for name, prompt in asked.items() if prompt == "Look first."}
    assert own.keys() == {"adapter-thinking", "adapter-blank", "adapter-swapped"}
    assert asked["base-thinking"] == THINK_PROMPT and "differences are those of both" in report.markdown()


@pytest.mark.parametrize(
    ("text", "is_direct", "form", "strict", "lenient"),
    [
        ("<think>3 + 4 = 7.</think> <answer>7</answer>", False, True, True, True),
        ("<think>3 + 4 = 7.</think> <answer>8</answer>", False, True, False, False),
        ("There are 3 and 4. 3 + 4 = 7.", False, False, False, True),
        ("<think>It is 7.", False, False, False, True),
        ("7", False, False, False, True),
        ("7", True, False, True, True),
        ("7.0", True, False, True, True),
        ("8", True, False, False, False),
        ("7 or 8", True, False, False, False),
        ("", True, False, False, False),
        ("", False, False, False, False),
    ],
)
def test_judge(text: str, is_direct: bool, form: bool, strict: bool, lenient: bool) -> None:
    (found,) = grade_rows([SOLUTION], [KeptCompletion(text, 5, True)], is_direct)
    assert found == GradedCompletion(form, strict, lenient, 5, True, text, text.endswith("<answer>8</answer>"))


def test_order_is_kept_and_the_same_text_may_come_again() -> None:
    texts = ["<answer>7</answer>", "<answer>8</answer>", "<answer>7</answer>", "so 7"]
    solutions = [SOLUTION, SOLUTION, "<answer>8</answer>", SOLUTION]
    found = grade_rows(solutions, [KeptCompletion(text, 1, False) for text in texts], False)
    assert [(o.strict, o.lenient) for o in found] == [(True, True), (False, False), (False, False), (False, True)]


@pytest.mark.parametrize(
    ("answers", "right"),
    [
        (["1/2", "0.5", "0.7", "0.7", "\\frac{1}{2}"], True),  # three of one value, in three dresses
        (["0.7", "0.7", "0.7", "1/2", "0.5"], False),
        (["1/2", "0.7"], True),  # as many votes: the first
        (["0.7", "1/2"], False),
        (["", "", "", "0.5"], True),  # who says nothing has no vote
        (["", ""], False),
        (["0.5"], True),
    ],
)
def test_majority(answers: list[str], right: bool) -> None:
    said = [
        KeptCompletion(f"<think>Look.</think><answer>{answer}</answer>" if answer else "", 5, False)
        for answer in answers
    ]
    row = grade_rows(["<answer>1/2</answer>"] * len(said), said, False)
    assert [vote.is_right for vote in count_votes([row])] == [right]
