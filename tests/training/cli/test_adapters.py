"""The commands `promote` and `adapters`, and the list of versions that they and the tab show."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from inference.adapters.catalog import adapter_versions
from inference.adapters.record import adapter_digest
from inference.adapters.served import promote, serving
from inference.common.settings import STARTER, load_settings
from tests.support.run_folders import add_evaluation
from tests.support.samples import perturbed_adapter, problems
from training.__main__ import main
from training.learn.pinned import PinnedQuestions


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run whose comparison waits."""
    monkeypatch.setenv("LOOKTHINK_BASE", "starter")
    adapter = perturbed_adapter(home / "runs" / "night" / "adapter")
    comparison = {"adapter": adapter_digest(adapter), "reason": "It is better.", "outcome": "It waits: nobody asked."}
    (adapter / "comparison.json").write_text(json.dumps(comparison))
    add_evaluation(adapter)
    return home / "runs" / "night"


def test_promote_list_and_roll_back(
    home: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["adapters"]) == 0
    before = capsys.readouterr().out
    measured = json.loads((STARTER / "adapter" / "evaluation.json").read_text())["conditions"]
    adapter, base = (measured[name]["overall"]["lenient"]["value"] for name in ("adapter-thinking", "base-thinking"))
    scores = f"test {100 * adapter:.0f} % (base {100 * base:.0f} %)"
    assert before.startswith("served: starter-adapter\n") and f"night-adapter: run, {scores}" in before
    assert "It is better. It waits" in before

    assert main(["promote", "night"]) == 0
    said = capsys.readouterr().out
    name = serving(load_settings()).name
    assert name and name.startswith("night-") and f"served from now on: {name}" in said and "It is better." in said
    mine = perturbed_adapter(home / "adapters" / "mine", seed=1)
    shutil.rmtree(run)
    for problem in problems(2, seed=3):
        PinnedQuestions(home).add(problem.image, problem.problem, problem.answer)
    (home / "pinned" / "results.json").unlink(missing_ok=True)
    assert main(["promote", str(mine)]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"Pinned questions: \d of 2 broke, \d mended, against {name}; mine-\w+ has \d of 2 right\.", said)
    assert "Outside the reward " in said and "calculates without a picture: base " in said and "of 24 rows" in said
    assert main(["adapters"]) == 0
    listed = capsys.readouterr().out
    assert f"{name}: promoted, before, {scores}, promoted 20" in listed
    first, second, *others = adapter_versions(load_settings())
    assert (first.is_served, first.origin, first.run) == (True, "promoted", None) and first.name.startswith("mine-")
    assert (second.name, second.is_before, second.run, second.origin) == (name, True, "night", "promoted")
    assert (
        second.promoted_by and "command line" in second.promoted_by and second.comparison["reason"] == "It is better."
    )
    assert [(version.name, version.origin) for version in others] == [
        ("starter-adapter", "settings"),
        ("mine", "folder"),
    ]

    shutil.rmtree(second.path)
    gone = next(version for version in adapter_versions(load_settings()) if version.name == name)
    assert "is gone" in gone.problem and gone.is_before
    assert main(["promote", "--roll-back"]) == 0
    assert "served from now on: starter-adapter" in capsys.readouterr().out
    assert first.promoted_at and first.promoted_by
    with monkeypatch.context() as patch:
        patch.setattr("inference.adapters.served.now", lambda: "2999-01-01T00:00:00Z")
        promote(home, mine, "somebody else")
    again = adapter_versions(load_settings())[0]
    assert (again.name, again.promoted_at, again.promoted_by) == (first.name, "2999-01-01T00:00:00Z", "somebody else")
    assert main(["promote", "--roll-back"]) == 0
    assert main(["promote", "mine"]) == 0, "by the name it is listed under"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name one run or adapter"),
        (["night", "--roll-back"], "name one run or adapter"),
        (["nobody"], "no run and no adapter 'nobody'.*adapters` lists them"),
        (["../../etc"], "no run and no adapter"),
        (["--roll-back"], "Nothing was served before"),
    ],
)
def test_what_cannot_be_done_is_told(
    run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["promote", *words]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert serving(load_settings()).name == "starter-adapter"


def test_broken_ones_are_listed_with_their_problem(home: Path, run: Path) -> None:
    (run / "adapter" / "comparison.json").write_text("{")
    other = perturbed_adapter(home / "adapters" / "other")
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "Qwen/Qwen2.5-VL-3B"}))
    (perturbed_adapter(home / "adapters" / "half") / "adapter_config.json").write_text("{")
    found = {version.name: version for version in adapter_versions(load_settings())}
    assert found["night-adapter"].comparison == {} and not found["night-adapter"].problem
    assert "was trained on Qwen/Qwen2.5-VL-3B, but starter answers here" in found["other"].problem
    assert "cannot be read as JSON" in found["half"].problem and found["half"].record is None
