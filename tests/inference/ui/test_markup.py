"""What a model wrote as safe HTML: Markdown and LaTeX that is kept, and everything else as text."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.ui.markup import LATEX_DELIMITERS, MAX_HTML_CHARS, SHORT_ANSWER_CHARS, render, render_answer

OURS = re.compile(
    r"</?(?:p|strong|code|pre|ul|ol|li|blockquote|table|thead|tbody|tr|th|td)>|<br>|<hr>|<p class=\"lt-short\">"
    r"|<ol start=\"\d+\">|<t[hd] style=\"text-align:(?:left|right|center)\">"
)
INLINE, DISPLAY = ((str(d["left"]), str(d["right"])) for d in LATEX_DELIMITERS)
TIME_LIMIT_SECONDS = 10
"""A hostile text takes half a second on an idle machine."""


MONEY = (
    *("25$/kg vs 30$/kg", "25$-30$", "US$/EUR or A$/EUR", "R$/US$ and US$/R$", "C$5-A$6", "25 $/kg vs 30$/kg"),
    *("$5/kg and 6$/kg", "$2.50/lb or $3/kg", "$/€ and €/$"),
)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("$3 \\text{ or } 5$", f"<p>{INLINE[0]}3 \\text{{ or }} 5{INLINE[1]}</p>"),
        ("($5x + 3$)", f"<p>({INLINE[0]}5x + 3{INLINE[1]})</p>"),
        ("a < b & c", "<p>a &lt; b &amp; c</p>"),
        ("one\ntwo\n\nthree", "<p>one<br>two</p>\n<p>three</p>"),
        ("**so** `x<y`", "<p><strong>so</strong> <code>x&lt;y</code></p>"),
        ("# Head", "<p><strong>Head</strong></p>"),
        ("```py\na\n\nb\n```", "<pre><code>a&#10;&#10;b</code></pre>"),
        ("$x^2$ and \\(y\\) is 5", f"<p>{INLINE[0]}x^2{INLINE[1]} and {INLINE[0]}y{INLINE[1]} is 5</p>"),
        ("$$a\nb$$", f"<p>{DISPLAY[0]}a b{DISPLAY[1]}</p>"),
        ("\\[a<b\\]", f"<p>{DISPLAY[0]}a&lt;b{DISPLAY[1]}</p>"),
        ("so\n\\[\nx\n- y\n+ 3\n\\]", f"<p>so</p>\n<p>{DISPLAY[0]} x - y + 3 {DISPLAY[1]}</p>"),
        ("\\(a_1 * b_1 * c\\)", f"<p>{INLINE[0]}a_1 * b_1 * c{INLINE[1]}</p>"),
        ("it costs $5 or $6", "<p>it costs $5 or $6</p>"),
        *((text, f"<p>{text}</p>") for text in MONEY),
        ("open $x", "<p>open $x</p>"),
        ("3*4*5 = 60, x_1, _a_, *b*, \\_ \\{", "<p>3*4*5 = 60, x_1, _a_, *b*, \\_ \\{</p>"),
        ("x\n===\n    y", "<p>x<br>===<br>y</p>"),
        ("![x](http://host/x.png)", "<p>![x](http://host/x.png)</p>"),
        ("[x](http://host) <http://host>", "<p>[x](http://host) &lt;http://host&gt;</p>"),
        ("&lt;b&gt; &#xe000;", "<p>&amp;lt;b&amp;gt; &amp;#xe000;</p>"),
        ("", ""),
    ],
)
def test_render(text: str, html: str) -> None:
    assert render(text) == html


def test_lists_and_tables_are_shown() -> None:
    assert render("- a\n- b\n  1. c") == "<ul>\n<li>a</li>\n<li>b\n<ol>\n<li>c</li>\n</ol>\n</li>\n</ul>"
    table = render("| bar | height |\n|---|--:|\n| A | \\(3\\) |")
    assert "<th>bar</th>" in table and f'<td style="text-align:right">{INLINE[0]}3{INLINE[1]}</td>' in table
    assert render("> so") == "<blockquote>\n<p>so</p>\n</blockquote>"


ODD = st.sampled_from("<>&\"'ab$\\()[]{}*`#!|-+>_1. \n\n \ue000\ue001\ue002\ue003")


@given(st.text(alphabet=ODD | st.characters(), max_size=120))
def test_no_text_becomes_markup_of_its_own(text: str) -> None:
    for shown in (render(text), render_answer(text)):
        rest = OURS.sub("", shown)
        assert "<" not in rest and ">" not in rest
        assert "\n\n" not in shown, "a blank line would end the block of HTML for the page"
        assert rest.count(INLINE[0]) == rest.count(INLINE[1]) and rest.count(DISPLAY[0]) == rest.count(DISPLAY[1])


@given(st.text(alphabet=st.sampled_from("ab1 .,:;=+"), max_size=80))
def test_plain_words_stay_as_they_are(text: str) -> None:
    words = OURS.sub(" ", render(re.sub(r"(^|\s)(?=[-+=\d])", r"\1x", text))).split()
    assert "".join(words) == "".join(re.sub(r"(^|\s)(?=[-+=\d])", r"\1x", text).split())


HOSTILE = [
    "$",
    "\\[",
    "`",
    "**a",
    "$a",
    "\\(",
    "```\n",
    "> ",
    ">",
    "- ",
    "- a\n",
    "  - a\n",
    "|",
    "a|b\n-|-\n",
    "$$\n",
    "\\",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_lengths_are_rendered_in_time_and_size(unit: str) -> None:
    started = time.perf_counter()
    assert len(render(unit * 20_000)) <= MAX_HTML_CHARS
    assert time.perf_counter() - started < TIME_LIMIT_SECONDS


@pytest.mark.parametrize(
    "text",
    [
        "|" * 5_000 + "\n" + "|-" * 5_000 + "|\n" + "|a\n" * 1_500,
        "|a" * 200 + "|\n" + "|-" * 200 + "|\n" + "|b\n" * 8_000,
        "".join("  " * depth + "- a\n" for depth in range(140)),
        "".join(">" * depth + " a\n" for depth in range(190)),
    ],
)
def test_huge_tables_and_deep_nesting_are_bounded(text: str) -> None:
    started = time.perf_counter()
    assert len(render(text)) <= MAX_HTML_CHARS
    assert time.perf_counter() - started < TIME_LIMIT_SECONDS


def test_answers() -> None:
    assert render_answer("24") == '<p class="lt-short">24</p>'
    assert render_answer("7.") == '<p class="lt-short">7.</p>', "a number, not a list"
    assert render_answer("\\frac{3}{4}") == f'<p class="lt-short">{INLINE[0]}\\frac{{3}}{{4}}{INLINE[1]}</p>'
    assert "lt-short" not in render_answer("word " * SHORT_ANSWER_CHARS)
    assert INLINE[0] not in render_answer("the \\frac{3}{4} of it")
