"""Grades the completions of an evaluation with the grader of the reward, many side by side.

Strict: the answer stands in its tags. Lenient: the last answer stated counts, tags or not. A completion of a base that
was asked for the answer alone is the answer, whole; strict and lenient are the same there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

from inference.format import is_well_formed
from training.evaluation_store import Said
from training.grading import gold_answer, grade_answer, grade_lenient, grade_many, last_answer
from training.grading_pool import num_workers
from training.report import Outcome

Question = TypeVar("Question")


def judge(solutions: Sequence[str], completions: Sequence[Said], is_direct: bool) -> list[Outcome]:
    """One outcome for each row, in order."""
    pairs = [(solution, said.text) for solution, said in zip(solutions, completions, strict=True)]
    if is_direct:
        strict = lenient = _side_by_side(lambda pair: grade_answer(gold_answer(pair[0]), pair[1]).correct, pairs)
    else:
        strict = dict(zip(pairs, (verdict.correct for verdict in grade_many(pairs))))
        # One right answer in its tags is also the last one stated.
        wrong = [pair for pair in pairs if not strict[pair]]
        lenient = strict | _side_by_side(lambda pair: grade_lenient(*pair).correct, wrong)
    return [
        Outcome(is_well_formed(said.text), strict[pair], lenient[pair], said.num_tokens, said.truncated, said.text)
        for pair, said in zip(pairs, completions)
    ]


def majority_votes(samples: Sequence[Sequence[Outcome]]) -> list[bool]:
    """For each row, whether the answer that most of its samples state is right (lenient).

    Answers are one where the grader finds them equal. Of as many votes, the answer that came first wins; who states
    none has no vote.
    """
    ballots = [tuple((last_answer(o.text).strip(), o.lenient) for o in row) for row in samples]
    winners = _side_by_side(_winner, ballots)
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


def _side_by_side(work: Callable[[Question], bool], questions: Sequence[Question]) -> dict[Question, bool]:
    """Each different question once, so many at a time as the grader has workers."""
    different = list(dict.fromkeys(questions))
    with ThreadPoolExecutor(num_workers(), thread_name_prefix="judging") as threads:
        return dict(zip(different, threads.map(work, different)))
