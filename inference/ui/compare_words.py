"""The differences of two completions of one question, in sentences that hold of both."""

from __future__ import annotations

from inference.ui.view import CompletionState, View

MUCH_LONGER = 1.3
"""A text of reasoning is called longer from this ratio of words on."""
SHORT_CHARS = 40
"""Answers up to this length are quoted."""
NAMES = ("the base", "the fine-tuned model")
_ENDS = {CompletionState.CUT_OFF: "was cut off", CompletionState.STOPPED: "was stopped"}


def describe(left: View, right: View, names: tuple[str, str] = NAMES, are_same: bool | None = None) -> str:
    """Up to four plain sentences on two completions that have ended, each of which failed in neither.

    `are_same` says whether two answers that are written in different ways mean the same; `None` if that is unknown.

    >>> done = CompletionState.DONE
    >>> describe(View(done, "8"), View(done, "<think>3 + 4 = 7.</think> <answer>7</answer>"))[:83]
    'Only the fine-tuned model reasoned, in the tags; the base answered without it. They'
    """
    views = (left, right)
    sentences = [
        _reasoning(views, names),
        _ends(views, names),
        _answers(views, names, are_same),
        _formats(views, names),
    ]
    return " ".join(
        sentence[0].upper() + sentence[1:] if sentence.startswith("the ") else sentence
        for sentence in sentences
        if sentence
    )


def _reasoning(views: tuple[View, View], names: tuple[str, str]) -> str:
    where = [f"{'in' if view.reasons_in_tags else 'without'} the tags" for view in views]
    reasons = [bool(view.reasoning) for view in views]
    if all(reasons):
        how = where[0] if where[0] == where[1] else f"{names[0]} {where[0]} and {names[1]} {where[1]}"
        return f"Both reasoned, {how}{_lengths(views, names)}."
    if any(reasons):
        one = reasons.index(True)
        other = f"; {names[1 - one]} answered without it" if _has_answered(views[1 - one]) else ""
        return f"Only {names[one]} reasoned, {where[one]}{other}."
    return "Both answered without reasoning." if all(map(_has_answered, views)) else ""


def _lengths(views: tuple[View, View], names: tuple[str, str]) -> str:
    num_words = [len(view.reasoning.split()) for view in views]
    most = max(num_words)
    if most <= min(num_words) * MUCH_LONGER:
        return ", at about the same length"
    return f"; {names[num_words.index(most)]} at more length, {most:,} words to {min(num_words):,}"


def _ends(views: tuple[View, View], names: tuple[str, str]) -> str:
    """The ends of those that did not come to an answer."""
    ends = [_ENDS.get(view.state, "" if view.stated else "gave no answer") for view in views]
    if ends[0] == ends[1]:
        return f"Both {ends[0].replace('was', 'were')}." if ends[0] else ""
    said = [f"{name} {end}" for name, end in zip(names, ends) if end]
    return f"{' and '.join(said)}."


def _answers(views: tuple[View, View], names: tuple[str, str], are_same: bool | None) -> str:
    verdicts = [view.verdict for view in views if view.verdict is not None]
    answers = [view.stated for view in views]
    quoted = all(len(answer) <= SHORT_CHARS and "\n" not in answer for answer in answers)
    if len(verdicts) == 2:
        correct = [verdict.correct for verdict in verdicts]
        same = (
            f" Both answer {answers[0]}."
            if answers[0] == answers[1] and answers[0] and quoted and not any(correct)
            else ""
        )
        return _of_both(correct, names, "are correct", "is correct", "Neither is correct") + same
    if verdicts:
        one = [view.verdict is not None for view in views].index(True)
        return f"{names[one]} is {'' if verdicts[0].correct else 'not '}correct."
    if not all(map(_has_answered, views)):
        return ""
    if answers[0] == answers[1]:
        return f"Both answer {answers[0]}." if quoted else "Both give the same answer."
    if are_same:
        return (
            f"Both give the same answer, written {answers[0]} and {answers[1]}."
            if quoted
            else "Both give the same answer."
        )
    if quoted:
        return f"{'They answer' if are_same is None else 'Their answers differ:'} {answers[0]} and {answers[1]}."
    return "" if are_same is None else "Their answers differ."


def _formats(views: tuple[View, View], names: tuple[str, str]) -> str:
    if any(view.state != CompletionState.DONE for view in views):
        return ""
    return _of_both(
        [view.well_formed for view in views], names, "kept the format", "kept the format", "Neither kept the format"
    )


def _of_both(holds: list[bool], names: tuple[str, str], both: str, one: str, neither: str) -> str:
    """The sentence for both, for only one of the two, or for neither."""
    if all(holds):
        return f"Both {both}."
    return f"Only {names[holds.index(True)]} {one}." if any(holds) else f"{neither}."


def _has_answered(view: View) -> bool:
    return view.state == CompletionState.DONE and bool(view.stated)
