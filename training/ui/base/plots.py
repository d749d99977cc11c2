"""Curves as small inline SVG: they grow without flicker, follow the page's colours, and need nothing from elsewhere.

    curves_plot({"20261122-143000-a1b2": [(1, 0.2), (2, 0.4)]}, "Accuracy", "%")

The lines are drawn in a square that is stretched to whatever width there is; what is to be read (titles, numbers,
the dot at the end) is HTML around it, so that it keeps its size. Colours: `--lt-line-1` and so on in `watch.css`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from training.ui.base.html import escape

Series = Sequence[tuple[float, float]]
MAX_SERIES = 6
"""Lines in one plot; there are so many colours."""
MAX_POINTS = 600
"""Points drawn of one line: more than that no screen shows."""
SMOOTH_FROM = 20
"""Lines of this many points or more are drawn as a mean, over the points themselves in pale."""
SMALLEST = 1e-290
"""What is nearer to 0 is drawn as 0: steps between such numbers are 0 themselves."""
_WINDOW = 5
"""Points on each side that a mean takes in."""


def curves_plot(series: Mapping[str, Series], title: str, unit: str = "") -> str:
    """A figure as HTML: for each name (of a run) its points (step, value).

    With the unit `%` values are shares from 0 to 1 and are shown in per cent; another unit stands behind the numbers.
    Points that are not finite numbers are left out. Beyond `MAX_SERIES` names the rest are left out.
    """
    lines = {name: _finite(points) for name, points in list(series.items())[:MAX_SERIES]}
    drawn = {name: points for name, points in lines.items() if points}
    shown = [_drawn(points)[-1][1] for points in drawn.values()]
    now = f'<span class="lt-plot-now">{number(shown[0], unit)}</span>' if len(lines) == 1 and shown else ""
    caption = f'<figcaption><span class="lt-plot-title">{escape(title)}</span>{now}</figcaption>'
    if not drawn:
        inner = '<p class="lt-plot-empty">No figures yet</p>'
    else:
        inner = _area(lines, unit, _in_words(drawn, title, unit))
    legend = _legend(lines, unit) if len(lines) > 1 else ""
    return f'<figure class="lt-plot">{caption}{inner}{legend}</figure>'


def number(value: float, unit: str = "") -> str:
    """A value with its unit, as short as it is clear.

    >>> number(0.8125, "%"), number(34.2, "tokens"), number(0.0138)
    ('81 %', '34 tokens', '0.014')
    """
    if unit == "%":
        return f"{100 * value:.0f} %".replace("-0 %", "0 %")
    size = abs(value)
    decimals = 0 if size >= 100 or value == 0 else 1 if size >= 20 else 2 if size >= 0.1 else 3
    if unit:
        decimals = 0 if size >= 20 or value == 0 else 1
    text = f"{value:.0e}" if 0 < size < 0.0005 else f"{value:,.{decimals}f}"
    return text.replace("-", "−" if text.startswith("-") else "-", 1) + (f" {escape(unit)}" if unit else "")


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
    """Those that can be drawn, in order of the steps; at most `MAX_POINTS`, the newest among them."""
    kept = sorted((float(x), float(y)) for x, y in points if _is_number(x) and _is_number(y))
    if len(kept) <= MAX_POINTS:
        return kept
    stride = math.ceil(len(kept) / MAX_POINTS)
    return kept[(len(kept) - 1) % stride :: stride]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1e15


def _drawn(points: Series) -> Series:
    """The line that is drawn in full colour."""
    return smooth(points) if len(points) >= SMOOTH_FROM else points


def smooth(points: Series) -> list[tuple[float, float]]:
    """Each value as the mean of those around it."""
    values = [value for _, value in points]
    around = [values[max(0, i - _WINDOW) : i + _WINDOW + 1] for i in range(len(values))]
    return [(step, sum(near) / len(near)) for (step, _), near in zip(points, around)]


def _area(lines: Mapping[str, Series], unit: str, words: str) -> str:
    """The axes and what lies between them."""
    drawn = [points for points in lines.values() if points]
    values = [y for points in drawn for _, y in points]
    are_shares = unit == "%" and min(values) >= 0 and max(values) <= 1
    marks = [0.0, 0.5, 1.0] if are_shares else ticks(min([0.0, *values]), max([0.0, *values]))
    left = min(points[0][0] for points in drawn)
    right = max(points[-1][0] for points in drawn)
    frame = _Frame(left, right, marks[0], marks[-1])
    grid = "".join(f'<path class="lt-grid" d="M0 {frame.y(mark):.1f}H100"/>' for mark in marks)
    labels = "".join(
        f'<span style="bottom:{100 - frame.y(mark):.1f}%">{_tick(mark, marks, unit)}</span>' for mark in marks
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
        f'<div class="lt-plot-area" role="img" aria-label="{words}"><div class="lt-plot-y">{labels}</div>'
        f'<div class="lt-plot-lines"><svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f'{grid}{curves}</svg>{dots}</div><div class="lt-plot-x">{steps}</div></div>'
    )


class _Frame:
    """From steps and values to a square of 100 by 100 whose origin is at the top left."""

    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self._left, self._width = left, (right - left) or 1.0
        self._low, self._height = low, (high - low) or 1.0

    def x(self, step: float) -> float:
        return 100 * (step - self._left) / self._width

    def y(self, value: float) -> float:
        return 100 - 100 * (value - self._low) / self._height

    def path(self, points: Series) -> str:
        return "M" + "L".join(f"{self.x(x):.2f} {self.y(y):.2f}" for x, y in points)


def _tick(mark: float, marks: Sequence[float], unit: str) -> str:
    """A label of the axis: no more decimals than the distance between two of them needs."""
    if unit == "%":
        return f"{100 * mark:.0f} %"
    step = marks[1] - marks[0]
    decimals = min(9, max(0, -math.floor(math.log10(step) + 1e-9))) if step > 0 else 0
    if step * 10**decimals % 1 > 1e-6:  # 0.25 needs two
        decimals += 1
    return f"{mark:,.{decimals}f}".replace("-", "−")


def _legend(lines: Mapping[str, Series], unit: str) -> str:
    """Which line is which, and where it ends."""
    items = "".join(
        f'<li><i class="lt-key lt-s{index}"></i><span>{escape(name, 80)}</span>'
        f"<b>{number(_drawn(points)[-1][1], unit) if points else 'no figures'}</b></li>"
        for index, (name, points) in enumerate(lines.items(), 1)
    )
    return f'<ul class="lt-legend">{items}</ul>'


def _in_words(lines: Mapping[str, Series], title: str, unit: str) -> str:
    """The plot for who cannot see it, as an attribute."""
    told = []
    for name, points in lines.items():
        values = [value for _, value in _drawn(points)]
        said = f"{number(values[-1], unit)} at step {points[-1][0]:.0f}"
        if len(points) > 1:
            said = f"from {number(values[0], unit)} at step {points[0][0]:.0f} to {said}, "
            said += f"lowest {number(min(values), unit)}, highest {number(max(values), unit)}"
        told.append(said if len(lines) == 1 else f"{escape(name, 80)}: {said}")
    return f"{escape(title)}: {'; '.join(told)}"
