"""Reward functions in TRL's form: `completions, **columns -> list[float | None]`, one reward for each completion.

    >>> format_reward(["<think>3 + 4 = 7.</think><answer>7</answer>", "7"])
    [1.0, 0.0]

They are thin over `inference.format` and `training.grading`, which serve the page and the evaluation too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference.format import is_well_formed
from training.grading import grade

Completion = str | Sequence[dict[str, Any]]
"""A completion as TRL hands it over: plain text, or messages of which the last is the assistant's."""


def format_reward(completions: Sequence[Completion], **columns: Any) -> list[float | None]:
    """1.0 for each completion that is exactly one thought and one answer in their tags, else 0.0."""
    return [float(is_well_formed(completion_text(completion))) for completion in completions]


def accuracy_reward(completions: Sequence[Completion], solution: Sequence[str], **columns: Any) -> list[float | None]:
    """1.0 for each completion whose tagged answer equals that of its row's `solution`, else 0.0."""
    return [float(grade(gold, completion_text(c)).correct) for c, gold in zip(completions, solution, strict=True)]


def completion_text(completion: Completion) -> str:
    """The text of a completion, whether plain, a message list, or messages whose content is a list of parts."""
    if isinstance(completion, str):
        return completion
    if not completion:
        return ""
    content = completion[-1].get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if part.get("type") == "text")
