"""The record of what training changed, as HTML."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.learn.record import ChangedRow, Changes, Replay, ReplayedRow, Side, Strengths
from training.ui.learn.record_html import changes_html, checkpoints_html, moments, replay_html, strengths_html

EVIL = "<script>alert(1)</script>"


def side(text: str = "x", right: bool = False, in_format: bool = False) -> Side:
    return Side(text=text, read=text[:200], right=right, in_format=in_format)


def replay(*rows: list[Side], steps: list[int] | None = None) -> Replay:
    steps = steps or [10 * i for i in range(len(rows[0]))]
    return Replay(
        steps=steps, rows=[ReplayedRow(pictures=[], problem="?", gold="1", kind="", sides=sides) for sides in rows]
    )


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        (
            [side(), side(), side()],
            "On these problems training changed neither the tags nor the length nor the answers.",
        ),
        ([side(), side(in_format=True), side(in_format=True)], "From step 10 on most of these answers keep the tags."),
        ([side(), side(in_format=True), side()], "neither the tags"),
        ([side(in_format=True)] * 3, "Already the base keeps the tags."),
        ([side("xx"), side("xxx"), side("xxxx")], "From step 10 on the texts are at least half as long again"),
        ([side("xx"), side("xxxx"), side("xx")], "neither the tags"),
        ([side(), side(), side(right=True)], "Most are right at step 20: 1 of 1."),
        ([side(right=True), side(), side(right=True)], "neither the tags"),
    ],
)
def test_the_moments_are_told(sides: list[Side], words: str) -> None:
    assert words in moments(replay(sides))


sides = st.builds(side, st.text("x", max_size=9), st.booleans(), st.booleans())


@given(st.integers(1, 9).flatmap(lambda n: st.lists(st.lists(sides, min_size=n, max_size=n), min_size=1, max_size=6)))
def test_what_is_told_of_the_moments_holds(rows: list[list[Side]]) -> None:
    found, told = replay(*rows), moments(replay(*rows))
    if match := re.search(r"From step (\d+) on most of these answers keep the tags", told):
        first = found.steps.index(int(match[1]))
        kept = [sum(row[i].in_format for row in rows) > len(rows) / 2 for i in range(len(found.steps))]
        assert all(kept[first:]) and not kept[first - 1]
    if match := re.search(r"Most are right at step (\d+): (\d+) of", told):
        right = [sum(row[i].right for row in rows) for i in range(len(found.steps))]
        assert right[found.steps.index(int(match[1]))] == max(right) == int(match[2]) > right[0]


def test_foreign_text_stays_text_and_foreign_files_stay_closed(tmp_path: Path) -> None:
    (tmp_path / "learn").mkdir()
    (tmp_path / "learn" / "1.jpg").symlink_to("/etc/passwd")
    evil = side(f"<think>{EVIL}</think> <answer>{EVIL}</answer>")
    row = {"pictures": ["1.jpg", "2.jpg"], "problem": EVIL, "gold": EVIL, "kind": EVIL[:40]}
    for name in ("../../secret.jpg", "/etc/passwd", EVIL, "9" * 5_000 + ".jpg"):
        with pytest.raises(ValueError, match="pattern"):
            ChangedRow(**row | {"pictures": [name]}, base=evil, adapter=evil)
    changes = Changes(rows=[ChangedRow(**row, base=evil, adapter=evil)])
    shown = replay_html(tmp_path, Replay(steps=[0], rows=[ReplayedRow(**row, sides=[evil])]), {})
    for html in (
        changes_html(tmp_path, changes),
        shown,
        checkpoints_html({"steps": [1], "pass@1": [[EVIL]], "sentence": EVIL}),
    ):
        assert "<script" not in html and "<img" not in html


def test_the_counts_are_those_of_the_rows() -> None:
    right, wrong = side(right=True), side()
    pairs = [(wrong, right)] * 3 + [(right, wrong)] * 2 + [(right, right)] + [(wrong, wrong)] * 4
    rows = [ChangedRow(pictures=[], problem="?", gold="1", kind="k", base=base, adapter=own) for base, own in pairs]
    html = changes_html(Path(), Changes(rows=rows))
    assert re.findall(r"<b>([^<]*)</b>", html) == ["Gained: 3", "Lost: 2", "Both right: 1", "Both wrong: 4"]
    assert '<th scope="row">k</th><td>3</td><td>2</td><td>1</td><td>4</td>' in html


def test_one_step_is_shown_at_a_time() -> None:
    html = replay_html(Path(), replay([side(), side(right=True)], [side(), side()]), {"accuracy": [(1, 0.1), (2, 0.4)]})
    assert html.count(" hidden>") == 3 and "Step 10: 1 of 2 right" in html and "The base: 0 of 2 right" in html
    assert "Correct (strict)" in html


def test_strengths_are_in_per_cent_with_their_intervals() -> None:
    one = (0.5, 0.4, 0.6)
    html = strengths_html(Strengths(strengths=[0.0, 1.5], accuracy=[one, one], in_format=[one, one], num_rows=7))
    assert "0 % (the base)" in html and "150 %" in html and "50 % (40 to 60)" in html and "On 7 validation" in html


@pytest.mark.parametrize(
    "found", [{}, {"steps": 3}, {"steps": [1, 2], "pass@1": "x"}, {"steps": [1], "pass@1": [None]}]
)
def test_what_is_no_figure_is_left_out(found: dict[str, object]) -> None:
    assert "NaN" not in checkpoints_html(found)
