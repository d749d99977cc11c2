"""The newest rollouts as HTML: the picture, the prompt, and each completion with its rewards, reasons and advantage.

The text comes from a model, a dataset, and a file that somebody may have edited. So every value is checked for its
type, escaped and cut, and a line that makes no sense is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from inference.common.html import escape
from training.ui.base.html import finite, mapping, picture_uri

MAX_GROUPS = 8
"""Groups shown."""
MAX_COMPLETIONS = 16
"""Completions shown of one group."""
MAX_TEXT_CHARS = 4_000
"""Of one completion."""
NO_SIGNAL = '<p class="lt-quiet">All answers got the same reward, so there is nothing to learn from this group.</p>'
ALL = "All"
NONE_PASSES = '<p class="lt-quiet">No problem of this step is like that. Choose another step, or All.</p>'
NO_ROLLOUTS = '<p class="lt-quiet">The first answers come with the first step.</p>'


def rollouts_html(
    groups: Sequence[object],
    only: object = ALL,
    address: str = "",
    first: int = 0,
    taught: tuple[str, str] = ("", ""),
) -> str:
    """The groups of one step (as in `rollouts.jsonl`) that pass a filter, those with a signal first.

    The first group is unfolded. Equal completions are one, with their number. `address` is the step's; a problem's has
    its number in the step, from 1, behind it, and a completion's has its number in the group behind that. The problem
    with the number `first` comes first, whatever the filter. `taught` is a completion's address and the HTML that
    stands under it; its problem comes unfolded too.
    """
    usable = [(n, group) for n, group in enumerate(groups, 1) if isinstance(group, Mapping) and _completions(group)]
    passes = FILTERS.get(str(only), _any)
    passing = [(n, group) for n, group in usable if n == first or passes(group)]
    ordered = sorted(passing, key=lambda pair: (pair[0] != first, not _has_signal(pair[1])))
    cards = [
        group_html(group, f"{address}/{n}", not i or taught[0].startswith(f"{address}/{n}/"), taught)
        for i, (n, group) in enumerate(ordered[:MAX_GROUPS])
    ]
    if not cards:
        return NONE_PASSES if usable else NO_ROLLOUTS
    more = [
        f'<li><a href="{escape(f"{address}/{n}")}">{escape(group.get("prompt") or "", 100)}</a></li>'
        for n, group in ordered[MAX_GROUPS:]
    ]
    rest = f'<p>{len(more)} more:</p><ul class="lt-more-groups">{"".join(more)}</ul>' if more else ""
    return f'<div class="lt-groups">{"".join(cards)}</div>{rest}'


def group_html(group: Mapping[str, object], address: str, is_open: bool, taught: tuple[str, str] | None = None) -> str:
    """One group, with links if it has an address; a completion shows `advantage_before`,
    `changes_places` and `cut_at` (tokens) too.

    With `taught`, as in `rollouts_html`, each completion has a button for its tokens.
    """
    completions = _completions(group)
    prompt = str(group.get("prompt") or "")
    images = group.get("images")
    pictures = [_picture_html(image, at) for at, image in enumerate(images if isinstance(images, list) else [], 1)]
    picture = "".join(pictures) or '<p class="lt-quiet">No picture.</p>'
    ranked = sorted(_merged(completions), key=lambda pair: -(finite(pair[0].get("advantage")) or 0.0))
    shown = "".join(
        _completion_html(one, count, f"{address}/{completions.index(one) + 1}" if address else "", taught)
        for one, count in ranked[:MAX_COMPLETIONS]
    )
    link = f'<p><a href="{escape(address)}">Address of this problem</a></p>' if address else ""
    more = len(ranked) - MAX_COMPLETIONS
    rest = f'<li class="lt-quiet">and {more} more, in rollouts.jsonl of the run folder</li>' if more > 0 else ""
    return (
        f'<details class="lt-group"{" open" if is_open else ""}><summary><span class="lt-group-step">'
        f'Step {escape(group.get("step", "?"), 12)}</span><span class="lt-group-prompt">{escape(prompt, 160)}</span>'
        f'<span class="lt-group-sum">{_summary(completions)}</span></summary><div class="lt-group-body">'
        f'<div class="lt-group-picture">{picture}<p>{escape(prompt)}</p>{_expected(group)}'
        f"{link}{'' if _has_signal(group) else NO_SIGNAL}</div>"
        f'<ol class="lt-rollouts">{shown}{rest}</ol></div></details>'
    )


def _expected(group: Mapping[str, object]) -> str:
    """The solution of the row, what the grader reads of it, and the row; older files lack the first and the last."""
    solution, gold, row = (group.get(name) for name in ("solution", "gold", "row"))
    facts = [("Expected answer", solution if solution is not None else gold)]
    if gold is not None and str(gold) != str(solution):
        facts.append(("The grader reads it as", gold))
    facts.append(("Row", row))
    items = "".join(f"<dt>{name}</dt><dd>{escape(value, 400)}</dd>" for name, value in facts if value is not None)
    return f'<dl class="lt-expected">{items}</dl>' if items else ""


def _merged(completions: Sequence[Mapping[str, object]]) -> list[tuple[Mapping[str, object], int]]:
    """Each completion once, with the number of those with the same text, rewards and end."""
    counts: dict[tuple[str, ...], int] = {}
    first: dict[tuple[str, ...], Mapping[str, object]] = {}
    for one in completions:
        key = tuple(str(one.get(name)) for name in ("text", "rewards", "advantage", "truncated"))
        counts[key] = counts.get(key, 0) + 1
        first.setdefault(key, one)
    return [(one, counts[key]) for key, one in first.items()]


def _picture_html(image: object, number: int) -> str:
    uri = picture_uri(image) if isinstance(image, Path) else None
    if uri is None:
        return '<p class="lt-quiet">The picture cannot be read.</p>'
    return f'<img src="{uri}" alt="Picture {number} of this prompt">'


def _completion_html(one: Mapping[str, object], count: int, address: str, taught: tuple[str, str] | None) -> str:
    advantage = finite(one.get("advantage"))
    kind = "quiet" if not advantage else "good" if advantage > 0 else "bad"
    rewards, reasons = mapping(one.get("rewards")), mapping(one.get("reasons"))
    tokens = one.get("num_tokens")
    facts = [f"{count} times"] if count > 1 else []
    facts += [f"{tokens:,} tokens"] if type(tokens) is int else []
    facts += ["cut off"] if one.get("truncated") is True else []
    facts += [f"cut at {one['cut_at']:,} tokens"] if type(one.get("cut_at")) is int else []
    facts += [f"was {_signed(finite(one['advantage_before']))}"] if "advantage_before" in one else []
    facts += ["changes places"] if one.get("changes_places") is True else []
    names = [str(name) for name in rewards] + [f"{name}_reward" for name in reasons if f"{name}_reward" not in rewards]
    rewards_html = "".join(_reward_html(name, rewards.get(name), reasons) for name in names[:12])
    if one.get("answer") not in (None, ""):
        rewards_html += f"<li>read as <b>{escape(one.get('answer'), 200)}</b></li>"
    words = "Address of this answer"
    link = f'<a href="{escape(address)}" aria-label="{words}" title="{words}">#</a>' if address else ""
    text = str(one.get("text") or "")
    shown = escape(text, MAX_TEXT_CHARS) if text.strip() else '<span class="lt-quiet">(empty)</span>'
    return (
        f'<li class="lt-rollout"><p class="lt-rollout-head"><b class="lt-advantage lt-{kind}">'
        f"{_signed(advantage)}</b><span>advantage</span><span>{' · '.join(facts)}</span>"
        f"{link}</p>"
        f'<div class="lt-rollout-text">{shown}</div><ul class="lt-judged">{rewards_html}</ul>'
        f"{_tokens_html(address, taught) if taught else ''}</li>"
    )


def _tokens_html(address: str, taught: tuple[str, str]) -> str:
    """The button that asks what training changed in this completion, or what it found."""
    if address == taught[0]:
        return taught[1]
    return (
        f'<p class="lt-own-acts"><button type="button" class="lt-act lt-small-act" data-tokens="{escape(address)}" '
        'aria-label="Tokens: what the steps changed in this answer">Tokens</button></p>'
    )


def _reward_html(name: str, value: object, reasons: Mapping[str, object]) -> str:
    """A reward function's name, its value and its reason."""
    short = name.removesuffix("_reward")
    reward = finite(value)
    reason = reasons.get(short, reasons.get(name))
    value_text = "none" if reward is None else f"{reward:.2f}".rstrip("0").rstrip(".")
    because = f" <span>{escape(reason, 200)}</span>" if reason not in (None, "") else ""
    return f"<li>{escape(short.replace('_', ' '), 60)} <b>{value_text}</b>{because}</li>"


