"""Names of figures by their points: `AB`, `\\angle ABC`, `triangle ABC`; how they are read, and when two are one.

>>> same_label(read_label("\\\\angle ABC"), read_label("angle CBA"))
True
"""

from __future__ import annotations

import re

from training.grading.answers import Label

_POINT = r"[A-Z](?:'{1,2}|_\{?[0-9]\}?)?"
_FIGURES = {
    **dict.fromkeys(["segment", "line segment", "side", "chord", "edge", "diagonal", "\\overline", "\\bar"], "segment"),
    **dict.fromkeys(["diameter", "radius", "hypotenuse", "leg"], "segment"),
    **dict.fromkeys(["line", "\\overleftrightarrow"], "line"),
    **dict.fromkeys(["ray", "\\overrightarrow"], "ray"),
    **dict.fromkeys(["vector", "\\vec"], "ray"),
    **dict.fromkeys(["arc", "\\widehat", "\\wideparen", "\\overset{\\frown}"], "arc"),
    **dict.fromkeys(["angle", "\\angle", "m\\angle", "m \\angle", "\\measuredangle"], "angle"),
    **dict.fromkeys(["triangle", "\\triangle", "\\Delta"], "triangle"),
    **dict.fromkeys(["point", "vertex"], "point"),
    **dict.fromkeys(["quadrilateral", "polygon", "pentagon", "hexagon"], "polygon"),
    **dict.fromkeys(["square", "rectangle", "rhombus", "kite", "parallelogram", "trapezoid", "trapezium"], "polygon"),
}
_LABEL = re.compile(
    rf"(?:((?i:{'|'.join(re.escape(f) for f in sorted(_FIGURES, key=len, reverse=True))}))\s*)?"
    rf"\{{?((?:{_POINT}){{1,8}}|[0-9])\}}?"
)


def read_label(text: str) -> Label | None:
    """The name of a figure; capital letters that repeat (`SAS`) and Roman numerals name none."""
    match = _LABEL.fullmatch(text)
    if match is None:
        return None
    points = tuple(re.findall(rf"{_POINT}|[0-9]", match[2]))
    figure = _FIGURES.get(match[1]) or _FIGURES[match[1].lower()] if match[1] else ""
    if len(set(points)) < len(points) or (not figure and (len(points) < 2 or set(points) <= set("IVX"))):
        return None
    if points[0].isdigit() and figure not in ("angle", "line"):
        return None
    return Label(figure, points)


def same_label(gold: Label, answer: Label) -> bool:
    """Whether two names name one figure.

    `AB` and `BA` are one segment but two rays; an angle has its vertex in the middle; a triangle's corners stand in
    any order; a polygon's may start anywhere and run either way. What the figure is may be left out, not changed.
    """
    if gold.figure and answer.figure and gold.figure != answer.figure:
        return False
    one, other = gold.points, answer.points
    figures = {gold.figure, answer.figure}
    if one == other:
        return True
    if len(one) != len(other) or "ray" in figures:
        return False
    if "triangle" in figures:
        return set(one) == set(other)
    if len(one) <= 3:
        return one == other[::-1]
    turns = [other[i:] + other[:i] for i in range(len(other))]
    return one in turns or one[::-1] in turns


def same_name(gold: str, answer: str) -> bool:
    """Whether two names may mean one thing: `x` and `y` do not, `AB` and `BA` do; a name may be left out.

    Words ("perimeter", "Area of ABC") are not compared.
    """
    plain = [re.sub(r"^m(?=\\)|\\(?:angle|overline|triangle|measuredangle)|[{}]", "", name) for name in (gold, answer)]
    if not all(plain) or any(re.fullmatch(r"[A-Za-z]*[a-z]{2,}[A-Za-z]*", name) for name in plain):
        return True
    return plain[0] == plain[1] or (plain[0].isupper() and plain[0] == plain[1][::-1])
