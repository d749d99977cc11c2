"""The table of runs as HTML: a tick for each run, columns that sort, and the script that keeps both over updates."""

from __future__ import annotations

import time
from collections.abc import Sequence

from inference.common.html import escape
from training.runs.metrics import METRICS
from training.runs.record import RunRecord
from training.ui.base.html import dollars, duration, finite

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


def _row(record: RunRecord, is_chosen: bool) -> str:
    run_id, of = escape(record.id), f" of {record.max_steps:,}" if record.max_steps else ""
    asked = time.strftime("%d %b, %H:%M", time.localtime(record.asked_at))
    cells = [
        (record.number, f"{asked}<small>{run_id}</small>"),
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
