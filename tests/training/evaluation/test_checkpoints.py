"""pass@1, majority and pass@8 of base and checkpoints: figures by hand, the sentence, and a killed evaluation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inference.common.errors import UserError
from tests.support.samples import STARTER
from training import __main__ as command_line
from training.config.run_config import load_config
from training.evaluation import checkpoints as module
from training.evaluation.checkpoints import Scores, kept_checkpoints, sentence
from training.evaluation.outcomes import GradedCompletion, Outcomes
from training.runs.folder import RunFolder, step_of

HISTORY = STARTER / "history"


def scores(*rights: float, majority: bool = True, k: int = 8) -> Scores:
    """Rows with these shares of right samples; pass@8 is 1 where any is."""
    return Scores(k, tuple(rights), tuple(float(right > 0) for right in rights), (majority,) * len(rights))


def test_rates_by_hand() -> None:
    def graded(answer: str, right: bool) -> GradedCompletion:
        return GradedCompletion(True, right, right, 9, False, f"<think>.</think><answer>{answer}</answer>")

    rows = [[graded("7", True)] * 3 + [graded("8", False)] * 7, [graded(str(i), i == 9) for i in range(10)]]
    found = Scores.of(Outcomes(["all"] * 2, {}, samples={"base-sampled": rows}), "base-sampled")
    assert found.k == 8 and found.once == pytest.approx((0.3, 0.1))
    assert found.passed == pytest.approx((1.0, 1 - 1 / 5)), "1 - C(9, 8) / C(10, 8) = 0.8"
    assert found.majority == (False, False), "of the first eight"
    shown = found.to_json(10, [0, 1])
    assert set(shown) == {"pass@1", "majority@8", "pass@8"}
    assert shown["pass@1"][0] == 0.2 and shown["pass@1"][1] < 0.2 < shown["pass@1"][2]


NEVER, SELDOM, OFTEN = (0.0,), (0.25,), (1.0,)


@pytest.mark.parametrize(
    ("base", "forced", "last", "start"),
    [
        (NEVER * 40, NEVER * 40, OFTEN * 40, "Training taught: on 40 rows pass@8 rose by 100.0 points ("),
        (SELDOM * 40, SELDOM * 40, OFTEN * 40, "Training sharpened: on 40 rows pass@1 rose by 75.0 points ("),
        (NEVER * 40, SELDOM * 40, OFTEN * 40, "Training sharpened: "),
        (SELDOM * 40, SELDOM * 40, OFTEN * 30 + NEVER * 10, "Training sharpened: "),
        (OFTEN * 40, OFTEN * 40, SELDOM * 40, "It got worse: on 40 rows pass@1 changed by -75.0 points ("),
        (SELDOM * 40, SELDOM * 40, SELDOM * 40, "40 rows cannot tell: pass@1 changed by +0.0 points ("),
        (NEVER * 4, NEVER * 4, OFTEN * 4, "4 rows cannot tell: "),
    ],
)
def test_taught_or_sharpened(base: tuple, forced: tuple, last: tuple, start: str) -> None:
    said = sentence(scores(*base), scores(*forced), scores(*last), list(range(len(base))))
    assert said.startswith(start) and said.endswith(".")
    assert (" fell, so it lost" in said) == (last == OFTEN * 30 + NEVER * 10)
    assert ("not above that of the base that is made to think" in said) == (forced != base)


def test_checkpoints_of_a_folder_and_of_a_run(tmp_path: Path) -> None:
    assert [step_of(path) for path in kept_checkpoints(HISTORY)] == [5, 10, 15, 25, 40, 70, 120, 200]
    with pytest.raises(UserError, match="no folder such as step-005"):
        kept_checkpoints(tmp_path)
    run = RunFolder.create(tmp_path / "run", load_config("starter"))
    with pytest.raises(UserError, match="keeps no checkpoint; train with --keep-checkpoints none"):
        kept_checkpoints(run)
    for step in (20, 30):
        shutil.copytree(STARTER / "adapter", run.checkpoints / f"checkpoint-{step}")
    run.mark_complete(run.checkpoints / "checkpoint-20", keep=None)
    for step in (10, 20):
        shutil.copytree(STARTER / "adapter", run.path / "candidates" / f"checkpoint-{step}")
    found = kept_checkpoints(run)
    assert [(path.parent.name, step_of(path)) for path in found] == [("candidates", 10), ("candidates", 20)]


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """The first and the last checkpoint of the shipped run."""
    for name in ("step-005", "step-200"):
        shutil.copytree(HISTORY / name, tmp_path / "history" / name)
    return tmp_path / "history"


FAST = ["--rows", "6", "--samples", "3", "--max-new-tokens", "48", "--batch-size", "6"]


def test_a_killed_one_goes_on(
    history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real thing, killed in the second model and given again: only the rest is asked."""
    whole, killed = tmp_path / "whole.json", tmp_path / "killed.json"
    command = ["evaluate", "--checkpoints", str(history), *FAST, "--output"]
    assert command_line.main([*command, str(whole)]) == 0
    assert "Training " in (said := capsys.readouterr()).out or "cannot tell" in said.out
    evaluate, calls = module.evaluate, []

    def stopped(*args: Any, **options: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(module, "evaluate", stopped)
        assert command_line.main([*command, str(killed)]) == 130
    assert not killed.exists() and len(list(tmp_path.glob("killed.*.parts.jsonl"))) == 3
    capsys.readouterr()
    assert command_line.main([*command, str(killed)]) == 0
    bar = capsys.readouterr().err.replace("\r", "\n").split("\n")
    shown = [line.split("|")[2].split()[0] for line in bar if line.startswith("completing:")]
    assert shown[-1] == "72/72" and "54/72" in shown, "six rows, three samples, two of the base and two checkpoints"
    found = json.loads(killed.read_text())
    assert found == json.loads(whole.read_text())
    assert found["steps"] == [0, 5, 200] and (found["num_rows"], found["num_samples"]) == (6, 3)
    for name in ("pass@1", "majority@3", "pass@3"):
        assert all(low <= value <= high for value, low, high in found[name]) and len(found[name]) == 3
    assert found["pass@1"][2][0] > found["pass@1"][0][0], "the last one is right more often than the base"
    assert str(tmp_path) not in killed.read_text() and not list(tmp_path.glob("*.parts.jsonl"))
    with Image.open(tmp_path / "whole.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20


@pytest.mark.slow
def test_a_runs_checkpoints_are_written_where_the_page_reads_them(tmp_path: Path) -> None:
    data = {"train_rows": 4, "test_rows": 3, "seed": 5}
    run = RunFolder.create(tmp_path / "run", load_config("starter", {"data": data}))
    for folder in (run.adapter, run.path / "candidates" / "checkpoint-7"):
        shutil.copytree(HISTORY / "step-200", folder)
    assert command_line.main(["evaluate", "--run", str(run.path), "--checkpoints", *FAST]) == 0
    found = json.loads((run.adapter / "learn" / "checkpoints.json").read_text())
    assert found["steps"] == [0, 7] and found["num_rows"] == 3 and (run.path / "checkpoints.png").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoints"], "--checkpoints needs a folder with checkpoints, or --run"),
        (["--checkpoints", "no/such"], "no/such has no folder such as step-005"),
        (["--checkpoints", str(HISTORY), "--adapter", "none"], "leave --adapter and --conditions out"),
        (["--checkpoints", str(HISTORY), "--conditions", "main"], "leave --adapter and --conditions out"),
    ],
)
def test_wrong_options(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["evaluate", *options]) == 2
    assert message in capsys.readouterr().err
