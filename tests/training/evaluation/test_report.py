"""What a report makes of outcomes: shares, differences, kinds, k samples, tables and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.adapters.record import _accuracy
from training.evaluation.conditions import GROUPS
from training.evaluation.outcomes import MAX_KINDS, GradedCompletion
from training.evaluation.plots import draw_plots
from training.evaluation.report import Report, table
from training.evaluation.statistics import PairedDifference, paired_difference, share
from training.evaluation.verdict import Changes, levels, verdict


def outcomes(*right: bool, form: bool = True) -> list[GradedCompletion]:
    return [GradedCompletion(form, hit and form, hit, 10, False, "text") for hit in right]


def made_up() -> Report:
    """100 rows of two kinds: the base is right on half without tags, the adapter on 30 more, with them."""
    before = outcomes(*[i < 50 for i in range(100)], form=False)
    after = outcomes(*[i < 80 for i in range(100)])
    return Report(
        kinds=["bars" if i % 2 else "shapes" for i in range(100)],
        outcomes={
            "base-direct": outcomes(*[i < 40 for i in range(100)], form=False),
            "base-thinking": before,
            "adapter-thinking": after,
            "adapter-swapped": outcomes(*[i < 10 for i in range(100)]),
        },
        about={"num_rows": 100},
        baselines={"majority": share([True] * 10 + [False] * 90)},
    )


def test_shares_and_differences_by_kind() -> None:
    report = made_up()
    assert list(report.by_kind) == ["bars", "shapes"]
    assert report.estimate("base-thinking", "lenient", report.by_kind["bars"]).value == 0.5
    assert report.difference("lenient").value == pytest.approx(0.3)
    assert (report.difference("lenient").gained, report.difference("lenient").lost) == (30, 0)
    assert report.pairs == [
        ("adapter-thinking", "base-thinking"),
        ("adapter-thinking", "base-direct"),
        ("base-thinking", "base-direct"),
        ("adapter-swapped", "adapter-thinking"),
    ]
    assert report.verdict is not None and report.verdict.startswith(
        "The adapter is right more often: on the same 100 rows"
    )


def test_json_has_what_the_page_reads_and_all_else() -> None:
    data = json.loads(json.dumps(made_up().to_json()))
    assert _accuracy(data, "adapter-thinking") == 0.8 and _accuracy(data, "base-thinking") == 0.5
    assert data["about"]["num_rows"] == 100
    assert data["differences"]["lenient"]["overall"]["p_value"] == pytest.approx(1.863e-9)
    assert data["conditions"]["adapter-thinking"]["bars"]["mean_tokens"] == 10
    assert not {"by_answer_kind", "differences_by_answer_kind"} & set(data)
    assert data["smallest_difference"] == pytest.approx(0.1507, abs=1e-3)
    assert data["verdict"] == made_up().verdict
    direct = next(c for c in data["comparisons"] if c["before"] == "base-direct")
    assert set(direct) == {"after", "before", "lenient"}, "the base was not asked for tags there"
    assert "completions" not in data
    assert len(made_up().to_json(completions=True)["completions"]["base-thinking"]) == 100


def test_tables() -> None:
    text = made_up().markdown()
    assert text.startswith("**The adapter is right more often")
    lines = text.splitlines()
    direct = next(line for line in lines if line.startswith("| base-direct"))
    assert "not asked for" in direct and "40.0 % (" in direct
    change = next(line for line in lines if "adapter-thinking less base-thinking" in line and line.startswith("|"))
    assert "+30.0 (" in change and "| 30     | 0    | < 0.001 |" in change
    assert "show with a power of 80 % at 5 %" in text
    assert "Lenient accuracy by kind of problem:" in text and "| rows " in text
    assert "- majority: 10.0 % (" in text


def test_one_condition_has_no_difference() -> None:
    report = Report(["all"], {"base-thinking": outcomes(True)})
    assert not report.has_difference and report.verdict is None
    assert not {"differences", "verdict"} & set(report.to_json())
    assert " less " not in report.markdown() and "by kind" not in report.markdown()


def test_kinds_of_a_hostile_dataset() -> None:
    """Names become short and plain; with very many of them the rare ones go together; no row is lost."""
    names = [None, "", "overall", "a|b\nc", "x" * 500, *(f"kind {i}" for i in range(100)), "kind 0", "kind 0"]
    report = Report(names, {"base-thinking": outcomes(*[True] * len(names))})
    assert len(report.by_kind) == MAX_KINDS and "kind 0" in report.by_kind
    assert sorted(row for rows in report.by_kind.values() for row in rows) == list(range(len(names)))
    few = Report(names[:5], {"base-thinking": outcomes(*[True] * 5)})
    assert set(few.by_kind) == {"no kind", "overall (kind)", "a b c", "x" * 23 + "…"}
    assert few.to_json()["conditions"]["base-thinking"]["overall"]["strict"]["num_rows"] == 5
    widths = {line.count("|") for line in few.markdown().splitlines() if line.startswith("| base-thinking")}
    assert widths == {8, 6}, "no name adds a column"


def test_samples_of_each_row() -> None:
    rows = [outcomes(True, False, False, False), outcomes(False, False, False, False), outcomes(True, True, True, True)]
    report = Report(
        ["all"] * 3,
        {"base-sampled": [row[0] for row in rows]},
        samples={"base-sampled": rows},
        votes={"base-sampled": [False, False, True]},
    )
    passed = report.pass_at("base-sampled", "lenient")
    assert {k: round(e.value, 4) for k, e in passed.items()} == {1: 0.4167, 2: 0.5, 4: 0.6667}
    found = report.to_json(completions=True)
    assert found["samples"]["base-sampled"]["lenient"]["pass@4"]["value"] == 0.6667
    assert found["samples"]["base-sampled"]["majority"]["value"] == 0.3333
    assert len(found["completions"]["base-sampled"]) == 12
    assert "| majority@4 " in report.markdown() and "pass@2" in report.markdown()


def test_plots_are_pictures_whatever_the_names(tmp_path: Path) -> None:
    kinds = ["$\\frac", "bars"] * 50
    paths = draw_plots(Report(kinds, made_up().outcomes), tmp_path, "evaluation")
    assert [path.name for path in paths] == ["evaluation-accuracy.png", "evaluation-differences.png"]
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "PNG" and picture.width > 500
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20
    alone = draw_plots(Report(["all"], {"base-thinking": outcomes(True)}), tmp_path, "alone")
    assert [path.name for path in alone] == ["alone-accuracy.png"]


def test_every_condition_can_stand_in_a_report() -> None:
    report = Report(["all"] * 4, {name: outcomes(True, False, True, True) for name in GROUPS["all"]})
    assert len(report.pairs) == len(GROUPS["all"]) + 2, "each but the first is compared, the adapter four times"
    assert report.verdict is not None and "4 rows cannot tell" in report.verdict


def test_a_table_is_aligned() -> None:
    assert table(["a", ""], [["longer", "1"], ["x", "22"]]).splitlines() == [
        "| a      |    |",
        "| ------ | -- |",
        "| longer | 1  |",
        "| x      | 22 |",
    ]


NUM_ROWS = 480
Changed = tuple[int, int]
"""Rows gained and lost."""
UNFORCED = "the base that is made to think (base-forced) was not measured"


def changed(gained_lost: Changed, num_rows: int = NUM_ROWS) -> PairedDifference:
    gained, lost = gained_lost
    same = num_rows - gained - lost
    return paired_difference(
        [True] * gained + [False] * (lost + same), [False] * gained + [True] * lost + [False] * same
    )


NOTHING: Changed = (0, 0)
CASES: list[tuple[Changed, Changed, Changed, Changed | None, Changed | None, str]] = [
    # format,  strict,    lenient,  lenient less base-forced, less base-direct, what is said
    (
        (373, 0),
        (210, 7),
        (90, 41),
        (60, 20),
        (150, 20),
        "It learnt which of its ways to think: on the same 480 rows lenient accuracy rose by 10.2",
    ),
    (
        (0, 90),
        (10, 100),
        (60, 20),
        (60, 20),
        None,
        "over the base that is made to think (base-forced)",
    ),  # lenient decides
    (
        (373, 0),
        (210, 7),
        (160, 20),
        (10, 8),
        None,
        "It learnt when to think: on the same 480 rows lenient accuracy rose by 29.2 points (",
    ),
    ((373, 0), (210, 7), (160, 20), (10, 8), None, "the adapter is not shown to beat the base that is made to think"),
    (
        (373, 0),
        (210, 7),
        (60, 20),
        (60, 45),
        None,
        "It learnt when to think, and 480 rows cannot tell whether also to answer better: on the same 480 rows",
    ),
    (
        (373, 0),
        (210, 7),
        (90, 41),
        (20, 60),
        None,
        "but the base that is made to think (base-forced) is right more often, by 8.3 points (",
    ),
    (
        NOTHING,
        NOTHING,
        (60, 20),
        None,
        None,
        "The adapter is right more often: on the same 480 rows lenient accuracy rose by 8.3 points (",
    ),
    ((373, 0), (210, 7), (20, 18), None, None, "It learnt only the tags: strict accuracy rose by 42.3 points ("),
    ((373, 0), (5, 4), (20, 18), (5, 4), None, "It learnt only the tags: the format rose by 77.7 points ("),
    (
        (373, 0),
        (40, 15),
        (60, 45),
        None,
        None,
        "It learnt the tags, and 480 rows cannot tell whether also to answer better: strict ",
    ),
    (
        (30, 4),
        NOTHING,
        (60, 45),
        None,
        None,
        "It learnt the tags, and 480 rows cannot tell whether also to answer better: the format ",
    ),
    (NOTHING, NOTHING, (20, 60), None, None, "It got worse: on the same 480 rows lenient accuracy fell by 8.3 points"),
    ((373, 0), (210, 7), (20, 60), None, None, "although strict accuracy rose by 42.3 points"),
    (
        NOTHING,
        (20, 60),
        (20, 18),
        None,
        None,
        "It got worse at stating its answer in the tags: strict accuracy fell by",
    ),
    ((0, 50), (2, 3), (20, 18), None, None, "It got worse at the tags: the format fell by 10.4 points"),
    (
        NOTHING,
        NOTHING,
        (20, 18),
        (20, 18),
        None,
        "480 rows cannot tell: lenient accuracy changed by +0.4 points, -2.2 to +3.0, and so many",
    ),
    (NOTHING, NOTHING, NOTHING, NOTHING, None, "480 rows cannot tell: lenient accuracy changed by +0.0 points"),
    (
        (373, 0),
        (210, 7),
        (90, 41),
        (10, 8),
        (20, 60),
        "; the base asked to answer directly is right more often, by 8.3 points (",
    ),
]


@pytest.mark.parametrize(("form", "strict", "lenient", "forced", "direct", "expected"), CASES)
def test_verdict(
    form: Changed,
    strict: Changed,
    lenient: Changed,
    forced: Changed | None,
    direct: Changed | None,
    expected: str,
) -> None:
    against = [changed(pair) if pair else None for pair in (forced, direct)]
    sentence = verdict(Changes(changed(form), changed(strict), changed(lenient), forced=against[0], direct=against[1]))
    assert expected in sentence
    assert sentence.endswith(".") and sentence.count(". ") == 0, "one sentence"
    assert ("answer directly" in sentence) == (direct == (20, 60))
    assert (UNFORCED in sentence) == (forced is None)


def test_what_did_not_move_comes_with_what_could_have_been_shown() -> None:
    lenient = changed((20, 18))
    assert lenient.smallest_shown is not None
    sentence = verdict(Changes(changed((373, 0)), changed((210, 7)), lenient, lenient))
    assert f"480 rows could have shown {100 * lenient.smallest_shown:.1f})" in sentence
    form, strict, few_rows = (changed(pair, 4) for pair in ((4, 0), (2, 0), (2, 1)))
    few = verdict(Changes(form, strict, few_rows))
    assert "4 rows cannot tell" in few and "too few to show any" in few


LEVEL_CASES: list[tuple[Changed, Changed, Changed | None, Changed | None, Changed | None, list[bool | None], str]] = [
    # strict,  lenient,  forced,   careful,  majority, levels, what is said
    ((90, 2), (20, 18), (5, 4), (5, 4), (5, 4), [True, False, False, False], "It learnt only the tags"),
    ((90, 2), (90, 2), (5, 4), (5, 4), (5, 4), [True, True, False, False], "It learnt when to think"),
    ((90, 2), (90, 2), (60, 9), (5, 4), None, [True, True, True, False], "not shown to beat the base that begins with"),
    ((90, 2), (90, 2), (60, 9), (4, 40), None, [True, True, True, False], "it is worse than the base that begins with"),
    ((90, 2), (90, 2), (60, 9), (40, 4), (9, 8), [True, True, True, False], "beat the majority of the base's samples"),
    ((90, 2), (90, 2), (60, 9), (40, 4), None, [True, True, True, None], "the majority of the base's samples was not"),
    ((90, 2), (90, 2), (60, 9), None, None, [True, True, True, None], "It learnt which of its ways to think"),
    ((90, 2), (90, 2), None, (40, 4), (40, 4), [True, True, None, None], "base-forced) was not measured"),
    ((90, 2), (90, 2), (60, 9), (40, 4), (30, 4), [True] * 4, "It learnt more than any way the base had"),
    (NOTHING, (90, 2), (5, 4), (40, 4), (30, 4), [False, True, False, False], "It learnt when to think"),
]


@pytest.mark.parametrize(("strict", "lenient", "forced", "careful", "majority", "shown", "expected"), LEVEL_CASES)
def test_levels(
    strict: Changed,
    lenient: Changed,
    forced: Changed | None,
    careful: Changed | None,
    majority: Changed | None,
    shown: list[bool | None],
    expected: str,
) -> None:
    others = [changed(pair) if pair else None for pair in (forced, careful, majority)]
    changes = Changes(changed(NOTHING), changed(strict), changed(lenient), *others)
    assert [level.is_shown for level in levels(changes)] == shown
    assert expected in verdict(changes)


def test_the_majority_of_the_bases_samples_is_a_rival_of_the_greedy_adapter() -> None:
    right, wrong = outcomes(True)[0], outcomes(False)[0]
    report = Report(
        ["all"] * 40,
        {"base-thinking": [wrong] * 40, "adapter-thinking": [right] * 30 + [wrong] * 10},
        samples={"base-forced-sampled": [[right, wrong]] * 40},
        votes={"base-forced-sampled": [True] * 10 + [False] * 30},
        clusters=list(range(40)),
    )
    assert report.over_majority is not None and (report.over_majority.gained, report.over_majority.lost) == (20, 0)
    assert report.to_json()["over_majority"]["value"] == 0.5
    assert "4. more than any way it had" in report.markdown()


def test_rows_that_share_their_picture_widen_the_intervals() -> None:
    graded = [outcome for right in (True, False) * 20 for outcome in outcomes(*[right] * 6)]
    alone, together = (
        Report(["all"] * 240, {"base-direct": graded}, clusters=clusters)
        for clusters in (list(range(240)), [row // 6 for row in range(240)])
    )
    one, other = (report.estimate("base-direct", "lenient") for report in (alone, together))
    assert 2.0 < (other.high - other.low) / (one.high - one.low) < 2.8, "√6 times as wide"


def test_interval_and_test_must_agree() -> None:
    """30 gained and 16 lost are off zero by the interval and not by the exact test: nothing is claimed."""
    unsure = changed((30, 16), 500)
    assert unsure.low > 0 and unsure.p_value > 0.05 and not unsure.is_up
    assert "cannot tell" in verdict(Changes(unsure, unsure, unsure, unsure))


@st.composite
def differences(draw: st.DrawFn, num_rows: int) -> PairedDifference:
    gained = draw(st.integers(0, num_rows))
    return changed((gained, draw(st.integers(0, num_rows - gained))), num_rows)


@given(data=st.data(), num_rows=st.integers(1, 600))
def test_what_is_said_holds_for_the_figures(data: st.DataObject, num_rows: int) -> None:
    form, strict, lenient = (data.draw(differences(num_rows)) for _ in range(3))
    forced, careful, majority, direct = (data.draw(st.none() | differences(num_rows)) for _ in range(4))
    changes = Changes(form, strict, lenient, forced, careful, majority, direct)
    sentence = verdict(changes)
    assert "reasons better" not in sentence and sentence.endswith(".")
    beats_forced = forced is not None and forced.is_up
    beats_all = all(d is not None and d.is_up for d in (lenient, forced, careful, majority))
    assert sentence.startswith("It learnt more than any way the base had") == beats_all
    which = sentence.startswith("It learnt which of its ways to think")
    assert which == (lenient.is_up and beats_forced and not beats_all)
    if sentence.startswith("The adapter is right more often"):
        assert lenient.is_up and UNFORCED in sentence
    shown = [level.is_shown for level in levels(changes)]
    assert shown[1:] == [
        lenient.is_up,
        None if forced is None else lenient.is_up and beats_forced,
        True if beats_all else shown[3],
    ]
    assert not (shown[3] and not shown[2]) and not (shown[2] and not shown[1])
    if shown[3] is None:
        assert None in (forced, careful, majority)
    if lenient.is_up and forced is not None and not forced.is_up:
        assert sentence.startswith("It learnt when to think")
    if sentence.startswith("It learnt when to think"):
        assert lenient.is_up and forced is not None and not forced.is_up
        assert ("cannot tell whether also" in sentence) == (not forced.is_down and lenient.low <= forced.high)
    if "(base-forced) is right more often" in sentence:
        assert forced is not None and forced.is_down
    if sentence.startswith("It learnt only the tags"):
        assert not lenient.is_up and max(form.low, strict.low) > lenient.high
    if sentence.startswith("It learnt the tags"):
        assert not lenient.is_up and (strict.is_up or form.is_up)
    if sentence.startswith("It got worse"):
        assert lenient.is_down or strict.is_down or form.is_down
    if sentence.startswith(f"{num_rows:,} rows cannot tell"):
        assert not any(each.is_up or each.is_down for each in (form, strict, lenient))
    assert (UNFORCED in sentence) == (forced is None)
    assert ("the base asked to answer directly" in sentence) == (direct is not None and direct.is_down)
