"""The invariant: no answer is right for two golds whose values differ, and every gold is right for itself."""

from __future__ import annotations

import random
from collections.abc import Hashable

import pytest

from training.grading import attack
from training.grading.attack import make_answers, make_gold, search
from training.grading.grader import grade_many


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_answer_is_right_for_two_golds(seed: int) -> None:
    rng = random.Random(seed)
    golds = [make_gold(rng) for _ in range(60)]
    assert list(search(golds, make_answers(golds, rng, 120))) == []


@pytest.mark.torture
def test_no_answer_is_right_for_two_of_3000_golds() -> None:
    rng = random.Random()
    golds = [make_gold(rng) for _ in range(3000)]
    assert list(search(golds, make_answers(golds, rng, 500))) == []


def test_every_gold_is_right_for_itself() -> None:
    rng = random.Random(5)
    golds = [make_gold(rng) for _ in range(600)]
    verdicts = grade_many([(gold.text, gold.text) for gold in golds], "direct")
    assert not [(gold, verdict) for gold, verdict in zip(golds, verdicts) if not verdict.correct]


def test_golds_of_one_value_are_one_answer() -> None:
    rng = random.Random(6)
    texts: dict[Hashable, set[str]] = {}
    for _ in range(3000):
        gold = make_gold(rng)
        if gold.value[0] not in ("quantity", "number"):  # type: ignore[index]  # whose texts may be 2:1 and 2
            texts.setdefault(gold.value, set()).add(gold.text)
    pairs = [(min(each), max(each)) for each in texts.values() if len(each) > 1]
    verdicts = grade_many(pairs, "direct")
    assert len(pairs) > 3 and all(verdict.correct for verdict in verdicts)


def test_a_finding_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def careless(pairs: list[tuple[str, str]], mode: str) -> list[object]:
        return [type("Verdict", (), {"correct": answer == "0:0"}) for _, answer in pairs]

    monkeypatch.setattr(attack, "grade_many", careless)
    assert attack.main(["--seconds", "0.5", "--seed", "1", "--golds", "20"]) == 1
    assert "'0:0' is right for" in capsys.readouterr().out
