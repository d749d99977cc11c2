"""The Runs section: every run in a table, actions on one, and curves of several to compare."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr

from inference.common.errors import UserError
from inference.common.html import escape
from training.admin.access import Caller
from training.runs.metrics import CURVES, METRICS
from training.runs.record import RESUMABLE, RunRecord
from training.runs.store import MAX_NOTE_CHARS, MAX_TITLE_CHARS
from training.runs.upkeep import Stored, delete_run, delete_stored, free_words, stored
from training.ui.base.context import Context, Part, Section
from training.ui.base.download import Downloads
from training.ui.base.guard import HIDDEN
from training.ui.base.plots import MAX_SERIES, PLOTS_JS, curves_plot
from training.ui.sections.form_fields import number_field, read_number
from training.ui.sections.runs_table import SEARCH, TABLE_JS, differing_html, name_of, table_html

DISK_SECONDS = 30.0
"""The age of the list of what takes room, which takes long to make where there are many files."""
NOTHING = "Click a run to watch it. Tick one to resume, cancel, name, download or delete it; tick several to compare."
NO_STEPS = "None of these has trained a step yet."


def build_runs(context: Context, note: gr.Textbox, downloads: Downloads) -> tuple[Section, RunsPanel]:
    """The section, and its parts, for the tab to wire Watch."""
    panel = RunsPanel(context, note, downloads)
    return panel.section, panel


class RunsPanel:
    """Table, actions and comparison."""

    def __init__(self, context: Context, note: gr.Textbox, downloads: Downloads) -> None:
        self._context, self._downloads = context, downloads
        self._stored: list[Stored] | None = None
        self._stored_at = 0.0
        comparison = gr.HTML(js_on_load=PLOTS_JS, elem_id="train-comparison")
        gr.HTML(SEARCH, js_on_load=None, elem_id="train-runs-search")
        self.table = gr.HTML(js_on_load=TABLE_JS, elem_id="train-runs")
        self.chosen = gr.State([])
        """Ids of the runs that are ticked in this page."""
        self.to_delete = gr.State("")
        """The run whose deletion was asked for once."""
        with gr.Row(elem_classes="lt-actions", elem_id="train-actions"):
            self.words = gr.HTML(js_on_load=None, elem_id="train-chosen")
            self.watch = _button("Watch", "watch")
            self.resume = _button("Resume", "resume")
            self.cancel = _button("Cancel", "cancel")
            self.withdraw = _button("Withdraw", "withdraw")
            self.earlier = _button("Start earlier", "earlier")
            self.later = _button("Start later", "later")
            self.download = _button("Download", "download")
            self.delete = _button("Delete…", "delete")
        with gr.Row(elem_classes="lt-two", visible=False) as budget:
            self.hours = number_field("New limit in hours", "Empty leaves it as it is.", "more-hours")
            self.dollars = number_field("New limit in dollars", "Empty leaves it as it is.", "more-dollars")
        with gr.Column(visible=False, elem_classes="lt-confirm", elem_id="train-confirm") as confirm:
            question = gr.HTML(js_on_load=None)
            with gr.Row(elem_classes="lt-actions"):
                self.sure = gr.Button("Delete for good", variant="stop", size="sm", elem_id="train-delete-sure")
                self.keep = gr.Button("Keep it", size="sm", elem_id="train-keep")
        with gr.Row(elem_classes="lt-two", visible=False, elem_id="train-describe") as described:
            self.title = gr.Textbox(label="Name", max_length=MAX_TITLE_CHARS, max_lines=1, elem_id="train-title")
            self.about = gr.Textbox(label="Note", max_length=MAX_NOTE_CHARS, lines=1, elem_id="train-about")
            self.save = gr.Button("Save name and note", size="sm", elem_id="train-describe-save")
        with gr.Accordion("Room on the disk", open=False, elem_id="train-disk"):
            disk = gr.HTML(js_on_load=None)
            self.stored = gr.Dropdown(
                label="Delete", info="A run goes with its checkpoints and its adapter.", elem_id="train-stored"
            )
            self.free = gr.Button("Delete for good", variant="stop", size="sm", elem_id="train-free")
        self.link = gr.Textbox(visible=False, elem_id="train-link", show_label=False, container=False)
        buttons = [self.watch, self.resume, self.cancel, self.withdraw, self.earlier, self.later]
        buttons += [self.download, self.delete]
        outputs = [self.table, self.chosen, self.to_delete, self.words, *buttons, budget, confirm, question, comparison]
        outputs += [described, self.title, self.about, disk, self.stored]
        self.section = Section("runs", context, note, [self.chosen, self.to_delete], outputs, self.refresh)
        self._wire()

    def _wire(self) -> None:
        on, context = self.section.on, self._context
        on(self.table.select, self._choose, with_event=True)
        on(self.resume.click, self._resume, [self.hours, self.dollars])
        on(self.cancel.click, self._action(context.launcher.cancel))
        on(self.withdraw.click, self._action(context.store.withdraw))
        on(self.earlier.click, self._action(lambda run_id: context.store.move(run_id, -1)))
        on(self.later.click, self._action(lambda run_id: context.store.move(run_id, 1)))
        on(self.save.click, self._describe, [self.title, self.about])
        on(self.delete.click, self._ask_to_delete)
        on(self.keep.click, self._keep)
        on(self.sure.click, self._delete)
        on(self.free.click, self._free, [self.stored])
        self.download.click(context.guard(self._link), [self.chosen], self.link, **HIDDEN).then(
            None, self.link, None, js="(address) => { if (address) window.location.assign(address); }"
        )

    def refresh(self, caller: Caller, chosen: object, to_delete: object) -> list[object]:
        """The current values of all outputs."""
        records = {record.id: record for record in self._context.store.list()}
        ids = [run_id for run_id in _names(chosen) if run_id in records]
        one = records[ids[0]] if len(ids) == 1 else None
        is_asked = one is not None and to_delete == one.id and not one.is_active
        return [
            table_html(list(records.values()), ids),
            ids,
            to_delete if is_asked else "",
            _words(one, len(ids)),
            *(gr.update(interactive=can) for can in _can(one)),
            gr.update(visible=one is not None and one.status in RESUMABLE and one.budget_hours is not None),
            gr.update(visible=is_asked),
            _question(one) if is_asked and one else "",
            self._comparison([records[run_id] for run_id in ids]),
            Part(gr.update(visible=one is not None), about=one.id if one else "", is_held=True),
            Part(one.title if one else "", about=one.id if one else "", is_held=True),
            Part(one.note if one else "", about=one.id if one else "", is_held=True),
            *self._disk(),
        ]

    def _choose(self, caller: Caller, event: gr.EventData, chosen: object, to_delete: object) -> list[object]:
        return self.refresh(caller, getattr(event, "ids", []), "")

    def _resume(
        self, caller: Caller, chosen: object, to_delete: object, hours: object, dollars: object
    ) -> list[object]:
        budget = read_number("max_hours", hours), read_number("max_dollars", dollars)
        self._context.launcher.resume(chosen_run(chosen), max_hours=budget[0], max_dollars=budget[1])
        return self.refresh(caller, chosen, "")

    def _action(self, act: Callable[[str], object]) -> Callable[..., list[object]]:
        """A handler that does something with the chosen run."""

        def act_on_run(caller: Caller, chosen: object, to_delete: object) -> list[object]:
            act(chosen_run(chosen))
            return self.refresh(caller, chosen, "")

        return act_on_run

    def _describe(self, caller: Caller, chosen: object, to_delete: object, title: object, note: object) -> list[object]:
        """Keep the name and the note of the chosen run."""
        self._context.store.describe(chosen_run(chosen), str(title or ""), str(note or ""))
        return self.refresh(caller, chosen, "")

    def _ask_to_delete(self, caller: Caller, chosen: object, to_delete: object) -> list[object]:
        return self.refresh(caller, chosen, chosen_run(chosen))

    def _keep(self, caller: Caller, chosen: object, to_delete: object) -> list[object]:
        return self.refresh(caller, chosen, "")

    def _delete(self, caller: Caller, chosen: object, to_delete: object) -> list[object]:
        if chosen_run(chosen) != to_delete:
            raise UserError("Press Delete first, and then Delete for good, for the same run.")
        delete_run(self._context.store, to_delete)
        self._stored = None
        gr.Info(f"{escape(to_delete)} is deleted.")
        return self.refresh(caller, [], "")

    def _disk(self) -> list[object]:
        if self._stored is None or time.monotonic() - self._stored_at > DISK_SECONDS:
            self._stored, self._stored_at = stored(self._context.store), time.monotonic()
        found = self._stored
        names = [each.name for each in found if each.can_delete]
        return [disk_html(self._context.store.home, found), gr.update(choices=names, value=None)]

    def _free(self, caller: Caller, chosen: object, to_delete: object, name: object) -> list[object]:
        if not isinstance(name, str) or not name:
            raise UserError("Choose first what is to be deleted.")
        num_bytes = delete_stored(self._context.store, name)
        self._stored = None
        gr.Info(f"{escape(name)} is deleted: {num_bytes / 1e6:.1f} MB.")
        return self.refresh(caller, [], "")

    def _link(self, caller: Caller, chosen: object) -> str:
        return self._downloads.address(self._context.store.get(chosen_run(chosen)))

    def _comparison(self, records: list[RunRecord]) -> str:
        """The curves of several runs, one plot for each metric, and the settings that differ."""
        if len(records) < 2:
            return ""
        if len(records) > MAX_SERIES:
            return f'<p class="lt-note lt-warn">{len(records)} runs are chosen; at most {MAX_SERIES} are compared.</p>'
        names = [name_of(record) for record in records]
        labels = [name if names.count(name) == 1 else f"{name} ({one.id})" for name, one in zip(names, records)]
        curves = [self._context.snapshot(record).curves for record in records]
        plots = ""
        for name in CURVES:
            series = {label: lines.get(name, []) for label, lines in zip(labels, curves)}
            if any(series.values()):
                plots += curves_plot(series, METRICS[name])
        shown = f'<div class="lt-plots">{plots}</div>' if plots else f'<p class="lt-note lt-quiet">{NO_STEPS}</p>'
        return f'<h2 class="lt-group-title">Compared</h2>{shown}{differing_html(records)}'


def disk_html(home: Path, found: Sequence[Stored]) -> str:
    """Lists what lies in the home folder, the largest first, with what is wrong with it."""
    rows = "".join(
        f"<tr><td>{escape(each.name)}{f'<small>{escape(each.problem)}</small>' if each.problem else ''}</td>"
        f"<td>{each.num_bytes / 1e6:,.1f} MB</td></tr>"
        for each in found
    )
    return (
        f'<p class="lt-note lt-quiet">{escape(free_words(home))}</p><div class="lt-table" tabindex="0" role="group" '
        f'aria-label="Room on the disk"><table><tbody>{rows}</tbody></table></div>'
    )


def chosen_run(chosen: object) -> str:
    """The id of the one run that is ticked; raises `UserError` for none or several."""
    ids = _names(chosen)
    if len(ids) != 1:
        raise UserError(f"{len(ids)} runs are chosen; choose one in the table.")
    return ids[0]


def _button(text: str, name: str) -> gr.Button:
    return gr.Button(text, size="sm", interactive=False, min_width=72, elem_id=f"train-{name}")


def _names(chosen: object) -> list[str]:
    return [str(run_id) for run_id in chosen] if isinstance(chosen, list) else []


def _can(one: RunRecord | None) -> tuple[bool, ...]:
    """For each button, in their order, whether it can be pressed."""
    if one is None:
        return (False,) * 8
    can_cancel, waits = one.is_active and one.status != "stopping", one.status == "queued"
    return True, one.status in RESUMABLE, can_cancel, waits, waits, waits, True, not one.is_active


def _words(one: RunRecord | None, num_chosen: int) -> str:
    """The chosen run, or a hint."""
    if one is None:
        text = f"{num_chosen} runs are chosen; they are compared above." if num_chosen else NOTHING
        return f'<p class="lt-note lt-quiet" role="status">{text}</p>'
    reason = f" {escape(one.reason)}" if one.reason else ""
    return f'<p class="lt-note" role="status"><strong>{escape(name_of(one))}</strong> {one.status}.{reason}</p>'


def _question(one: RunRecord) -> str:
    return (
        f'<p class="lt-note lt-bad" role="alert">Delete {escape(one.id)} with its checkpoints, rollouts, log and '
        "adapter? This cannot be undone. A promoted version of it stays.</p>"
    )
