"""The verdict of an evaluation: what training changed, in one sentence and in four levels.

Each level is more than the one before:

1. the tags: format or strict accuracy rose over base-thinking;
2. when to think: lenient accuracy (the last answer stated, tags not required) rose over base-thinking;
3. which of its ways to think: it rose over base-forced too, the base whose completion is made to begin with `<think>`;
4. more than any way it had: it rose over base-careful, the base made to begin as its most careful way does, and over
   the majority of several completions of base-forced.

A rise is shown if the 95 % interval of the paired difference and the exact McNemar test say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from training.evaluation.statistics import PairedDifference


@dataclass(frozen=True)
class Changes:
    """The adapter with the thinking prompt less other conditions, on the same rows; `None` if not measured.

    The first three are less base-thinking; all but `form` and `strict` are of lenient accuracy.
    """

    form: PairedDifference
    strict: PairedDifference
    lenient: PairedDifference
    forced: PairedDifference | None = None
    careful: PairedDifference | None = None
    majority: PairedDifference | None = None
    """Less the majority of base-forced's samples."""
    direct: PairedDifference | None = None


@dataclass(frozen=True)
class Level:
    """Something that an adapter can have learnt, and what speaks for it and against it."""

    name: str
    is_shown: bool | None
    """`None` where a condition that it needs was not measured."""
    evidence: str


def levels(changes: Changes) -> list[Level]:
    """The four levels, the least first. The last two are shown only if the one before is."""
    beyond = {"base-careful": changes.careful, "the majority of base-forced's samples": changes.majority}
    which = None if changes.forced is None else changes.lenient.is_up and changes.forced.is_up
    more = None
    if which is False or any(d is not None and not d.is_up for d in beyond.values()):
        more = False
    elif which and None not in beyond.values():
        more = True
    tags = f"format {_points(changes.form)}; strict {_points(changes.strict)}"
    return [
        Level("the tags", changes.form.is_up or changes.strict.is_up, f"over base-thinking: {tags}"),
        Level("when to think", changes.lenient.is_up, _evidence({"base-thinking": changes.lenient})),
        Level("which of its ways to think", which, _evidence({"base-forced": changes.forced})),
        Level("more than any way it had", more, _evidence(beyond)),
    ]


def verdict(changes: Changes) -> str:
    """One sentence, differences in points of 100 with their 95 % intervals."""
    lenient, forced, direct = changes.lenient, changes.forced, changes.direct
    sentence = _rise(changes) if lenient.is_up else _no_rise(changes.form, changes.strict, lenient)
    if forced is None:
        sentence += "; the base that is made to think (base-forced) was not measured"
    if direct is not None and direct.is_down:
        sentence += f"; the base asked to answer directly is right more often, by {_size(direct)}"
    return sentence + "."


def _evidence(differences: Mapping[str, PairedDifference | None]) -> str:
    """Lenient differences over conditions, by their names."""
    parts = [f"{name} {'not measured' if d is None else _points(d)}" for name, d in differences.items()]
    return f"lenient over {'; over '.join(parts)}"


def _rise(changes: Changes) -> str:
    lenient, forced = changes.lenient, changes.forced
    rose = f"on the same {lenient.num_rows:,} rows lenient accuracy rose by {_size(lenient)}"
    if forced is None:
        return f"The adapter is right more often: {rose}"
    if forced.is_up:
        over = f"{rose}, and by {_size(forced)} over the base that is made to think (base-forced)"
        return _above_forced(over, changes.careful, changes.majority)
    if forced.is_down:
        better = f"the base that is made to think (base-forced) is right more often, by {_size(forced)}"
        return f"It learnt when to think: {rose}, but {better}"
    learnt = "It learnt when to think"
    if lenient.low <= forced.high:  # base-forced may explain all of the rise, or little of it
        learnt += f", and {lenient.num_rows:,} rows cannot tell whether also to answer better"
    unmoved = f"the adapter is not shown to beat the base that is made to think (base-forced; {_points(forced)}"
    return f"{learnt}: {rose}, but {unmoved}; {lenient.num_rows:,} rows {_could_show(forced)})"


def _above_forced(rose: str, careful: PairedDifference | None, majority: PairedDifference | None) -> str:
    """The sentence for an adapter that beats the base that is made to think."""
    rivals = {
        "the base that begins with care (base-careful)": careful,
        "the majority of the base's samples": majority,
    }
    missing = [name for name, difference in rivals.items() if difference is None]
    unbeaten = {name: d for name, d in rivals.items() if d is not None and not d.is_up}
    if not missing and not unbeaten:
        by = " and ".join(f"by {_size(d)} over {name}" for name, d in rivals.items() if d is not None)
        return f"It learnt more than any way the base had: {rose}, {by}"
    parts = [
        f"it is {'worse than' if d.is_down else 'not shown to beat'} {name} ({_points(d)})"
        for name, d in unbeaten.items()
    ]
    parts += [f"{name} was not measured" for name in missing] if not unbeaten else []
    return f"It learnt which of its ways to think: {rose}; {', and '.join(parts)}"


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
    """The size of a clear rise or fall, with its interval."""
    ends = sorted(abs(100 * end) for end in (difference.low, difference.high))
    return f"{abs(100 * difference.value):.1f} points ({ends[0]:.1f} to {ends[1]:.1f})"


def _points(difference: PairedDifference) -> str:
    value, low, high = (f"{100 * number:+.1f}" for number in (difference.value, difference.low, difference.high))
    return f"{value} points, {low} to {high}"


def _could_show(difference: PairedDifference) -> str:
    smallest = difference.smallest_shown
    return "are too few to show any" if smallest is None else f"could have shown {100 * smallest:.1f}"
