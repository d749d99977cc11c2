"""Figures of a report and what it makes of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.audit.test_page import report
from tests.training.audit.test_sample import PLAN
from training.audit.report import Gold, Spread, estimate_cells
from training.audit.sample import Rollouts
from training.data.refusals import Drop, Dropped
from training.evaluation.statistics import share
from training.runs.estimate.hardware import machine
from training.runs.estimate.run_estimate import estimate_run

EMPTY = Drop("test", "test[1]", "no gold")
ROLLOUTS = Rollouts(8, 4, 0.9, 0.95, 0.99, 0.2, 30.0, share([True] * 6 + [False] * 2), 0.7, 0.05, 16.0, "one card")


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50))
def test_spread(values: list[int]) -> None:
    found = Spread.of(values)
    assert found.smallest == min(values) <= found.median <= found.p95 <= found.largest == max(values)
    assert sum(value <= found.p95 for value in values) >= 0.95 * len(values)


def test_json_has_everything_and_no_pictures() -> None:
    data = json.loads(json.dumps(report(rollouts=ROLLOUTS).to_json()))
    assert data["rules"]["same choice"] == 6 and "kinds" not in data
    assert data["dropped"]["counts"] == {"picture refused": 1}
    assert data["rollouts"]["completions_per_second"] == 2.0
    assert data["prompts"]["prompt"]["p95"] == 3 and data["estimate"] is None
    assert "examples" not in data
    assert report(prompts=None).to_json()["prompts"] == "unknown"


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"verified": share([True] * 7 + [False] * 3)}, "3 of 10 golds cannot be verified"),
        ({"rollouts": ROLLOUTS}, "same reward in 75 % of groups: the problems are too easy for this base"),
        ({"rollouts": ROLLOUTS}, "20 % of completions were cut off"),
        ({"dropped": Dropped([EMPTY] * 5)}, "5 of 15 rows were dropped, 5 of them for “no gold”"),
        ({"dropped": Dropped([Drop("train", "t[1]", "also in test")])}, "Rows that were in two of the splits: 1."),
        ({"duplicates": {"train": 3}}, "Rows that repeat another one of their split: 3."),
        ({"letters": {"A": 9, "B": 3}}, "A is the gold of 75 % of the multiple choices"),
        ({"letters_alone": 4}, "4 golds are the letter of an option, where the problem gives none"),
        ({"letters_alone": 1}, "1 gold is the letter of an option, where the problem gives none"),
        ({"num_outside": 3, "outside": Gold("t-1", "purple", "")}, "3 rows: the gold is none of the options, e.g. “p"),
        ({"earlier_turns": 1}, "1 row has several user turns"),
        ({"about": {"dataset": "x", "reading": {"words": {}, "doubts": ["Look again."]}}}, "Look again."),
        ({"worked": 2}, "2 golds are longer than an answer"),
        ({"majority": ("12", 4)}, "“12” is the gold of 40 % of rows"),
        ({"look_alikes": 3}, "3 train rows show a picture that looks like one in test"),
        ({"shared_pictures": 5}, "5 train rows show a picture that is in test or validation too"),
        ({"rollouts": replace(ROLLOUTS, blind_rate=0.6)}, "With a blank picture 60 % of completions are correct"),
    ],
)  # fmt: skip
def test_findings(changes: dict, finding: str) -> None:
    assert any(finding in found for found in report(**changes).findings())
    assert finding in report(**changes).text()


def test_a_sound_dataset_has_no_findings() -> None:
    sound = report(
        verified=share([True] * 10),
        dropped=Dropped(),
        duplicates={},
        shared_pictures=0,
        letters={"A": 2, "B": 2, "C": 2},
    )
    assert sound.findings() == [] and "no problems found" in sound.text()


def test_the_planned_run_says_its_hours_and_its_price_with_their_basis() -> None:
    plan = PLAN.model_copy(update={"max_steps": 100, "eval_rows": 0})
    estimate = estimate_run(plan, on=machine("8 cores"), train_rows=10, dollars_per_hour=2.0)
    cells = dict(estimate_cells(ROLLOUTS, estimate))
    assert (cells["hardware"], cells["steps"]) == ("8 cores", "100")
    assert cells["completions of a step"] == "4.00 s on one card, measured"
    assert f"{estimate.hours:.3g} hours, between" in cells["time"] and estimate.basis in cells["a whole step"]
    assert cells["price"].endswith("at $2.00 an hour") and cells["price"].startswith("$")
    free = estimate_cells(ROLLOUTS, replace(estimate, dollars_per_hour=None, obstacle="Too slow."))
    assert dict(free)["price"].startswith("not known") and ["note", "Too slow."] in free
    shown = report(rollouts=ROLLOUTS, estimate=estimate)
    assert "The planned run" in shown.text() and shown.to_json()["estimate"]["steps"] == 100


def test_the_tables_of_the_terminal_are_aligned() -> None:
    lines = report().text().splitlines()
    assert lines[0] == "Rows"
    assert len({line.rstrip().__len__() for line in lines[1:5]}) == 1
    assert max(map(len, lines)) < 160
