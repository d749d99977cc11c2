"""The table of runs and their comparison, as HTML; `runs.js` sorts it, searches it, and shows 25 at a time.

Names and notes are somebody's words, and files may have been edited: all is escaped.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from inference.adapters.record import RECORD_FILE, read_record
from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.html import escape
from training.hub.space.prices import dollars
from training.runs.record import STATUSES, RunRecord
from training.ui.base.html import duration, time_html

TABLE_JS = (Path(__file__).parent / "runs.js").read_text(encoding="utf-8")
COLUMNS = ("Run", "Status", "Steps", "Base → adapter, test", "Time", "Cost", "Started by")
EMPTY = (
    '<p class="lt-note lt-quiet">There is no run yet. Start one under Start, or with '
    "<code>python -m training start</code>; it is then listed here.</p>"
)
SEARCH = (
    '<div class="lt-search"><label>Search <input type="search" name="text" placeholder="name, note, profile, owner">'
    "</label>"
    '<label>Status <select name="status"><option value="">all</option>'
    + "".join(f"<option>{status}</option>" for status in STATUSES)
    + "</select></label></div>"
)
_PAGES = (
    '<p class="lt-pages"><button type="button" class="lt-act" data-by="-1">Newer</button><span role="status"></span>'
    '<button type="button" class="lt-act" data-by="1">Older</button></p>'
)
MAX_SETTINGS = 60
"""Settings that differ, in the table of a comparison."""


def table_html(records: Sequence[RunRecord], chosen: Sequence[str]) -> str:
    """The table, the newest run first; `chosen` are ticked."""
    if not records:
        return EMPTY
    heads = "".join(f'<th scope="col" aria-sort="none"><button type="button">{name}</button></th>' for name in COLUMNS)
    rows = "".join(_row(record, record.id in chosen) for record in records)
    return (
        '<div class="lt-table lt-runs" tabindex="0" role="group" aria-label="Runs"><table>'
        f'<thead><tr><th scope="col"><span class="lt-hidden">Chosen</span></th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{_PAGES}"
    )


def name_of(record: RunRecord) -> str:
    """The name that people see; not escaped."""
    return record.title or record.id


def scores_of(record: RunRecord) -> tuple[float | None, float | None]:
    """Lenient accuracy of base and adapter on the test problems, from 0 to 1; `None` where it was not evaluated."""
    if record.status != "succeeded":
        return None, None
    folder = record.folder / "adapter"
    try:
        state = (folder / RECORD_FILE).stat()
    except OSError:
        return None, None
    return _scores(folder, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=2048)
def _scores(folder: Path, modified: int, size: int) -> tuple[float | None, float | None]:
    """For a file in one state."""
    try:
        found = read_record(folder)
    except UserError:  # an adapter that is not whole; Adapters says so
        return None, None
    return found.base_accuracy, found.test_accuracy


def differing_html(records: Sequence[RunRecord]) -> str:
    """The settings in which runs differ, as a table."""
    settings = {record.id: _flat(_config(record)) for record in records}
    names = sorted({name for values in settings.values() for name in values})
    cells = [(name, [found.get(name, "–") for found in settings.values()]) for name in names]
    rows = [(name, values) for name, values in cells if len(set(values)) > 1]
    if not rows:
        return '<p class="lt-note lt-quiet">Their settings are the same.</p>'
    heads = "".join(f'<th scope="col">{escape(name_of(record), 60)}</th>' for record in records)
    body = "".join(
        f'<tr><th scope="row">{escape(name, 60)}</th>{"".join(f"<td>{escape(v, 80)}</td>" for v in values)}</tr>'
        for name, values in rows[:MAX_SETTINGS]
    )
    return (
        '<div class="lt-table" tabindex="0" role="group" aria-label="Settings that differ"><table>'
        f"<caption>Settings that differ</caption><thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table>"
        "</div>"
    )


def _config(record: RunRecord) -> Json:
    try:
        found = json.loads(record.config)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _flat(values: Mapping[str, object], before: str = "") -> dict[str, str]:
    """Nested settings by their dotted names, as text."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = "none" if value is None else str(value)
    return flat


def _row(record: RunRecord, is_chosen: bool) -> str:
    run_id, of = escape(record.id), f" of {record.max_steps:,}" if record.max_steps else ""
    profile, (base, adapter) = _profile(record), scores_of(record)
    accuracy = "–" if adapter is None else f"{100 * adapter:.0f} %"
    if base is not None and adapter is not None:
        accuracy = f"{100 * base:.0f} → {accuracy}"
    name = f'<a href="#/train/watch/{run_id}" data-open="{run_id}">{escape(name_of(record))}</a>'
    note = f"<small>{escape(record.note, 120)}</small>" if record.note else ""
    cells = [
        (record.number, f"{name}<small>{time_html(record.asked_at)}</small>{note}"),
        (record.status, f'<span class="lt-run-status" data-status="{escape(record.status)}">{record.status}</span>'),
        (record.step, f"{record.step:,}{of}"),
        (adapter, accuracy),
        (record.hours, duration(3600 * record.hours) if record.hours else "–"),
        (record.cost_dollars, dollars(record.cost_dollars) or "–"),
        (record.asked_by, f"{escape(profile)}<small>{escape(record.asked_by)}</small>"),
    ]
    body = "".join(
        f'<td data-key="{"-1e99" if value is None else escape(value)}">{shown}</td>' for value, shown in cells
    )
    text = " ".join((record.id, record.title, record.note, profile, record.asked_by, record.status)).lower()
    tick = f'<input type="checkbox" data-run="{run_id}" aria-label="{run_id}"{" checked" if is_chosen else ""}>'
    return (
        f'<tr{" class=lt-chosen" if is_chosen else ""} data-status="{escape(record.status)}" '
        f'data-text="{escape(text, 600)}"><td>{tick}</td>{body}</tr>'
    )


def _profile(record: RunRecord) -> str:
    profile = _config(record).get("profile")
    return profile if isinstance(profile, str) else "unknown profile"