def _summary(completions: Sequence[Mapping[str, object]]) -> str:
    """The number of correct and of well-formed completions in a group, if the run has these rewards."""
    parts = []
    for name, words in (("accuracy_reward", "correct"), ("format_reward", "in the format")):
        values = [finite(mapping(one.get("rewards")).get(name)) for one in completions]
        known = [value for value in values if value is not None]
        if known:
            parts.append(f"{sum(value >= 1 for value in known)} of {len(known)} {words}")
    return ", ".join(parts) or f"{len(completions)} answers"


def _any(group: Mapping[str, object]) -> bool:
    return True


def _all_wrong(group: Mapping[str, object]) -> bool:
    """True if no completion is correct, by the accuracy reward or, in a run without it, by the sum of all rewards."""
    rewards = [mapping(one.get("rewards")) for one in _completions(group)]
    values = [finite(r.get("accuracy_reward")) if "accuracy_reward" in r else _sum(r) for r in rewards]
    return bool(values) and not any(value is not None and value > 0 for value in values)


def _sum(rewards: Mapping[str, object]) -> float:
    return sum(finite(value) or 0.0 for value in rewards.values())


def _is_cut_off(group: Mapping[str, object]) -> bool:
    return any(one.get("truncated") is True for one in _completions(group))


def _has_signal(group: Mapping[str, object]) -> bool:
    """True if some of its completions got a better reward than others."""
    return any(finite(one.get("advantage")) for one in _completions(group))


def _completions(group: Mapping[str, object]) -> list[Mapping[str, object]]:
    rows = group.get("completions")
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _signed(value: float | None) -> str:
    return "none" if value is None else "0" if not value else f"{value:+.2f}".replace("-", "−")


FILTERS: dict[str, Callable[[Mapping[str, object]], bool]] = {
    ALL: _any,
    "With a signal": _has_signal,
    "All wrong": _all_wrong,
    "Cut off": _is_cut_off,
}
"""The problems of a step that the page can show, by the names of the choices."""
