"""The differences of a base's completion and a fine-tuned model's, in sentences."""

from __future__ import annotations

from inference.ui.view import CompletionState, View

MUCH_LONGER = 1.3
"""A thought is called longer from this ratio of tokens on."""


def describe(base: View, tuned: View) -> str:
    """One to four plain sentences on the base's completion beside the fine-tuned model's.

    >>> done = CompletionState.DONE
    >>> describe(View(done, "7"), View(done, "<think>3 + 4 = 7.</think> <answer>8</answer>"))[:45]
    'Only the fine-tuned model reasoned in the tag'
    """
    sentences = [_thoughts(base, tuned), _answers(base, tuned), _formats(base, tuned)]
    return " ".join(sentence for sentence in sentences if sentence)


def _thoughts(base: View, tuned: View) -> str:
    if base.thinking and tuned.thinking:
        base_tokens, tuned_tokens = (view.thought_tokens or view.num_tokens for view in (base, tuned))
        if tuned_tokens > base_tokens * MUCH_LONGER:
            return f"Both reasoned first, the fine-tuned model longer: {tuned_tokens:,} tokens to {base_tokens:,}."
        if base_tokens > tuned_tokens * MUCH_LONGER:
            return f"Both reasoned first, the base longer: {base_tokens:,} tokens to {tuned_tokens:,}."
        return "Both reasoned first, at about the same length."
    if tuned.thinking:
        return "Only the fine-tuned model reasoned in the tags."
    if base.thinking:
        return "Only the base reasoned in the tags."
    return "Neither reasoned in the tags."


def _answers(base: View, tuned: View) -> str:
    if base.verdict is not None and tuned.verdict is not None:
        are_correct = base.verdict.correct, tuned.verdict.correct
        return _of_both(*are_correct, "Both are correct.", "Only the {} is correct.", "Neither is correct.")
    has_ended = [view.state == CompletionState.DONE for view in (base, tuned)]
    if not all(has_ended):
        if not any(has_ended):
            return "Neither came to its end."
        return f"The {'fine-tuned model' if has_ended[0] else 'base'} did not come to its end."
    if base.answer == tuned.answer:
        return f"Both answer {base.answer}." if len(base.answer) <= 40 else "Both give the same answer."
    return "Their answers differ."


def _formats(base: View, tuned: View) -> str:
    if base.state != CompletionState.DONE or tuned.state != CompletionState.DONE:
        return ""
    words = "Both kept the format.", "Only the {} kept the format.", "Neither kept the format."
    return _of_both(base.well_formed, tuned.well_formed, *words)


def _of_both(base: bool, tuned: bool, both: str, one: str, neither: str) -> str:
    """The sentence for both, for only one of the two, or for neither."""
    if base != tuned:
        return one.format("base" if base else "fine-tuned model")
    return both if base else neither
