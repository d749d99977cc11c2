"""Markdown that a model wrote, as HTML that is safe to show: lists, tables, code and LaTeX; no links, no raw HTML.

    >>> render("so <b> and **1**")
    '<p>so &lt;b&gt; and <strong>1</strong></p>'

Model output is hostile: a picture can tell a model what to write. So all text is escaped, links and images stay text,
and the work and the result are bounded. Formulas are handed to the page between delimiters that no text can contain,
because they are taken out of the text first. Only `**` marks emphasis: `3*4*5` and `x_1` are meant as written.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

LATEX_DELIMITERS: list[dict[str, str | bool]] = [
    {"left": "\ue000", "right": "\ue001", "display": False},
    {"left": "\ue002", "right": "\ue003", "display": True},
]
"""For `gr.Markdown(latex_delimiters=…)`: private-use characters, which `render` alone writes."""
MAX_CHARS = 20_000
"""Longer text is cut for display."""
MAX_HTML_CHARS = 300_000
"""Text whose HTML would be longer, such as a table of thousands of empty columns, is shown as it is."""
MAX_NESTING = 40
"""Depth of lists and quotes within each other."""
SHORT_ANSWER_CHARS = 48
"""An answer up to this length is shown in large letters."""

_UNWANTED = re.compile("[\ue000-\uf8ff\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_DISPLAY = re.compile(r"\$\$(?P<display>.{1,2000}?)\$\$|\\\[(?P<bracket>.{1,2000}?)\\\]", re.DOTALL)
_INLINE = re.compile(
    r"\\\((?P<paren>.{1,2000}?)\\\)"
    r"|(?<![0-9A-Za-z])\$(?P<dollar>(?![\s$/])(?!\d[^$\n\\]*\b(?:and|or|to|vs|versus|per|for|but)\b)(?:\\.|[^$\n\\]){0,2000}?(?:[^\s$\\]|\\.))\$(?!\d)",
    re.DOTALL,
)
_BOLD = re.compile(r"\*\*(?=\S)(.{1,2000}?)(?<=\S)\*\*", re.DOTALL)
_RULES = ("text", "newline", "backticks", "fence", "blockquote", "hr", "list", "heading", "table", "paragraph")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_WORD = re.compile(r"[A-Za-z]{3,}")
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|operatorname)\s*\{[^{}]*\}")


@functools.lru_cache(maxsize=256)
def render(text: str) -> str:
    """`text` as HTML blocks, with formulas between `LATEX_DELIMITERS`."""
    text = _UNWANTED.sub("", text[:MAX_CHARS]).strip()
    shown = _MARKDOWN.render(text).strip()
    if len(shown) > MAX_HTML_CHARS:
        shown = "<p>" + html.escape(re.sub(r"\n+", "\n", text)) + "</p>"
    return shown


def render_answer(text: str) -> str:
    """Like `render`, but a bare formula such as `\\frac{3}{4}` is set as one, and a short answer is set large."""
    text = text.strip()
    if len(text) > SHORT_ANSWER_CHARS or "\n" in text:
        return render(text)
    text = _UNWANTED.sub("", text)  # on one line nothing is a list: "7." is a number
    if _is_bare_formula(text):
        text = f"\\({text}\\)"
    return f'<p class="lt-short">{_MARKDOWN.renderInline(text)}</p>'


def _is_bare_formula(text: str) -> bool:
    """True for LaTeX without delimiters and without ordinary words."""
    if not _COMMAND.search(text) or "`" in text or _DISPLAY.search(text) or _INLINE.search(text):
        return False
    return not _WORD.search(_COMMAND.sub("", _TEXT_COMMAND.sub("", text)))


def _formula(state: StateInline, silent: bool) -> bool:
    """An inline rule for LaTeX between `$`, `$$`, `\\(` or `\\[`. A `$` after a digit or letter is money, and so is
    one before `/`, or before a number in a sentence: `25$/kg`, `US$/EUR`, `$5/kg and 6$`."""
    match = _DISPLAY.match(state.src, state.pos, state.posMax) or _INLINE.match(state.src, state.pos, state.posMax)
    if match is None:
        return False
    if not silent:
        token = state.push("formula", "", 0)
        token.content = re.sub(r"\s+", " ", match[match.lastgroup or 0])
        token.meta = LATEX_DELIMITERS[match.lastgroup in ("display", "bracket")]
    state.pos = match.end()
    return True


def _bold(state: StateInline, silent: bool) -> bool:
    """An inline rule for `**bold**`."""
    match = _BOLD.match(state.src, state.pos, state.posMax)
    if match is None:
        return False
    if not silent:
        end = state.posMax
        state.push("strong_open", "strong", 1)
        state.pos, state.posMax = match.span(1)
        state.md.inline.tokenize(state)
        state.push("strong_close", "strong", -1)
        state.posMax = end
    state.pos = match.end()
    return True


def _display_formula(state: StateBlock, first: int, end_line: int, silent: bool) -> bool:
    """A block rule: a formula that begins a line is one paragraph to its end, whatever its lines begin with."""
    match = _DISPLAY.match(state.src, state.bMarks[first] + state.tShift[first], state.eMarks[end_line - 1])
    if match is None or "\n\n" in match[0]:
        return False
    last = next(line for line in range(first, end_line) if match.end() <= state.eMarks[line])
    if not silent:
        state.push("paragraph_open", "p", 1)
        token = state.push("inline", "", 0)
        token.content, token.children = state.getLines(first, last + 1, state.blkIndent, False).strip(), []
        state.push("paragraph_close", "p", -1)
    state.line = last + 1
    return True


class _Renderer(RendererHTML):
    """HTML without blank lines, which would end a block for the page's own Markdown component."""

    def formula(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        token = tokens[idx]
        return f"{token.meta['left']}{html.escape(token.content)}{token.meta['right']}"

    def text(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return html.escape(tokens[idx].content)

    def code_inline(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f"<code>{html.escape(tokens[idx].content)}</code>"

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        code = html.escape(tokens[idx].content.rstrip("\n")).replace("\n", "&#10;")
        return f"<pre><code>{code}</code></pre>\n"

    def softbreak(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "<br>"

    def hardbreak(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "<br>"

    def heading_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "<p><strong>"

    def heading_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return "</strong></p>\n"


def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("zero", {"maxNesting": MAX_NESTING}, renderer_cls=_Renderer).enable(list(_RULES))
    markdown.inline.ruler.before("backticks", "formula", _formula)
    markdown.inline.ruler.before("backticks", "bold", _bold)
    ends = RuleOptionsType(alt=["paragraph", "blockquote", "list"])
    markdown.block.ruler.before("fence", "display_formula", _display_formula, ends)
    return markdown


_MARKDOWN = _markdown()
