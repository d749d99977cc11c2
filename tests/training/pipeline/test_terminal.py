"""A run's display: curves in a terminal, lines elsewhere, always with the step and the time left."""

from __future__ import annotations

import io
import re

from rich.console import Console

from training.pipeline.terminal import ProgressView, chart


def row(step: int, accuracy: float = 0.5) -> dict[str, float]:
    return {
        "step": step,
        "rewards/format_reward/mean": step / 30,
        "rewards/accuracy_reward/mean": accuracy,
        "completions/mean_length": 41.2,
        "frac_reward_zero_std": 0.25,
    }


def shown(is_terminal: bool, steps: range, num_steps: int = 30, earlier: int = 0) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=is_terminal, width=100, _environ={})
    view = ProgressView(num_steps, [row(step) for step in range(1, earlier + 1)], console)
    for step in steps:
        view.add(row(step))
    view.close()
    return output.getvalue()


def test_a_log_gets_lines_and_at_its_end_the_curves_without_colours() -> None:
    text = shown(False, range(1, 31))
    lines = [line for line in text.splitlines() if line.startswith("step ")]
    assert len(lines) == 2, "the first and the last; the others came within ten seconds"
    assert lines[-1].startswith("step 30 of 30  format 1.00  accuracy 0.50  41 tokens  no signal in 25 % of groups")
    assert re.search(r"\d:\d\d left$", lines[0])
    assert "\x1b" not in text and text.count("Correct (strict)") == 1 and "Format kept" in text


def test_a_terminal_gets_the_curves_at_every_step() -> None:
    text = shown(True, range(1, 4))
    assert text.count("Format kept") >= 3
    assert "step 3 of 30" in text and text.endswith("\x1b[?25h"), "the cursor is shown again"


def test_a_resumed_run_shows_the_steps_before_too_and_a_view_without_steps_draws_nothing() -> None:
    resumed, whole = chart([row(step) for step in range(1, 21)], 30), chart([row(step) for step in range(15, 21)], 30)
    assert resumed != whole
    assert shown(False, range(21, 24), earlier=20).count("┌") == 1
    assert shown(False, range(0)) == ""


def test_the_curves_stand_between_0_and_1_over_all_steps_of_the_run() -> None:
    """A run at its third step of thirty fills a tenth of the width; a metric that is missing is left out."""
    lines = chart([row(step, accuracy=1.0) for step in range(1, 4)], 30).splitlines()
    assert "1.00" in lines[1] and "0.00" in lines[-4]
    only_format = {name: value for name, value in row(2).items() if "accuracy" not in name}
    assert "Correct (strict)" not in chart([only_format], 30)
