"""The adapters as HTML: the served one, and a card for each version with its evaluation and its comparison.

Names, verdicts and figures come from files that somebody may have edited: all is escaped, and a value that is not a
figure is left out. A button carries its action in `data-act` and `data-adapter`; `adapters` handles the click.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from inference.adapters.catalog import Version
from inference.adapters.served import Serving
from inference.adapters.shown import MAX_TITLE_CHARS, Shown
from inference.common.html import escape
from inference.common.settings import STARTER_NAME, base_source
from inference.model.lora_file import CONFIG_FILE
from inference.server.shares import Share, Shares
from training.hub.publish.merged import merge_command, vllm_line
from training.ui.base.html import iso_html, time_html
from training.ui.sections.evaluation_tables import comparison_table, evaluation_table

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
MAX_SHARES = 200
"""Shared answers that the page lists."""
PINNED = "LOOKTHINK_ADAPTER is set, so its adapter is served. Start the app without it to promote or roll back."


def serving_html(now: Serving, before: str | None) -> str:
    """The served adapter, since when and by whom; `before` is the name of the one that a roll back returns to."""
    since = f"since {iso_html(now.since)}" if now.since else ""
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


@dataclass(frozen=True)
class CardFacts:
    """The facts about this machine that the cards show."""

    can_promote: bool = True
    publishing: Mapping[str, str] = field(default_factory=dict)
    """By the names of adapters that can be published, their state on the Hub."""
    shown: Shown = field(default_factory=Shown)
    base: str = STARTER_NAME
    licence: str = ""
    """The licence of the base, in a sentence."""
    can_merge: bool = False
    """True if the base is small enough to be merged for a download."""
    deletable: frozenset[str] = frozenset()
    told: Mapping[str, str] = field(default_factory=dict)
    """By the names of adapters that were asked what broke, what they said, as HTML."""


def versions_html(versions: Sequence[Version], facts: CardFacts) -> str:
    """A card for each version."""
    if not versions:
        return NO_VERSIONS
    cards = (_version_html(one, facts) for one in versions)
    return f'<div class="lt-versions">{"".join(cards)}</div>'


def shared_html(shares: Shares) -> str:
    """A fold with the answers that visitors shared, the newest first, each with a button that deletes it; empty where
    sharing is off and nothing is left."""
    found, settings = list(shares.newest()), shares.settings
    if not found and not settings.allowed:
        return ""
    state = "" if settings.allowed else " Sharing is off (sharing.allowed in space.yaml): no address opens."
    items = "".join(_share_html(share_id, share, settings.allowed) for share_id, share in found[:MAX_SHARES])
    more = f" The newest {MAX_SHARES} of {len(found):,}." if len(found) > MAX_SHARES else ""
    room = f"{shares.num_bytes() / 1e6:.1f} of {settings.megabytes:,} MB, each for at most {settings.days} days."
    return (
        f'<details class="lt-fold" data-key="shared answers"><summary>Shared answers ({len(found):,})</summary>'
        f'<p class="lt-quiet">{room}{state}{more}</p><ul>{items}</ul></details>'
    )


def _share_html(share_id: str, share: Share, is_open: bool) -> str:
    question, when = escape(share.answer.question, 160), time_html(share.created)
    link = f'<a href="?share={share_id}" target="_blank" rel="noopener">{question}</a>' if is_open else question
    facts = f"{when} · {escape(share.answer.title, 120)}"
    delete = _button("delete shared", share_id, "Delete…", f"Delete the shared answer to: {question}")
    return f'<li><p>{link} <span class="lt-quiet">{facts}</span></p><p class="lt-own-acts lt-delete">{delete}</p></li>'


def _version_html(one: Version, facts: CardFacts) -> str:
    title = facts.shown.title(one.name)
    badge = '<span class="lt-badge lt-good">Served now</span>' if one.is_served else ""
    if one.name in facts.shown.names and not one.is_served:
        badge = '<span class="lt-badge">Visitors see it</span>'
    buttons, published = "", facts.publishing.get(one.name)
    if facts.can_promote and not one.is_served and not one.problem:
        buttons = _button("promote", one.name, "Promote", f"Promote {escape(title, 120)}")
    if published is not None:
        buttons += _button("publish", one.name, "Publish", f"Publish {escape(title, 120)}")
    own = f"{escape(one.name, 120)} · " if title != one.name else ""
    hub = f'<p class="lt-quiet">{escape(published)}</p>' if published else ""
    problem = f'<p class="lt-note lt-warn">{escape(one.problem)}</p>' if one.problem else ""
    verdict = f'<p class="lt-verdict">{escape(one.verdict)}</p>' if one.verdict else ""
    link = f'<a href="#/train/adapters/{quote(one.name, "")}">{escape(title, 120)}</a>'
    head = f'<div class="lt-version-head"><h2>{link}</h2>{badge}{buttons}</div>'
    return (
        f'<article class="lt-version">{head}<p class="lt-quiet">{own}{_origin(one)}</p>{hub}{problem}{verdict}'
        f"{_figures(one)}{facts.told.get(one.name, '')}{_more(one, facts)}</article>"
    )


def _more(one: Version, facts: CardFacts) -> str:
    """Folded: its name on the page, whether visitors see it, its files, the commands for other programs, deletion."""
    title, name = escape(facts.shown.title(one.name), 120), escape(one.name, 200)
    rename = (
        f'<p class="lt-own-acts"><label>Name on the page <input type="text" data-title="{name}" value="{title}" '
        f'maxlength="{MAX_TITLE_CHARS}"></label>{_button("rename", one.name, "Save the name")}</p>'
    )
    acts = ""
    if not one.problem and not one.is_served:
        is_shown = one.name in facts.shown.names
        acts += _button(
            "hide" if is_shown else "show", one.name, "Hide from visitors" if is_shown else "Show to visitors"
        )
    if not one.problem:
        acts += _button("ask pinned", one.name, "Ask the pinned questions")
    files = ""
    if (one.path / CONFIG_FILE).is_file():
        acts += _button("download", one.name, "Download the adapter")
        lines = f"{vllm_line(base_source(facts.base), one.name, one.path)}\n{merge_command(str(one.path))}"
        merge = _button("merge", one.name, "Download merged weights") if facts.can_merge and not one.problem else ""
        files = (
            f'<p class="lt-quiet">For vLLM, and for merged weights (base and adapter as one model). '
            f'{escape(facts.licence)}</p><pre class="lt-command" tabindex="0" role="group" aria-label="Commands">'
            f'{escape(lines)}</pre><p class="lt-own-acts">{merge}</p>'
        )
    delete = ""
    if one.name in facts.deletable:
        delete = f'<p class="lt-own-acts lt-delete">{_button("delete", one.name, "Delete…", f"Delete {title}")}</p>'
    return (
        f'<details class="lt-fold" data-key="{name} more"><summary>Name, visitors and files</summary>{rename}'
        f'<p class="lt-own-acts">{acts}</p>{files}{delete}</details>'
    )


def _button(act: str, adapter: str, label: str, name: str = "") -> str:
    kind = "lt-act" + {"promote": " lt-primary", "delete": " lt-danger", "delete shared": " lt-danger"}.get(act, "")
    aria = f' aria-label="{name}"' if name else ""
    return (
        f'<button type="button" class="{kind}" data-act="{act}" data-adapter="{escape(adapter, 200)}"{aria}>'
        f"{label}</button>"
    )


def _origin(one: Version) -> str:
    parts = [_ORIGINS[one.origin]]
    if one.origin == "promoted" and one.promoted_at:
        by = f" by {escape(one.promoted_by, 200)}" if one.promoted_by else ""
        parts[0] += f" {iso_html(one.promoted_at)}{by}"
    if one.run:
        parts.append(f"run {escape(one.run, 80)}")
    if one.is_before:
        parts.append("served before the current one")
    return " · ".join(parts)


def _figures(one: Version) -> str:
    """Evaluation and comparison, folded; without them, the command that makes an evaluation."""
    tables = evaluation_table(one.path) + comparison_table(one.comparison)
    if not tables:
        command = f"python -m training evaluate --run {escape(one.run or '', 80)}"
        how = f" Evaluate it with <code>{command}</code>." if one.run and one.origin == "run" else ""
        return f'<p class="lt-quiet">It has not been evaluated.{how}</p>'
    rows = f" on {one.record.num_rows:,} problems" if one.record and one.record.num_rows else ""
    summary = f"{escape(one.scores, 100)}{rows}" if one.scores else "Figures"
    return f'<details class="lt-fold" data-key="{escape(one.name, 120)}"><summary>{summary}</summary>{tables}</details>'
