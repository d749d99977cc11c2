"""Evaluation: the statistics against known figures, the report, and a run on the starter."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from inference.engine import Engine
from inference.errors import UserError
from inference.format import DIRECT_PROMPT, THINK_PROMPT
from inference.rows import Completion, Row
from training import __main__ as command_line
from training import evaluate as module
from training.evaluate import CONDITIONS, Condition, evaluate, majority_baselines
from training.grading import gold_answer
from training.report import Outcome, Report
from training.statistics import paired_difference, share


def outcomes(*right: bool) -> list[Outcome]:
    return [Outcome(True, hit, hit, 10, False, "text") for hit in right]


@pytest.mark.parametrize(
    ("hits", "num", "low", "high"),
    [(9, 10, 0.5958, 0.9821), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (240, 480, 0.4554, 0.5446)],
)
def test_share_has_wilsons_interval(hits: int, num: int, low: float, high: float) -> None:
    estimate = share([True] * hits + [False] * (num - hits))
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (low, high)
    assert estimate.value == hits / num


def test_paired_difference_counts_what_changed() -> None:
    before = [True] * 50 + [False] * 50
    after = [True] * 45 + [False] * 5 + [True] * 35 + [False] * 15  # 35 gained, 5 lost
    estimate = paired_difference(after, before)
    a, b = 36 / 102, 6 / 102
    half = 1.959964 * math.sqrt((a + b - (a - b) ** 2) / 102)
    assert estimate.value == pytest.approx(0.30)
    assert (estimate.low, estimate.high) == pytest.approx((a - b - half, a - b + half))
    assert estimate.low > 0.18


def test_paired_difference_is_antisymmetric_and_never_without_width() -> None:
    one, other = [True, True, False, True], [False, True, True, False]
    forth, back = paired_difference(one, other), paired_difference(other, one)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    all_changed = paired_difference([True] * 100, [False] * 100)
    assert 0.9 < all_changed.low < 1.0 == all_changed.high == all_changed.value


@pytest.mark.parametrize(("after", "before"), [([], []), ([True], [True, False])])
def test_paired_difference_needs_the_same_rows(after: list[bool], before: list[bool]) -> None:
    with pytest.raises(ValueError, match="same rows"):
        paired_difference(after, before)


def test_report_by_kind_and_differences() -> None:
    kinds = ["bars", "bars", "shapes", "shapes"]
    before, after = outcomes(True, False, False, False), outcomes(True, True, True, False)
    report = Report(kinds, {"base-thinking": before, "adapter-thinking": after}, {"num_rows": 4})
    assert report.kind_names == ["bars", "shapes"]
    assert report.estimate("base-thinking", "strict", "bars").value == 0.5
    assert report.difference("strict").value == 0.5
    data = json.loads(json.dumps(report.to_json()))
    assert data["differences"]["lenient"]["shapes"]["value"] == 0.5
    assert data["conditions"]["adapter-thinking"]["overall"]["mean_tokens"] == 10
    assert "completions" not in data
    assert len(report.to_json(completions=True)["completions"]["base-thinking"]) == 4
    text = report.markdown()
    assert "| adapter-thinking |" in text and "+50.0" in text and "| bars" in text


def test_report_of_one_condition_has_no_difference() -> None:
    report = Report(["all"], {"base-thinking": outcomes(True)})
    assert not report.has_difference and "differences" not in report.to_json()
    assert "less base" not in report.markdown()


class Oracle:
    """Answers rows from a list of solutions by their pictures' place in the batch; keeps what it was asked."""

    def __init__(self, solutions: list[str]) -> None:
        self.solutions = solutions
        self.asked: list[Row] = []
        self.sizes: list[int] = []

    def generate(self, rows: list[Row]) -> list[Completion]:
        """Right with the adapter and where the picture is not blank; else it says "x"."""
        first = sum(self.sizes) % len(self.solutions)
        self.asked += rows
        self.sizes.append(len(rows))
        golds = self.solutions[first : first + len(rows)]
        texts = [s if row.adapter else "x" for row, s in zip(rows, golds)]
        return [Completion(row.prefix + text, (), 5, 1.0, 0.1, False, False) for row, text in zip(rows, texts)]


