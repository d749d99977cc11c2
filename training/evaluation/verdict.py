"""What a training run taught, in one sentence: to reason, or only the tags, or neither.

It follows from the paired difference in lenient accuracy (the last answer stated, tags not required), adapter less
base with the same prompt on the same rows; strict accuracy and format tell what moved where lenient did not.
"""

from __future__ import annotations

from training.evaluation.statistics import PairedDifference


def verdict(
    form: PairedDifference,
    strict: PairedDifference,
    lenient: PairedDifference,
    against_direct: PairedDifference | None,
    smallest: float | None,
) -> str:
    """One sentence, differences in points of 100.

    `form`, `strict` and `lenient` are adapter less base, both with the thinking prompt; `against_direct` is the lenient
    difference of the adapter and the base that answers directly; `smallest` is `smallest_difference` of the rows.
    """
    sentence = _what_changed(form, strict, lenient, smallest)
    if against_direct is not None and against_direct.is_down:
        sentence += f"; the base asked to answer directly is right more often, by {_size(against_direct)}"
    return sentence + "."


def _what_changed(
    form: PairedDifference, strict: PairedDifference, lenient: PairedDifference, smallest: float | None
) -> str:
    rows = f"{lenient.num_rows:,} rows"
    if lenient.is_up:
        return f"The adapter reasons better: on the same {rows} lenient accuracy rose by {_size(lenient)}"
    if lenient.is_down:
        although = f", although strict accuracy rose by {_size(strict)}: it learnt the tags at a cost" * strict.is_up
        return f"It got worse: on the same {rows} lenient accuracy fell by {_size(lenient)}{although}"
    unmoved = f"lenient accuracy did not ({_points(lenient)}; {rows} {_could_show(smallest)})"
    if strict.is_up:
        return f"{_tags(strict, lenient)}: strict accuracy rose by {_size(strict)}, {unmoved}"
    if strict.is_down:
        return f"It got worse at stating its answer in the tags: strict accuracy fell by {_size(strict)}, {unmoved}"
    if form.is_up:
        return f"{_tags(form, lenient)}: the format rose by {_size(form)}, {unmoved}"
    if form.is_down:
        return f"It got worse at the tags: the format fell by {_size(form)}, {unmoved}"
    changed = f"lenient accuracy changed by {_points(lenient)}"
    return f"{rows} cannot tell: {changed}, and so many rows {_could_show(smallest)}"


def _tags(risen: PairedDifference, lenient: PairedDifference) -> str:
    """What may be said of reasoning where the tags came and lenient accuracy did not move: that it was not learnt only
    if the tags rose by more than lenient accuracy can have."""
    if risen.low > lenient.high:
        return "It learnt the tags, not to reason"
    return f"It learnt the tags, and {lenient.num_rows:,} rows cannot tell whether also to reason"


def _size(difference: PairedDifference) -> str:
    """How far something clearly rose or fell."""
    ends = sorted(abs(100 * end) for end in (difference.low, difference.high))
    return f"{abs(100 * difference.value):.1f} points ({ends[0]:.1f} to {ends[1]:.1f})"


def _points(difference: PairedDifference) -> str:
    value, low, high = (f"{100 * number:+.1f}" for number in (difference.value, difference.low, difference.high))
    return f"{value} points, {low} to {high}"


def _could_show(smallest: float | None) -> str:
    return "are too few to show any" if smallest is None else f"could have shown {100 * smallest:.1f}"
