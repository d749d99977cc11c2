"""The evaluation and the comparison of an adapter as HTML: the verdict, base beside adapter, by kind.

The figures come from files that somebody may have edited: all is escaped, and a value that is no figure is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from inference.adapters.record import RECORD_FILE, evaluation_of
from inference.common.html import escape
from training.runs.metrics import EVALUATED, METRICS
from training.ui.base.html import finite, mapping

ADAPTER, BASE = "adapter-thinking", "base-thinking"
MAX_KINDS = 20
"""Kinds of problems in a table."""
_WORDS = (
    '<details class="lt-fold" data-key="words of the verdict"><summary>What these words mean</summary>'
    "<p>base-thinking: the base, asked to think. base-forced: the same, and its answer must begin with a thought. "
    "base-careful: the thought must begin as its most careful way to think does. Strict accuracy reads the answer in "
    "its tags, lenient accuracy the last answer that is stated. Differences are in points of 100, with their 95 % "
    "intervals.</p></details>"
)


def verdict_html(folder: Path) -> str:
    """The sentence on what training changed, and of which levels it is shown; empty without an evaluation."""
    evaluation = evaluation_of(folder)
    words = evaluation.get("verdict")
    if not isinstance(words, str) or not words:
        return ""
    levels = evaluation.get("levels")
    items = "".join(map(_level, levels[:8] if isinstance(levels, list) else []))
    listed = f'<p>What it learnt, each more than the one before:</p><ul class="lt-levels">{items}</ul>' if items else ""
    return f'<p class="lt-verdict">{escape(words, 2000)}</p>{listed}{_WORDS}'


def _level(level: object) -> str:
    values = mapping(level)
    shown = {True: ("✓", "shown", "good"), False: ("✗", "not shown", "quiet")}
    sign, words, kind = shown.get(values.get("is_shown"), ("–", "not measured", "quiet"))  # type: ignore[call-overload]
    title = escape(values.get("evidence") or "", 400)
    name = escape(values.get("name") or "", 80)
    evidence = f'<span class="lt-quiet lt-evidence">{title}</span>' if title else ""
    return f'<li class="lt-{kind}"><span aria-hidden="true">{sign}</span> {name}: {words}{evidence}</li>'


def evaluation_table(folder: Path) -> str:
    """Adapter and base on the test problems, with the thinking prompt, overall and by kind; empty without figures."""
    try:
        state = (folder / RECORD_FILE).stat()
    except OSError:
        return ""
    return _evaluation_table(folder, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=256)
def _evaluation_table(folder: Path, modified: int, size: int) -> str:
    """For a file in one state."""
    evaluation = evaluation_of(folder)
    conditions, differences = (mapping(evaluation.get(name)) for name in ("conditions", "differences"))
    scores = [mapping(conditions.get(name)) for name in (BASE, ADAPTER)]

    def row(group: str, measure: str) -> list[str]:
        cells = [_share(mapping(score.get(group)).get(measure)) for score in scores]
        return [*cells, _points(mapping(differences.get(measure)).get(group))]

    rows = [
        (METRICS[name].label, row("overall", name))
        for name in EVALUATED
        if any(mapping(score.get("overall")).get(name) for score in scores)
    ]
    if not rows:
        return ""
    kinds = [str(kind) for kind in scores[1] if kind != "overall"][:MAX_KINDS]
    rows += [(f"{METRICS['lenient'].label}: {escape(kind, 60)}", row(kind, "lenient")) for kind in kinds]
    return _table("On test problems", ("Base", "This adapter", "Change in points"), rows)


def comparison_table(comparison: Mapping[str, object]) -> str:
    """Against the adapter that was served when its run ended, on the validation problems."""
    new, served, differences = (
        mapping(comparison.get(name)) for name in ("new_scores", "served_scores", "differences")
    )
    rows = [
        (METRICS[name].label, [_share(served.get(name)), _share(new.get(name)), _points(differences.get(name))])
        for name in EVALUATED
        if differences.get(name)
    ]
    against = mapping(comparison.get("served")).get("name") or "The served one"
    count = comparison.get("num_rows")
    on = f"On {count:,} validation problems" if type(count) is int else "On validation problems"
    return _table(f"{on}, when its run ended", (escape(against, 80), "This adapter", "Change in points"), rows)


def _table(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for name, cells in rows
    )
    return (
        f'<div class="lt-table" tabindex="0" role="group" aria-label="{title}"><table><caption>{title}</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _share(estimate: object) -> str:
    """A share in per cent with its 95 % interval."""
    value, low, high = _estimate(estimate)
    if value is None:
        return "not measured"
    interval = f" <small>{100 * low:.1f} to {100 * high:.1f}</small>" if low is not None and high is not None else ""
    return f"{100 * value:.1f} %{interval}"


def _points(estimate: object) -> str:
    """A difference of shares in percentage points, with its 95 % interval."""
    value, low, high = _estimate(estimate)
    if value is None or low is None or high is None:
        return "not measured"
    return f"{100 * value:+.1f} <small>{100 * low:+.1f} to {100 * high:+.1f}</small>".replace("-", "−")


def _estimate(estimate: object) -> list[float | None]:
    """Value and bounds; `None` for what is not a number from -1 to 1."""
    numbers = [finite(mapping(estimate).get(name)) for name in ("value", "low", "high")]
    return [number if number is not None and abs(number) <= 1 else None for number in numbers]
