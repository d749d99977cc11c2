"""The section Runs: every run in a table, one to act on, several to compare."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from inference.common.errors import UserError
from training.admin.access import Caller
from training.runs.record import RESUMABLE, RunRecord
from training.runs.snapshot import CURVES
from training.runs.upkeep import delete_run
from training.ui.base.context import Desk, Section
from training.ui.base.download import Archive
from training.ui.base.guard import HIDDEN
from training.ui.base.plots import curves_plot
from training.ui.sections.form_fields import number_field, read_number
from training.ui.sections.runs_table import TABLE_JS, table_html

MAX_COMPARED = 6
"""Runs in one plot: more lines than this are not told apart."""
COMPARED = {
    "reward": ("Reward", ""),
    "accuracy": ("Accuracy", "%"),
    "format": ("Format", "%"),
    "completion_tokens": ("Completion length", "tokens"),
    "zero_std_share": ("Groups without signal", "%"),
    "loss": ("Loss", ""),
}
"""The curves of `training.runs.snapshot` that are compared: title and unit."""
NOTHING = "Choose a run in the table to resume, cancel, delete or download it; choose several to compare their curves."


class RunsView:
    """Table, actions and comparison."""

    def __init__(self, desk: Desk, archive: Archive) -> None:
        self._desk, self._archive = desk, archive
        self.table = gr.HTML(js_on_load=TABLE_JS, elem_id="train-runs")
        self.chosen = gr.State([])
        """Ids of the runs that are ticked in this page."""
        self.doomed = gr.State("")
        """The run whose deletion was asked for once."""
        self.words = gr.HTML(js_on_load=None, elem_id="train-chosen")
        with gr.Row(elem_classes="lt-actions") as self.actions:
            self.watch = _button("Watch", "watch")
            self.resume = _button("Resume", "resume")
            self.cancel = _button("Cancel", "cancel")
            self.withdraw = _button("Withdraw", "withdraw")
            self.download = _button("Download", "download")
            self.delete = _button("Delete…", "delete")
        with gr.Row(elem_classes="lt-two", visible=False) as self.budget:
            self.hours = number_field("New limit in hours", "Empty leaves it.", "more-hours")
            self.dollars = number_field("New limit in dollars", "Empty leaves it.", "more-dollars")
        with gr.Column(visible=False, elem_classes="lt-confirm", elem_id="train-confirm") as self.confirm:
            self.question = gr.HTML(js_on_load=None)
            with gr.Row(elem_classes="lt-actions"):
                self.sure = gr.Button("Delete for good", variant="stop", size="sm", elem_id="train-delete-sure")
                self.keep = gr.Button("Keep it", size="sm", elem_id="train-keep")
        self.comparison = gr.HTML(js_on_load=None, elem_id="train-comparison")
        self.ticket = gr.Textbox(visible=False, elem_id="train-ticket", show_label=False, container=False)
        self._wire()

    @property
    def inputs(self) -> list[Any]:
        return [self.chosen, self.doomed]

    @property
    def outputs(self) -> list[Any]:
        return [
            self.table,
            self.chosen,
            self.doomed,
            self.words,
            *self._buttons,
            self.budget,
            self.confirm,
            self.question,
            self.comparison,
        ]

    @property
    def _buttons(self) -> list[Any]:
        return [self.watch, self.resume, self.cancel, self.withdraw, self.download, self.delete]

    def _wire(self) -> None:
        guard, both = self._desk.guard, [*self.inputs]
        self.table.select(guard(self._choose, with_event=True), self.inputs, self.outputs, **HIDDEN)
        self.resume.click(guard(self._resume), [*both, self.hours, self.dollars], self.outputs, **HIDDEN)
        self.cancel.click(guard(self._cancel), both, self.outputs, **HIDDEN)
        self.withdraw.click(guard(self._withdraw), both, self.outputs, **HIDDEN)
        self.delete.click(guard(self._ask_to_delete), both, self.outputs, **HIDDEN)
        self.keep.click(guard(self._keep), both, self.outputs, **HIDDEN)
        self.sure.click(guard(self._delete), both, self.outputs, **HIDDEN)
        self.download.click(guard(self._ticket), [self.chosen], self.ticket, **HIDDEN).then(
            None, self.ticket, None, js="(address) => { if (address) window.location.assign(address); }"
        )

    def refresh(self, caller: Caller, chosen: Any, doomed: Any) -> list[Any]:
        """Everything, as the records are now."""
        records = {record.id: record for record in self._desk.store.list()}
        ids = [run_id for run_id in _names(chosen) if run_id in records]
        one = records[ids[0]] if len(ids) == 1 else None
        asked = one is not None and doomed == one.id and not one.is_active
        return [
            table_html(list(records.values()), ids),
            ids,
            doomed if asked else "",
            _words(one, ids, self._desk),
            *(gr.update(interactive=can) for can in _can(one)),
            gr.update(visible=one is not None and one.status in RESUMABLE and one.budget_hours is not None),
            gr.update(visible=asked),
            _question(one) if asked and one else "",
            self._comparison([records[run_id] for run_id in ids]),
        ]

    def _choose(self, caller: Caller, event: gr.EventData, chosen: Any, doomed: Any) -> list[Any]:
        return self.refresh(caller, getattr(event, "ids", []), "")

    def _resume(self, caller: Caller, chosen: Any, doomed: Any, hours: Any, dollars: Any) -> list[Any]:
        limits = {"max_hours": read_number("max_hours", hours), "max_dollars": read_number("max_dollars", dollars)}
        self._desk.launcher.resume(_one(chosen), **limits)
        return self.refresh(caller, chosen, "")

    def _cancel(self, caller: Caller, chosen: Any, doomed: Any) -> list[Any]:
        self._desk.launcher.cancel(_one(chosen))
        return self.refresh(caller, chosen, "")

    def _withdraw(self, caller: Caller, chosen: Any, doomed: Any) -> list[Any]:
        self._desk.store.withdraw(_one(chosen))
        return self.refresh(caller, chosen, "")

    def _ask_to_delete(self, caller: Caller, chosen: Any, doomed: Any) -> list[Any]:
        return self.refresh(caller, chosen, _one(chosen))

    def _keep(self, caller: Caller, chosen: Any, doomed: Any) -> list[Any]:
        return self.refresh(caller, chosen, "")

    def _delete(self, caller: Caller, chosen: Any, doomed: Any) -> list[Any]:
        if _one(chosen) != doomed:
            raise UserError("Press Delete first, and then Delete for good, for one and the same run.")
        delete_run(self._desk.store, doomed)
        gr.Info(f"{html.escape(doomed)} is deleted.")
        return self.refresh(caller, [], "")

    def _ticket(self, caller: Caller, chosen: Any) -> str:
        return self._archive.address(self._desk.store.get(_one(chosen)))

    def _comparison(self, records: list[RunRecord]) -> str:
        """The curves of several runs, each figure in a plot of its own."""
        if len(records) < 2:
            return ""
        if len(records) > MAX_COMPARED:
            return (
                f'<p class="lt-note lt-warn">{len(records)} runs are chosen; at most {MAX_COMPARED} are compared.</p>'
            )
        curves = {record.id: self._desk.snapshot(record).curves for record in records}
        plots = []
        for name in CURVES:
            series = {run_id: found.get(name, []) for run_id, found in curves.items()}
            if any(series.values()):
                plots.append(curves_plot(series, *COMPARED.get(name, (name, ""))))
        if not plots:
            return '<p class="lt-note lt-quiet">None of these has trained a step yet.</p>'
        return f'<h2 class="lt-group-title">Compared</h2><div class="lt-plots">{"".join(plots)}</div>'


def build_runs(desk: Desk, archive: Archive) -> tuple[Section, RunsView]:
    """The section, and its parts, for the tab to wire Watch."""
    view = RunsView(desk, archive)
    return Section(view.inputs, view.outputs, view.refresh), view


def chosen_one(chosen: Any) -> str:
    """The id of the one run that is ticked; raises `UserError` for none or several."""
    return _one(chosen)


def _button(text: str, name: str) -> gr.Button:
    return gr.Button(text, size="sm", interactive=False, min_width=72, elem_id=f"train-{name}")


def _names(chosen: Any) -> list[str]:
    return [str(run_id) for run_id in chosen] if isinstance(chosen, list) else []


def _one(chosen: Any) -> str:
    ids = _names(chosen)
    if len(ids) != 1:
        raise UserError(f"{len(ids)} runs are chosen; choose one in the table.")
    return ids[0]


def _can(one: RunRecord | None) -> tuple[bool, ...]:
    """Which buttons can be pressed, in their order."""
    if one is None:
        return (False,) * 6
    waits = one.status == "queued"
    return True, one.status in RESUMABLE, one.is_active and one.status != "stopping", waits, True, not one.is_active


def _words(one: RunRecord | None, ids: list[str], desk: Desk) -> str:
    """What is chosen, or what to do."""
    if one is None:
        text = f"{len(ids)} runs are chosen; their curves are compared below." if ids else NOTHING
        return f'<p class="lt-note lt-quiet" role="status">{text}</p>'
    reason = f" {html.escape(one.reason)}" if one.reason else ""
    return f'<p class="lt-note" role="status"><strong>{html.escape(one.id)}</strong> {one.status}.{reason}</p>'


def _question(one: RunRecord) -> str:
    return (
        f'<p class="lt-note lt-bad" role="alert">Delete {html.escape(one.id)} with its checkpoints, rollouts, log and '
        "adapter? This cannot be undone. A version of it that was promoted stays.</p>"
    )
