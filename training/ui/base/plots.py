"""Curves as small inline SVG: they grow without flicker, follow the page's colours, and need nothing from elsewhere.

    curves_plot({"20261122-143000-a1b2": [(1, 0.2), (2, 0.4)]}, METRICS["accuracy"])

The lines are drawn in a square that is stretched to the available width; titles, numbers and the dot at the end are
HTML around it, so that they keep their size. Colours: `--lt-line-1` and so on in `watch.css`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from inference.common.html import escape
from training.runs.metrics import Metric, is_number

Series = Sequence[tuple[float, float]]
MAX_SERIES = 6
"""Lines in one plot; there are so many colours."""
MAX_POINTS = 600
"""Points drawn of one line; no screen shows more."""
SMOOTH_FROM = 20
"""Lines of this many points or more are drawn as a moving mean, over the points themselves in pale."""
SMALLEST = 1e-290
"""Values nearer to 0 are drawn as 0, because the distances between them are 0 in floating point."""
_WINDOW = 5
"""Points on each side in a moving mean."""


def curves_plot(series: Mapping[str, Series], metric: Metric) -> str:
    """A figure as HTML: for each name (of a run) its points (step, value).

    Points that are not finite numbers are left out, and so are names beyond `MAX_SERIES`.
    """
    lines = {name: _finite(points) for name, points in list(series.items())[:MAX_SERIES]}
    drawn = {name: points for name, points in lines.items() if points}
    last = [_drawn(points)[-1][1] for points in drawn.values()]
    now = f'<span class="lt-plot-now">{metric.text(last[0])}</span>' if len(lines) == 1 and last else ""
    caption = f'<figcaption><span class="lt-plot-title">{escape(metric.label)}</span>{now}</figcaption>'
    inner = _area(lines, metric, _description(drawn, metric)) if drawn else '<p class="lt-plot-empty">No data yet</p>'
    legend = _legend(lines, metric) if len(lines) > 1 else ""
    return f'<figure class="lt-plot">{caption}{inner}{legend}</figure>'


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


def _drawn(points: Series) -> Series:
    """The line in full colour."""
    return smooth(points) if len(points) >= SMOOTH_FROM else points


def smooth(points: Series) -> list[tuple[float, float]]:
    """The moving mean of the values."""
    values = [value for _, value in points]
    around = [values[max(0, i - _WINDOW) : i + _WINDOW + 1] for i in range(len(values))]
    return [(step, sum(near) / len(near)) for (step, _), near in zip(points, around)]


def _area(lines: Mapping[str, Series], metric: Metric, description: str) -> str:
    """The axes and the lines between them."""
    drawn = [points for points in lines.values() if points]
    values = [y for points in drawn for _, y in points]
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
    for index, points in enumerate(lines.values(), 1):
        if not points:
            continue
        strong = _drawn(points)
        if strong is not points and len(drawn) == 1:
            curves += f'<path class="lt-pale lt-s{index}" d="{frame.path(points)}"/>'
        curves += f'<path class="lt-s{index}" d="{frame.path(strong)}"/>'
        x, y = strong[-1]
        dots += f'<i class="lt-end lt-s{index}" style="left:{frame.x(x):.1f}%;top:{frame.y(y):.1f}%"></i>'
    steps = f"<span>step {left:.0f}</span>" + (f"<span>{right:.0f}</span>" if right > left else "")
    return (
        f'<div class="lt-plot-area" role="img" aria-label="{description}"><div class="lt-plot-y">{labels}</div>'
        f'<div class="lt-plot-lines"><svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f'{grid}{curves}</svg>{dots}</div><div class="lt-plot-x">{steps}</div></div>'
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


def _legend(lines: Mapping[str, Series], metric: Metric) -> str:
    """The name of each line and its last value."""
    items = "".join(
        f'<li><i class="lt-key lt-s{index}"></i><span>{escape(name, 80)}</span>'
        f"<b>{metric.text(_drawn(points)[-1][1]) if points else 'no data'}</b></li>"
        for index, (name, points) in enumerate(lines.items(), 1)
    )
    return f'<ul class="lt-legend">{items}</ul>'


def _description(lines: Mapping[str, Series], metric: Metric) -> str:
    """The plot in words for screen readers, as an attribute."""
    sentences = []
    for name, points in lines.items():
        values = [value for _, value in _drawn(points)]
        words = f"{metric.text(values[-1])} at step {points[-1][0]:.0f}"
        if len(points) > 1:
            words = (
                f"from {metric.text(values[0])} at step {points[0][0]:.0f} to {words}, "
                f"lowest {metric.text(min(values))}, highest {metric.text(max(values))}"
            )
        sentences.append(words if len(lines) == 1 else f"{escape(name, 80)}: {words}")
    return f"{escape(metric.label)}: {'; '.join(sentences)}"
