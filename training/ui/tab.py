"""The Train tab: the log-in, then Start, Data, Watch, Rewards, Runs and Adapters as sections, one timer, and notices.

    train = TrainTab(context, downloads, train_tab)     # inside the tab's context
    train.leave_for([ask_tab, compare_tab])             # the timer rests while another tab is open

Nothing of a run is in the page before its reader has logged in: each section is filled by its `refresh`, behind the
guard, when it is opened. So a reload, another browser or a restart shows the current state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from inference.adapters.catalog import adapter_versions
from inference.common.html import escape
from inference.ui.page import GO
from training.admin.access import Caller, NotAllowed
from training.ui.base.context import Context, Section, Shown
from training.ui.base.download import Downloads
from training.ui.base.guard import HIDDEN, SILENT
from training.ui.login import Login
from training.ui.rewards.reward_lab import build_rewards
from training.ui.sections.adapters import build_adapters
from training.ui.sections.data import build_data
from training.ui.sections.runs import build_runs, chosen_run
from training.ui.sections.start import build_start
from training.ui.sections.watch import build_watch

HERE = Path(__file__).parent
CSS_PATHS = [HERE / "train.css", HERE / "watch.css"]
TICK_SECONDS = 2.0
_REST = "() => ({__type__: 'update', active: false})"
_TICK = "() => ({__type__: 'update', active: true})"
"""These run in the page and call no handler."""


class TrainTab:
    """The tab's parts and their events."""

    def __init__(self, context: Context, downloads: Downloads, tab: gr.Tab) -> None:
        self._context = context
        self.timer = gr.Timer(TICK_SECONDS, active=False)
        hidden: dict[str, Any] = {"visible": False, "show_label": False, "container": False}
        self.open = gr.Textbox("", elem_id="train-open", **hidden)
        """Name of the section that is open; empty before the first refresh."""
        self.note = gr.Textbox("", elem_id="train-note", **hidden)
        """What the page shows; see `training.ui.base.context.Shown`."""
        self.go = gr.HTML(visible="hidden", elem_id="train-go", js_on_load=GO % "train")
        self.login = Login(context.guard.access)
        with gr.Column(visible=False, elem_id="train-sections", elem_classes="lt-train") as self.column:
            self.notice = gr.HTML(js_on_load=None, elem_id="train-notice")
            self.dismiss = gr.Button(
                "Dismiss", size="sm", visible=False, elem_id="train-dismiss", elem_classes="lt-small"
            )
            heads: dict[str, gr.Tab] = {}
            with gr.Tabs(elem_id="train-tabs") as self.tabs:
                with gr.Tab("Start", id="start") as heads["start"]:
                    start, self.form = build_start(context, self.note)
                with gr.Tab("Data", id="data") as heads["data"]:
                    data, self.data = build_data(context, self.note)
                with gr.Tab("Watch", id="watch") as heads["watch"]:
                    watch = build_watch(context, self.note)
                with gr.Tab("Rewards", id="rewards") as heads["rewards"]:
                    rewards, self.lab = build_rewards(context, self.note)
                with gr.Tab("Runs", id="runs") as heads["runs"]:
                    runs, self.runs = build_runs(context, self.note, downloads)
                with gr.Tab("Adapters", id="adapters") as heads["adapters"]:
                    adapters = build_adapters(context, self.note, downloads)
            parts = (start, data, watch, rewards, runs, adapters)
            self.sections: dict[str, Section] = {part.name: part for part in parts}
            with gr.Row(elem_classes="lt-actions"):
                self.login.build_log_out()
        self._inputs = [self.open, self.note, *(part for one in self.sections.values() for part in one.inputs)]
        self._outputs = [
            *(self.login.column, self.column, self.tabs, self.timer, self.open, self.note, self.notice, self.dismiss),
            *(part for one in self.sections.values() for part in one.outputs),
        ]
        self._wire(tab, heads)

    def _wire(self, tab: gr.Tab, heads: dict[str, gr.Tab]) -> None:
        guard, inputs, outputs = self._context.guard, self._inputs, self._outputs
        rewards_inputs = self.sections["rewards"].inputs
        enter = guard(self._enter, refused=self._refused)
        for event in (tab.select, self.login.on_login):
            event(enter, inputs, outputs, **SILENT)
        self.timer.tick(guard(self._tick, refused=self._refused), inputs, outputs, trigger_mode="once", **SILENT)
        for name, head in heads.items():
            head.select(guard(self._opener(name), refused=self._refused), inputs, outputs, **SILENT)
        self.go.submit(guard(self._go, with_event=True, refused=self._refused), inputs, outputs, **HIDDEN)
        self.dismiss.click(guard(self._dismiss), None, [self.notice, self.dismiss], **HIDDEN)
        self.form.button.click(guard(self._start), [*inputs, *self.form.inputs], outputs, **HIDDEN)
        for button in (self.form.check, self.runs.resume, self.data.audit, self.lab.grade, self.lab.sample):
            button.click(None, None, self.timer, js=_TICK, api_visibility="private")
        for promoted in self.promotions:  # what broke is asked in the background
            promoted(None, None, self.timer, js=_TICK, api_visibility="private")
        self.runs.watch.click(guard(self._watch_chosen), [*inputs, self.runs.chosen], outputs, **HIDDEN)
        taken = [*self.form.taken_outputs, self.tabs, self.open]
        self.lab.take.click(guard(self._take), [*rewards_inputs, *self.form.taken_inputs], taken, **HIDDEN)
        self.runs.table.submit(guard(self._open_run, with_event=True), inputs, outputs, **HIDDEN)

    @property
    def promotions(self) -> list[Callable[..., object]]:
        """Gradio's events after an action that may change which adapter is served."""
        return [event for section in self.sections.values() for event in section.promotions]

    def leave_for(self, others: Sequence[gr.Tab]) -> None:
        """Rest the timer while one of these tabs is open."""
        for other in others:
            other.select(None, None, self.timer, js=_REST, api_visibility="private")

    def _enter(self, caller: Caller, opened: str, note: object, *values: object) -> list[object]:
        """The first refresh shows every section, and opens Watch while a run is active."""
        is_first = opened not in self.sections
        if is_first:
            opened, note = "watch" if self._context.store.active() else "start", ""
        return self._refresh(caller, opened, note, values, list(self.sections), move=is_first)

    def _tick(self, caller: Caller, opened: str, note: object, *values: object) -> list[object]:
        opened = opened if opened in self.sections else "watch"
        return self._refresh(caller, opened, note, values, [opened], move=False, is_tick=True)

    def _opener(self, name: str) -> Callable[..., list[object]]:
        def open_section(caller: Caller, _: str, note: object, *values: object) -> list[object]:
            return self._refresh(caller, name, note, values, [name], move=False)

        return open_section

    def _go(self, caller: Caller, event: gr.EventData, opened: str, note: object, *values: object) -> list[object]:
        """Open the section, and the run, that an address names (`addresses.js`)."""
        section, item, step, number = (str(getattr(event, part, "")) for part in ("section", "item", "step", "number"))
        section = section if section in self.sections else "start"
        if missing := [name for name in item.split(",") if name and name not in self._names(section)]:
            gr.Warning(f"There is no {escape(missing[0], 80)} here, or none any more.", title="Not found")
        if section == "watch":
            held = [False, int(step)] if step.isdigit() and len(step) < 12 and item and not missing else [True]
            return self._to_watch(caller, "" if missing else item, note, values, held, f"{step}/{number}")
        if section == "rewards" and item and not missing:
            at = self._first_input("rewards")
            values = (*values[:at], item, *values[at + 1 :])
        return self._refresh(caller, section, note, values, [section], move=True)

    def _names(self, section: str) -> list[str]:
        """The items of a section that an address can name."""
        if section == "adapters":
            return [version.name for version in adapter_versions(self._context.settings)]
        if section == "rewards":
            return [record.id for record in self.lab.records()]
        return [record.id for record in self._context.store.list()]

    def _start(self, caller: Caller, opened: str, note: object, *values: Any) -> list[object]:
        """Start a run, and go to Watch."""
        count = len(self.form.inputs)
        run_id = self.form.start(caller, *values[-count:])
        return self._to_watch(caller, run_id, note, values[:-count])

    def _take(self, caller: Caller, *values: Any) -> list[object]:
        """The settings of Rewards in the form of Start."""
        count = len(self.sections["rewards"].inputs)
        taken = self.form.taken(self.lab.config(*values[:count]), *values[count:])
        return [*taken, gr.Tabs(selected="start"), "start"]

    def _first_input(self, name: str) -> int:
        """The position of a section's first input among those of all sections."""
        before = list(self.sections)[: list(self.sections).index(name)]
        return sum(len(self.sections[one].inputs) for one in before)

    def _watch_chosen(self, caller: Caller, opened: str, note: object, *values: object) -> list[object]:
        return self._to_watch(caller, chosen_run(values[-1]), note, values[:-1])

    def _open_run(
        self, caller: Caller, event: gr.EventData, opened: str, note: object, *values: object
    ) -> list[object]:
        """A click on a run's name in the table."""
        return self._to_watch(caller, self._context.store.get(str(getattr(event, "id", ""))).id, note, values)

    def _to_watch(
        self,
        caller: Caller,
        run_id: str,
        note: object,
        values: Sequence[object],
        held: Sequence[object] = (),
        first: str = "",
    ) -> list[object]:
        """Open Watch with this run chosen, and with `held`, whether it follows the newest step, and the step."""
        at = self._first_input("watch")
        size = len(self.sections["watch"].inputs)
        own = [run_id, *held, *values[at + 1 + len(held) : at + size - 1], first]
        return self._refresh(caller, "watch", note, [*values[:at], *own, *values[at + size :]], ["watch"], move=True)

    def _dismiss(self, caller: Caller) -> list[object]:
        self._context.store.set_notice(None)
        return self._notices()

    def _refresh(
        self,
        caller: Caller,
        opened: str,
        note: object,
        values: Sequence[object],
        names: Sequence[str],
        *,
        move: bool,
        is_tick: bool = False,
    ) -> list[object]:
        """Updates for `_outputs`: the frame, and what changed in the sections `names`."""
        shown = Shown(note)
        notices = shown.updates("notices", self._notices())
        is_busy = self._context.is_busy()  # before the sections: what ends meanwhile is shown by one more tick
        updates: list[object] = []
        at = 0
        for name, section in self.sections.items():
            own = values[at : at + len(section.inputs)]
            at += len(section.inputs)
            if name in names:
                updates += shown.updates(name, section.refresh(caller, *own))
            else:
                updates += [gr.skip()] * len(section.outputs)
        timer = gr.skip() if is_tick and is_busy else gr.Timer(active=is_busy)
        tabs = gr.Tabs(selected=opened) if move else gr.skip()
        columns = [gr.skip(), gr.skip()] if is_tick else [gr.update(visible=False), gr.update(visible=True)]
        return [*columns, tabs, timer, gr.skip() if is_tick else opened, shown.note, *notices, *updates]

    def _refused(self, refusal: NotAllowed) -> list[object]:
        """The log-in, and nothing else: the sections are hidden."""
        frame = [gr.update(visible=True), gr.update(visible=False), gr.skip(), gr.Timer(active=False), "", ""]
        return [*frame, *[gr.skip()] * (len(self._outputs) - len(frame))]

    def _notices(self) -> list[object]:
        """Notices of the records, and current problems."""
        notice, parts = self._context.store.notice, [self._context.setup_html()]
        for trouble in filter(None, (self._context.watcher.trouble, self._context.backup.trouble)):
            parts.append(f'<p class="lt-note lt-bad" role="alert">{escape(trouble)}</p>')
        if notice:
            parts.append(f'<p class="lt-note lt-warn" role="status">{escape(notice)}</p>')
        return ["".join(parts), gr.update(visible=bool(notice))]
