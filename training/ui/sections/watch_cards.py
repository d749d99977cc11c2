"""The cards of Watch as HTML: a run's state and stages, its figures, its result, its diagnosis and its log.

All texts come from files that somebody may have edited, from a model, or from the Hub: they are escaped and cut.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from inference.adapters.catalog import Version
from inference.adapters.record import evaluation_of
from inference.common.html import escape
from inference.common.settings import Settings
from training.hub.publish.queue import publish_words
from training.hub.space.prices import dollars
from training.runs.diagnosis import WINDOW, Finding
from training.runs.metrics import COOKBOOK, CURVES, METRICS, is_number
from training.runs.processes import Identity, memory_used
from training.runs.record import RunRecord
from training.runs.snapshot import Snapshot
from training.ui.base.html import capitalised, duration, finite, mapping, time_html
from training.ui.base.plots import curves_plot
from training.ui.sections.evaluation_tables import BASE, comparison_table, evaluation_table, verdict_html

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
"""For each status: its word on the page, and its colour."""
_DEFAULT_REASONS = {
    "queued": "It starts as soon as the runs before it have ended.",
    "starting": "The base and the data are being loaded; the first step follows.",
    "running": "The trainer has begun.",
    "stopping": "It ends after the current step, with a checkpoint that it can resume from.",
    "succeeded": "Its adapter is under Adapters.",
    "cancelled": "It can be resumed under Runs.",
    "interrupted": "It can be resumed under Runs.",
    "failed": "The log below has more details. It can be resumed under Runs.",
    "lost": "Its process and its files are gone.",
}
"""The sentence for a status without a reason."""
NO_RUNS = (
    '<div class="lt-empty"><h2>Nothing has been trained yet</h2><p>Choose what to train under Start. While a run '
    "trains, its curves, its problems and the model's answers can be watched here.</p></div>"
)
MAX_LOG_CHARS = 20_000
STAGES = {
    "reading the data": "Data",
    "loading the model": "Model",
    "training": "Training",
    "choosing the checkpoint": "Checkpoint",
    "evaluating the adapter": "Evaluation",
    "recording what training changed": "Record",
    "comparing it with the served adapter": "Comparison",
}
"""By the trainer's words for a stage, its name on the page, in their order."""
_OPTIONAL = ("choosing the checkpoint",)
"""Stages that not every run has: shown only while they last."""


def result_html(version: Version, settings: Settings, record: RunRecord, told: str = "") -> str:
    """Of a run that is done: what its training changed, against the base and the served adapter, and what to do.

    `told` is what its adapter said when it was promoted, as HTML.
    """
    name = quote(version.name, "")
    if version.is_served:
        state = "Its adapter answers visitors now."
    elif version.problem:
        state = f"Its adapter cannot answer here. {escape(version.problem)}"
    elif settings.adapter_is_pinned:
        state = "Its adapter can answer once the app is started without LOOKTHINK_ADAPTER."
    else:
        state = "Its adapter does not answer visitors yet."
    buttons = ""
    if not version.problem:
        buttons += f'<a class="lt-act" href="#/ask/{name}">Try it</a>'
        buttons += f'<a class="lt-act" href="#/compare/{name}">Compare it with the base</a>'
        if not version.is_served and not settings.adapter_is_pinned:
            buttons += _button("promote", record.id, "Put it into service", "lt-primary")
    if publish_target(record, settings):
        buttons += _button("publish", record.id, "Publish")
    tables = evaluation_table(version.path) + comparison_table(version.comparison)
    against = f'<p class="lt-verdict">{escape(version.verdict)}</p>' if version.verdict else ""
    return (
        f'<section class="lt-result" aria-label="Result of the run"><h3>Result</h3>{verdict_html(version.path)}'
        f'{against}<p class="lt-run-reason" data-part="served">{state}</p><p class="lt-own-acts">{buttons}</p>{told}'
        f"{tables}</section>"
    )


def publish_target(record: RunRecord, settings: Settings) -> str | None:
    """The repository that Publish sends the run's adapter to; `None` if neither run nor settings name one."""
    try:
        return record.run_config.publish_to or settings.training.publish_to
    except ValueError:  # a configuration of another version
        return None


