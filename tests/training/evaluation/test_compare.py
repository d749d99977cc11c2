"""A run that ends is compared with what is served, and promoted where that was asked for and it is better."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.adapters.record import adapter_digest, comparison_text
from inference.adapters.served import promote, roll_back, serving
from inference.common.errors import UserError
from inference.common.settings import STARTER, Settings, load_settings
from inference.engine.engine import Engine
from tests.support.datasets_on_disk import write_folder
from tests.support.samples import perturbed_adapter
from training.config.run_config import load_config
from training.evaluation.compare import compare_with_served, conclude, is_better, reason, rule_interval
from training.evaluation.scoring import _Completer
from training.evaluation.statistics import PairedDifference, paired_difference
from training.runs.folder import RunFolder

ROWS = 16
SHIPPED = STARTER / "adapter"


@pytest.fixture
def settings(home: Path) -> Settings:
    """The starter alone is served: no adapter."""
    found = load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home)}, has_gpu=False)
    return found.model_copy(update={"adapter": None})


def finished(
    home: Path, name: str, adapter: Path = SHIPPED, request: dict[str, Any] | None = None, **data: Any
) -> Path:
    """A run that has ended with this adapter."""
    values = {"eval_rows": ROWS, "data": {"train_rows": 4, "test_rows": 2} | data}
    folder = RunFolder.create(home / "runs" / name, load_config("starter", values))
    shutil.copytree(adapter, folder.adapter, ignore=shutil.ignore_patterns("evaluation.json"))
    folder.set_status("succeeded")
    if request is not None:
        write_request(folder.path, **request)
    return folder.path


def write_request(run: Path, **request: Any) -> None:
    (run / "request.json").write_text(json.dumps(request))


def written(run: Path) -> dict[str, Any]:
    return json.loads((run / "adapter" / "comparison.json").read_text())


@pytest.mark.slow
def test_the_first_is_promoted_and_a_worse_one_waits(
    engine: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One story, since each comparison takes seconds."""
    home = settings.home
    first = finished(home, "first", request={"promote": True, "asked_by": "alice"})

    asked: list[int] = []
    complete = _Completer.complete

    def stopping(self: _Completer, *args: Any) -> Any:
        if asked:
            raise KeyboardInterrupt  # a kill after the first side
        asked.append(1)
        return complete(self, *args)

    monkeypatch.setattr(_Completer, "complete", stopping)
    with pytest.raises(KeyboardInterrupt):
        conclude(first, settings=settings, engine=engine)
    assert not (first / "adapter" / "comparison.json").exists() and serving(settings).path is None
    assert engine.adapters == (), "nothing is left in the engine"

    asked.clear()  # one side is left to ask
    found = conclude(first, settings=settings, engine=engine)
    assert asked == [1] and found == written(first)
    assert found["is_better"] is True and found["decision"] == "promoted" and found["num_rows"] == ROWS
    assert found["served"] == {"name": "the base alone", "digest": None}
    assert found["adapter"] == adapter_digest(SHIPPED) == serving(settings).digest
    assert "penalty" not in found["reason"], "the starter has none"
    assert found["counted"]["strict"][0] > 0 and found["differences"]["lenient"]["num_rows"] == ROWS
    assert serving(settings).by == "alice, by the run first"
    tasks = {each["name"]: each["difference"]["num_rows"] for each in found["outside"]["abilities"]}
    assert tasks["describes the picture"] == ROWS and tasks["calculates without a picture"] == 24
    assert found["outside"]["sentence"].startswith("Outside the reward ")
    assert not list((first / "adapter").glob("*.parts.jsonl"))
    assert (serving(settings).path / "comparison.json").is_file()  # type: ignore[operator]
    assert conclude(first, settings=settings) == found, "nothing is asked, and nothing done, a second time"

    monkeypatch.setattr(_Completer, "complete", complete)
    worse = perturbed_adapter(tmp_path / "worse", strength=0.5)
    second = finished(home, "second", worse, {"promote": True})
    monkeypatch.setattr(engine, "repetition_penalty", 1.0001)
    found = conclude(second, settings=settings, engine=engine)
    assert "Both were asked with the base's repetition penalty, 1.0001." in found["reason"]
    assert found["is_better"] is False and found["decision"] == "waits" and "It is worse in strict" in found["reason"]
    assert found["served"]["digest"] == adapter_digest(SHIPPED) and found["served"]["name"].startswith("first-")
    assert serving(settings).digest == adapter_digest(SHIPPED)

    promote(home, worse, "alice", settings=settings)  # by hand, whatever the figures
    third = finished(home, "third")
    found = conclude(third, settings=settings, engine=engine)
    assert found["is_better"] is True and found["decision"] == "waits" and "was not requested" in found["outcome"]
    assert serving(settings).digest == adapter_digest(worse)
    write_request(third, promote=True)
    found = conclude(third, settings=settings.model_copy(update={"adapter_is_pinned": True, "adapter": str(worse)}))
    assert found["decision"] == "waits" and "LOOKTHINK_ADAPTER is set" in found["outcome"]
    found = conclude(third, settings=settings)
    assert found["decision"] == "promoted" and serving(settings).digest == adapter_digest(SHIPPED)
    roll_back(home, "alice", settings=settings)
    conclude(third, settings=settings)
    assert serving(settings).digest == adapter_digest(worse), "what was rolled back does not come back by itself"


