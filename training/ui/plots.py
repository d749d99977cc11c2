"""Curves as small inline SVG: they grow without flicker, follow the page's colours, and need nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Series = Sequence[tuple[float, float]]


def curves_plot(series: Mapping[str, Series], title: str, unit: str = "") -> str:
    """A figure as HTML: for each name (of a run) its points (step, value).

    With the unit `%` values are shares from 0 to 1 and are shown in per cent; another unit stands behind the numbers.
    """
    raise NotImplementedError
