"""An audit as one self-contained HTML page: tables, findings, and example rows.

A dataset's text is hostile: all of it is escaped, control and direction marks are taken out, pictures are embedded as
small JPEGs, and the page's own policy lets no script run and nothing be fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inference.common.html import escape
from inference.prompt.image import thumbnail_uri
from training.audit.report import AuditReport, Example, percent, tables
from training.data.refusals import REASONS

MAX_TEXT_CHARS = 2_000
"""Longer text is cut."""
MAX_ROWS = 50
"""Dropped rows, and unverified golds, in each list."""
THUMBNAIL_PIXELS = 320
"""Pixels of an embedded picture's longer side."""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = Path(__file__).with_name("audit_page.css")


def render_page(report: AuditReport) -> str:
    """The whole page."""
    unverified = [[gold.row_id, gold.gold[:300], gold.rule] for gold in report.unverified]
    dropped = [[f"{drop.role}: {drop.place}", drop.reason, drop.detail] for drop in report.dropped.rows]
    name = escape(str(report.about["dataset"]), 200)
    body = "\n".join(
        [
            f"<header><h1>Audit of {name}</h1>\n<p class=about>{_about(report)}</p></header>",
            "<main>",
            _tiles(report),
            _findings(report),
            _tables(report),
            _examples(report.examples),
            _listing("Golds that cannot be verified", ["row", "gold", "rule of the grader"], unverified),
            _listing("Dropped rows", ["row", "reason", "detail"], dropped),
            "<footer>Made by <code>python -m training audit</code>. It holds rows of the dataset, whose licence goes "
            "with them.</footer>",
            "</main>",
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>Audit of {name}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _about(report: AuditReport) -> str:
    shown = {"revision": "commit", "split": "split", "seed": "seed", "base": "base"}
    facts = [f"{label} {report.about[key]}" for key, label in shown.items() if report.about.get(key) is not None]
    return escape(" · ".join(facts), 500)


def _tiles(report: AuditReport) -> str:
    tiles = {
        "rows kept": f"{report.num_kept:,}",
        "rows dropped": f"{len(report.dropped):,}",
        "golds that can be verified": percent(report.verified.value),
    }
    if report.prompts:
        tiles["prompt tokens, median"] = f"{report.prompts['prompt'].median:,}"
    if report.rollouts:
        tiles["correct (strict), base"] = percent(report.rollouts.pass_rate)
        tiles["nothing to learn from"] = percent(report.rollouts.zero_std.value, 0)
    return "<dl class=tiles>" + "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in tiles.items()) + "</dl>"


def _findings(report: AuditReport) -> str:
    items = "".join(f"<li>{escape(finding)}</li>" for finding in report.findings())
    return f'<ul class=findings aria-label="Findings">{items}</ul>' if items else ""


def _tables(report: AuditReport) -> str:
    parts = []
    for title, headings, cells in tables(report):
        if title == "Dropped":
            headings, cells = [*headings, "which means"], [[*line, REASONS[line[0]]] for line in cells]
        parts.append(f"<section><h2>{escape(title)}</h2>{_table(title, headings, cells)}</section>")
    return f"<div class=tables>{''.join(parts)}</div>"


def _table(title: str, headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th scope=col>{escape(heading)}</th>" for heading in headings)
    lines = []
    for line in cells:
        shown = [escape(cell) for cell in line]
        if "share" in headings:
            at = list(headings).index("share")
            shown[at] += f'<span class=bar style="--share:{shown[at].replace(" ", "")}"></span>'
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in shown) + "</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class=scroll tabindex=0 role=region aria-label="{escape(title)}">{table}</div>'


def _examples(examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    return f"<h2>Examples</h2>\n<div class=cards>{''.join(map(_card, examples))}</div>"


def _card(example: Example) -> str:
    tokens = f" · {example.prompt_tokens:,} tokens" if example.prompt_tokens is not None else ""
    row_id, sizes = escape(example.row_id, 100), ", ".join(f"{i.width} × {i.height}" for i in example.images)
    uris = [thumbnail_uri(image, THUMBNAIL_PIXELS) for image in example.images]
    names = [f"Picture {number} of row" for number in range(1, len(uris) + 1)] if len(uris) > 1 else ["Picture of row"]
    pictures = "".join(f'<img src="{uri}" alt="{name} {row_id}">' for name, uri in zip(names, uris))
    return (
        f"<article>{pictures}"
        f"<p class=text dir=auto tabindex=0>{escape(example.problem)}</p>"
        f"<p class=gold>Gold: <b><bdi>{escape(example.gold, 300)}</bdi></b></p>"
        f"<p class=small>{escape(example.role)} · {escape(example.rule)} · {sizes}{tokens}<br>"
        f"{row_id}</p></article>\n"
    )


def _listing(title: str, headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    if not cells:
        return ""
    more = f"<p class=small>The first {MAX_ROWS} of {len(cells):,}.</p>" if len(cells) > MAX_ROWS else ""
    return f"<h2>{escape(title)}</h2>{_table(title, headings, cells[:MAX_ROWS])}{more}"
