"""Curves as small inline SVG: they grow without flicker, follow the page's colours, and need nothing from elsewhere.

    curves_plot({"20261122-143000-a1b2": [(1, 0.2), (2, 0.4)]}, METRICS["accuracy"])

The lines are drawn in a square that is stretched to the available width; titles, numbers and the dot at the end are
HTML around it, so that they keep their size. Colours: `--lt-line-1` and so on in `watch.css`. `plots.js` reads the
values back from the drawn lines, so no figure is sent twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from inference.common.html import escape
from training.runs.metrics import Metric, is_number

Series = Sequence[tuple[float, float]]
MAX_SERIES = 6
"""Lines in one plot; there are so many colours."""
MAX_POINTS = 600
"""Points drawn of one line; no screen shows more."""
SMOOTH_FROM = 20
"""In a plot with a line of this many points or more, lines are moving means; a single one has its points in pale."""
SMALLEST = 1e-290
"""Values nearer to 0 are drawn as 0, because the distances between them are 0 in floating point."""
_WINDOW = 5
"""Points on each side in a moving mean."""
_EMPTY = '<p class="lt-plot-empty">No data yet</p>'
PLOTS_JS = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
"""Values under the pointer, zoom, and titles that stay unfolded; for `gr.HTML(js_on_load=...)` around plots."""


def curves_plot(series: Mapping[str, Series], metric: Metric, base: float | None = None) -> str:
    """A figure as HTML: for each name (of a run) its points (step, value), and the base's value as a level line.

    Points that are not finite numbers are left out, and so are names beyond `MAX_SERIES`. If one line is long enough to
    be smoothed, all are.
    """
    raw = {name: _finite(points) for name, points in list(series.items())[:MAX_SERIES]}
    is_smooth = any(len(points) >= SMOOTH_FROM for points in raw.values())
    lines = {name: smooth(points) if is_smooth else points for name, points in raw.items()}
    drawn = {name: points for name, points in lines.items() if points}
    last = [points[-1][1] for points in drawn.values()]
    now = f'<span class="lt-plot-now">{metric.text(last[0])}</span>' if len(lines) == 1 and last else ""
    pale = next(iter(raw.values())) if is_smooth and len(drawn) == 1 and len(raw) == 1 else []
    base = base if is_number(base) else None
    area = _area(lines, pale, base, metric, _description(drawn, metric)) if drawn else _EMPTY
    legend = _legend(lines, base, metric) if len(lines) > 1 or base is not None and drawn else ""
    how = f" The line is the mean of {2 * _WINDOW + 1} neighbouring steps." if is_smooth else ""
    return f'<figure class="lt-plot">{_caption(metric, how, now)}{area}{legend}</figure>'


def _caption(metric: Metric, how: str, now: str) -> str:
    """The title, which shows on a click what the curve means, and the newest value."""
    title = f'<span class="lt-plot-title">{escape(metric.label)}</span>'
    if metric.meaning:
        title = (
            f'<details class="lt-fold" data-key="{escape(metric.column)}"><summary>{title}</summary>'
            f"<p>{escape(metric.meaning)}{how}</p></details>"
        )
    return f"<figcaption>{title}{now}</figcaption>"


def ticks(low: float, high: float) -> list[float]:
    """Two to five round numbers, the first at or below `low`, the last at or above `high`.

    >>> ticks(0, 34.2)
    [0.0, 10.0, 20.0, 30.0, 40.0]
    """
    if max(abs(low), abs(high)) < SMALLEST:
        low, high = min(0.0, math.copysign(1.0, low)), 1.0
    elif low == high:
        low, high = low - abs(low), low + abs(low)
    power = 10.0 ** math.floor(math.log10(high - low))
    for step in (factor * power for factor in (0.2, 0.25, 0.5, 1, 2, 5)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= 4:
            return [i * step for i in range(first, last + 1)]
    return [low, high]


def _finite(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that can be drawn, in order of the steps; at most `MAX_POINTS`, the newest among them."""
    usable = sorted((float(x), float(y)) for x, y in points if is_number(x) and is_number(y))
    if len(usable) <= MAX_POINTS:
        return usable
    stride = math.ceil(len(usable) / MAX_POINTS)
    return usable[(len(usable) - 1) % stride :: stride]


def smooth(points: Series) -> list[tuple[float, float]]:
    """The moving mean of the values."""
    values = [value for _, value in points]
    around = [values[max(0, i - _WINDOW) : i + _WINDOW + 1] for i in range(len(values))]
    return [(step, sum(near) / len(near)) for (step, _), near in zip(points, around)]


