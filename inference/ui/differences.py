"""What two completions of one question differ in, in words."""

from __future__ import annotations

from inference.ui.view import State, View

_MUCH = 1.3
"""A thought is called longer from this ratio of tokens on."""


def describe(base: View, tuned: View) -> str:
    """One to four plain sentences on the base's completion beside the fine-tuned model's.

    >>> describe(View(State.DONE, "7"), View(State.DONE, "<think>3 + 4 = 7.</think> <answer>8</answer>"))[:45]
    'The base answered at once; the fine-tuned mod'
    """
    sentences = [_thoughts(base, tuned), _answers(base, tuned), _formats(base, tuned)]
    return " ".join(sentence for sentence in sentences if sentence)


def _thoughts(base: View, tuned: View) -> str:
    if base.thinking and tuned.thinking:
        base_tokens, tuned_tokens = _thought_tokens(base), _thought_tokens(tuned)
        if tuned_tokens > base_tokens * _MUCH:
            return f"Both reasoned first, the fine-tuned model longer: {tuned_tokens:,} tokens to {base_tokens:,}."
        if base_tokens > tuned_tokens * _MUCH:
            return f"Both reasoned first, the base longer: {base_tokens:,} tokens to {tuned_tokens:,}."
        return "Both reasoned first, at about the same length."
    if tuned.thinking:
        return "The base answered at once; the fine-tuned model reasoned first."
    if base.thinking:
        return "The base reasoned first; the fine-tuned model answered at once."
    return "Both answered at once."


def _answers(base: View, tuned: View) -> str:
    if base.verdict is not None and tuned.verdict is not None:
        if base.verdict.correct and tuned.verdict.correct:
            return "Both are right."
        if base.verdict.correct or tuned.verdict.correct:
            return f"Only the {'base' if base.verdict.correct else 'fine-tuned model'} is right."
        return "Neither is right."
    missing = [name for name, view in (("base", base), ("fine-tuned model", tuned)) if view.state != State.DONE]
    if missing:
        return "Neither came to its end." if len(missing) == 2 else f"The {missing[0]} did not come to its end."
    if base.answer == tuned.answer:
        return f"Both answer {base.answer}." if len(base.answer) <= 40 else "Both give the same answer."
    return "Their answers differ."


def _formats(base: View, tuned: View) -> str:
    if base.state != State.DONE or tuned.state != State.DONE:
        return ""
    if base.well_formed and tuned.well_formed:
        return "Both kept the format."
    if base.well_formed or tuned.well_formed:
        return f"Only the {'base' if base.well_formed else 'fine-tuned model'} kept the format."
    return "Neither kept the format."


def _thought_tokens(view: View) -> int:
    return view.thought_tokens or view.num_tokens
