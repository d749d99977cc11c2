"""The Watch section: a run's state, curves, diagnosis, log and newest answers."""

from __future__ import annotations

import gradio as gr

from inference.ui.components import LiveDropdown
from training.admin.access import Caller
from training.runs.record import RunRecord
from training.ui.base.context import Context, Part, Section
from training.ui.sections import watch_html
from training.ui.sections.rollout_cards import rollouts_html

NEWEST = ("The active run, or the newest", "")
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
        status = gr.HTML(js_on_load=None, elem_id="watch-status")
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
        choices = [NEWEST, *((watch_html.choice_label(one), one.id) for one in records)]
        choice = gr.update(choices=choices, value=record.id if record else "")
        record = record or _newest(records)
        if record is None:
            return [choice, watch_html.NO_RUNS, "", "", gr.update(visible=False), "", ""]
        now = context.snapshot(record)
        return [
            choice,
            watch_html.status_html(record, now),
            watch_html.plots_html(now),
            watch_html.findings_html(now.findings, now.step),
            gr.update(visible=True),
            Part(rollouts_html(now.groups), about=record.id, is_held=follow is False),
            watch_html.log_html(now.log),
        ]

    outputs = [chosen, status, plots, findings, details, rollouts, log]
    section = Section("watch", context, note, [chosen, follows], outputs, refresh)
    section.on(chosen.input, refresh)
    section.on(follows.input, refresh)
    return section


def _newest(records: list[RunRecord]) -> RunRecord | None:
    """The active run, else the newest one."""
    return next((record for record in records if record.is_active), records[0] if records else None)
