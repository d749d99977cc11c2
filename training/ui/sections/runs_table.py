"""The table of runs as HTML: a tick for each run, columns that sort, and the script that keeps both over updates."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence

from training.runs.record import RunRecord
from training.ui.sections.start import duration

COLUMNS = ("Run", "Status", "Steps", "Last reward", "Last accuracy", "Time", "Price", "From")
EMPTY = (
    '<p class="lt-note lt-quiet">There is no run yet. Start one under Start, or with '
    "<code>python -m training start</code>; it then stands here.</p>"
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
"""Runs in the page. What is ticked there wins over what an update says that was under way meanwhile."""


def table_html(records: Sequence[RunRecord], chosen: Sequence[str]) -> str:
    """The table, the run asked for last first; `chosen` are ticked."""
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
    run_id, of = html.escape(record.id), f" of {record.max_steps:,}" if record.max_steps else ""
    reward, accuracy = (_figure(record, name) for name in ("reward", "rewards/accuracy_reward/mean"))
    cost = record.cost_dollars
    asked = time.strftime("%d %b, %H:%M", time.localtime(record.asked_at))
    cells = [
        (record.number, f"{asked}<small>{run_id}</small>"),
        (record.status, status_html(record.status)),
        (record.step, f"{record.step:,}{of}"),
        (reward, _shown(reward)),
        (accuracy, "–" if accuracy is None else f"{100 * accuracy:.0f} %"),
        (record.hours, duration(record.hours) if record.hours else "–"),
        (cost, "–" if cost is None else f"${cost:,.2f}"),
        (record.asked_by, f"{html.escape(_profile(record))}<small>{html.escape(record.asked_by)}</small>"),
    ]
    body = "".join(
        f'<td data-key="{"-1e99" if value is None else html.escape(str(value))}">{shown}</td>' for value, shown in cells
    )
    tick = f'<input type="checkbox" data-run="{run_id}" aria-label="{run_id}"{" checked" if is_chosen else ""}>'
    return f"<tr{' class=lt-chosen' if is_chosen else ''}><td>{tick}</td>{body}</tr>"


def status_html(status: str) -> str:
    """A status as a word with its mark."""
    return f'<span class="lt-run-status" data-status="{html.escape(status)}">{html.escape(status)}</span>'


def _figure(record: RunRecord, name: str) -> float | None:
    value = record.metrics.get(name)
    return float(value) if isinstance(value, int | float) else None


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _profile(record: RunRecord) -> str:
    try:
        return record.run_config.profile
    except ValueError:  # of another version
        return "unknown profile"