def _button(act: str, run_id: str, label: str, kind: str = "") -> str:
    return (
        f'<button type="button" class="lt-act {kind}" data-act="{act}" data-run="{escape(run_id, 80)}">{label}</button>'
    )


def status_html(record: RunRecord, now: Snapshot, result: str = "") -> str:
    """State, reason, progress and the most important figures; `result` is `result_html`."""
    word, kind = STATES.get(now.status, (now.status, "quiet"))
    return (
        f'<section class="lt-run-card" aria-label="State of the run">'
        f'<div class="lt-run-head"><h2 class="lt-run-state lt-{kind}" data-status="{escape(now.status, 20)}">'
        f'<span class="lt-dot" aria-hidden="true"></span>{escape(word, 20)}</h2>'
        f'<p class="lt-run-name">{escape(record.id, 80)}</p></div>{_described(record)}'
        f"{_reason(now)}{_stages(now)}{_progress(now)}{_publishing(record)}"
        f'<dl class="lt-run-facts">{_facts(record, now)}</dl>{_cancel(record, now)}{result}</section>'
    )


def _described(record: RunRecord) -> str:
    """The name and the note that somebody gave it."""
    title = f"<strong>{escape(record.title, 80)}</strong> " if record.title else ""
    return f'<p class="lt-run-reason">{title}{escape(record.note, 2000)}</p>' if title or record.note else ""


def _stages(now: Snapshot) -> str:
    """The stages of a run that is under way, the present one marked."""
    present = next((stage for stage in STAGES if now.stage.startswith(stage)), None)
    if present is None:
        return ""
    shown = [stage for stage in STAGES if stage not in _OPTIONAL or stage == present]
    at = shown.index(present)
    items = "".join(
        f'<li data-state="{"done" if i < at else "now" if i == at else "next"}"'
        f"{' aria-current=step' if i == at else ''}>{STAGES[stage]}</li>"
        for i, stage in enumerate(shown)
    )
    return f'<ol class="lt-stages" aria-label="Stages">{items}</ol>'


def _cancel(record: RunRecord, now: Snapshot) -> str:
    """The button that ends a run which is under way."""
    if now.status not in ("starting", "running"):
        return ""
    button = _button("cancel", record.id, "Cancel the run")
    return f'<p class="lt-own-acts">{button}<span class="lt-quiet">It keeps a checkpoint and can be resumed.</span></p>'


def choice_label(record: RunRecord) -> str:
    """The label of a run in the dropdown; not escaped."""
    word, _ = STATES.get(record.status, (record.status, ""))
    return f"{record.title or record.id} · {word.lower()}"


def plots_html(now: Snapshot, adapter: Path | None = None) -> str:
    """The curves; one without data says so. The evaluation of `adapter` has the base's values."""
    names = [name for name in CURVES if name in now.curves or name not in COOKBOOK]
    base: Mapping[str, object] = {}
    if adapter is not None:
        base = mapping(mapping(mapping(evaluation_of(adapter).get("conditions")).get(BASE)).get("overall"))
    plots = ""
    for name in names:
        metric = METRICS[name]
        level = finite(mapping(base.get(metric.evaluated)).get("value")) if metric.evaluated else None
        plots += curves_plot({name: now.curves.get(name, [])}, metric, level)
    return f'<section class="lt-plots" aria-label="Curves of the run">{plots}</section>'


def findings_html(findings: Sequence[Finding], steps: int) -> str:
    """The diagnosis in words."""
    if not findings:
        words = "No problems found." if steps else "The diagnosis begins with the first step."
        if 0 < steps < WINDOW:
            words = f"No problems found so far. Most of them show only after {WINDOW} steps."
        return f'<section class="lt-diagnosis"><h2>Diagnosis</h2><p class="lt-quiet">{words}</p></section>'
    items = "".join(
        f"<li><strong>{escape(finding.name.capitalize(), 100)}</strong><p>{_sentence(finding.seen)}</p>"
        f"<p><b>What to do:</b> {escape(finding.remedy)}</p></li>"
        for finding in findings
    )
    return f'<section class="lt-diagnosis" role="status"><h2>Diagnosis</h2><ul>{items}</ul></section>'


