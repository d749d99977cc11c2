"""The verdict of an evaluation in one sentence: what training changed, and whether the base lacked only the prompt.

Lenient accuracy (the last answer stated, tags not required) decides, adapter less base with the same prompt on the same
rows. Strict accuracy and the format tell what moved where lenient accuracy did not. A base whose completion is made to
begin with `<think>` (base-forced) tells the two gains apart: an adapter that is not shown to be right more often than
that base learnt when to think.
"""

from __future__ import annotations

from training.evaluation.statistics import PairedDifference


def verdict(
    form: PairedDifference,
    strict: PairedDifference,
    lenient: PairedDifference,
    forced: PairedDifference | None,
    direct: PairedDifference | None,
) -> str:
    """One sentence, differences in points of 100 with their 95 % intervals.

    `form`, `strict` and `lenient` are adapter less base, both with the thinking prompt. `forced` and `direct` are the
    lenient differences between the adapter and base-forced or base-direct; `None` where that base was not asked.
    """
    sentence = _rise(lenient, forced) if lenient.is_up else _no_rise(form, strict, lenient)
    if forced is None:
        sentence += "; the base that is made to think (base-forced) was not measured"
    if direct is not None and direct.is_down:
        sentence += f"; the base asked to answer directly is right more often, by {_size(direct)}"
    return sentence + "."


def _rise(lenient: PairedDifference, forced: PairedDifference | None) -> str:
    rose = f"on the same {lenient.num_rows:,} rows lenient accuracy rose by {_size(lenient)}"
    if forced is None:
        return f"The adapter is right more often: {rose}"
    if forced.is_up:
        over = f"by {_size(forced)} over base-forced"
        return f"The adapter is right more often, even than the base that is made to think: {rose}, and {over}"
    if forced.is_down:
        better = f"the base that is made to think (base-forced) is right more often, by {_size(forced)}"
        return f"It learnt when to think: {rose}, but {better}"
    learnt = "It learnt when to think"
    if lenient.low <= forced.high:  # base-forced may explain all of the rise, or little of it
        learnt += f", and {lenient.num_rows:,} rows cannot tell whether also to answer better"
    unmoved = f"the adapter is not shown to beat the base that is made to think (base-forced; {_points(forced)}"
    return f"{learnt}: {rose}, but {unmoved}; {lenient.num_rows:,} rows {_could_show(forced)})"


def _no_rise(form: PairedDifference, strict: PairedDifference, lenient: PairedDifference) -> str:
    rows = f"{lenient.num_rows:,} rows"
    if lenient.is_down:
        although = f", although strict accuracy rose by {_size(strict)}: it learnt the tags at a cost" * strict.is_up
        return f"It got worse: on the same {rows} lenient accuracy fell by {_size(lenient)}{although}"
    unmoved = f"lenient accuracy did not ({_points(lenient)}; {rows} {_could_show(lenient)})"
    if strict.is_up:
        return f"{_tags(strict, lenient)}: strict accuracy rose by {_size(strict)}, {unmoved}"
    if strict.is_down:
        return f"It got worse at stating its answer in the tags: strict accuracy fell by {_size(strict)}, {unmoved}"
    if form.is_up:
        return f"{_tags(form, lenient)}: the format rose by {_size(form)}, {unmoved}"
    if form.is_down:
        return f"It got worse at the tags: the format fell by {_size(form)}, {unmoved}"
    return (
        f"{rows} cannot tell: lenient accuracy changed by {_points(lenient)}, and so many rows {_could_show(lenient)}"
    )


def _tags(risen: PairedDifference, lenient: PairedDifference) -> str:
    """The claim where the tags came and lenient accuracy did not move.

    That only the tags were learnt is claimed where they rose by more than lenient accuracy can have risen.
    """
    if risen.low > lenient.high:
        return "It learnt only the tags"
    return f"It learnt the tags, and {lenient.num_rows:,} rows cannot tell whether also to answer better"


def _size(difference: PairedDifference) -> str:
    """How far a share clearly rose or fell."""
    ends = sorted(abs(100 * end) for end in (difference.low, difference.high))
    return f"{abs(100 * difference.value):.1f} points ({ends[0]:.1f} to {ends[1]:.1f})"


def _points(difference: PairedDifference) -> str:
    value, low, high = (f"{100 * number:+.1f}" for number in (difference.value, difference.low, difference.high))
    return f"{value} points, {low} to {high}"


def _could_show(difference: PairedDifference) -> str:
    smallest = difference.smallest_shown
    return "are too few to show any" if smallest is None else f"could have shown {100 * smallest:.1f}"
