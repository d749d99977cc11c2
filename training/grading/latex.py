"""Formulas as people and models type them, turned to LaTeX that math-verify reads exactly."""

from __future__ import annotations

import re


def to_latex(text: str) -> str:
    """Formulas as people type them, as LaTeX that means the same; decimals become exact fractions.

    >>> to_latex("sqrt(2)x^10 + 0.5")
    '\\\\sqrt{2}x^{10} + {\\\\frac{5}{10}}'
    """
    text = re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", text)
    text = re.sub(r"([0-9]*)\.([0-9]+)", _fraction, text)
    text = re.sub(r"\\?(?<![a-z])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\?(?<![a-z])sqrt\s*([0-9]+|\\pi(?![a-z])|[a-zA-Z](?![a-z]))", r"\\sqrt{\1}", text)
    text = re.sub(r"\^\s*\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"\^\s*(-?[0-9]+)", r"^{\1}", text)
    text = re.sub(r"(?<![\\a-zA-Z])(pi|sin|cos|tan|cot|sec|csc|log|ln|exp)(?![a-z])", r"\\\1 ", text)
    text = text.replace("*", "\\cdot ")
    text = re.sub(r"\)\s*\(", r") \\cdot (", text)  # side by side, numbers would be read as mixed: 1 + 3 for (1)(3)
    return re.sub(r"(?<![_^{0-9.a-zA-Z])([0-9]+)\s*\(", r"\1 \\cdot (", text)


def _fraction(match: re.Match[str]) -> str:
    top = int((match[1] + match[2]).lstrip("0") or "0")
    return f"{{\\frac{{{top}}}{{{10 ** len(match[2])}}}}}"
