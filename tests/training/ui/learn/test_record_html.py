"""The record of what training changed, as HTML."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.adapters.record import LEARN_FOLDER, RECORD_FILE
from inference.common.files import write_whole
from inference.common.settings import STARTER
from training.learn.record import CHANGES, ChangedRow, Changes, Replay, ReplayedRow, Side, Strengths
from training.learn.strength import Scaled
from training.ui.base.html import _picture, picture_uri
from training.ui.learn import tab
from training.ui.learn.record_html import (
    MAX_RATES,
    changes_html,
    checkpoints_html,
    moments,
    replay_html,
    scaled_html,
    strengths_html,
)
from training.ui.learn.tab import record_html

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
            "On these problems training changed neither the format nor the length nor the answers.",
        ),
        (
            [side(), side(in_format=True), side(in_format=True)],
            "From step 10 on most of these answers keep the format: one thought",
        ),
        ([side(), side(in_format=True), side()], "neither the format"),
        ([side(in_format=True)] * 3, "Already the base keeps the format: one thought"),
        ([side("xx"), side("xxx"), side("xxxx")], "From step 10 on the texts are at least half as long again"),
        ([side("xx"), side("xxxx"), side("xx")], "neither the format"),
        ([side(), side(), side(right=True)], "Most are right at step 20: 1 of 1."),
        ([side(right=True), side(), side(right=True)], "neither the format"),
    ],
)
def test_the_moments_are_told(sides: list[Side], words: str) -> None:
    assert words in moments(replay(sides))


sides = st.builds(side, st.text("x", max_size=9), st.booleans(), st.booleans())


@given(st.integers(1, 9).flatmap(lambda n: st.lists(st.lists(sides, min_size=n, max_size=n), min_size=1, max_size=6)))
def test_what_is_told_of_the_moments_holds(rows: list[list[Side]]) -> None:
    found, told = replay(*rows), moments(replay(*rows))
    if match := re.search(r"From step (\d+) on most of these answers keep the format", told):
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
    html = html.replace("\u00a0", " ")
    assert "0 % (the base)" in html and "150 %" in html and "50 % (40 to 60)" in html and "On 7 validation" in html


def test_a_run_without_validation_rows_says_so() -> None:
    """Where the figures would be; and a record of an earlier run says how to measure them."""
    none = strengths_html(Strengths(strengths=[], accuracy=[], in_format=[], num_rows=0))
    assert "its run had no validation problems" in none and "<table" not in none
    assert "python -m training learn RUN --strengths 240" in strengths_html(None)


def test_a_copy_at_another_strength_names_its_origin() -> None:
    one = (0.5, 0.4, 0.6)
    scaled = Scaled(of=EVIL, of_digest="0" * 64, strength=0.25, digest="")
    html = strengths_html(Strengths(strengths=[0.25, 1.0], accuracy=[one] * 2, in_format=[one] * 2, num_rows=7), scaled)
    assert "25 % (this adapter)" in html and "100 % (as trained)" in html and "<p>Of &lt;script" in html
    assert "at 25 % of its strength" in scaled_html(scaled, "") and "cannot be shown" in scaled_html(scaled, "")
    assert '<a href="#/learn/a%20b">&lt;script' in scaled_html(scaled, "#/learn/a%20b")
    assert "is shown there" in scaled_html(scaled, "#/learn") and "<script" not in html + scaled_html(scaled, EVIL)


def rates(*values: float) -> list[list[float]]:
    return [[value, value - 0.1, value + 0.1] for value in values]


@pytest.mark.parametrize("k", [3, 8])
def test_all_rates_of_the_file_are_drawn(k: int) -> None:
    """Of its own k, with their intervals, and those of the base that is made to think, which the sentence is about."""
    found = {
        "steps": [0, 5],
        "pass@1": rates(0.4, 0.5),
        f"majority@{k}": rates(0.6, 0.7),
        f"pass@{k}": rates(0.7, 0.8),
        "forced": {"pass@1": rates(0.55)[0], f"majority@{k}": rates(0.65)[0], f"pass@{k}": rates(0.75)[0]},
        "sentence": f"On 9 rows pass@{k} {EVIL}",
        "about": {"pass@9": 3},
    }
    html = checkpoints_html(found).replace("\u00a0", " ")
    names = re.findall(r"<span>([^<]*)</span><b>([^<]*)</b>", html)
    trained = {"pass@1": "50 %", f"majority@{k}": "70 %", f"pass@{k}": "80 %"}
    forced = {f"{name}, the base made to think": share for name, share in zip(trained, ("55 %", "65 %", "75 %"))}
    assert dict(names) == trained | forced and len(names) == 6
    assert (
        f"most frequent answer of {k} tries" in html
        and "The level lines are the base" in html
        and "<script" not in html
    )
    rows = re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td>', html)
    assert rows == [
        ("The base", "40 % (30 to 50)"),
        ("The base made to think", "55 % (45 to 65)"),
        ("Step 5", "50 % (40 to 60)"),
    ]


def test_the_shipped_rates_are_drawn() -> None:
    html = record_html(STARTER / "adapter")
    assert "pass@8, the base made to think" in html and "Training sharpened" in html


GOOD = {"steps": [0, 1], "pass@1": rates(0.5, 0.5)}


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"steps": 3},
        {"steps": [1, 2], "pass@1": "x"},
        {"steps": [1], "pass@1": [None]},
        {"steps": [1], "pass@1": [[0.5, 0.4, float("nan")]]},
        {"steps": [1], "pass@1": [[10**400, 0, 1]]},
        {"steps": [{}, "x"], "pass@1": rates(0.5, 0.5)},
        {"steps": [], "pass@1": rates(0.5)},
        {"steps": [1], "pass@1": [], "forced": {"pass@1": rates(0.5)[0]}},
    ],
)
def test_what_is_no_figure_is_left_out(found: dict[str, object]) -> None:
    assert checkpoints_html(found) == ""


@pytest.mark.parametrize(
    "more",
    [
        {"forced": 3},
        {"forced": {"pass@1": "x"}},
        {f"pass@{k}": rates(0.5, 0.5) for k in range(2, 2000)},
        {"majority@<b>": rates(0.5, 0.5)},
        {"sentence": ["<script>"]},
        {"pass@1": rates(*[0.5] * 100_000), "steps": list(range(100_000))},
    ],
)
def test_what_does_not_belong_there_is_bounded(more: dict[str, object]) -> None:
    html = checkpoints_html(GOOD | more)
    assert "pass@1" in html and "<script" not in html and "<b>" not in html.replace("<b>50 %</b>", "")
    assert len(html) < 60_000 and html.count("lt-end") <= MAX_RATES


def test_a_record_is_built_once_for_each_state_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(STARTER / "adapter", adapter)
    built: list[Path] = []
    monkeypatch.setattr(tab, "changes_html", lambda folder, changes: f"build {built.append(folder) or len(built)}")
    assert "build 1" in record_html(adapter) and "build 1" in record_html(adapter)
    for name in (LEARN_FOLDER + "/" + CHANGES, RECORD_FILE, LEARN_FOLDER + "/0.jpg"):
        number = len(built)
        write_whole(adapter / name, (adapter / name).read_bytes())
        assert f"build {number + 1}" in record_html(adapter), name
    assert tab._record_html.cache_info().maxsize <= 8


def test_every_picture_of_a_record_is_kept() -> None:
    """Else each call would decode all of them anew."""
    folder = STARTER / "adapter"
    pictures = sorted((folder / LEARN_FOLDER).glob("*.jpg"))
    for path in pictures * 2:
        picture_uri(path)
    before = _picture.cache_info().misses
    assert len(pictures) == 96 and all(picture_uri(path) for path in pictures)
    assert _picture.cache_info().misses == before


def test_a_linked_record_shows_nothing(tmp_path: Path) -> None:
    (tmp_path / LEARN_FOLDER).symlink_to(STARTER / "adapter" / LEARN_FOLDER)
    html = record_html(tmp_path)
    assert "There is no record" in html and "<img" not in html and "pass@1" not in html and "lt-reliability" not in html
