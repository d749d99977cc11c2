"""The Watch section: a run's state, curves, diagnosis, log and newest answers."""

from __future__ import annotations

from typing import Any

import gradio as gr

from inference.adapters.catalog import Version, adapter_versions
from inference.adapters.served import promote, serving
from inference.common.errors import UserError
from inference.common.settings import Settings
from inference.ui.components import LiveDropdown, LiveSlider
from training.admin.access import Caller
from training.hub.publish.queue import queue_run
from training.runs.record import RunRecord
from training.ui.answers.pinned import Told
from training.ui.answers.taught import TAUGHT_JS, TaughtTokens, address_parts
from training.ui.base.context import Context, Section
from training.ui.base.html import mapping
from training.ui.base.plots import PLOTS_JS
from training.ui.sections.rollout_cards import ALL, FILTERS, rollouts_html
from training.ui.sections.watch_cards import (
    NO_RUNS,
    choice_label,
    findings_html,
    log_html,
    plots_html,
    result_html,
    status_html,
)

NEWEST = ("The active run, or the newest", "")
_SLIDER = 6
"""The slider's place among the outputs."""
_BUTTONS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-run]');
  if (button) trigger('submit', { act: button.dataset.act, run: button.dataset.run });
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
    return WatchPanel(context, note).section


