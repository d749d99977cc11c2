"""What a report makes of outcomes: shares, differences, kinds, k samples, tables and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from inference.adapters.record import _accuracy
from training.evaluation.conditions import GROUPS
from training.evaluation.plots import draw_plots
from training.evaluation.report import MAX_KINDS, Outcome, Report, table
from training.evaluation.statistics import share


def outcomes(*right: bool, form: bool = True) -> list[Outcome]:
    return [Outcome(form, hit and form, hit, 10, False, "text") for hit in right]


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
    assert widths == {7, 6}, "no name adds a column"


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
    assert "| majority of 4" in report.markdown() and "pass@2" in report.markdown()


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
    assert len(report.pairs) == len(GROUPS["all"]) + 1, "each but the first is compared, the adapter three times"
    assert report.verdict is not None and "4 rows cannot tell" in report.verdict


def test_a_table_is_aligned() -> None:
    assert table(["a", ""], [["longer", "1"], ["x", "22"]]).splitlines() == [
        "| a      |    |",
        "| ------ | -- |",
        "| longer | 1  |",
        "| x      | 22 |",
    ]
