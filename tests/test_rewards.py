"""The reward functions in each form that TRL hands completions over in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from training.rewards import accuracy_reward, completion_text, format_reward

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


def test_names_are_metric_keys() -> None:
    assert (format_reward.__name__, accuracy_reward.__name__) == ("format_reward", "accuracy_reward")


def test_a_completion_without_content_is_empty() -> None:
    assert completion_text([]) == completion_text([{"role": "assistant", "content": None}]) == ""


def test_a_missing_solution_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        accuracy_reward([GOOD, GOOD], [SOLUTION])