class WatchPanel:
    """State, curves, rollouts and log of one run, and what can be done with it."""

    def __init__(self, context: Context, note: gr.Textbox) -> None:
        self._context = context
        with gr.Column(elem_id="lt-watch"):
            chosen = LiveDropdown([NEWEST], value="", label="Run", filterable=False, elem_id="watch-run")
            status = gr.HTML(js_on_load=_BUTTONS, elem_id="watch-status")
            plots = gr.HTML(js_on_load=PLOTS_JS, elem_id="watch-plots")
            findings = gr.HTML(js_on_load=None, elem_id="watch-findings")
            with gr.Column(visible=False, elem_classes="lt-details") as details:
                with gr.Row(elem_classes="lt-section-head"):
                    gr.HTML("<h2>Answers while training</h2>", js_on_load=None)
                    follows = gr.Checkbox(True, label="Follow the newest", container=False, elem_id="watch-follow")
                with gr.Row(elem_id="watch-choice"):
                    step = LiveSlider(1, 2, value=1, step=1, label="Step", buttons=[], elem_id="watch-step")
                    only = gr.Radio(list(FILTERS), value=ALL, label="Problems", elem_id="watch-only")
                first = gr.Textbox("", visible=False, elem_id="watch-first")
                opened = gr.Textbox("", visible=False, elem_id="watch-tokens")
                rollouts = gr.HTML(js_on_load=_KEEP_FOLDED + TAUGHT_JS, elem_id="watch-rollouts")
                gr.HTML("<h2>Log</h2>", js_on_load=None)
                log = gr.HTML(js_on_load=_KEEP_END, elem_id="watch-log")
        self._taught, self._told = TaughtTokens(context), Told(context.asker)
        outputs = [chosen, status, plots, findings, details, follows, step, rollouts, log, opened]
        inputs = [chosen, follows, step, only, opened, first]
        self.section = Section("watch", context, note, inputs, outputs, self.refresh)
        for event in (chosen.input, follows.input, only.input):
            self.section.on(event, self.refresh)
        self.section.on(step.release, self._to_step)
        self.section.on(step.input, self._while_moved, trigger_mode="always_last")  # keys give no release
        options: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": rollouts, "trigger_mode": "once"}
        self.section.on(rollouts.submit, self._tokens, with_event=True, **options)
        self.section.on(status.submit, self._act, with_event=True, promotes=True, trigger_mode="once")

    def refresh(
        self,
        caller: Caller,
        run_id: object,
        follow: object,
        step: object,
        only: object,
        opened: object,
        first: object,
    ) -> list[object]:
        """Values of the run with that id, or of the active or newest one; `first`, "STEP/NUMBER", is a problem's, and
        `opened` is what `TaughtTokens.open` returned."""
        context = self._context
        records = context.store.list()
        record = next((record for record in records if record.id == run_id), None)
        choices = [NEWEST, *((choice_label(one), one.id) for one in records)]
        choice = gr.update(choices=choices, value=record.id if record else "")
        record = record or _newest(records)
        if record is None:
            return [choice, NO_RUNS, "", "", gr.update(visible=False), gr.skip(), gr.skip(), "", "", gr.skip()]
        now = context.snapshot(record)
        version = result_of(record.id, context.settings) if record.status == "succeeded" else None
        is_held = follow is False
        steps, groups = context.rollouts(record, _whole(step) if is_held else None)
        at = groups[0]["step"] if groups else _whole(step)
        first_step, _, number = str(first).partition("/")
        first_number = int(number) if number.isdigit() and first_step == str(at) else 0
        slider = gr.update(minimum=steps[0], maximum=max(steps[-1], steps[0] + 1), value=at) if steps else gr.skip()
        return [
            choice,
            status_html(record, now, self._result_html(version, record) if version else ""),
            plots_html(now, version.path if version else None),
            findings_html(now.findings, now.step),
            gr.update(visible=True),
            not is_held,
            slider,
            rollouts_html(groups, only, f"#/train/watch/{record.id}/{at}", first_number, self._taught.found(opened)),
            log_html(now.log),
            gr.skip(),
        ]

    def _result_html(self, version: Version, record: RunRecord) -> str:
        return result_html(version, self._context.settings, record, self._told.of(version.name))

    def _to_step(self, caller: Caller, run_id: object, follow: object, *values: object) -> list[object]:
        """The step that the slider was moved to, of this run, stays until the newest is followed again."""
        record = next((one for one in self._context.store.list() if one.id == run_id), None)
        record = record or _newest(self._context.store.list())
        return self.refresh(caller, record.id if record else "", False, *values)

    def _while_moved(self, *sent: Any) -> list[object]:
        """As `_to_step`, without a value for the slider, which may have moved on, or get a longer number."""
        values = self._to_step(*sent)
        ends = {name: part for name, part in mapping(values[_SLIDER]).items() if name != "value"}
        return [*values[:_SLIDER], ends, *values[_SLIDER + 1 :]]

    def _tokens(
        self, caller: Caller, event: gr.EventData, run_id: object, follow: object, step: object, *values: object
    ) -> list[object]:
        """The change that the steps made to one completion, whose step then stays; without an address it is closed."""
        only, _, first = values
        at, before, after = (str(getattr(event, name, "")) for name in ("at", "before", "after"))
        opened = self._taught.open(at, before, after) if at else ""
        if at:
            run_id, step, *_ = address_parts(at)
        return [*self.refresh(caller, run_id, follow is not False and not at, step, only, opened, first)[:-1], opened]

    def _act(self, caller: Caller, event: gr.EventData, *values: object) -> list[object]:
        """A button of the card: cancel the run, put its adapter into service, or publish it."""
        context, settings = self._context, self._context.settings
        act, run_id = (str(getattr(event, name, "")) for name in ("act", "run"))
        if act == "cancel":
            context.launcher.cancel(run_id)
            return self.refresh(caller, *values)
        version = result_of(run_id, settings)
        if version is None:
            raise UserError("The adapter of that run is no longer here. Look under Adapters.")
        if act == "promote":
            promote(settings.home, version.path, caller.name, settings=settings)
            context.refresh_served()
        elif act == "publish":
            training = settings.training
            queue_run(context.store.get(run_id).folder, training.publish_to, public=training.publish_public)
        else:
            raise UserError("The page did not name an action. Load it again.")
        return self.refresh(caller, *values)


def result_of(run_id: str, settings: Settings) -> Version | None:
    """The adapter that a run has made, as it is on this machine; `None` if there is none."""
    versions = adapter_versions(settings, serving(settings))
    return next((one for one in versions if one.run == run_id), None)


def _whole(value: object) -> int | None:
    """A step that the page sent."""
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e12 else None


def _newest(records: list[RunRecord]) -> RunRecord | None:
    """The active run, else the newest one."""
    return next((record for record in records if record.is_active), records[0] if records else None)
