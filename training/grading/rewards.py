"""Reward functions in TRL's form: `completions, **columns -> list[float | None]`, one reward for each completion.

    >>> format_reward(["<think>3 + 4 = 7.</think><answer>7</answer>", "7"])
    [1.0, 0.0]

`training.grading.reward_loading` finds them by name, and a user's own. They are thin over `inference.prompt.format` and
`training.grading.grader`, which serve the page and the evaluation too. Each gives its reason: TRL passes
`log_extra(column, values)`, and the rollouts get a column `<name>_reason` beside the reward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from inference.prompt.format import TAGS, is_well_formed
from training.grading.grader import Grade, grade_many
from training.grading.math_pool import Budget, MathLimit, NotGraded, Unreadable, math_equal, num_workers
from training.grading.math_worker import COOKBOOK, CPU_LIMIT_SECONDS

Completion = str | Sequence[dict[str, Any]]
"""A completion as TRL hands it over: plain text, or messages of which the last is the assistant's."""
Reward = Callable[..., Any]
"""A reward function; an asynchronous one gives an awaitable."""
LogExtra = Callable[[str, Sequence[object]], None]
"""TRL's `log_extra(column, values)`: a column of the rollouts, one value for each completion."""
LogMetric = Callable[[str, float], None]
"""TRL's `log_metric(name, value)`: a figure of the step."""

_COOKBOOK_START, _COOKBOOK_MIDDLE, _COOKBOOK_END = "<think>\n", "\n</think>\n<answer>\n", "\n</answer>"


def format_reward(
    completions: Sequence[Completion], log_extra: LogExtra | None = None, **columns: object
) -> list[float | None]:
    """1.0 for each completion that is exactly one thought and one answer in their tags, else 0.0."""
    faults = [format_fault(completion_text(completion)) for completion in completions]
    if log_extra:
        log_extra("format_reason", [fault or "well formed" for fault in faults])
    return [float(not fault) for fault in faults]


def accuracy_reward(
    completions: Sequence[Completion],
    solution: Sequence[object],
    problem: Sequence[str] | None = None,
    tolerance: float = 0.0,
    log_extra: LogExtra | None = None,
    log_metric: LogMetric | None = None,
    **columns: object,
) -> list[float | None]:
    """1.0 for each completion whose tagged answer equals that of its row's `solution`, else 0.0; `None` if not graded.

    `problem` is the question, for its options; `tolerance` the relative error that a number may have.

    Logs what was compared and the rule that decided, the share of completions without an answer in tags, the share
    whose answer is the gold letter by letter, and `golds_per_answer`, by which a hack of the grader shows.
    """
    grades = grade_completions(completions, solution, problem, tolerance)
    if log_extra:
        log_extra("gold", [verdict.gold for verdict in grades])
        log_extra("answer", [verdict.answer for verdict in grades])
        log_extra("accuracy_reason", [verdict.rule for verdict in grades])
    if log_metric and grades:
        log_metric("accuracy/no_answer", sum(not verdict.answer for verdict in grades) / len(grades))
        log_metric("accuracy/same_text", sum(v.correct and v.answer == v.gold for v in grades) / len(grades))
        log_metric("accuracy/golds_per_answer", float(golds_per_answer(grades)))
    return [float(verdict.correct) if verdict.is_graded else None for verdict in grades]


def golds_per_answer(grades: Sequence[Grade]) -> int:
    """The most different golds that one rewarded answer was right for."""
    golds: dict[str, set[str]] = {}
    for verdict in grades:
        if verdict.correct:
            golds.setdefault(verdict.answer, set()).add(verdict.gold)
    return max(map(len, golds.values()), default=0)


def grade_completions(
    completions: Sequence[Completion],
    solution: Sequence[object],
    problem: Sequence[str] | None = None,
    tolerance: float = 0.0,
) -> list[Grade]:
    """The strict grade of each completion; raises `ValueError` if there are more or fewer solutions."""
    texts = [completion_text(completion) for completion in completions]
    return grade_many(list(zip(solution, texts, strict=True)), "strict", problem, tolerance)


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
    """The reason, in words, why a completion is not well formed; "" if nothing does.

    >>> format_fault("<think>It is 7.</think> 7")
    'no <answer>'
    """
    for tag in TAGS:  # counted first: a text full of tags would take the parser long
        if text.count(tag) != 1:
            return f"{'more than one' if tag in text else 'no'} {tag}"
    starts = [text.index(tag) for tag in TAGS]
    if starts != sorted(starts):
        return "the tags are out of order"
    outside = {
        "before the thought": text[: starts[0]],
        "between thought and answer": text[starts[1] + len(TAGS[1]) : starts[2]],
        "after the answer": text[starts[3] + len(TAGS[3]) :],
    }
    for where, part in outside.items():
        if part.strip():
            return f"text {where}"
    return "" if is_well_formed(text) else "an empty thought or answer"


def soft_format_reward(
    completions: Sequence[Completion], log_extra: LogExtra | None = None, **columns: object
) -> list[float | None]:
    """A quarter for each of the four tags that stands exactly once and after the tags before it.

    Gives a base that never produces the whole format something to climb; `format_reward` gives it 0 everywhere.
    """
    in_place = [_tags_in_place(completion_text(completion)) for completion in completions]
    if log_extra:
        log_extra("soft_format_reason", [f"{len(tags)} of {len(TAGS)} tags in place" for tags in in_place])
    return [len(tags) / len(TAGS) for tags in in_place]


