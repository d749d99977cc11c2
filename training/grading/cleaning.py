"""Takes the dress off an answer: dollar signs, `\\boxed`, LaTeX spacing, markdown, Unicode signs, a final full stop.

    >>> clean("**$\\\\boxed{\\\\dfrac{1}{2}}$**.")
    '\\\\frac{1}{2}'

The text is model output. Callers cap its length first (`MAX_ANSWER_CHARS`), so that no expression here can run long.
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import lru_cache

MAX_ANSWER_CHARS = 400
"""A longer gold or answer is compared letter by letter only."""
MAX_NESTING = 12
"""Mathematics with deeper brackets is not compared."""
MONEY = "\ue000"
"""Stands for a dollar sign that means money while those that mean mathematics are taken away."""

_SIGNS: dict[str, str] = {
    **dict.fromkeys("−‐‑‒–﹣－➖", "-"),
    **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\ufe0f", ""),
    **dict.fromkeys("✓✔✅☑", " "),
    **dict.fromkeys("‘’′", "'"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("·⋅∙", "\\cdot "),
    **dict.fromkeys("⁄∕÷", "/"),
    **dict.fromkeys("˚º", "°"),
    **{"×": "\\times ", "≤": "\\le ", "⩽": "\\le ", "≥": "\\ge ", "⩾": "\\ge ", "≠": "\\ne ", "≈": "\\approx "},
    **{"π": "\\pi ", "∞": "\\infty ", "±": "\\pm ", "√": "\\sqrt ", "∠": "\\angle ", "△": "\\triangle "},
    **{
        "∪": "\\cup ",
        "∩": "\\cap ",
        "∈": "\\in ",
        "∅": "\\emptyset ",
        "⊙": "\\odot ",
        "ℝ": "\\mathbb{R}",
        "∥": "\\parallel ",
        "⊥": "\\perp ",
    },
    **{"⟂": "\\perp ", "⟨": "\\langle ", "⟩": "\\rangle ", "≅": "\\cong ", "∼": "\\sim ", "∶": ":", "…": "..."},
    **{c: f" {unicodedata.normalize('NFKC', c)}".replace("\u2044", "/") for c in "½¼¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"},
    **{chr(0x2460 + i): f" {i + 1} " for i in range(20)},
    **{chr(0x24B6 + i): f" ({chr(65 + i)}) " for i in range(26)},
    **{chr(0x24D0 + i): f" ({chr(97 + i)}) " for i in range(26)},
    **{"μ": "\\mu ", "µ": "\\mu ", "ρ": "\\rho ", "σ": "\\sigma ", "ω": "\\omega ", "δ": "\\delta "},
    **{"α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "θ": "\\theta ", "φ": "\\phi ", "λ": "\\lambda "},
    **{chr(0xFF01 + i): chr(0x21 + i) for i in range(94) if chr(0xFF01 + i) != "－"},
}
_TRANSLATION = str.maketrans(_SIGNS)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|normal)?|math(?:rm|bf|it|sf)|operatorname|mbox|emph|boldsymbol)\s*\{([^{}]*)\}"
)
_DRESS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), plain)
    for pattern, plain in [
        (r"(?<=[0-9])(?:,?\\[,!:; ]|[\u2009\u202f\u00a0]|\{,\})(?=[0-9]{3}(?![0-9]))", ","),
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])\.?", ""),
        (r"\\(?:displaystyle|textstyle|limits|rm|bf|it)(?![a-zA-Z])", " "),
        (r"([,;])\s*\\q?quad(?![a-zA-Z])", r"\1 "),
        (r"\\q?quad(?![a-zA-Z])", " ; "),
        (r"(?<=[^\s.,;:!?])\s*\n\s*(?=[A-Z][a-z]+ [a-z])", ". "),
        (r"(?<=[^\s.,;:!?])\s*\n\s*(?=[A-Za-z]+ ?[:=] )", "; "),
        (r"<sup>([^<>]*)</sup>", r"^{\1}"),
        (r"<sub>([^<>]*)</sub>", r"_{\1}"),
        (r"^#{1,6}\s+|</?(?:b|i|strong|em|u|p|br|span) ?/?>", ""),
        (r"\\(begin|end)\{bmatrix\}", r"\\\1{pmatrix}"),
        (r"\\[lr]vert(?![a-zA-Z])", "|"),
        (r"\|\s*([A-Z]{1,3})\s*\|", r"|\1|"),
        (r"^\s*~\s*(?=[-+.0-9$€£\\])", r"\\approx "),
        (r"(?<=[0-9])~(?=[0-9])", "-"),
        (r"\\[,;:!> ]|~|[\u00a0\u2000-\u200a\u202f\u3000]", " "),
        (r"\{,\}", ","),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\frac\s*([0-9])\s*([0-9])", r"\\frac{\1}{\2}"),
        (r"\\leq(?:slant)?(?![a-zA-Z])|\\leqq(?![a-zA-Z])|<=", r"\\le "),
        (r"\\geq(?:slant)?(?![a-zA-Z])|\\geqq(?![a-zA-Z])|>=", r"\\ge "),
        (r"\\neq(?![a-zA-Z])|!=", r"\\ne "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})|\\degrees?(?![a-zA-Z])|\^\s*\{?°\}?", "°"),
        (r"\\%", "%"),
        (r"\\colon(?![a-zA-Z])", ":"),
        (r"(?<![\w)*])\*\*([^*]+)\*\*(?![\w(*])", r"\1"),
        (r"\*\*", "^"),
        (r"`", ""),
        (r"[\s\x00-\x1f\x7f-\x9f]+", " "),
    ]
]


_TYPED_FRACTION = re.compile(
    r"(?<![\w.)}^!_/])([0-9]+)\s*/\s*([0-9]+)(?=\s*(?:[a-zA-Z(]|\\(?!times|cdot|pm|le|ge|ne|in|to|cup|cap|times)[a-z]))"
)
"""A fraction of integers before a letter, a root or a bracket: `1/2 x` is `\\frac{1}{2}x`."""


_PLAIN = re.compile(r"-?[A-Za-z0-9]+(?:[./][0-9]+)?", re.ASCII)
"""A text with nothing to take away."""


@lru_cache(maxsize=4096)
def clean(text: str) -> str:
    """`text` (at most `MAX_ANSWER_CHARS` long) without what only dresses it; spaces single, ends bare."""
    if _PLAIN.fullmatch(text):
        return text
    text = _unboxed(text.strip())
    if "&" in text:
        text = html.unescape(text)
    text = "".join(map(_plain_character, text)) if not text.isascii() else text
    text = re.sub(r"[⁰¹²³⁴-⁹⁻⁺]+", lambda m: "^{" + m[0].translate(_SUPERSCRIPTS) + "}", text)
    text = re.sub(r"[₀-₉]+", lambda m: "_{" + m[0].translate(_SUBSCRIPTS) + "}", text)
    text = _without_math_signs(text.translate(_TRANSLATION))
    for _ in range(2):  # one inside another
        text = _TEXT.sub(r" \1 ", text)
    for pattern, plain in _DRESS:
        text = pattern.sub(plain, text)
    text = text.replace(MONEY, "$").strip().strip("*_").strip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text[:-1].rstrip() if text[-1:] in (".", "。", ",", ";") and text[-2:] != ".." else text


def _plain_character(c: str) -> str:
    """Digits of any script, letters and digits of mathematical alphabets, and Roman numerals, as ASCII."""
    if "\U0001d400" <= c <= "\U0001d7ff" or "\u2160" <= c <= "\u217f":
        return unicodedata.normalize("NFKC", c)
    return str(unicodedata.decimal(c)) if c not in "0123456789" and unicodedata.decimal(c, None) is not None else c


def _unboxed(text: str) -> str:
    """Boxes give way to what they hold; beside another box or a value it stays a value of its own."""
    for command in ("\\boxed{", "\\fbox{", "\\framebox{"):
        num_boxes = text.count(command)
        for _ in range(min(num_boxes, MAX_NESTING)):
            start = text.rfind(command)
            end = closing_brace(text, start + len(command) - 1)
            if end < 0:
                break
            inside = text[start + len(command) : end].strip()
            mark = " " if num_boxes == 1 else " ; "
            text = text[:start] + mark + inside + mark + text[end + 1 :]
    return text.strip(" ;")


def closing_brace(text: str, start: int) -> int:
    """The place of the brace that closes the one at `start`; -1 if there is none."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return i
    return -1