def log_html(log: str) -> str:
    """The end of the log; of a progress bar that overwrites itself, only the last state."""
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in log[-MAX_LOG_CHARS:].split("\n")]
    text = escape("\n".join(lines).strip("\n"), MAX_LOG_CHARS)
    if not text:
        return '<p class="lt-quiet">The log is empty so far.</p>'
    return f'<pre class="lt-log" tabindex="0" role="group" aria-label="Log, its last lines">{text}</pre>'


def _sentence(text: str) -> str:
    return escape(capitalised(text))


def _reason(now: Snapshot) -> str:
    """The reason for the status, and what the trainer is doing."""
    reason = now.reason or ("" if now.stage else _DEFAULT_REASONS.get(now.status, ""))
    parts = [_sentence(reason)] if reason else []
    parts += [f"Now: {escape(now.stage)}."] if now.stage else []
    return f'<p class="lt-run-reason">{" ".join(parts)}</p>' if parts else ""


def _publishing(record: RunRecord) -> str:
    """The state of publishing; part of these words come from the Hub."""
    try:
        publish_to = record.run_config.publish_to
    except ValueError:  # a configuration of another version
        publish_to = None
    words = publish_words(record.folder, publish_to)
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
    """Names and values; an unknown value says what would make it known."""
    facts = [("Step", f"{now.step:,} of {now.max_steps:,}" if now.max_steps else f"{now.step:,}")]
    if now.status in ("starting", "running", "stopping"):
        facts.append(("Time left", _time_left(now)))
        facts += _usage(record)
        copied_at = record.job.get("copied_at")
        if isinstance(copied_at, int | float):
            facts.append(("Figures from", f"{duration(max(0.0, time.time() - copied_at))} ago"))
    spent, limit = (None if hours is None else duration(3600 * hours) for hours in (now.hours, record.max_hours))
    facts.append(("Time spent", _of(spent, limit)))
    if record.dollars_per_hour is None:
        facts.append(("Money spent", "unknown: no price per hour was given"))
    else:
        facts.append(("Money spent", _of(dollars(now.cost_dollars), dollars(record.max_dollars))))
    if now.dropped:
        facts.append(("Rows left out", now.dropped))
    facts.append(("Started by", record.asked_by or "unknown"))
    shown = "".join(f"<div><dt>{name}</dt><dd>{escape(value, 200)}</dd></div>" for name, value in facts)
    return f"{shown}<div><dt>Started</dt><dd>{time_html(record.asked_at)}</dd></div>"


def _time_left(now: Snapshot) -> str:
    if now.seconds_left is None:
        return "not known before the data is read"
    return "longer than estimated" if now.seconds_left <= 0 else f"about {duration(now.seconds_left)}"


def _usage(record: RunRecord) -> list[tuple[str, str]]:
    """Memory and GPUs of the machine or the Job, as last seen."""
    if record.launcher == "job":
        usage = mapping(record.job.get("usage"))
    else:
        process = {"pid": record.pid, "created": record.pid_created, "boot_id": record.boot_id}
        usage = {"memory": memory_used(Identity.from_json(process))}
    gpus, shares = usage.get("gpus"), usage.get("gpu_shares")
    facts = [("Memory", _gigabytes(usage.get("memory")))]
    facts += [("GPU memory", _gigabytes(gpu)) for gpu in (gpus if isinstance(gpus, list) else [])[:8]]
    busy = [share for share in (shares if isinstance(shares, list) else []) if is_number(share)]
    facts += [("GPU in use", ", ".join(f"{100 * share:.0f} %" for share in busy[:8]))] if busy else []
    return [(name, words) for name, words in facts if words]


def _gigabytes(pair: object) -> str:
    if not isinstance(pair, list) or len(pair) != 2 or not all(map(is_number, pair)):
        return ""
    return f"{pair[0] / 1e9:.1f} of {pair[1] / 1e9:.0f} GB"


def _of(value: str | None, limit: str | None) -> str:
    """A figure, and the budget it counts against."""
    return (value or "none yet") + (f" of {limit}" if limit else "")
