"""Curves as SVG: round marks, nothing outside the frame, words that say what the lines show, foreign names as text."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.runs.metrics import METRICS, Metric
from training.ui.base.plots import MAX_SERIES, curves_plot, smooth, ticks

VALUES = st.floats(-1e6, 1e6) | st.sampled_from([float("nan"), float("inf"), 0.0, 1e-12])
POINTS = st.lists(st.tuples(st.integers(0, 5000), VALUES), max_size=60)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_marks_span_the_values(low, width):
    marks = ticks(low, low + width)
    slack = 1e-6 * max(abs(low), width)
    assert 2 <= len(marks) <= 5 and marks == sorted(set(marks))
    assert marks[0] <= low + slack and marks[-1] >= low + width - slack


@pytest.mark.parametrize(("low", "high"), [(0.0, 5e-324), (-5e-324, 0.0), (0.0, 0.0), (-1e-300, 1e-310), (-2.0, -2.0)])
def test_marks_of_next_to_nothing(low, high):
    marks = ticks(low, high)
    assert 2 <= len(marks) <= 5 and marks == sorted(set(marks)) and marks[0] <= low and high <= marks[-1]


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=20), POINTS, max_size=9), st.sampled_from(["", "%", "tokens"]))
def test_whatever_is_drawn_stays_in_the_frame(series, unit):
    svg = curves_plot(series, Metric("Reward", unit))
    paths = re.findall(r'class="(?:lt-pale )?lt-s\d" d="M([^"]*)"', svg)
    numbers = [float(n) for path in paths for n in re.split("[ L]", path)]
    assert all(-0.01 <= n <= 100.01 for n in numbers)
    assert len(set(re.findall(r"lt-s(\d)", svg))) <= MAX_SERIES


def test_one_line_says_where_it_stands_and_several_say_which_is_which():
    one = curves_plot({"run": [(1, 0.25), (2, 0.5)]}, Metric("Accuracy", "%"))
    assert '<span class="lt-plot-now">50 %</span>' in one and "lt-legend" not in one
    assert 'aria-label="Accuracy: from 25 % at step 1 to 50 % at step 2, lowest 25 %, highest 50 %"' in one
    two = curves_plot({"first": [(1, 0.25)], "<b>second</b>": [], "third": [(3, 0.5)]}, Metric("Accuracy", "%"))
    assert two.count("<li>") == 3 and "&lt;b&gt;second" in two and "no data" in two and "<b>second" not in two
    assert 'class="lt-s3"' in two, "a line keeps its colour where another is empty"
    assert "No data yet" in curves_plot({"run": []}, METRICS["loss"])


def test_long_curves_are_drawn_as_a_mean_that_ends_where_the_number_says():
    points = [(step, float(step % 2)) for step in range(1, 1001)]
    svg = curves_plot({"run": points}, METRICS["reward"])
    assert svg.count("lt-pale") == 1 and len(svg) < 40_000
    both = curves_plot({"long": points, "short": points[:6]}, METRICS["reward"])
    short = re.search(r'class="lt-s2" d="M([^"]*)"', both)[1].split("L")
    assert len({pair.split()[1] for pair in short}) < 3, "the shorter line of two is smoothed as the longer one"
    assert smooth([(1, 0.0), (2, 1.0), (3, 2.0)]) == [(1, 1.0), (2, 1.0), (3, 1.0)]


def test_the_base_is_a_level_line_and_a_title_tells_what_its_curve_means():
    html = curves_plot({"run": [(1, 0.25), (2, 0.5)]}, METRICS["accuracy"], base=0.75)
    assert 'class="lt-base" d="M0 25.00H100"' in html and "<b>75 %</b>" in html
    assert METRICS["accuracy"].meaning[:40] in html and html.count(">step<") == 1
    assert "lt-base" not in curves_plot({"run": [(1, 0.25)]}, METRICS["accuracy"], base=float("nan"))
