"""The Watch section: how a run stands, its curves, what is wrong with it, its log and its newest rollouts."""

from __future__ import annotations

from typing import Any

import gradio as gr

from training.admin.access import Caller
from training.runs.record import RunRecord
from training.ui.base.context import Desk, Section
from training.ui.base.guard import HIDDEN
from training.ui.base.html import Shown
from training.ui.sections import rollout_cards
from training.ui.sections import watch_html as watch_parts

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
"""The log stays at its end while it grows, unless somebody has scrolled up to read."""
_KEEP_FOLDED = """
const folded = {};
element.addEventListener('click', (event) => {
  const group = event.target.closest('summary')?.parentElement;
  if (group) folded[[...element.querySelectorAll('.lt-group')].indexOf(group)] = group.open;
});
watch('value', () => element.querySelectorAll('.lt-group').forEach((group, place) => {
  if (place in folded) group.open = !folded[place];
}));
"""
"""What somebody folded or unfolded stays so when newer groups take its place. (A click comes before the change.)"""


def build_watch(desk: Desk) -> Section:
    """The section's contents, inside its sub-tab; nothing of a run is in it before `refresh`."""
    with gr.Column(elem_id="lt-watch"):
        chosen = RunChoice([NEWEST], value="", label="Run", filterable=False, elem_id="watch-run")
        status = gr.HTML(js_on_load=None, elem_id="watch-status")
        plots = gr.HTML(js_on_load=None, elem_id="watch-plots")
        findings = gr.HTML(js_on_load=None, elem_id="watch-findings")
        with gr.Column(visible=False, elem_classes="lt-details") as details:
            with gr.Row(elem_classes="lt-section-head"):
                gr.HTML("<h2>Newest completions</h2>", js_on_load=None)
                follows = gr.Checkbox(True, label="Follow the newest", container=False, elem_id="watch-follow")
            rollouts = gr.HTML(js_on_load=_KEEP_FOLDED, elem_id="watch-rollouts")
            gr.HTML("<h2>Log</h2>", js_on_load=None)
            log = gr.HTML(js_on_load=_KEEP_END, elem_id="watch-log")
        note = gr.Textbox(visible=False)
    watch = _Watch(desk)
    section = Section(
        inputs=[chosen, follows, note],
        outputs=[chosen, status, plots, findings, details, rollouts, log, note],
        refresh=watch.refresh,
        skips=True,
    )
    for changed in (chosen.input, follows.input):
        changed(desk.guard(watch.refresh), section.inputs, section.outputs, **HIDDEN)
    return section


class _Watch:
    """What the section shows to whom it may."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def refresh(self, caller: Caller, chosen: Any, follows: Any, note: Any) -> list[Any]:
        """Updates for the section's outputs: of the run with the id `chosen`, or else of the one that matters most."""
        shown = Shown(note)
        records = self._desk.store.list()
        record = next((record for record in records if record.id == chosen), None)
        choices = [NEWEST, *((watch_parts.choice_label(record), record.id) for record in records)]
        value = record.id if record else ""
        choice = shown.update("choices", gr.update(choices=choices, value=value))
        if record is None:
            record = _newest(records)
        if record is None:
            empty = shown.update("status", watch_parts.NO_RUNS)
            parts = [shown.update(name, "") for name in ("plots", "findings")]
            details = shown.update("details", gr.update(visible=False))
            return [choice, empty, *parts, details, "", "", shown.note]
        return [choice, *self._parts(record, shown, follows is not False), shown.note]

    def _parts(self, record: RunRecord, shown: Shown, follows: bool) -> list[Any]:
        now = self._desk.snapshot(record)
        rollouts = f"rollouts@{record.id}"
        is_held = not follows and shown.keep(rollouts)
        return [
            shown.update("status", watch_parts.status_html(record, now)),
            shown.update("plots", watch_parts.plots_html(now)),
            shown.update("findings", watch_parts.findings_html(now.findings, now.step)),
            shown.update("details", gr.update(visible=True)),
            gr.skip() if is_held else shown.update(rollouts, rollout_cards.rollouts_html(now.groups)),
            shown.update("log", watch_parts.log_html(now.log)),
        ]


def _newest(records: list[RunRecord]) -> RunRecord | None:
    """The active run, else the one asked for last."""
    return next((record for record in records if record.is_active), records[0] if records else None)


class RunChoice(gr.Dropdown):
    """A dropdown that hands over what was chosen untouched: the handler looks it up among the runs that there are.

    Gradio's own check knows only the choices that it sent itself, and so none of a page that was open over a restart.
    """

    is_template = True

    def preprocess(self, payload: Any) -> str:
        """What the page says is chosen; empty for anything that is no text."""
        return payload if isinstance(payload, str) else ""
