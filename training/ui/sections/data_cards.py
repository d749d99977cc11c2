"""The rows of a set or an upload as HTML, as a model and the grader get them, and the findings of an audit.

Texts and pictures come from anybody, so all of it is escaped, and pictures are embedded as small JPEGs.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence

from PIL import Image

from inference.common.html import escape
from inference.prompt.image import thumbnail_uri
from training.audit.background import FoundAudit
from training.data.own_sets.sets import OwnRow, SeenRow
from training.data.refusals import MAX_PROBLEM_CHARS

PAGE_ROWS = 12
"""Rows shown at a time."""
PICTURE_PIXELS = 280
MAX_SOLUTION_CHARS = 2_000
EMPTY = (
    '<p class="lt-note lt-quiet">Pictures with a question and its answer are all that a run needs. Label some by hand, '
    "or upload what you have; the rows appear here as the model will see them. Twenty are a beginning, some hundreds "
    "make a run worth its while.</p>"
)
CARDS_JS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-act]');
  if (!button) return;
  const card = button.closest('article'), value = (name) => card?.querySelector(`[name=${name}]`)?.value;
  trigger('submit', {
    act: button.dataset.act, row: card?.dataset.row, first: Number(button.dataset.first),
    problem: value('problem'), solution: value('solution'),
  });
});
"""


def rows_html(rows: Sequence[tuple[OwnRow, SeenRow]], first: int, num: int, num_left_out: int) -> str:
    """A page of a set's rows, from number `first` on, each with a form to correct it; `num` are in the set."""
    if not num:
        return EMPTY
    cards = "".join(_card(seen, first + i + 1, row) for i, (row, seen) in enumerate(rows))
    used = num - num_left_out
    head = f"{used:,} row{'' if used == 1 else 's'}" + (f", and {num_left_out:,} left out" if num_left_out else "")
    return (
        f'<h2 class="lt-group-title">{head}, as the model will see them</h2>{_pages(first, num)}'
        f'<div class="lt-own-rows">{cards}</div>'
    )


def preview_html(rows: Sequence[SeenRow], num: int, words: str, title: str = "In the upload: ") -> str:
    """The first of `num` rows, of an upload say, and the shape in which they were read."""
    dropped = sum(row.refusal is not None for row in rows)
    head = (
        f"{'the' if title else 'The'} first {len(rows)} of {num:,} rows"
        if num > len(rows)
        else f"{num:,} row{'' if num == 1 else 's'}"
    )
    said = f" {dropped} of them cannot be trained on as they are." if dropped else ""
    cards = "".join(_card(row, number) for number, row in enumerate(rows, 1))
    return (
        f'<h2 class="lt-group-title">{title}{head}</h2>'
        f'<p class="lt-note lt-quiet" role="status">Read as: {escape(words)}.{said}</p>'
        f'<div class="lt-own-rows">{cards}</div>'
    )


def audit_html(found: FoundAudit | None, progress: str = "") -> str:
    """The findings and tables of an audit, or the work of one that is under way."""
    if progress:
        return f'<p class="lt-note lt-quiet" role="status">Auditing: {escape(progress)}</p>'
    if found is None:
        return ""
    old = "" if found.is_current else '<p class="lt-note lt-quiet">The set has changed since; audit it again.</p>'
    if found.error:
        return f'{old}<p class="lt-note lt-bad" role="status">The audit failed: {escape(found.error)}</p>'
    items = "".join(f"<li>{escape(finding)}</li>" for finding in found.findings)
    shown = f'<ul class="lt-findings">{items}</ul>' if items else "<p>No problems found.</p>"
    tables = "".join(_table(*table) for table in found.tables)
    return f'<h2 class="lt-group-title">Audit</h2>{old}{shown}<div class="lt-audit">{tables}</div>'


def _card(seen: SeenRow, number: int, row: OwnRow | None = None) -> str:
    """One row; with `row`, of a set, which can be corrected."""
    picture = f'<img src="{_thumbnail(seen.picture)}" alt="Picture of row {number}">' if seen.picture else "<div></div>"
    problem = f'<p class="lt-own-problem" dir="auto">{escape(seen.problem, MAX_PROBLEM_CHARS)}</p>'
    answer = f"<p>Answer: <strong>{escape(seen.solution, MAX_SOLUTION_CHARS) or '–'}</strong></p>"
    key = f' data-row="{row.key}"' if row else ""
    state = ' data-state="out"' if row and row.is_left_out else ""
    body = f"{problem if seen.problem else ''}{answer}{_verdict(seen)}{_form(row) if row else ''}"
    return f'<article class="lt-own"{key}{state}>{picture}<div>{body}</div></article>'


def _verdict(seen: SeenRow) -> str:
    """A line on what the grader reads, or on why the row is dropped."""
    if seen.refusal is not None:
        detail = f": {escape(seen.refusal.detail, 300)}" if seen.refusal.detail else ""
        return f'<p class="lt-own-state lt-bad">Not trained on, {escape(seen.refusal.reason)}{detail}</p>'
    if not seen.is_gold_matched:
        return f'<p class="lt-own-state lt-bad">The grader reads {escape(seen.gold, 300)}, and no answer matches it</p>'
    return f'<p class="lt-own-state">The grader reads: {escape(seen.gold, 300)}</p>'


def _form(row: OwnRow) -> str:
    if row.is_left_out:
        return '<p class="lt-own-acts"><button type="button" class="lt-act" data-act="back">Take it back</button></p>'
    lines = min(8, 1 + row.problem.count("\n") + len(row.problem) // 60)
    fields = (
        f'<label>Question<textarea name="problem" rows="{max(2, lines)}">{_whole(row.problem)}</textarea></label>'
        f'<label>Answer<textarea name="solution" rows="1">{_whole(row.solution)}</textarea></label>'
        '<p class="lt-own-acts"><button type="button" class="lt-act" data-act="save">Save</button>'
        '<button type="button" class="lt-act" data-act="out">Leave it out</button></p>'
    )
    if not row.problem or not row.solution:
        return f'<div class="lt-own-form">{fields}</div>'
    return (
        f'<details class="lt-fold lt-own-form" data-key="{row.key}"><summary>Correct or leave out</summary>'
        f"{fields}</details>"
    )


def _whole(text: str) -> str:
    """A text in a field, where nothing may be cut; a first line break would be lost."""
    return "\n" + escape(text, len(text) + 1)


def _pages(first: int, num: int) -> str:
    if num <= PAGE_ROWS:
        return ""
    last = min(num, first + PAGE_ROWS)

    def button(words: str, to: int, can: bool) -> str:
        off = "" if can else " disabled"
        return f'<button type="button" class="lt-act" data-act="page" data-first="{to}"{off}>{words}</button>'

    back, on = button("Before", max(0, first - PAGE_ROWS), first > 0), button("Next", last, last < num)
    return f'<p class="lt-own-acts">{back}{on}<span class="lt-quiet">{first + 1} to {last} of {num:,}</span></p>'


def _table(title: str, headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell, 300)}</td>" for cell in line) + "</tr>" for line in cells)
    return (
        f'<div class="lt-table" tabindex="0" role="group" aria-label="{escape(title)}"><table>'
        f"<caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


@functools.lru_cache(maxsize=64)
def _thumbnail(picture: bytes) -> str:
    with Image.open(io.BytesIO(picture), formats=("JPEG", "PNG")) as image:
        image.draft("RGB", (2 * PICTURE_PIXELS, 2 * PICTURE_PIXELS))
        return thumbnail_uri(image, PICTURE_PIXELS)
