"""Reward functions in TRL's form: `completions, **columns -> list[float | None]`, one reward for each completion.

    >>> format_reward(["<think>3 + 4 = 7.</think><answer>7</answer>", "7"])
    [1.0, 0.0]

They are thin over `inference.prompt.format` and `training.grading.grader`, which serve the page and the evaluation too. Each says
why: TRL passes `log_extra(column, values)`, and a column `<name>_reason` then stands beside the reward in the rollouts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from inference.prompt.format import TAGS, is_well_formed
from training.grading.grader import Grade, grade_many

Completion = str | Sequence[dict[str, Any]]
"""A completion as TRL hands it over: plain text, or messages of which the last is the assistant's."""
LogExtra = Callable[[str, list[Any]], None]
"""TRL's `log_extra(column, values)`: a column of the rollouts, one value for each completion."""
LogMetric = Callable[[str, float], None]
"""TRL's `log_metric(name, value)`: a figure of the step."""


def format_reward(
    completions: Sequence[Completion], log_extra: LogExtra | None = None, **columns: Any
) -> list[float | None]:
    """1.0 for each completion that is exactly one thought and one answer in their tags, else 0.0."""
    faults = [format_fault(completion_text(completion)) for completion in completions]
    if log_extra:
        log_extra("format_reason", [fault or "well formed" for fault in faults])
    return [float(not fault) for fault in faults]


def accuracy_reward(
    completions: Sequence[Completion],
    solution: Sequence[str],
    log_extra: LogExtra | None = None,
    log_metric: LogMetric | None = None,
    **columns: Any,
) -> list[float | None]:
    """1.0 for each completion whose tagged answer equals that of its row's `solution`, else 0.0.

    Logs what was compared and the rule that decided, and the share of completions without an answer in tags.
    """
    grades = grade_completions(completions, solution)
    if log_extra:
        log_extra("gold", [verdict.gold for verdict in grades])
        log_extra("answer", [verdict.answer for verdict in grades])
        log_extra("accuracy_reason", [verdict.rule for verdict in grades])
    if log_metric and grades:
        log_metric("accuracy/no_answer", sum(not verdict.answer for verdict in grades) / len(grades))
    return [float(verdict.correct) for verdict in grades]


def grade_completions(completions: Sequence[Completion], solution: Sequence[str]) -> list[Grade]:
    """The strict grade of each completion; raises `ValueError` if there are more or fewer solutions."""
    texts = [completion_text(completion) for completion in completions]
    return grade_many(list(zip(solution, texts, strict=True)))


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


def format_fault(text: str) -> str:
    """What keeps a completion from being well formed, in words; "" if nothing does.

    >>> format_fault("<think>It is 7.</think> 7")
    'no <answer>'
    """
    for tag in TAGS:  # counted first: a text full of tags would take the parser long
        if text.count(tag) != 1:
            return f"{'more than one' if tag in text else 'no'} {tag}"
    places = [text.index(tag) for tag in TAGS]
    if places != sorted(places):
        return "the tags are out of order"
    outside = {
        "before the thought": text[: places[0]],
        "between thought and answer": text[places[1] + len(TAGS[1]) : places[2]],
        "after the answer": text[places[3] + len(TAGS[3]) :],
    }
    for where, part in outside.items():
        if part.strip():
            return f"text {where}"
    return "" if is_well_formed(text) else "an empty thought or answer"
