"""What Watch shows of a run, as HTML: how it stands, its curves, what is wrong with it, and its log."""

from __future__ import annotations

from collections.abc import Sequence

from training.hub.publish.words import publish_words
from training.runs.diagnosis import Finding
from training.runs.record import RunRecord
from training.runs.snapshot import Snapshot
from training.ui.base.html import dollars, duration, escape, moment
from training.ui.base.plots import curves_plot

PLOTS = {
    "reward": ("Reward", ""),
    "format": ("In the format", "%"),
    "accuracy": ("Right in its tags", "%"),
    "completion_tokens": ("Completion length", "tokens"),
    "zero_std_share": ("Groups without a signal", "%"),
    "loss": ("Loss", ""),
}
"""For the names of `training.runs.snapshot.CURVES`: title and unit."""
STATES = {
    "queued": ("Waiting", "wait"),
    "starting": ("Starting", "busy"),
    "running": ("Running", "busy"),
    "stopping": ("Stopping", "busy"),
    "succeeded": ("Done", "good"),
    "failed": ("Failed", "bad"),
    "cancelled": ("Cancelled", "quiet"),
    "interrupted": ("Interrupted", "warn"),
    "lost": ("Lost", "bad"),
}
"""For each status: its word on the page, and how it is coloured."""
_WHEN_SILENT = {
    "queued": "It starts as soon as the runs before it have ended.",
    "starting": "The base and the data are being loaded; the first step follows.",
    "running": "The trainer has begun.",
    "stopping": "It ends after the step it is in, with a checkpoint to go on from.",
    "succeeded": "Its adapter is under Adapters.",
    "cancelled": "It can be resumed under Runs.",
    "interrupted": "It can be resumed under Runs.",
    "failed": "The log below says more. It can be resumed under Runs.",
    "lost": "Its process and its files are gone.",
}
"""What is said of a status that came without a reason."""
NO_RUNS = (
    '<div class="lt-empty"><h2>Nothing has been trained yet</h2><p>Choose what to train under Start. While it trains, '
    "its curves, what goes wrong and what the model writes can be watched here.</p></div>"
)
MAX_LOG_CHARS = 20_000


def status_html(record: RunRecord, now: Snapshot) -> str:
    """State, reason, progress and the figures that everybody asks for first."""
    word, kind = STATES.get(now.status, (now.status, "quiet"))
    return (
        f'<section class="lt-run-card" aria-label="How the run stands">'
        f'<div class="lt-run-head"><h2 class="lt-run-state lt-{kind}" data-status="{escape(now.status, 20)}">'
        f'<span class="lt-dot" aria-hidden="true"></span>{escape(word, 20)}</h2>'
        f'<p class="lt-run-name">{escape(record.id, 80)}</p></div>'
        f'{_reason(now)}{_progress(now)}{_publishing(record)}<dl class="lt-run-facts">{_facts(record, now)}</dl></section>'
    )


def choice_label(record: RunRecord) -> str:
    """A run in the list to choose from; not escaped."""
    word, _ = STATES.get(record.status, (record.status, ""))
    return f"{record.id} · {word.lower()}"


def plots_html(now: Snapshot) -> str:
    """The six curves; a curve without figures says so."""
    plots = (curves_plot({name: now.curves.get(name, [])}, *PLOTS[name]) for name in PLOTS)
    return f'<section class="lt-plots" aria-label="Curves of the run">{"".join(plots)}</section>'


def findings_html(findings: Sequence[Finding], steps: int) -> str:
    """The diagnosis in words."""
    if not findings:
        words = "Nothing wrong was found." if steps else "The diagnosis begins with the first step."
        return f'<section class="lt-diagnosis"><h2>Diagnosis</h2><p class="lt-quiet">{words}</p></section>'
    items = "".join(
        f"<li><strong>{escape(finding.name.capitalize(), 100)}</strong><p>{_sentence(finding.seen)}</p>"
        f"<p><b>What to do:</b> {escape(finding.remedy)}</p></li>"
        for finding in findings
    )
    return f'<section class="lt-diagnosis" role="status"><h2>Diagnosis</h2><ul>{items}</ul></section>'


def log_html(log: str) -> str:
    """The tail of the log; a bar that was drawn over itself stands there once, as it was last."""
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in log[-MAX_LOG_CHARS:].split("\n")]
    text = escape("\n".join(lines).strip("\n"), MAX_LOG_CHARS)
    if not text:
        return '<p class="lt-quiet">The log is empty so far.</p>'
    return f'<pre class="lt-log" tabindex="0" role="group" aria-label="Log, its last lines">{text}</pre>'


def _sentence(text: str) -> str:
    return escape(text[:1].upper() + text[1:])


def _reason(now: Snapshot) -> str:
    """Why it stands so, and what the trainer is doing."""
    reason = now.reason or ("" if now.stage else _WHEN_SILENT.get(now.status, ""))
    parts = [_sentence(reason)] if reason else []
    parts += [f"Now: {escape(now.stage)}."] if now.stage else []
    return f'<p class="lt-run-reason">{" ".join(parts)}</p>' if parts else ""


def _publishing(record: RunRecord) -> str:
    """What the Hub has of it; part of what is said there comes from the Hub."""
    words = publish_words(record.folder, _publish_to(record))
    return f'<p class="lt-run-reason" data-part="publishing">{escape(words)}</p>' if words else ""


def _progress(now: Snapshot) -> str:
    if not now.max_steps:
        return ""
    share = 100 * min(1.0, max(0.0, now.step / now.max_steps))
    return (
        f'<div class="lt-progress" role="progressbar" aria-label="Steps done" aria-valuemin="0" '
        f'aria-valuemax="{now.max_steps}" aria-valuenow="{now.step}"><i style="width:{share:.1f}%"></i></div>'
    )


def _facts(record: RunRecord, now: Snapshot) -> str:
    """Names and values; what is not known says so, with what would make it known."""
    is_active = now.status in ("starting", "running", "stopping")
    facts = [("Step", f"{now.step:,} of {now.max_steps:,}" if now.max_steps else f"{now.step:,}")]
    if is_active:
        left = now.seconds_left
        facts.append(("Time left", "not known yet" if left is None else f"about {duration(left)}"))
    facts.append(("Time spent", _of("" if now.hours is None else duration(3600 * now.hours), _hours(record.max_hours))))
    facts.append(("Spent", _spend(record, now)))
    asked = f"{record.asked_by or 'unknown'}, {moment(record.asked_at)}"
    facts.append(("Asked for by", asked))
    return "".join(f"<div><dt>{name}</dt><dd>{escape(value, 200)}</dd></div>" for name, value in facts)


def _hours(hours: float | None) -> str:
    return "" if hours is None else duration(3600 * hours)


def _of(value: str, limit: str) -> str:
    """A figure, and the budget it counts against."""
    return (value or "none yet") + (f" of {limit}" if limit else "")


def _spend(record: RunRecord, now: Snapshot) -> str:
    if record.dollars_per_hour is None:
        return "unknown: no price an hour was given"
    return _of(dollars(now.cost_dollars) or "", dollars(record.max_dollars) or "")


def _publish_to(record: RunRecord) -> str | None:
    try:
        return record.run_config.publish_to
    except ValueError:  # a configuration of another version
        return None
