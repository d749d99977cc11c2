"""A run's progress in the terminal: the step, the time left, and the curves of its rewards.

In a terminal the lines are drawn anew at each step; elsewhere (a log, a pipe) a line is written now and then, and the
curves once, at the end.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

import plotext
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from inference.common.files import Json
from training.runs.metrics import CURVES, REWARDED, is_figure, reward_labels

COLOURS = ("blue+", "orange+")
"""Of the rewards' curves, in turn."""
_NAMES = {CURVES[name]: name for name in REWARDED}
_LINE_SECONDS = 10.0
"""Between two lines where the output is no terminal."""
_WIDTH, _HEIGHT = 76, 12


class ProgressView:
    """Shows a run's steps on standard error until it is closed; `history` are those of earlier starts."""

    def __init__(
        self,
        num_steps: int,
        history: Sequence[Json],
        console: Console | None = None,
        after: Callable[[float], float] = lambda step_seconds: 0.0,
    ) -> None:
        """`after` gives the seconds of the stages after the last step, by those of a step."""
        self.num_steps, self._history, self._after = num_steps, list(history), after
        self._num_earlier = len(self._history)
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._started, self._line_at = time.monotonic(), 0.0
        if self._live:
            self._live.start()

    def close(self) -> None:
        """Ends the display; the curves stay."""
        if self._live:
            self._live.stop()
        elif len(self._history) > self._num_earlier:
            self._console.print(Text(plotext.uncolorize(chart(self._history, self.num_steps))), soft_wrap=True)

    def add(self, metrics: Json) -> None:
        """Shows a step that is done."""
        self._history.append(metrics)
        line = self._line(metrics)
        if self._live:
            curves = Text.from_ansi(chart(self._history, self.num_steps))
            self._live.update(Group(Text(line), curves), refresh=True)
        elif time.monotonic() - self._line_at >= _LINE_SECONDS or metrics["step"] == self.num_steps:
            self._line_at = time.monotonic()
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _line(self, metrics: Json) -> str:
        done = metrics["step"] - (self._history[self._num_earlier - 1]["step"] if self._num_earlier else 0)
        seconds = (time.monotonic() - self._started) / max(1, done)
        left = (self.num_steps - metrics["step"]) * seconds + self._after(seconds)
        parts = [
            f"{_NAMES.get(column, label)} {metrics[column]:.2f}" for column, label in reward_labels([metrics]).items()
        ]
        parts.append(f"{metrics[CURVES['completion_tokens']]:.0f} tokens")
        parts.append(f"no signal in {100 * metrics[CURVES['zero_std_share']]:.0f} % of groups")
        clock = f"{left // 60:.0f}:{left % 60:02.0f} left"
        return f"step {metrics['step']} of {self.num_steps}  {'  '.join(parts)}  {clock}"


def chart(history: Sequence[Json], num_steps: int) -> str:
    """The curves of the rewards over the steps, as text with ANSI colours; every line ends with a reset."""
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(_WIDTH, _HEIGHT)
    lowest, highest = 0.0, 1.0
    for (column, label), colour in zip(reward_labels(history).items(), itertools.cycle(COLOURS)):
        points = [(row["step"], row[column]) for row in history if is_figure(row.get(column))]
        lowest, highest = min(lowest, *(value for _, value in points)), max(highest, *(value for _, value in points))
        plotext.plot(*zip(*points), label=label, marker="braille", color=colour)
    plotext.ylim(lowest, highest)
    plotext.xlim(1, max(2, num_steps))
    plotext.xlabel("step")
    return str(plotext.build())