def _without_math_signs(text: str) -> str:
    """Dollar signs that only say "mathematics" go, as do `\\(`, `\\)`, `\\[`, `\\]`; money keeps its sign."""
    text = re.sub(r"\\\(|\\\)|\\\[|\\\]", "$", text.replace("\\$", MONEY)).replace("$$", "$")
    signs = text.count("$")
    if signs == 0:
        return text
    before_number = len(re.findall(r"\$(?=\s?\.?[0-9])", text))
    if before_number == signs and (signs == 1 or not text.endswith("$")):
        return text.replace("$", MONEY)
    return re.sub(r"\$\s*\$", " ; ", text.strip("$")).replace("$", "")


def boxed(text: str) -> str | None:
    """The contents of the last `\\boxed{…}` of `text`, braces balanced; `None` if there is none."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    end = closing_brace(text, start + len("\\boxed"))
    return text[start + len("\\boxed{") : end].strip() if end >= 0 else None


def nesting(text: str) -> int:
    """The greatest depth of brackets in `text`."""
    depth = deepest = 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        deepest = max(deepest, depth)
    return deepest


def to_latex(text: str) -> str:
    """Formulas as people type them, as LaTeX that means the same; decimals become exact fractions.

    >>> to_latex("sqrt(2)x^10 + 0.5")
    '\\\\sqrt{2}x^{10} + {\\\\frac{5}{10}}'
    """
    text = re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", text)
    text = re.sub(r"([0-9]*)\.([0-9]+)", _fraction, text)
    text = _TYPED_FRACTION.sub(r"\\frac{\1}{\2} ", text)
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
