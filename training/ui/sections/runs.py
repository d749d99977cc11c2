"""The Runs section: every run in a table, actions on one, and curves of several to compare."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr

from inference.common.errors import UserError
from inference.common.html import escape
from training.admin.access import Caller
from training.hub.space.prices import dollars
from training.runs.metrics import CURVES, METRICS
from training.runs.record import RESUMABLE, RunRecord
from training.runs.upkeep import Stored, delete_run, delete_stored, free_words, stored
from training.ui.base.context import Context, Section
from training.ui.base.download import Downloads
from training.ui.base.guard import HIDDEN
from training.ui.base.html import duration, finite
from training.ui.base.plots import MAX_SERIES, curves_plot
from training.ui.sections.form_fields import number_field, read_number

COLUMNS = ("Run", "Status", "Steps", METRICS["reward"].label, METRICS["accuracy"].label, "Time", "Cost", "Started by")
EMPTY = (
    '<p class="lt-note lt-quiet">There is no run yet. Start one under Start, or with '
    "<code>python -m training start</code>; it is then listed here.</p>"
)
TABLE_JS = """
let column = -1, down = true, ticked = null;
const boxes = () => [...element.querySelectorAll('input[data-run]')];
const key = (row) => {
  const cell = row.cells[column];
  const number = parseFloat(cell.dataset.key);
  return Number.isNaN(number) ? cell.dataset.key : number;
};
const sort = () => {
  const heads = [...element.querySelectorAll('th[aria-sort]')];
  heads.forEach((head) => head.setAttribute('aria-sort', 'none'));
  const body = element.querySelector('tbody');
  if (column < 0 || !body) return;
  heads.find((head) => head.cellIndex === column).setAttribute('aria-sort', down ? 'descending' : 'ascending');
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
  rows.forEach(([, row]) => body.append(row));
};
const mark = () => boxes().forEach((box) => {
  if (ticked) box.checked = ticked.has(box.dataset.run);
  box.closest('tr').classList.toggle('lt-chosen', box.checked);
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('th button');
  if (!button) return;
  const clicked = button.closest('th').cellIndex;
  down = column === clicked ? !down : true;
  column = clicked;
  sort();
});
element.addEventListener('change', (event) => {
  if (!event.target.matches('input[data-run]')) return;
  ticked = new Set(boxes().filter((box) => box.checked).map((box) => box.dataset.run));
  mark();
  trigger('select', { ids: [...ticked] });
});
watch('value', () => { sort(); mark(); });
"""
"""Runs in the page. Its ticks win over those of an update that was under way meanwhile."""
DISK_SECONDS = 30.0
"""The age of the list of what takes room, which takes long to make where there are many files."""
NOTHING = "Choose a run in the table to resume, cancel, delete or download it; choose several to compare their curves."


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
        self.table = gr.HTML(js_on_load=TABLE_JS, elem_id="train-runs")
        self.chosen = gr.State([])
        """Ids of the runs that are ticked in this page."""
        self.to_delete = gr.State("")
        """The run whose deletion was asked for once."""
        self.words = gr.HTML(js_on_load=None, elem_id="train-chosen")
        with gr.Row(elem_classes="lt-actions"):
            self.watch = _button("Watch", "watch")
            self.resume = _button("Resume", "resume")
            self.cancel = _button("Cancel", "cancel")
            self.withdraw = _button("Withdraw", "withdraw")
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
        comparison = gr.HTML(js_on_load=None, elem_id="train-comparison")
        with gr.Accordion("Room on the disk", open=False, elem_id="train-disk"):
            disk = gr.HTML(js_on_load=None)
            self.stored = gr.Dropdown(
                label="Delete", info="A run goes with its checkpoints and its adapter.", elem_id="train-stored"
            )
            self.free = gr.Button("Delete for good", variant="stop", size="sm", elem_id="train-free")
        self.link = gr.Textbox(visible=False, elem_id="train-link", show_label=False, container=False)
        buttons = [self.watch, self.resume, self.cancel, self.withdraw, self.download, self.delete]
        outputs = [self.table, self.chosen, self.to_delete, self.words, *buttons, budget, confirm, question, comparison]
        outputs += [disk, self.stored]
        self.section = Section("runs", context, note, [self.chosen, self.to_delete], outputs, self.refresh)
        self._wire()

    def _wire(self) -> None:
        on, context = self.section.on, self._context
        on(self.table.select, self._choose, with_event=True)
        on(self.resume.click, self._resume, [self.hours, self.dollars])
        on(self.cancel.click, self._action(context.launcher.cancel))
        on(self.withdraw.click, self._action(context.store.withdraw))
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
        """The curves of several runs, one plot for each metric."""
        if len(records) < 2:
            return ""
        if len(records) > MAX_SERIES:
            return f'<p class="lt-note lt-warn">{len(records)} runs are chosen; at most {MAX_SERIES} are compared.</p>'
        curves = {record.id: self._context.snapshot(record).curves for record in records}
        plots = ""
        for name in CURVES:
            series = {run_id: lines.get(name, []) for run_id, lines in curves.items()}
            if any(series.values()):
                plots += curves_plot(series, METRICS[name])
        if not plots:
            return '<p class="lt-note lt-quiet">None of these has trained a step yet.</p>'
        return f'<h2 class="lt-group-title">Compared</h2><div class="lt-plots">{plots}</div>'


def table_html(records: Sequence[RunRecord], chosen: Sequence[str]) -> str:
    """The table, the newest run first; `chosen` are ticked."""
    if not records:
        return EMPTY
    heads = "".join(f'<th scope="col" aria-sort="none"><button type="button">{name}</button></th>' for name in COLUMNS)
    rows = "".join(_row(record, record.id in chosen) for record in records)
    return (
        '<div class="lt-table lt-runs" tabindex="0" role="group" aria-label="Runs"><table>'
        f'<thead><tr><th scope="col"><span class="lt-hidden">Chosen</span></th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


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


def _row(record: RunRecord, is_chosen: bool) -> str:
    run_id, of = escape(record.id), f" of {record.max_steps:,}" if record.max_steps else ""
    started = time.strftime("%d %b, %H:%M", time.localtime(record.asked_at))
    cells = [
        (record.number, f"{started}<small>{run_id}</small>"),
        (record.status, f'<span class="lt-run-status" data-status="{escape(record.status)}">{record.status}</span>'),
        (record.step, f"{record.step:,}{of}"),
        _metric(record, "reward"),
        _metric(record, "accuracy"),
        (record.hours, duration(3600 * record.hours) if record.hours else "–"),
        (record.cost_dollars, dollars(record.cost_dollars) or "–"),
        (record.asked_by, f"{escape(_profile(record))}<small>{escape(record.asked_by)}</small>"),
    ]
    body = "".join(
        f'<td data-key="{"-1e99" if value is None else escape(value)}">{shown}</td>' for value, shown in cells
    )
    tick = f'<input type="checkbox" data-run="{run_id}" aria-label="{run_id}"{" checked" if is_chosen else ""}>'
    return f"<tr{' class=lt-chosen' if is_chosen else ''}><td>{tick}</td>{body}</tr>"


def _metric(record: RunRecord, name: str) -> tuple[float | None, str]:
    """The last value of a metric, to sort by and to show."""
    metric = METRICS[name]
    value = finite(record.metrics.get(metric.column))
    return value, "–" if value is None else metric.text(value)


def _profile(record: RunRecord) -> str:
    try:
        return record.run_config.profile
    except ValueError:  # of another version
        return "unknown profile"


def _button(text: str, name: str) -> gr.Button:
    return gr.Button(text, size="sm", interactive=False, min_width=72, elem_id=f"train-{name}")


def _names(chosen: object) -> list[str]:
    return [str(run_id) for run_id in chosen] if isinstance(chosen, list) else []


def _can(one: RunRecord | None) -> tuple[bool, ...]:
    """For each button, in their order, whether it can be pressed."""
    if one is None:
        return (False,) * 6
    can_cancel = one.is_active and one.status != "stopping"
    return True, one.status in RESUMABLE, can_cancel, one.status == "queued", True, not one.is_active


def _words(one: RunRecord | None, num_chosen: int) -> str:
    """The chosen run, or a hint."""
    if one is None:
        text = f"{num_chosen} runs are chosen; their curves are compared below." if num_chosen else NOTHING
        return f'<p class="lt-note lt-quiet" role="status">{text}</p>'
    reason = f" {escape(one.reason)}" if one.reason else ""
    return f'<p class="lt-note" role="status"><strong>{escape(one.id)}</strong> {one.status}.{reason}</p>'


def _question(one: RunRecord) -> str:
    return (
        f'<p class="lt-note lt-bad" role="alert">Delete {escape(one.id)} with its checkpoints, rollouts, log and '
        "adapter? This cannot be undone. A promoted version of it stays.</p>"
    )
