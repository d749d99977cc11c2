"""Cleaning takes away what only dresses an answer, and nothing else; typed formulas become LaTeX."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.grading.cleaning import MAX_ANSWER_CHARS, clean, nesting, to_latex


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("24", "24"),
        ("  $24$. ", "24"),
        ("$$24$$", "24"),
        ("\\(24\\)", "24"),
        ("\\boxed{24}", "24"),
        ("\\boxed{}", ""),
        ("**24** cm", "24 cm"),
        ("2**3", "2^3"),
        ("$5", "$5"),
        ("\\$5", "$5"),
        ("$\\$5$", "$5"),
        ("$5 or $6", "$5 or $6"),
        ("It is $2x$.", "It is 2x"),
        ("$23$ $24$", "23 ; 24"),
        ("\\left(1,\\,2\\right)", "(1, 2)"),
        ("24\\text{ cm}^2", "24 cm ^2"),
        ("\\mathrm{B}", "B"),
        ("\\dfrac12", "\\frac{1}{2}"),
        ("90^{\\circ}", "90°"),
        ("1{,}234", "1,234"),
        ("1\\,234", "1,234"),
        ("x ≤ 3", "x \\le 3"),
        ("x²", "x^{2}"),
        ("x₁", "x_{1}"),
        ("1½", "1 1/2"),
        ("−3", "-3"),
        ("２４", "24"),
        ("a\u2060b\u200b", "ab"),
        ("a\n\tb\x00c", "a b c"),
        ("1, 2, ...", "1, 2, ..."),
    ],
)
def test_clean(text: str, bare: str) -> None:
    assert clean(text) == bare


@given(st.text(max_size=MAX_ANSWER_CHARS))
def test_any_text(text: str) -> None:
    bare = clean(text)
    assert bare == bare.strip() and not any(ord(c) < 32 for c in bare)


def test_nesting() -> None:
    assert [nesting(text) for text in ("", "(1)", "{[(1)]}", "))((", "()()")] == [0, 1, 3, 0, 1]


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
