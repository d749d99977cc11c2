"""The reward functions in each form that TRL hands completions over in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inference.prompt.format import is_well_formed
from training.grading.rewards import accuracy_reward, completion_text, format_fault, format_reward

GOOD = "<think>3 + 4 = 7.</think>\n<answer>7</answer>"
SOLUTION = "<think>There are 7.</think>\n\n<answer>7</answer>"


def plain(text: str) -> Any:
    return text


def message(text: str) -> Any:
    return [{"role": "assistant", "content": text}]


def parts(text: str) -> Any:
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


@pytest.mark.parametrize("form", [plain, message, parts])
@pytest.mark.parametrize(
    ("text", "formed", "accurate"),
    [
        (GOOD, 1.0, 1.0),
        (SOLUTION, 1.0, 1.0),
        (GOOD.replace("<answer>7", "<answer>8"), 1.0, 0.0),
        ("<answer>7</answer>", 0.0, 1.0),
        ("7", 0.0, 0.0),
        (GOOD + "!", 0.0, 1.0),
        ("", 0.0, 0.0),
    ],
)
def test_rewards(form: Callable[[str], Any], text: str, formed: float, accurate: float) -> None:
    completions = [form(text), form("no")]
    assert format_reward(completions=completions, prompts=["", ""]) == [formed, 0.0]
    columns: dict[str, Any] = {"solution": [SOLUTION] * 2, "kind": ["bars"] * 2, "trainer_state": None}
    assert accuracy_reward(completions=completions, **columns) == [accurate, 0.0]


def test_each_reward_says_why() -> None:
    columns: dict[str, list[Any]] = {}
    metrics: dict[str, float] = {}
    completions = [GOOD, "<answer>8 cm</answer>", "7"]
    format_reward(completions, log_extra=columns.__setitem__)
    accuracy_reward(completions, [SOLUTION] * 3, log_extra=columns.__setitem__, log_metric=metrics.__setitem__)
    assert columns == {
        "format_reason": ["well formed", "no <think>", "no <think>"],
        "gold": ["7", "7", "7"],
        "answer": ["7", "8 cm", ""],
        "accuracy_reason": ["equal numbers", "different numbers", "no answer in tags"],
    }
    assert metrics == {"accuracy/no_answer": pytest.approx(1 / 3)}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD, ""),
        (f"  {GOOD}\n", ""),
        ("", "no <think>"),
        ("<think>a", "no </think>"),
        ("<think>a</think>", "no <answer>"),
        ("<think>a</think><answer>7", "no </answer>"),
        (f"{GOOD} <answer>7</answer>", "more than one <answer>"),
        ("<think>" * 20_000, "more than one <think>"),
        ("<answer>7</answer><think>a</think>", "the tags are out of order"),
        (f"So {GOOD}", "text before the thought"),
        ("<think>a</think> so <answer>7</answer>", "text between thought and answer"),
        (f"{GOOD}!", "text after the answer"),
        ("<think> </think><answer>7</answer>", "an empty thought or answer"),
        ("<think>a</think><answer></answer>", "an empty thought or answer"),
    ],
)
def test_format_faults(text: str, fault: str) -> None:
    assert format_fault(text) == fault
    assert is_well_formed(text) is not bool(fault)


def test_names_are_metric_keys() -> None:
    assert (format_reward.__name__, accuracy_reward.__name__) == ("format_reward", "accuracy_reward")


def test_a_completion_without_content_is_empty() -> None:
    assert completion_text([]) == completion_text([{"role": "assistant", "content": None}]) == ""


def test_a_missing_solution_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        accuracy_reward([GOOD, GOOD], [SOLUTION])
