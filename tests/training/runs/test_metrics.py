"""Numbers are short and carry their unit."""

import pytest

from training.runs.metrics import METRICS, number


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.8125, "%", "81 %"),
        (-0.001, "%", "0 %"),
        (34.2, "tokens", "34 tokens"),
        (12.5, "tokens", "12.5 tokens"),
        (-0.46, "", "−0.46"),
        (1.3125, "", "1.31"),
        (0.0138, "", "0.014"),
        (0, "", "0"),
        (1e-5, "", "1e-05"),
        (12345.6, "", "12,346"),
    ],
)
def test_numbers_are_short_and_carry_their_unit(value, unit, text):
    assert number(value, unit) == text


def test_a_metric_writes_its_values():
    assert METRICS["accuracy"].text(0.8125) == "81 %" and METRICS["completion_tokens"].text(34.2) == "34 tokens"
