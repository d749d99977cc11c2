"""What the probes found, as HTML."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from inference.model.request import Request
from inference.prompt.image import thumbnail_uri
from inference.ui.probes.asking import PARTS, Answered, Dependence, LookProbe, ThoughtProbe, VoteProbe
from inference.ui.probes.panel import _COST, OTHER_PIXELS, look_html, thought_html, votes_html

EVIL = "<script>alert(1)</script>"


def test_foreign_text_stays_text() -> None:
    answered = Answered(EVIL, EVIL, EVIL)
    drops = (0.0,) * PARTS**2
    found = LookProbe(
        Dependence(EVIL, drops, 0.0),
        (Dependence(EVIL, drops, 0.0),),
        EVIL,
        EVIL,
        (True, False),
        (False, False),
        Image.new("RGB", (9, 9)),
    )
    question = Request(Image.new("RGB", (9, 9)), EVIL)
    for html in (
        thought_html(answered, [ThoughtProbe("half", EVIL, EVIL, True, "", EVIL)]),
        look_html(question, found),  # type: ignore[arg-type]  # it reads the picture alone
        votes_html(VoteProbe(((EVIL, 8),), 0), EVIL),
    ):
        assert "<script" not in html and "&lt;script" in html


def test_the_words_hold() -> None:
    """Where a part matters, how much, and where the picture matters as a whole."""
    drops = [0.0] * PARTS**2
    drops[PARTS + 2] = 3.0
    blank = Dependence("It is 4.", (0.1,) * PARTS**2, 9.0)
    found = LookProbe(
        Dependence("4", (0.2,) * PARTS**2, 0.1),
        (Dependence("It is 3.", tuple(drops), 9.0), blank),
        "",
        "5",
        (False, False),
        (False, False),
        Image.new("RGB", (9, 9), "red"),
    )
    html = look_html(Request(Image.new("RGB", (9, 9)), "?"), found)  # type: ignore[arg-type]
    assert "5 % as likely without the part in row 2, column 3" in html
    assert "depends on no single part, but on the picture" in html and html.count("depends on no single part") == 2
    assert "With white paper it gives no answer, with another picture it answers <b>5</b> (another answer)." in html
    assert thumbnail_uri(found.other, OTHER_PIXELS) in html, "a reader sees what it was shown"
    cut = look_html(Request(found.other, "?"), replace(found, is_cut=(True, False)))  # type: ignore[arg-type]
    assert "With white paper it was cut off, with another" in cut
    assert "3 of 8 were cut off" in votes_html(VoteProbe((("4", 5), ("", 3)), 3), "")
    assert "cut off" not in votes_html(VoteProbe((("4", 5), ("", 3)), 0), "")
    same = ThoughtProbe("none", "", "4", True)
    assert "The answer stayed the same with every thought" in thought_html(Answered("", "x", "4"), [same])
    other = ThoughtProbe("number", "5", "5", False, "", "4 → 5")
    assert "The answer changed with 1 of 2 thoughts" in thought_html(Answered("", "x", "4"), [same, other])
    on = ThoughtProbe("half", "x", "9", False, "it was cut off")
    told = thought_html(Answered("", "x", "4"), [same, other, on])
    assert "The answer changed with 1 of 2 thoughts" in told and "it was cut off, so this tells nothing" in told
    nothing = ThoughtProbe("other", "x", "", False)
    told = thought_html(Answered("", "x", "4"), [same, other, nothing])
    assert "changed with 1 of 2 thoughts" in told and "<td>no answer</td>" in told and ">another<" in told
    assert "Left out: the first half of the thought, which is one word. Asked at" in told
    assert "None of these tells anything" in thought_html(Answered("", "x", "4"), [on])


def test_the_price_is_that_of_the_groups() -> None:
    """What `test_a_probe_waits_and_counts_like_questions` sees asked, in words."""
    assert "up to 5 times, which counts as 2 of your questions; “Hide the picture” 20 times" in _COST
    assert _COST.endswith("20 times, which counts as 3; “Ask 8 times” counts as 1.")
