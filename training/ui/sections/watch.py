"""The Watch section: a run's state, curves, diagnosis, log and newest answers."""

from __future__ import annotations

import time
from collections.abc import Sequence

import gradio as gr

from inference.adapters.catalog import Version, adapter_versions
from inference.adapters.served import promote
from inference.common.errors import UserError
from inference.common.html import escape
from inference.common.settings import Settings
from inference.ui.components import LiveDropdown
from training.admin.access import Caller
from training.hub.publish.queue import publish_words
from training.hub.space.prices import dollars
from training.runs.diagnosis import WINDOW, Finding
from training.runs.metrics import COOKBOOK, CURVES, METRICS
from training.runs.record import RunRecord
from training.runs.snapshot import Snapshot
from training.ui.base.context import Context, Part, Section
from training.ui.base.html import capitalised, duration, moment
from training.ui.base.plots import curves_plot
from training.ui.sections.rollout_cards import rollouts_html

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
NEWEST = ("The active run, or the newest", "")
_PROMOTE = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-run]');
  if (button) trigger('submit', { run: button.dataset.run });
});
"""
_KEEP_END = """
let isAtEnd = true;
const log = () => element.querySelector('.lt-log');
const toEnd = () => { if (log() && isAtEnd) log().scrollTop = log().scrollHeight; };
element.addEventListener('scroll', (event) => {
  const pre = event.target;
  if (pre === log()) isAtEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 40;
}, true);
watch('value', toEnd);
toEnd();
"""
"""The log stays at its end while it grows, unless the reader has scrolled up."""
_KEEP_FOLDED = """
const folded = {};
element.addEventListener('click', (event) => {
  const group = event.target.closest('summary')?.parentElement;
  if (group) folded[[...element.querySelectorAll('.lt-group')].indexOf(group)] = group.open;
});
watch('value', () => element.querySelectorAll('.lt-group').forEach((group, index) => {
  if (index in folded) group.open = !folded[index];
}));
"""
"""Groups that the reader folded or unfolded stay so when newer ones replace them. (A click comes before the change.)"""


def build_watch(context: Context, note: gr.Textbox) -> Section:
    """Build the section, inside its sub-tab; nothing of a run is in it before `refresh`."""
    with gr.Column(elem_id="lt-watch"):
        chosen = LiveDropdown([NEWEST], value="", label="Run", filterable=False, elem_id="watch-run")
        status = gr.HTML(js_on_load=_PROMOTE, elem_id="watch-status")
        plots = gr.HTML(js_on_load=None, elem_id="watch-plots")
        findings = gr.HTML(js_on_load=None, elem_id="watch-findings")
        with gr.Column(visible=False, elem_classes="lt-details") as details:
            with gr.Row(elem_classes="lt-section-head"):
                gr.HTML("<h2>Newest answers</h2>", js_on_load=None)
                follows = gr.Checkbox(True, label="Follow the newest", container=False, elem_id="watch-follow")
            rollouts = gr.HTML(js_on_load=_KEEP_FOLDED, elem_id="watch-rollouts")
            gr.HTML("<h2>Log</h2>", js_on_load=None)
            log = gr.HTML(js_on_load=_KEEP_END, elem_id="watch-log")

    def refresh(caller: Caller, run_id: object, follow: object) -> list[object]:
        """Values of the run with that id, or else of the active or newest one."""
        records = context.store.list()
        record = next((record for record in records if record.id == run_id), None)
        choices = [NEWEST, *((choice_label(one), one.id) for one in records)]
        choice = gr.update(choices=choices, value=record.id if record else "")
        record = record or _newest(records)
        if record is None:
            return [choice, NO_RUNS, "", "", gr.update(visible=False), "", ""]
        now = context.snapshot(record)
        return [
            choice,
            status_html(record, now, result_html(record, context.settings)),
            plots_html(now),
            findings_html(now.findings, now.step),
            gr.update(visible=True),
            Part(rollouts_html(now.groups), about=record.id, is_held=follow is False),
            log_html(now.log),
        ]

    outputs = [chosen, status, plots, findings, details, rollouts, log]
    section = Section("watch", context, note, [chosen, follows], outputs, refresh)
    section.on(chosen.input, refresh)
    section.on(follows.input, refresh)

    def serve(caller: Caller, event: gr.EventData, run_id: object, follow: object) -> list[object]:
        """Put the adapter of the run into service whose button was pressed."""
        version = result_of(str(getattr(event, "run", "")), context.settings)
        if version is None:
            raise UserError("The adapter of that run is no longer here. Look under Adapters.")
        promote(context.settings.home, version.path, caller.name, settings=context.settings)
        context.refresh_served()
        return refresh(caller, run_id, follow)

    section.on(status.submit, serve, with_event=True, promotes=True, trigger_mode="once")
    return section


def result_of(run_id: str, settings: Settings) -> Version | None:
    """The adapter that a run has made, as it is on this machine; `None` if there is none."""
    return next((one for one in adapter_versions(settings) if one.run == run_id), None)


def result_html(record: RunRecord, settings: Settings) -> str:
    """Of a run that is done: that its adapter answers, the button that lets it answer, or why it cannot."""
    if record.status != "succeeded" or (version := result_of(record.id, settings)) is None:
        return ""
    if version.is_served:
        return '<p class="lt-run-reason" data-part="served">Its adapter answers visitors now.</p>'
    if version.problem:
        return (
            f'<p class="lt-run-reason" data-part="served">Its adapter cannot answer here. {escape(version.problem)}</p>'
        )
    if settings.adapter_is_pinned:
        words = "Its adapter can answer once the app is started without LOOKTHINK_ADAPTER."
        return f'<p class="lt-run-reason" data-part="served">{words}</p>'
    return (
        '<p class="lt-run-reason" data-part="served">Its adapter does not answer visitors yet. <button type="button" '
        f'class="lt-act lt-primary" data-run="{escape(record.id, 80)}">Put it into service</button></p>'
    )


def status_html(record: RunRecord, now: Snapshot, result: str = "") -> str:
    """State, reason, progress and the most important figures; `result` is `result_html`."""
    word, kind = STATES.get(now.status, (now.status, "quiet"))
    return (
        f'<section class="lt-run-card" aria-label="State of the run">'
        f'<div class="lt-run-head"><h2 class="lt-run-state lt-{kind}" data-status="{escape(now.status, 20)}">'
        f'<span class="lt-dot" aria-hidden="true"></span>{escape(word, 20)}</h2>'
        f'<p class="lt-run-name">{escape(record.id, 80)}</p></div>'
        f"{_reason(now)}{_progress(now)}{_publishing(record)}{result}"
        f'<dl class="lt-run-facts">{_facts(record, now)}</dl></section>'
    )


def choice_label(record: RunRecord) -> str:
    """The label of a run in the dropdown; not escaped."""
    word, _ = STATES.get(record.status, (record.status, ""))
    return f"{record.id} · {word.lower()}"


def plots_html(now: Snapshot) -> str:
    """The curves; one without data says so."""
    names = [name for name in CURVES if name in now.curves or name not in COOKBOOK]
    plots = (curves_plot({name: now.curves.get(name, [])}, METRICS[name]) for name in names)
    return f'<section class="lt-plots" aria-label="Curves of the run">{"".join(plots)}</section>'


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
        seconds_left = now.seconds_left
        facts.append(("Time left", "not known yet" if seconds_left is None else f"about {duration(seconds_left)}"))
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
    facts.append(("Started by", f"{record.asked_by or 'unknown'}, {moment(record.asked_at)}"))
    return "".join(f"<div><dt>{name}</dt><dd>{escape(value, 200)}</dd></div>" for name, value in facts)


def _of(value: str | None, limit: str | None) -> str:
    """A figure, and the budget it counts against."""
    return (value or "none yet") + (f" of {limit}" if limit else "")


def _newest(records: list[RunRecord]) -> RunRecord | None:
    """The active run, else the newest one."""
    return next((record for record in records if record.is_active), records[0] if records else None)
