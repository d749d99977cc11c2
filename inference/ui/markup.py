"""What a model wrote, as HTML that is safe to show: text, bold, code and LaTeX, and nothing else.

    >>> render("so <b> and **1**")
    '<p>so &lt;b&gt; and <strong>1</strong></p>'

Model output is hostile until shown otherwise: a picture can tell a model what to write. So everything is escaped
here, links and images stay text, and the only markup in the result is our own. Mathematics is handed to the page
between delimiters that no text can contain, because they are taken out of the text first.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

LATEX_DELIMITERS: list[dict[str, str | bool]] = [
    {"left": "\ue000", "right": "\ue001", "display": False},
    {"left": "\ue002", "right": "\ue003", "display": True},
]
"""For `gr.Markdown(latex_delimiters=…)`: private-use characters, which `render` alone writes."""
MAX_CHARS = 20_000
"""Longer text is cut for display."""
SHORT_ANSWER_CHARS = 48
"""An answer up to this length is shown in large letters."""

_UNWANTED = re.compile("[\ue000-\uf8ff\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_PIECE = re.compile(
    r"```[^\n`]*\n(?P<fence>.*?)(?:\n?```|\Z)"
    r"|`(?P<code>[^`\n]+)`"
    r"|\$\$(?P<display>.{1,2000}?)\$\$"
    r"|\\\[(?P<bracket>.{1,2000}?)\\\]"
    r"|\\\((?P<paren>.{1,2000}?)\\\)"
    r"|\$(?P<dollar>(?![\s$])(?:\\.|[^$\n\\])*?[^\s$\\]|[^\s$\\])\$(?!\d)",
    re.DOTALL,
)
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_WORD = re.compile(r"[A-Za-z]{3,}")
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|operatorname)\s*\{[^{}]*\}")


def render(text: str) -> str:
    """`text` as HTML blocks, one to a paragraph, with mathematics between `LATEX_DELIMITERS`."""
    text = _UNWANTED.sub("", text[:MAX_CHARS]).strip()
    blocks: list[str] = []
    paragraph = ""
    for piece in _pieces(text):
        if piece.startswith("<pre>"):
            blocks += [paragraph, piece]
            paragraph = ""
        else:
            first, *others = re.split(r"\n\s*\n", piece)
            paragraph += first
            for other in others:
                blocks.append(paragraph)
                paragraph = other
    blocks.append(paragraph)
    return "\n\n".join(block if block.startswith("<pre>") else _paragraph(block) for block in blocks if block.strip())


def render_answer(text: str) -> str:
    """As `render`, but a bare formula such as `\\frac{3}{4}` is set as mathematics, and a short answer is set large."""
    text = text.strip()
    blocks = render(f"\\({text}\\)" if _is_bare_formula(text) else text)
    if len(text) <= SHORT_ANSWER_CHARS and "\n" not in blocks:
        return blocks.replace("<p>", '<p class="lt-short">', 1)
    return blocks


def _pieces(text: str) -> Iterator[str]:
    """Escaped text, code and formulas in order; a formula never contains a blank line or a line break."""
    end = 0
    for match in _PIECE.finditer(text):
        yield html.escape(text[end : match.start()])
        end = match.end()
        kind, inner = match.lastgroup, html.escape(match[match.lastgroup or 0])
        if kind == "fence":
            yield "<pre><code>" + inner.replace("\n", "&#10;") + "</code></pre>"
        elif kind == "code":
            yield f"<code>{inner}</code>"
        else:
            marks = LATEX_DELIMITERS[kind in ("display", "bracket")]
            formula = re.sub(r"\s+", " ", inner)
            yield f"{marks['left']}{formula}{marks['right']}"
    yield html.escape(text[end:])


def _paragraph(text: str) -> str:
    """Line breaks, bold and headings of one paragraph whose text is escaped already."""
    lines = [re.sub(r"^#{1,6}\s+(.+)$", r"**\1**", line.strip()) for line in text.strip().split("\n")]
    joined = "<br>".join(lines)
    return "<p>" + re.sub(r"\*\*(?=\S)(.+?)(?<=\S)\*\*", r"<strong>\1</strong>", joined) + "</p>"


def _is_bare_formula(text: str) -> bool:
    """True for one line of LaTeX without delimiters and without ordinary words."""
    if not _COMMAND.search(text) or "\n" in text or _PIECE.search(text):
        return False
    return not _WORD.search(_COMMAND.sub("", _TEXT_COMMAND.sub("", text)))