def _area(lines: Mapping[str, Series], pale: Series, base: float | None, metric: Metric, description: str) -> str:
    """The axes and the lines between them; `pale` are the points that the one line is the mean of."""
    drawn = [points for points in lines.values() if points]
    values = [y for points in (*drawn, pale) for _, y in points] + ([] if base is None else [base])
    are_shares = metric.unit == "%" and min(values) >= 0 and max(values) <= 1
    marks = [0.0, 0.5, 1.0] if are_shares else ticks(min([0.0, *values]), max([0.0, *values]))
    left = min(points[0][0] for points in drawn)
    right = max(points[-1][0] for points in drawn)
    frame = _Frame(left, right, marks[0], marks[-1])
    grid = "".join(f'<path class="lt-grid" d="M0 {frame.y(mark):.1f}H100"/>' for mark in marks)
    labels = "".join(
        f'<span style="bottom:{100 - frame.y(mark):.1f}%">{_tick(mark, marks, metric)}</span>' for mark in marks
    )
    curves, dots = "", ""
    if base is not None:
        curves += f'<path class="lt-base" d="M0 {frame.y(base):.2f}H100"/>'
    if pale:
        curves += f'<path class="lt-pale lt-s1" d="{frame.path(pale)}"/>'
    for index, points in enumerate(lines.values(), 1):
        if not points:
            continue
        curves += f'<path class="lt-s{index}" d="{frame.path(points)}"/>'
        x, y = points[-1]
        dots += f'<i class="lt-end lt-s{index}" style="left:{frame.x(x):.1f}%;top:{frame.y(y):.1f}%"></i>'
    return (
        f'<div class="lt-plot-area" tabindex="0" role="img" aria-label="{description}" data-left="{left!r}" '
        f'data-right="{right!r}" data-low="{marks[0]!r}" data-high="{marks[-1]!r}" data-unit="{escape(metric.unit)}">'
        f'<div class="lt-plot-y">{labels}</div><div class="lt-plot-lines"><svg viewBox="0 0 100 100" '
        f'preserveAspectRatio="none" aria-hidden="true">{grid}{curves}</svg>{dots}</div>'
        f'<div class="lt-plot-x"><span>{left:.0f}</span><span>step</span><span>{right:.0f}</span></div></div>'
    )


class _Frame:
    """Maps steps and values to a square of 100 by 100 whose origin is at the top left."""

    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self._left, self._width = left, (right - left) or 1.0
        self._low, self._height = low, (high - low) or 1.0

    def x(self, step: float) -> float:
        return 100 * (step - self._left) / self._width

    def y(self, value: float) -> float:
        return 100 - 100 * (value - self._low) / self._height

    def path(self, points: Series) -> str:
        return "M" + "L".join(f"{self.x(x):.2f} {self.y(y):.2f}" for x, y in points)


def _tick(mark: float, marks: Sequence[float], metric: Metric) -> str:
    """A label of the axis, with no more decimals than the distance between two of them needs."""
    if metric.unit == "%":
        return metric.text(mark)
    step = marks[1] - marks[0]
    decimals = min(9, max(0, -math.floor(math.log10(step) + 1e-9))) if step > 0 else 0
    if step * 10**decimals % 1 > 1e-6:  # 0.25 needs two
        decimals += 1
    return f"{mark:,.{decimals}f}".replace("-", "−")


def _legend(lines: Mapping[str, Series], base: float | None, metric: Metric) -> str:
    """The name of each line and its last value."""
    items = "".join(
        f'<li><i class="lt-key lt-s{index}"></i><span>{escape(name, 80)}</span>'
        f"<b>{metric.text(points[-1][1]) if points else 'no data'}</b></li>"
        for index, (name, points) in enumerate(lines.items(), 1)
        if len(lines) > 1
    )
    if base is not None:
        items += (
            f'<li><i class="lt-key lt-base"></i><span>base, on the test problems</span><b>{metric.text(base)}</b></li>'
        )
    return f'<ul class="lt-legend">{items}</ul>'


def _description(lines: Mapping[str, Series], metric: Metric) -> str:
    """The plot in words for screen readers, as an attribute; its lines are as drawn."""
    sentences = []
    for name, points in lines.items():
        values = [value for _, value in points]
        words = f"{metric.text(values[-1])} at step {points[-1][0]:.0f}"
        if len(points) > 1:
            words = (
                f"from {metric.text(values[0])} at step {points[0][0]:.0f} to {words}, "
                f"lowest {metric.text(min(values))}, highest {metric.text(max(values))}"
            )
        sentences.append(words if len(lines) == 1 else f"{escape(name, 80)}: {words}")
    return f"{escape(metric.label)}: {'; '.join(sentences)}"
