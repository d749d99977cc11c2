"""The share of votes as confidence, checked on held-out problems (`training.evaluation.measures.calibration`).

The figures come from files that somebody may have edited: all is escaped, and a value that is no figure is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from inference.adapters.record import evaluation_of
from inference.common.html import escape
from training.evaluation.measures.calibration import said_of_share
from training.ui.base.html import finite, mapping

CONDITIONS = {"base-sampled": "The base", "adapter-sampled": "After training"}
_Bin = tuple[float, float, float, float, float]
"""The mean share of votes; the share that is right, its interval, and the rows."""


def vote_words(adapter: Path | None, is_base: bool, share: float) -> str:
    """A sentence on how often answers with that share of the votes were right on held-out problems."""
    condition = "base-sampled" if is_base else "adapter-sampled"
    said = said_of_share(_calibration(adapter).get(condition), share) if adapter else ""
    return said or "How often answers with such a share of votes are right has not been measured for this model."


def calibration_html(adapter: Path) -> str:
    """The reliability of the share of votes, of base and adapter; empty if it was not measured."""
    found = _calibration(adapter)
    parts = "".join(_figure_html(title, mapping(found.get(name))) for name, title in CONDITIONS.items())
    return f'<div class="lt-reliabilities">{parts}</div>' if parts else ""


def _figure_html(title: str, measured: Mapping[str, object]) -> str:
    dots = rows = ""
    for votes, value, low, high, num_rows in _bins(measured):
        places = {"x": votes, "y": value, "low": low, "high": high}
        style = ";".join(f"--{name}:{100 * place:.1f}%" for name, place in places.items())
        dots += f'<b style="{style}"></b><i style="{style}"></i>'
        cells = f"{100 * votes:.0f} %", f"{100 * value:.0f} % ({100 * low:.0f} to {100 * high:.0f})", f"{num_rows:.0f}"
        rows += f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    if not dots:
        return ""
    sentence = escape(measured.get("sentence") or "", 500)
    return (
        f'<figure class="lt-reliability"><figcaption>{title}</figcaption><div class="lt-reliability-area" role="img" '
        f'aria-label="{sentence}">{dots}</div><p class="lt-quiet">Across: share of votes. Up: share that is right, '
        f"with its interval. On the line both are the same.</p><p>{sentence}</p>"
        f'<details class="lt-fold"><summary>Figures</summary><table class="lt-table"><thead><tr><th>Share of votes</th>'
        f"<th>Right</th><th>Problems</th></tr></thead><tbody>{rows}</tbody></table></details></figure>"
    )


def _calibration(adapter: Path) -> Mapping[str, object]:
    return mapping(evaluation_of(adapter).get("calibration"))


def _bins(measured: object) -> list[_Bin]:
    """The bins of one condition whose values are all figures."""
    found = []
    bins = mapping(measured).get("bins")
    for one in bins[:20] if isinstance(bins, list) else []:
        right = mapping(mapping(one).get("right"))
        values = [
            finite(mapping(one).get("confidence")),
            *(finite(right.get(n)) for n in ("value", "low", "high", "num_rows")),
        ]
        if all(value is not None for value in values):
            found.append(tuple(values))
    return found  # type: ignore[return-value]