def length_reward(
    completions: Sequence[Completion],
    solution: Sequence[object],
    completion_ids: Sequence[Sequence[int]],
    max_tokens: int = 1024,
    problem: Sequence[str] | None = None,
    tolerance: float = 0.0,
    log_extra: LogExtra | None = None,
    **columns: object,
) -> list[float | None]:
    """Right and short is best, wrong and short is worst: the cosine reward of the completion's length.

    Yeo et al., "Demystifying Long Chain-of-Thought Reasoning in LLMs" (arXiv 2502.03373, appendix C.1). With L tokens
    of at most T, and the bounds r0 (no tokens) and rT (T tokens):

        reward = rT + (r0 - rT) / 2 * (1 + cos(pi * min(L, T) / T))

    where r0, rT are 1.0, 0.5 for a right completion and -1.0, -0.5 for a wrong one. `max_tokens` is T.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; it must be at least 1: give the run's completion length")
    grades = grade_completions(completions, solution, problem, tolerance)
    lengths = [len(ids) for _, ids in zip(grades, completion_ids, strict=True)]
    if log_extra:
        words = [f"{'right' if g.correct else 'wrong'}, {n} of {max_tokens} tokens" for g, n in zip(grades, lengths)]
        log_extra("length_reason", words)
    return [
        _cosine(n / max_tokens, *((1.0, 0.5) if g.correct else (-1.0, -0.5))) if g.is_graded else None
        for g, n in zip(grades, lengths)
    ]


def repetition_reward(
    completions: Sequence[Completion],
    ngram_words: int = 4,
    max_penalty: float = 1.0,
    log_extra: LogExtra | None = None,
    **columns: object,
) -> list[float | None]:
    """0.0 for a completion that never repeats itself, down to almost `-max_penalty` for one that does nothing else.

    The share of n-grams that occurred before, times `-max_penalty`: `-max_penalty * (1 - distinct / all)`, the
    n-gram penalty of the paper that `length_reward` names (appendix C.2), here over words.
    """
    if ngram_words < 1 or max_penalty < 0:
        raise ValueError(f"ngram_words is {ngram_words}, max_penalty {max_penalty:g}; give at least 1 and at least 0")
    shares = [_repeated(completion_text(completion).lower().split(), ngram_words) for completion in completions]
    if log_extra:
        log_extra("repetition_reason", [f"{share:.0%} of {ngram_words}-word runs repeat" for share in shares])
    return [-max_penalty * share if share else 0.0 for share in shares]


def cookbook_format_reward(
    completions: Sequence[Completion], log_extra: LogExtra | None = None, **columns: object
) -> list[float | None]:
    """1.0 for each completion in the cookbook's format, else 0.0: each tag on a line of its own.

    To reproduce the cookbook's run: it gives 0.0 to what the prompt asks for, and allows text after the end.
    """
    kept = [_keeps_cookbook_format(completion_text(completion)) for completion in completions]
    if log_extra:
        log_extra("cookbook_format_reason", ["as the cookbook has it" if each else "another form" for each in kept])
    return [float(each) for each in kept]


def cookbook_accuracy_reward(
    completions: Sequence[Completion],
    solution: Sequence[str],
    log_extra: LogExtra | None = None,
    **columns: object,
) -> list[float | None]:
    """1.0 for each completion that math-verify finds equal to the whole solution, else 0.0; `None` where it raises.

    To reproduce the cookbook's run: whole texts are compared, with their thinking
    (`math_worker.is_accurate_for_cookbook`). 0.0 also after 5 seconds, as many as math-verify has for each of its
    three parts; `None` also where the machine keeps it from a verdict.
    """
    pairs = list(zip(solution, map(completion_text, completions), strict=True))
    with ThreadPoolExecutor(num_workers(), thread_name_prefix="cookbook") as threads:
        rewards = list(threads.map(lambda pair: _cookbook_accuracy(*pair), pairs))
    if log_extra:
        words = {1.0: "equal for math-verify", 0.0: "not equal for math-verify", None: "not graded"}
        log_extra("cookbook_accuracy_reason", [words[reward] for reward in rewards])
    return rewards


def _keeps_cookbook_format(text: str) -> bool:
    """True if the first character begins such a form, and a line ends where it ends; in linear time."""
    middle = text.find(_COOKBOOK_MIDDLE, len(_COOKBOOK_START)) if text.startswith(_COOKBOOK_START) else -1
    rest = text[middle + len(_COOKBOOK_MIDDLE) :]
    return middle >= 0 and (f"{_COOKBOOK_END}\n" in rest or rest.endswith(_COOKBOOK_END))


def _cookbook_accuracy(solution: str, completion: str) -> float | None:
    try:
        return float(math_equal(solution, completion, COOKBOOK, Budget(CPU_LIMIT_SECONDS)))
    except (NotGraded, Unreadable):
        return None
    except MathLimit:
        return 0.0


def _tags_in_place(text: str) -> list[str]:
    """The tags that stand exactly once and after the one before."""
    in_place, end = [], 0
    for tag in TAGS:
        start = text.find(tag)
        if text.count(tag) == 1 and start >= end:
            in_place.append(tag)
            end = start + len(tag)
    return in_place


def _cosine(progress: float, at_start: float, at_end: float) -> float:
    return at_end + (at_start - at_end) / 2 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _repeated(words: list[str], size: int) -> float:
    """The share of `size`-word runs that occurred before in the text."""
    runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


REWARDS: dict[str, Reward] = {
    "format_reward": format_reward,
    "accuracy_reward": accuracy_reward,
    "soft_format_reward": soft_format_reward,
    "length_reward": length_reward,
    "repetition_reward": repetition_reward,
    "cookbook_format_reward": cookbook_format_reward,
    "cookbook_accuracy_reward": cookbook_accuracy_reward,
}
"""The project's own reward functions."""
