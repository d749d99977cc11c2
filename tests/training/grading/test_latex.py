"""Typed formulas as LaTeX."""

from __future__ import annotations

import pytest

from training.grading.cleaning import to_latex


@pytest.mark.parametrize(
    ("typed", "latex"),
    [
        ("sqrt(2)", "\\sqrt{2}"),
        ("\\sqrt 12", "\\sqrt{12}"),
        ("x^10", "x^{10}"),
        ("x^(1/2)", "x^{1/2}"),
        ("2*x", "2\\cdot x"),
        ("1,234x", "1234x"),
        (".5", "{\\frac{5}{10}}"),
        ("2.50", "{\\frac{250}{100}}"),
        ("sin x", "\\sin  x"),
        ("\\sin x", "\\sin x"),
        ("(x+1)(x-1)", "(x+1) \\cdot (x-1)"),
        ("\\log_2(8)", "\\log_2(8)"),
    ],
)
def test_typed_formulas_become_latex(typed: str, latex: str) -> None:
    assert to_latex(typed) == latex
