"""The cookbook's rewards: as the rule that RECIPE states and math-verify itself decide, and README's table of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

from inference.prompt.format import TAGS
from tests import ROOT
from training.grading.math_pool import KILLED, NO_TIME, STOPPED
from training.grading.math_worker import COOKBOOK, NO, NO_ANSWER, NO_MEMORY, YES, compare
from training.grading.rewards import REWARDS, cookbook_accuracy_reward, cookbook_format_reward

FORM = re.compile(r"^<think>\n.*?\n</think>\n<answer>\n.*?\n</answer>$", re.DOTALL | re.MULTILINE)
"""The cookbook's format as an expression, matched from the first character on."""
LINES = "<think>\n{}\n</think>\n<answer>\n{}\n</answer>"
ONE_LINE = "<think>{}</think><answer>{}</answer>"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "training.md")
FORMATS = [
    (LINES.format("So A.", "A"), 1.0),
    (LINES.format("", ""), 1.0),
    (LINES.format("So\n\nA.", "A\nB"), 1.0),
    (LINES.format("So A.", "A") + "\nThat is all.", 1.0),  # a line ends where the form ends
    (LINES.format("So A.", "A") + "\n<answer>B</answer>", 1.0),
    (LINES.format("So A.", "A") + " ", 0.0),
    ("\n" + LINES.format("So A.", "A"), 0.0),
    (ONE_LINE.format("So A.", "A"), 0.0),
    (LINES.format("So A.", "A").replace("</think>\n", "</think>\n\n"), 0.0),  # as the dataset's own solutions have it
    ("<think>\n</think>\n<answer>\n</answer>", 0.0),
    ("", 0.0),
]
ACCURACIES = [
    # solution, completion, reward
    ("A", ONE_LINE.format("So A.", "A"), 0.0),
    ("A", LINES.format("So A.", "A"), 0.0),
    ("A", " a\n", 1.0),  # math-verify finds nothing in the solution, and the texts are the same
    ("<think>So.</think>\n\n<answer>A</answer>", LINES.format("So.", "A"), 0.0),
    ("$24$", LINES.format("So.", "24"), 0.0),
    ("$24$", LINES.format("So.", "$24$"), 1.0),
    ("24", LINES.format("So.", "$24$"), 1.0),
    ("24", LINES.format("So.", r"\boxed{24}"), 1.0),
    ("24", LINES.format("$23$, no:", r"\boxed{24}"), 1.0),  # boxes come first
    ("24", LINES.format(r"\boxed{24}, no:", "$23$"), 1.0),
    ("24", LINES.format("$23$, no:", "$24$"), 1.0),  # else the last formula
    ("24", LINES.format("$24$, no:", "$23$"), 0.0),
    (r"$2\sqrt{3}$", LINES.format("So.", r"$\sqrt{12}$"), 1.0),
    ("<think>So $7$.</think><answer>B</answer>", LINES.format(r"So \boxed{7}.", "C"), 1.0),  # right in the thinking
    ("<think>So $7$.</think><answer>B</answer>", LINES.format("The answer is $7$.", "C"), 1.0),
    ("<think>So $7$.</think><answer>B</answer>", LINES.format("So $7$.", "C"), 0.0),  # no anchor before it
    ("$24$", "", 0.0),
]


@pytest.mark.parametrize(("completion", "reward"), FORMATS)
def test_format(completion: str, reward: float) -> None:
    assert float(FORM.match(completion) is not None) == reward
    assert cookbook_format_reward([completion, [{"role": "assistant", "content": completion}]]) == [reward] * 2


@given(st.lists(st.sampled_from(["\n", *TAGS, "x", " "]), max_size=16))
def test_format_decides_as_the_expression(pieces: list[str]) -> None:
    for completion in ("".join(pieces), "<think>\n" + "".join(pieces), LINES.format("".join(pieces), "".join(pieces))):
        assert cookbook_format_reward([completion]) == [float(FORM.match(completion) is not None)]


def by_math_verify(solution: str, completion: str) -> float:
    """math-verify asked directly, on this process's main thread, with its own time limits."""
    gold = parse(solution, extraction_mode="first_match")
    if not gold:
        return float(completion.strip().lower() == solution.strip().lower())
    latex = LatexExtractionConfig(
        normalization_config=NormalizationConfig(
            nits=False, malformed_operators=False, basic_latex=True, boxed="all", units=True
        ),
        boxed_match_priority=0,
        try_extract_without_anchor=False,
    )
    return float(verify(gold, parse(completion, extraction_config=[latex], extraction_mode="first_match")))


def test_accuracy() -> None:
    solutions, completions, rewards = (list(column) for column in zip(*ACCURACIES))
    columns: dict[str, list] = {}
    assert cookbook_accuracy_reward(completions, solutions, log_extra=columns.__setitem__) == rewards
    assert [by_math_verify(solution, completion) for solution, completion, _ in ACCURACIES] == rewards
    assert columns["cookbook_accuracy_reason"][:3:2] == ["not equal for math-verify", "equal for math-verify"]


@pytest.mark.parametrize(
    ("reply", "reward"),
    [(NO_TIME, 0.0), (NO_MEMORY, 0.0), (NO_ANSWER, None), (STOPPED, None), (KILLED, None), (YES, 1.0), (NO, 0.0)],
)
def test_what_is_cut_off_gets_nothing_and_what_raises_is_not_graded(
    reply: str, reward: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {("$1$", "$2$", COOKBOOK): (reply, float("inf"))}
    monkeypatch.setattr("training.grading.math_pool._remembered", known)
    assert cookbook_accuracy_reward(["$2$"], ["$1$"]) == [reward]


def test_what_raises_in_the_worker_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> bool:
        raise ValueError("of sympy")

    monkeypatch.setattr("training.grading.math_worker.is_accurate_for_cookbook", fail)
    assert compare("$24$", "$24$", COOKBOOK) == NO_ANSWER


def table_of(document: Path) -> list[list[str]]:
    """The cells of the table with a column for each of these rewards: code, with `↵` for the end of a line."""
    head = re.search(r"^\| solution \| completion \|.*$", document.read_text(encoding="utf-8"), re.MULTILINE)
    assert head is not None, document
    lines = head.string[head.start() :].split("\n\n")[0].splitlines()
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_documents_table_is_true(document: Path) -> None:
    names, _, *rows = table_of(document)
    assert len(rows) >= 6 and len(names) == 6
    for solution, completion, *cells in rows:
        solution, completion = solution.replace("↵", "\n"), completion.replace("↵", "\n")
        found = [REWARDS[name]([completion], solution=[solution])[0] for name in names[2:]]
        assert [float(cell) for cell in cells] == found, (solution, completion)