def test_each_condition_asks_in_its_way(problems: Any) -> None:
    oracle: Any = Oracle(problems["solution"])
    report = evaluate(oracle, problems, adapter="tuned", seed=3, batch_size=len(problems))
    assert list(report.outcomes) == [c.name for c in CONDITIONS]
    asked = {c.name: oracle.asked[i * len(problems) : (i + 1) * len(problems)] for i, c in enumerate(CONDITIONS)}
    assert {row.system_prompt for row in asked["base-direct"]} == {DIRECT_PROMPT}
    assert {row.system_prompt for row in asked["base-thinking"]} == {THINK_PROMPT}
    assert {row.temperature for row in asked["base-sampled"]} == {1.0}
    assert len({row.seed for row in asked["base-sampled"]}) == len(problems)
    assert {row.prefix for row in asked["base-forced"]} == {"<think>"}
    assert {row.image.getcolors() == [(448 * 448, (255, 255, 255))] for row in asked["base-blank"]} == {True}
    assert {row.adapter for row in asked["adapter-thinking"]} == {"tuned"}
    assert {row.adapter for row in asked["base-thinking"]} == {None}
    assert report.estimate("adapter-thinking", "strict").value == 1
    assert report.estimate("base-thinking", "lenient").value == 0
    assert report.difference("format").value == 1


def test_without_an_adapter_its_conditions_are_left_out(problems: Any) -> None:
    oracle: Any = Oracle(problems["solution"])
    report = evaluate(oracle, problems, batch_size=5, conditions=[CONDITIONS[1], Condition("tuned", tuned=True)])
    assert list(report.outcomes) == ["base-thinking"]
    assert oracle.sizes == [5, 5, 2]
    with pytest.raises(UserError, match="0 conditions"):
        evaluate(oracle, problems, [Condition("tuned", tuned=True)])


def test_majority_baselines(problems: Any) -> None:
    baselines = majority_baselines(problems, num_samples=50)
    assert all(0 <= e.value <= 0.6 and e.num_rows == len(problems) for e in baselines.values())
    letters = [gold_answer(s) == "A" for s, p in zip(problems["solution"], problems["problem"]) if "Choices" in p]
    assert baselines["majority by template, choices apart"].value * len(problems) >= sum(letters)


def test_the_starter_is_evaluated_the_same_twice(engine: Engine, problems: Any) -> None:
    rows = problems.select(range(3))
    conditions = [c for c in CONDITIONS if c.name in ("base-thinking", "base-sampled", "base-forced", "base-blank")]
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int, seconds: float) -> None:
        told.append((done, total))

    one, other = (evaluate(engine, rows, conditions, max_new_tokens=24, progress=tell) for _ in range(2))
    assert one.outcomes == other.outcomes
    assert told[-1] == (12, 12)
    assert all(o.text.startswith("<think>") for o in one.outcomes["base-forced"])
    assert {o.num_tokens for found in one.outcomes.values() for o in found} <= set(range(1, 25))


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "evaluation.json"
    options = ["--rows", "2", "--max-new-tokens", "8", "--conditions", "base-thinking", "--adapter", "none"]
    assert command_line.main(["evaluate", *options, "--output", str(target), "--completions"]) == 0
    data = json.loads(target.read_text(encoding="utf-8"))
    assert data["about"] | {"seconds": 0} == {
        "num_rows": 2,
        "seed": 0,
        "max_new_tokens": 8,
        "seconds": 0,
        "base": "starter",
        "adapter": None,
        "split": "test",
    }
    assert len(data["completions"]["base-thinking"]) == 2
    output = capsys.readouterr()
    assert "| base-thinking |" in output.out and "2/2 completions" in output.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "0"], "--rows is 0"),
        (["--output", "no/such/folder/x.json"], "no folder"),
        (["--base", "no/such/model", "--rows", "1"], "no/such/model"),
    ],
)
def test_wrong_options_end_with_a_message(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["evaluate", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["fly"], ["evaluate", "--split", "validation"]])
def test_wrong_commands_show_the_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(argv)
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


def test_a_path_of_this_machine_stays_out_of_the_record(tmp_path: Path) -> None:
    assert module._shown_name(str(tmp_path)) == tmp_path.name
    assert module._shown_name("Qwen/Qwen2.5-VL-3B-Instruct") == "Qwen/Qwen2.5-VL-3B-Instruct"