def test_without_validation_rows_it_waits_and_says_so(settings: Settings, tmp_path: Path) -> None:
    mine = {"dataset": str(write_folder(tmp_path / "mine", 8)), "train_rows": None}
    run = finished(settings.home, "own", request={"promote": True}, **mine)
    found = conclude(run, settings=settings)
    assert found["is_better"] is None and found["decision"] == "waits"
    assert "has no validation rows" in found["reason"] and "--validation-rows" in found["reason"]
    assert written(run) == found and serving(settings).path is None


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"promote": "yes"}', '{"promote": 1}', '{"promote": null}'])
def test_only_a_plain_yes_is_a_request(settings: Settings, text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(settings.home, "run")
    if text is not None:
        (run / "request.json").write_text(text)
    better = {
        "adapter": "0",
        "served": {"digest": None},
        "is_better": True,
        "decision": "waits",
        "reason": "",
        "at": "",
    }
    monkeypatch.setattr("training.evaluation.compare.compare_with_served", lambda *_, **__: better)
    assert conclude(run, settings=settings)["decision"] == "waits"
    assert serving(settings).path is None


def test_of_another_base_or_not_finished(settings: Settings) -> None:
    run = finished(settings.home, "run", request={"promote": True})
    qwen = settings.model_copy(update={"base": "Qwen/Qwen2.5-VL-3B-Instruct"})
    found = conclude(run, settings=qwen)
    assert found["decision"] == "waits" and "of starter, and Qwen2.5-VL-3B-Instruct is" in found["reason"]
    shutil.rmtree(run / "adapter")
    with pytest.raises(UserError, match="no adapter yet.*--resume"):
        compare_with_served(run, settings)


def test_what_is_served_meanwhile_is_compared_with_too(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the comparison and the promotion somebody promotes another one, each time."""
    run = finished(settings.home, "run", perturbed_adapter(tmp_path / "new"))
    others = iter([perturbed_adapter(tmp_path / f"other-{n}", n + 5) for n in range(3)])

    def compare(*_: Any, **__: Any) -> dict[str, Any]:
        before = serving(settings)
        promote(settings.home, next(others), "somebody", settings=settings)
        served = {"name": before.name, "digest": before.digest}
        return {"adapter": "new", "served": served, "is_better": True, "decision": "waits", "reason": "It is better."}

    monkeypatch.setattr("training.evaluation.compare.compare_with_served", compare)
    write_request(run, promote=True)
    found = conclude(run, settings=settings)
    assert found["decision"] == "waits" and "each time" in found["outcome"]
    assert str(serving(settings).name).startswith("other-2")


def changed(gained: int, lost: int, same: int = 480) -> PairedDifference:
    """A paired difference by the rows that changed, `same` besides."""
    after = [True] * gained + [False] * lost + [True] * same
    before = [False] * gained + [True] * lost + [True] * same
    return paired_difference(after, before)


UP, DOWN, EQUAL = changed(60, 5), changed(5, 60), changed(0, 0)
CASES: dict[str, tuple[PairedDifference, PairedDifference, bool]] = {
    "both wholly above": (UP, UP, True),
    "strict above, lenient without a changed row": (UP, EQUAL, True),
    "lenient above, strict without a changed row": (EQUAL, UP, True),
    "no row changed in either": (EQUAL, EQUAL, False),
    "strict above, lenient below": (UP, DOWN, False),
    "strict below, lenient above": (DOWN, UP, False),
    "both below": (DOWN, DOWN, False),
    "strict above, lenient gained as many as it lost": (UP, changed(3, 3), False),
    "strict above, lenient gained one row and lost none": (UP, changed(1, 0), False),
    "strict above, lenient lost one row": (UP, changed(0, 1), False),
    "gained five of 485, lost none: the interval reaches below zero": (changed(5, 0), EQUAL, False),
    "gained six of 486, lost none: the interval lies above zero": (changed(6, 0), EQUAL, True),
    "the only row, gained": (changed(1, 0, same=0), changed(1, 0, same=0), False),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rule(case: str) -> None:
    strict, lenient, better = CASES[case]
    assert is_better(strict, lenient) is better
    words = reason(strict, lenient, "the-served-one")
    assert ("it is better" in words) is better
    assert f"On {strict.num_rows} validation rows" in words and "the-served-one" in words
    for said, measure in (("worse in strict", strict), ("strict accuracy the interval", strict)):
        assert said not in words or rule_interval(measure)[0] < 0


def test_no_changed_row_counts_as_zero_and_nothing_else_does() -> None:
    assert rule_interval(EQUAL) == (0.0, 0.0) and EQUAL.low < 0 < EQUAL.high
    assert rule_interval(UP) == (UP.low, UP.high) and rule_interval(changed(1, 1)) != (0.0, 0.0)


def test_the_words_of_each_way_to_wait() -> None:
    assert "No row came out otherwise" in reason(EQUAL, EQUAL, "it")
    assert "worse in strict and lenient accuracy" in reason(DOWN, DOWN, "it")
    assert "worse in lenient accuracy" in reason(UP, DOWN, "it")
    assert "In lenient accuracy the interval reaches below zero" in reason(UP, changed(1, 0), "it")
    assert "In strict and lenient accuracy the intervals reach" in reason(changed(1, 0), changed(3, 3), "it")
    assert comparison_text({"reason": "It is.", "outcome": "So it waits.", "is_better": True}) == "It is. So it waits."


PAIRED_ROWS = st.lists(st.tuples(*[st.booleans()] * 4), min_size=1, max_size=300)


@given(PAIRED_ROWS, st.integers(1, 8))
def test_of_two_that_are_swapped_never_both_are_better(rows: list[tuple[bool, ...]], times: int) -> None:
    """A row is (new strict, new lenient, served strict, served lenient)."""
    new_strict, new_lenient, old_strict, old_lenient = (list(column) * times for column in zip(*rows))
    forth = is_better(paired_difference(new_strict, old_strict), paired_difference(new_lenient, old_lenient))
    back = is_better(paired_difference(old_strict, new_strict), paired_difference(old_lenient, new_lenient))
    assert not (forth and back)
    if forth:
        assert sum(new_strict) >= sum(old_strict) and sum(new_lenient) >= sum(old_lenient)
