"""Calibration of votes: bins, ECE against a count by hand, intervals by cluster, and the plot."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.evaluation.measures.calibration import Vote, calibration, said_of_share
from training.evaluation.outcomes import GradedCompletion
from training.evaluation.plots import draw_plots
from training.evaluation.report import Report
from training.evaluation.resume import KeptCompletion
from training.evaluation.scoring import count_votes, grade_rows


def draw(num_rows: int, chance_of: dict[float, float], seed: int = 0) -> list[Vote]:
    rng = random.Random(seed)
    shares = [rng.choice(list(chance_of)) for _ in range(num_rows)]
    return [Vote(share, rng.random() < chance_of[share]) for share in shares]


def test_bins_and_error_by_hand() -> None:
    votes = [Vote(0.5, True), Vote(0.5, False), Vote(0.5, False), Vote(1.0, True), Vote(1.0, False), Vote(0.0, False)]
    found = calibration(votes, 8)
    assert [(b.confidence, b.right.num_rows) for b in found.bins] == [(0.0, 1), (0.5, 3), (1.0, 2)]
    assert [b.right.value for b in found.bins] == pytest.approx([0, 1 / 3, 1 / 2])
    assert found.ece.value == pytest.approx((3 * (1 / 2 - 1 / 3) + 2 * (1 - 1 / 2)) / 6)
    assert found.gap.value == pytest.approx(3.5 / 6 - 2 / 6)


def test_every_number_of_eight_votes_has_a_bin_of_its_own() -> None:
    found = calibration([Vote(votes / 8, True) for votes in range(1, 9)], 8)
    assert [b.confidence for b in found.bins] == [votes / 8 for votes in range(1, 9)]


@pytest.mark.parametrize(
    ("chance_of", "word"),
    [
        ({1.0: 0.6, 0.5: 0.2}, "overconfident"),
        ({0.5: 0.9, 0.25: 0.6}, "underconfident"),
        ({0.25: 0.25, 0.5: 0.5, 0.75: 0.75}, "is not shown to differ from the share that is right ("),
    ],
)
def test_the_sentence_tells_the_side(chance_of: dict[float, float], word: str) -> None:
    found = calibration(draw(600, chance_of), 8)
    assert word in found.sentence and found.sentence.endswith("by chance alone.")
    assert found.ece.low <= found.ece.value <= found.ece.high
    if "differ" in word:
        assert abs(found.ece.value - found.ece_by_chance) < 0.03, "what a calibrated one shows is what chance shows"
    else:
        assert found.ece.low > 2 * found.ece_by_chance


def test_rows_of_one_picture_widen_the_interval() -> None:
    votes = [vote for vote in draw(60, {0.5: 0.5, 1.0: 0.5}) for _ in range(6)]
    alone, together = (calibration(votes, 8, clusters) for clusters in (range(360), [row // 6 for row in range(360)]))
    widths = [each.gap.high - each.gap.low for each in (alone, together)]
    assert 2.0 < widths[1] / widths[0] < 2.9, "√6 times as wide"


def test_the_interval_covers_the_true_gap() -> None:
    """Of 200 samples of rows with a known gap of 20 points about 95 % have it in their interval."""
    covered = 0
    for seed in range(200):
        found = calibration(draw(150, {0.75: 0.55, 1.0: 0.8}, seed), 8).gap
        covered += found.low <= 0.2 <= found.high
    assert 0.90 <= covered / 200 <= 0.99


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=60))
def test_any_votes(pairs: list[tuple[int, bool]]) -> None:
    found = calibration([Vote(num / 8, right) for num, right in pairs], 8)
    assert sum(b.right.num_rows for b in found.bins) == len(pairs)
    assert 0 <= found.ece.low <= found.ece.value <= found.ece.high <= 1 + 1e-9
    assert abs(found.gap.value) <= found.ece.value + 1e-9, "the error is at least the mean gap"
    assert np.isfinite(found.ece_by_chance)


def test_the_share_of_votes_counts_all_samples() -> None:
    texts = [f"<think>.</think><answer>{answer}</answer>" if answer else "" for answer in ("7", "7.0", "8", "")]
    (vote,) = count_votes([grade_rows(["7"] * 4, [KeptCompletion(text, 1, False) for text in texts], False)])
    assert vote == Vote(0.5, True)


@pytest.mark.parametrize("votes", range(1, 9))
def test_the_page_says_it_of_the_own_share(votes: int) -> None:
    found = calibration([Vote(num / 8, num > 4) for num in range(1, 9) for _ in range(5)], 8).to_json()
    said = said_of_share(found, votes / 8)
    assert said.startswith(f"On 5 held-out problems with this share of votes, {100 * (votes > 4)} % of the answers")


@pytest.mark.parametrize("found", [None, [], {}, {"bins": [1, {"confidence": "x", "right": {}}, {"confidence": 0.5}]}])
def test_a_broken_record_says_nothing(found: object) -> None:
    assert said_of_share(found, 0.5) == ""
    assert said_of_share(calibration([Vote(0.5, True)], 8).to_json(), 1.0) == ""


def test_report_and_plot(tmp_path: Path) -> None:
    row = [GradedCompletion(True, True, True, 9, False, "text")]
    found = {"base-sampled": calibration(draw(40, {0.5: 0.5, 1.0: 0.5}), 8)}
    report = Report(
        ["all"] * 40,
        {"base-sampled": row * 40},
        samples={"base-sampled": [row * 8] * 40},
        votes={"base-sampled": [True] * 40},
        calibration=found,
    )
    assert report.to_json()["calibration"]["base-sampled"]["ece"]["num_rows"] == 40
    assert f"- base-sampled: {found['base-sampled'].sentence}" in report.markdown()
    path = draw_plots(report, tmp_path, "evaluation")[-1]
    assert path.name == "evaluation-calibration.png"
    with Image.open(path) as picture:
        assert picture.format == "PNG" and len(picture.convert("RGB").getcolors(1 << 24) or []) > 20
