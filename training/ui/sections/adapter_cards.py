"""The adapters as HTML: the served one, and a card for each version with its evaluation and its comparison.

Names, verdicts and figures come from files that somebody may have edited: all is escaped, and a value that is not a
figure is left out. A button carries its action in `data-act` and `data-adapter`; `adapters` handles the click.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from inference.adapters.catalog import Version
from inference.adapters.record import RECORD_FILE, evaluation_of
from inference.adapters.served import Serving
from inference.common.html import escape
from training.runs.metrics import EVALUATED, METRICS
from training.ui.base.html import finite, mapping

_ORIGINS = {
    "settings": "Named by the settings",
    "promoted": "Promoted",
    "run": "The result of a run",
    "folder": "Put into the folder adapters",
}
NO_VERSIONS = (
    '<div class="lt-empty"><h2>There is no adapter yet</h2><p>Start a run under Start. Its adapter is listed here when '
    "it is done, with its evaluation.</p></div>"
)
PINNED = "LOOKTHINK_ADAPTER is set, so its adapter is served. Start the app without it to promote or roll back."


def serving_html(now: Serving, before: str | None) -> str:
    """The served adapter, since when and by whom; `before` is the name of the one that a roll back returns to."""
    since = f"since {escape(now.since, 40)}" if now.since else ""
    by = f"by {escape(now.by, 200)}" if now.by else ""
    origin = " ".join(filter(None, (since, by))) or "Default, from space.yaml"
    is_pinned = now.source == "LOOKTHINK_ADAPTER"
    notice = now.notice or (PINNED if is_pinned else "")
    warning = f'<p class="lt-note lt-warn">{escape(notice)}</p>' if notice else ""
    back = ""
    if before is not None and not is_pinned:
        back = _button("roll back", before, f"Roll back to {escape(before, 120)}")
    return (
        '<section class="lt-serving" aria-label="What is served"><div><p class="lt-quiet">Served now</p>'
        f'<h2>{escape(now.name or "The base alone", 120)}</h2><p class="lt-quiet">{origin}</p></div>{back}</section>'
        f"{warning}"
    )


def versions_html(versions: Sequence[Version], can_promote: bool, publishing: Mapping[str, str] | None = None) -> str:
    """A card for each version; `publishing` maps the names of those that can be published to their state on the Hub."""
    if not versions:
        return NO_VERSIONS
    cards = (_version_html(one, can_promote, (publishing or {}).get(one.name)) for one in versions)
    return f'<div class="lt-versions">{"".join(cards)}</div>'


def _version_html(one: Version, can_promote: bool, published: str | None) -> str:
    badge = '<span class="lt-badge lt-good">Served now</span>' if one.is_served else ""
    buttons = ""
    if can_promote and not one.is_served and not one.problem:
        buttons = _button("promote", one.name, "Promote", f"Promote {escape(one.name, 120)}")
    if published is not None:
        buttons += _button("publish", one.name, "Publish", f"Publish {escape(one.name, 120)}")
    hub = f'<p class="lt-quiet">{escape(published)}</p>' if published else ""
    problem = f'<p class="lt-note lt-warn">{escape(one.problem)}</p>' if one.problem else ""
    verdict = f'<p class="lt-verdict">{escape(one.verdict)}</p>' if one.verdict else ""
    head = f'<div class="lt-version-head"><h2>{escape(one.name, 120)}</h2>{badge}{buttons}</div>'
    return (
        f'<article class="lt-version">{head}<p class="lt-quiet">{_origin(one)}</p>{hub}{problem}{verdict}'
        f"{_figures(one)}</article>"
    )


def _button(act: str, adapter: str, label: str, name: str = "") -> str:
    kind = "lt-act lt-primary" if act == "promote" else "lt-act"
    aria = f' aria-label="{name}"' if name else ""
    return (
        f'<button type="button" class="{kind}" data-act="{act}" data-adapter="{escape(adapter, 200)}"{aria}>'
        f"{label}</button>"
    )


def _origin(one: Version) -> str:
    parts = [_ORIGINS[one.origin]]
    if one.origin == "promoted" and one.promoted_at:
        by = f" by {escape(one.promoted_by, 200)}" if one.promoted_by else ""
        parts[0] += f" {escape(one.promoted_at, 40)}{by}"
    if one.run:
        parts.append(f"run {escape(one.run, 80)}")
    if one.is_before:
        parts.append("served before the current one")
    return " · ".join(parts)


def _figures(one: Version) -> str:
    """Evaluation and comparison, folded; without them, the command that makes an evaluation."""
    tables = _evaluation(one.path) + _comparison(one.comparison)
    if not tables:
        command = f"python -m training evaluate --run {escape(one.run or '', 80)}"
        how = f" Evaluate it with <code>{command}</code>." if one.run and one.origin == "run" else ""
        return f'<p class="lt-quiet">It has not been evaluated.{how}</p>'
    rows = f" on {one.record.num_rows:,} problems" if one.record and one.record.num_rows else ""
    summary = f"{escape(one.scores, 100)}{rows}" if one.scores else "Figures"
    return f'<details class="lt-fold" data-key="{escape(one.name, 120)}"><summary>{summary}</summary>{tables}</details>'


def _evaluation(folder: Path) -> str:
    try:
        state = (folder / RECORD_FILE).stat()
    except OSError:
        return ""
    return _evaluation_table(folder, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=256)
def _evaluation_table(folder: Path, modified: int, size: int) -> str:
    """Adapter and base on the test problems, with the thinking prompt, for a file in one state."""
    conditions = mapping(evaluation_of(folder).get("conditions"))
    names = "adapter-thinking", "base-thinking"
    scores = [mapping(mapping(conditions.get(name)).get("overall")) for name in names]
    rows = [
        (METRICS[name].label, [_share(score.get(name)) for score in scores])
        for name in EVALUATED
        if any(score.get(name) for score in scores)
    ]
    return _table("On test problems", ("This adapter", "Base alone"), rows)


def _comparison(comparison: Mapping[str, object]) -> str:
    """Against the adapter that was served when its run ended, on the validation problems."""
    new, served, differences = (
        mapping(comparison.get(name)) for name in ("new_scores", "served_scores", "differences")
    )
    rows = [
        (METRICS[name].label, [_share(new.get(name)), _share(served.get(name)), _points(differences.get(name))])
        for name in EVALUATED
        if differences.get(name)
    ]
    against = mapping(comparison.get("served")).get("name") or "The served one"
    count = comparison.get("num_rows")
    on = f"On {count:,} validation problems" if type(count) is int else "On validation problems"
    return _table(f"{on}, when its run ended", ("This adapter", escape(against, 80), "Difference in points"), rows)


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
