"""Probes of the adapter's thoughts: what it is made to think instead of its own, and how many answers change.

    >>> own = Said("2 + 8 = 10. Check: 10 - 8 = 2.", "10")
    >>> prefix_of("number", own)
    '<think>2 + 8 = 11.'
    >>> prefix_of("none", own), prefix_of("none", None)
    ('<think></think>\\n<answer>', None)

The beginnings are those of `inference.prompt.probes`; two answers are the same if the grader finds them equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from inference.common.files import Json
from inference.prompt.format import parse_completion
from inference.prompt.probes import changed_number, forced_answer, half, thinks_on
from training.evaluation.statistics import Clusters, Estimate, share
from training.grading.cleaning import MAX_ANSWER_CHARS, clean
from training.grading.grader import grade_answer, last_answer, options_of
from training.grading.math_pool import num_workers
from training.grading.parsing import choice_letter

_SHOWS = {
    "half": (
        "With the second half of its thought cut off it gives another answer or none on {changed} of {n} rows{anyway}. "
        "Those answers needed the second half; of the others this does not tell whether half was enough or the thought "
        "was not used."
    ),
    "none": (
        "Without its thought it gives another answer or none on {changed} of {n} rows{anyway}. Those answers needed "
        "the thinking; it does not show that what the thought says is how they came about."
    ),
    "other": (
        "With the thought of another row it gives another answer or none on {changed} of {n} rows{anyway}{followed}. "
        "So often the thought weighs more than the picture; an answer that stays may come from the picture, or from a "
        "thought that happens to fit."
    ),
    "number": (
        "With one number of its thought changed it gives another answer or none on {changed} of {n} rows{followed}. "
        "Where it follows, the answer was read off the thought; where it does not, it corrected the number or did not "
        "use it: this does not tell which."
    ),
}
_FOLLOWED = {
    "other": ", and that thought's own answer on {share} of the {n} where that is a different one",
    "number": ", and follows the number on {share} of the {n} where the number changed was the answer",
}


@dataclass(frozen=True)
class Said:
    """The thought and the answer of a completion."""

    thought: str
    answer: str


@dataclass(frozen=True)
class Probe:
    """Findings of a probe on the rows that have what it needs."""

    rows: tuple[int, ...]
    """Those that were asked."""
    num_left_out: int
    """Rows without a finished thought and an answer or, for `number`, without a number of the thought's own."""
    num_anyway: int
    """Rows where it went on to think although it was made to answer; they have no answer to the question asked."""
    changed: Estimate | None
    """The share of the others with another answer than the adapter's own, or without one; `None` if there are none."""
    followed: Estimate | None
    """The share whose answer is what the given thought says, of the rows where that can be told."""
    sentence: str
    """What it shows and what it does not."""

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    def to_json(self) -> Json:
        return {
            "num_rows": self.num_rows,
            "left_out": self.num_left_out,
            "thought_anyway": self.num_anyway,
            "changed": self.changed.to_json() if self.changed else None,
            "followed": self.followed.to_json() if self.followed else None,
            "sentence": self.sentence,
        }


def read_said(text: str) -> Said | None:
    """Thought and answer of a completion; `None` unless it has finished a thought and stated an answer."""
    said = Said(parse_completion(text).thinking, last_answer(text).strip())
    return said if text.partition("</think>")[2].strip() and said.thought and said.answer else None


def prefix_of(thought: str, own: Said | None, other: Said | None = None, problem: str = "") -> str | None:
    """The beginning that a row's completion is forced to have under a probe; `None` where the row cannot be asked.

    `thought` is that of a `Condition`, `own` what the adapter said itself, `other` what it said to the row's partner;
    `problem` has the options of a choice.
    """
    if own is None or (thought == "other" and other is None):
        return None
    if thought == "number":
        changed = changed_number(own.thought, own.answer, problem)
        return f"<think>{changed.thought}" if changed else None
    given = {"half": half(own.thought).strip(), "none": "", "other": other.thought if other else ""}
    return forced_answer(given[thought])


def measure(
    thought: str,
    own: Sequence[Said | None],
    texts: Sequence[str],
    problems: Sequence[str],
    partners: Sequence[int] | None = None,
    clusters: Clusters | None = None,
) -> Probe:
    """Findings of the probe `thought`: `texts` are the completions that began with `prefix_of`."""
    others = [own[partners[row]] if partners else None for row in range(len(own))]
    prefixes = [prefix_of(thought, *row) for row in zip(own, others, problems)]
    asked = [row for row, prefix in enumerate(prefixes) if prefix is not None]
    rows = [row for row in asked if thought == "number" or not thinks_on(texts[row], prefixes[row] or "")]
    with ThreadPoolExecutor(num_workers(), thread_name_prefix="comparing") as threads:
        same = list(threads.map(lambda row: _same(_answer(own[row]), last_answer(texts[row]), problems[row]), rows))
        targets = {row: target for row in rows if (target := _target(thought, own[row], others[row], problems[row]))}
        follows = threads.map(lambda row: _same(targets[row], last_answer(texts[row]), problems[row]), targets)
        followed = _share(list(follows), list(targets), clusters)
    changed = _share([not each for each in same], rows, clusters)
    num_anyway = len(asked) - len(rows)
    words = "It could be asked of no row: none has a finished thought with what it needs."
    if num_anyway:
        words = f"On all {num_anyway:,} rows it went on to think although it was made to answer, so this shows nothing."
    if changed:
        tail = _FOLLOWED[thought].format(share=followed, n=f"{followed.num_rows:,}") if followed else ""
        anyway = f" (on {num_anyway:,} more it went on to think all the same)" if num_anyway else ""
        words = _SHOWS[thought].format(changed=changed, n=f"{len(rows):,}", followed=tail, anyway=anyway)
    return Probe(tuple(asked), len(own) - len(asked), num_anyway, changed, followed, words)


def _target(thought: str, own: Said | None, other: Said | None, problem: str) -> str:
    """The answer that the given thought leads to, where it is another than the own one; "" where it is not known."""
    if own is None:
        return ""
    if thought == "other" and other:
        return "" if _same(own.answer, other.answer, problem) else other.answer
    value = _value(own, problem)
    changed = changed_number(own.thought, own.answer, problem) if thought == "number" else None
    if changed is None or not _same(value, changed.old, ""):
        return ""
    options = options_of(problem)
    return changed.new if not options or any(_same(text, changed.new, "") for text in options.values()) else ""


def _value(said: Said, problem: str) -> str:
    """The answer, or the text of the option that it is the letter of."""
    return options_of(problem).get(choice_letter(clean(said.answer[:MAX_ANSWER_CHARS])) or "", said.answer)


def _answer(said: Said | None) -> str:
    return said.answer if said else ""


def _share(hits: Sequence[bool], rows: Sequence[int], clusters: Clusters | None) -> Estimate | None:
    return share(hits, clusters and [clusters[row] for row in rows]) if hits else None


@lru_cache(maxsize=20_000)
def _same(one: str, other: str, problem: str) -> bool:
    return one == other.strip() or grade_answer(one, other, problem).correct
