"""Grades the completions of an evaluation with the grader of the reward, many side by side.

Strict: the answer stands in its tags. Lenient: the last answer stated counts, tags or not. A completion of a base that
was asked for the answer alone is the answer, whole; strict and lenient are the same there.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from inference.prompt.format import is_well_formed
from training.evaluation.report import Outcome
from training.evaluation.resume import Said
from training.grading.grader import Mode, grade_answer, grade_many, last_answer
from training.grading.math_pool import num_workers


def judge(solutions: Sequence[str], completions: Sequence[Said], is_direct: bool) -> list[Outcome]:
    """One outcome for each row, in order."""
    pairs = [(solution, said.text) for solution, said in zip(solutions, completions, strict=True)]
    strict = _verdicts(pairs, "direct" if is_direct else "strict")
    # One right answer in its tags is also the last one stated.
    wrong = [] if is_direct else [pair for pair in pairs if not strict[pair]]
    lenient = strict | _verdicts(wrong, "lenient")
    return [
        Outcome(is_well_formed(said.text), strict[pair], lenient[pair], said.num_tokens, said.truncated, said.text)
        for pair, said in zip(pairs, completions)
    ]


def _verdicts(pairs: Sequence[tuple[str, str]], mode: Mode) -> dict[tuple[str, str], bool]:
    return dict(zip(pairs, (verdict.correct for verdict in grade_many(pairs, mode))))


def majority_votes(samples: Sequence[Sequence[Outcome]]) -> list[bool]:
    """For each row, whether the answer that most of its samples state is right (lenient).

    Answers are one where the grader finds them equal. Of as many votes, the answer that came first wins; who states
    none has no vote.
    """
    ballots = [tuple((last_answer(o.text).strip(), o.lenient) for o in row) for row in samples]
    different = list(dict.fromkeys(ballots))
    with ThreadPoolExecutor(num_workers(), thread_name_prefix="counting") as threads:
        winners = dict(zip(different, threads.map(_winner, different)))
    return [winners[ballot] for ballot in ballots]


def _winner(ballot: Sequence[tuple[str, bool]]) -> bool:
    groups: list[tuple[str, bool]] = []
    votes: list[int] = []
    for answer, right in ballot:
        if not answer:
            continue
        place = next((i for i, (first, _) in enumerate(groups) if _same(first, answer)), len(groups))
        if place == len(groups):
            groups.append((answer, right))
            votes.append(0)
        votes[place] += 1
    return bool(votes) and groups[votes.index(max(votes))][1]


@lru_cache(maxsize=20_000)
def _same(one: str, other: str) -> bool:
    return one == other or grade_answer(one, other).correct
