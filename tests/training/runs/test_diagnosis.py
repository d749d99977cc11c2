"""The diagnosis, each finding on a made-up history that has it and on ones that do not."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.runs.diagnosis import ACCURACY, FORMAT, WINDOW, diagnose

STEPS = 80


def history(**changed) -> list[dict]:
    """A healthy run of 80 steps, with some metrics changed; `f` of each step or one value for all."""
    healthy = {
        "loss": 0.0,
        "grad_norm": 0.4,
        "reward": lambda s: 0.6 + 0.8 * s / STEPS,
        FORMAT: lambda s: min(1.0, 0.3 + s / 30),
        ACCURACY: lambda s: 0.4 + 0.4 * s / STEPS,
        "frac_reward_zero_std": 0.3,
        "completions/clipped_ratio": 0.01,
        "completions/mean_length": lambda s: 40 + s / 10,
        "entropy": lambda s: 0.6 - 0.3 * s / STEPS,
    }
    metrics = healthy | {name.replace("__", "/"): value for name, value in changed.items()}
    metrics = {"frac_reward_zero_std" if n == "zero_std" else n: v for n, v in metrics.items()}
    return [{"step": s} | {n: v(s) if callable(v) else v for n, v in metrics.items()} for s in range(1, STEPS + 1)]


def names(rows: list[dict]) -> set[str]:
    return {finding.name for finding in diagnose(rows)}


def test_a_healthy_run_has_no_findings() -> None:
    assert diagnose(history()) == []


def test_a_young_run_has_no_findings() -> None:
    assert diagnose([]) == []
    assert diagnose(history(**{FORMAT: 0.0, "reward": 0.0})[:10]) == []


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"zero_std": 0.93, ACCURACY: 0.5}, "no signal", "in 93 % of groups got the same reward"),
        ({"zero_std": 0.93, ACCURACY: 0.97}, "no signal", "too easy (accuracy 97"),
        ({"zero_std": 0.93, ACCURACY: 0.05}, "no signal", "too hard (accuracy 5"),
        ({"completions/clipped_ratio": 0.41}, "cut off", "41 % of completions"),
        ({FORMAT: 0.0}, "format stuck", "never writes the tags"),
        ({ACCURACY: 0.0}, "never right", "0.000"),
        ({"reward": lambda s: 1.2 if s < 45 else 0.3}, "reward collapse", "from 1.20 (steps 1 to 20) to 0.30"),
        ({"completions/mean_length": lambda s: 90 - s, ACCURACY: 0.5}, "shrinking completions", "tokens"),
        ({"entropy": lambda s: 0.8 * 0.93**s}, "entropy collapse", "nats a token"),
        ({FORMAT: lambda s: min(1.0, s / 15), ACCURACY: 0.4}, "only the tags", "from 40 % to 40 %"),
        ({"reward": None}, "nothing is scored", "in the last 3 logged steps: each returned None"),
        ({"grad_norm": 0.0}, "nothing is trained", "0 in the last 20 steps"),
        ({"grad_norm": lambda s: math.nan if s == 30 else 0.4}, "not a number", "grad_norm was nan at step 30"),
    ],
)
def test_each_finding(changes: dict, name: str, said: str) -> None:
    found = [finding for finding in diagnose(history(**changes)) if finding.name == name]
    assert len(found) == 1
    assert said in str(found[0])
    assert found[0].remedy


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"completions/mean_length": lambda s: 90 - s}, "shrinking completions"),  # accuracy gained meanwhile
        ({"zero_std": 0.7}, "no signal"),
        ({"entropy": 0.02}, "entropy collapse"),  # low from the start
        ({"reward": lambda s: 1.2 if s < 45 else 1.0}, "reward collapse"),
        ({"grad_norm": 0.0, "zero_std": 1.0}, "nothing is trained"),  # no signal says it better
    ],
)
def test_what_is_not_wrong(changes: dict, name: str) -> None:
    assert name not in names(history(**changes))


@settings(suppress_health_check=[HealthCheck.too_slow])  # it depends on the machine's load
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from([FORMAT, ACCURACY, "reward", "grad_norm", "entropy", "completions/mean_length", "step"]),
            st.one_of(st.none(), st.floats(), st.text(max_size=3)),
        ),
        max_size=45,
    )
)
def test_no_history_breaks_it(rows: list[dict]) -> None:
    diagnose(rows)


def test_one_answer_for_many_golds_is_named_with_an_example() -> None:
    history = [{"step": step, "accuracy/golds_per_answer": 4.0} for step in range(WINDOW)]
    right = {"text": "", "answer": "0:0", "rewards": {"accuracy_reward": 1.0}}
    groups = [{"gold": gold, "completions": [right]} for gold in ("24", "x+1")]
    [finding] = diagnose(history, groups)
    assert finding.name == "one answer for many golds"
    assert "under 4.0 different golds" in finding.seen and "“0:0” under “24”, “x+1”" in finding.seen


@pytest.mark.parametrize("column", ["completions/mean_length", "accuracy/same_text"])
def test_rewards_without_substance(column: str) -> None:
    steps = range(2 * WINDOW)
    history = [{ACCURACY: 0.2 if s < WINDOW else 0.8, column: 100.0 if s < WINDOW else 5.0} for s in steps]
    assert [finding.name for finding in diagnose(history)] == ["rewards without substance"]
