"""The doctor on the real starter, whole and small: each line, what is kept, and each line with its part broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.common.settings import STARTER, load_settings, report_folders
from inference.engine.cuda_graph import StaticStep
from inference.engine.engine import Engine
from inference.model.families import QwenVL
from training.config.run_config import RunConfig, load_config
from training.doctor import checks, model_checks, step_check
from training.doctor.checks import CHECKS, examine
from training.doctor.model_checks import NOT_HERE, FastPathCheck, Finding
from training.doctor.report import Form, Line, Report, keep_report
from training.doctor.subject import Subject, scaled
from training.grpo.trainer import RunTrainer
from training.runs.estimate.hardware import machine_here
from training.runs.estimate.run_estimate import estimate_run

SMALL = {"prompts_per_step": 2, "num_generations": 2, "max_completion_length": 8, "report_to": [], "eval_rows": 0}
ON_A_CARD = ("runs_ahead", "flash_attention", "cuda_graphs")
OF_THE_KEY = ("base", "prompts", "tokens", "attention", "step", "gradient")


def small(**values: Any) -> RunConfig:
    return load_config("starter", SMALL | values)


def subject(config: RunConfig | None = None) -> Subject:
    return Subject(config or small(), load_settings(), {})


def look(subject: Subject, *names: str, form: Form = "full", before: Report | None = None) -> dict[str, Line]:
    """These lines by name."""
    chosen = [check for check in CHECKS if check.name in names]
    return {line.name: line for line in examine(subject, form, checks=chosen, before=before).lines}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, list[str]]:
    """One full examination, and the lines as they were said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOKTHINK_HOME", str(tmp_path_factory.mktemp("home")))
        said: list[str] = []
        report = examine(subject(), "full", say=lambda line: said.append(line.name), dollars_per_hour=2.5)
    return report, said


@pytest.fixture(scope="module")
def loaded() -> Subject:
    """A subject whose model is loaded once for all that break something around it."""
    made = subject()
    _ = made.engine, made.references
    return made


@pytest.mark.slow
def test_every_line_is_looked_at_on_this_machine(whole: tuple[Report, list[str]]) -> None:
    report, said = whole
    lines = {line.name: line for line in report.lines}
    assert list(lines) == said == [check.name for check in CHECKS]
    assert {lines[name].status for name in OF_THE_KEY} == {"pass"}, report
    for name in ON_A_CARD:
        assert lines[name].status == "skip" and lines[name].evidence == "not here: this machine has no card"
    assert report.proven == () and report.form == "full" and "an hour" in report.cost
    assert "greedy tokens in 4 rows are those of generate" in lines["tokens"].evidence
    assert "GB of the whole process" in lines["step"].evidence and "8)" in lines["step"].evidence
    assert "from TRL's on 4 rows in float32" in lines["gradient"].evidence
    assert Report.model_validate_json(report.model_dump_json()) == report


@pytest.mark.slow
def test_what_passed_is_not_looked_at_again(whole: tuple[Report, list[str]], home: Path) -> None:
    report, _ = whole
    again = subject()
    second = examine(again, "full", before=report)
    lines = {line.name: line for line in report.lines}
    for line in second.lines:
        if line.name in OF_THE_KEY:
            assert line == lines[line.name]
    assert second.steps == report.steps
    # other settings have another step, and the same model
    other = subject(small(max_completion_length=4))
    third = {line.name: line for line in examine(other, "short", before=report).lines}
    assert third["step"] == lines["step"], "the short form leaves it as it is"
    stale = [check for check in CHECKS if check.name == "gradient"]
    [changed] = examine(other, "full", before=report, checks=stale).lines
    assert changed.about != lines["gradient"].about and changed.status == "pass"


def test_a_step_of_the_doctor_is_a_measured_one(whole: tuple[Report, list[str]], home: Path) -> None:
    report, _ = whole
    keep_report(report, load_settings())
    folders = report_folders(load_settings())
    found = estimate_run(small(), on=machine_here(), doctor_folders=folders)
    [measured] = report.steps
    assert found.basis == f"measured here on {measured['measured']['num_steps']} steps of the doctor, ±30 %"
    assert found.step_seconds == measured["measured"]["seconds"] > 0
    assert "arithmetic" in estimate_run(small(), on=machine_here()).basis
    assert "arithmetic" in estimate_run(small(num_generations=4), on=machine_here(), doctor_folders=folders).basis
    on_a_card = dict(measured, measured=measured["measured"] | {"peak_gb": 31.25})
    keep_report(report.model_copy(update={"steps": (on_a_card,)}), load_settings())
    found = estimate_run(small(), on=machine_here(), doctor_folders=folders)
    assert "The doctor measured a peak of 31.2 GB here" in found.notes
    keep_report(report.model_copy(update={"steps": ({"settings": {"base": 3}},)}), load_settings())
    assert "arithmetic" in estimate_run(small(), on=machine_here(), doctor_folders=folders).basis


@pytest.mark.parametrize(("status", "is_kept"), [("pass", True), ("warn", True), ("fail", False), ("skip", False)])
def test_what_failed_is_looked_at_again(status: Any, is_kept: bool) -> None:
    calls = []

    def count(of: Subject) -> Finding:
        calls.append(of)
        return Finding("pass", "looked at")

    check = replace(CHECKS[-1], look=count, needs="", of_settings=False)
    old = Line(name=check.name, title=check.title, status=status, evidence="before")
    before = examine(subject(), "full", checks=[]).model_copy(update={"lines": (old,)})
    [line] = examine(subject(), "full", before=before, checks=[check]).lines
    assert (line == old) is is_kept and len(calls) == (not is_kept)


def test_a_base_that_is_not_there_and_the_lines_that_need_it(tmp_path: Path) -> None:
    """The line says why, and those that cannot be looked at name it."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "bert"}')
    lines = look(subject(small(base=str(tmp_path / "base"))), "base", "prompts", "tokens", "attention")
    assert lines["base"].status == "fail" and "no vision-language model" in lines["base"].evidence
    for name in ("prompts", "tokens", "attention"):
        assert lines[name].status == "skip" and "because of the line" in lines[name].evidence


def test_a_prompt_that_disagrees(tmp_path: Path) -> None:
    """A tokenizer that puts a token before every text: the processor writes it, and the project's prompt has none."""
    base = shutil.copytree(STARTER, tmp_path / "base", ignore=shutil.ignore_patterns("adapter", "history", "digits"))
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    special, id = tokenizer["added_tokens"][0]["content"], tokenizer["added_tokens"][0]["id"]
    own = tokenizer["post_processor"]
    own["single"].insert(0, {"SpecialToken": {"id": special, "type_id": 0}})
    own["special_tokens"] = {special: {"id": special, "ids": [id], "tokens": [special]}}
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    lines = look(subject(small(base=str(base))), "base", "prompts", "tokens")
    assert lines["base"].status == "pass" and lines["prompts"].status == "fail"
    assert f"they part at token 0: '{special}' and" in lines["prompts"].evidence
    assert "belong together" in lines["prompts"].remedy and lines["tokens"].status == "skip"


def test_an_engine_that_gives_other_tokens(loaded: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions that are off by one after the prompt."""
    assert model_checks.tokens_agree(loaded).status == "pass"
    right = QwenVL.next_positions
    monkeypatch.setattr(QwenVL, "next_positions", lambda self, positions: right(self, positions) + 9)
    found = model_checks.tokens_agree(loaded)
    assert found.status == "fail" and "parts from generate at token" in found.evidence


def test_a_tie_is_no_difference(loaded: Subject) -> None:
    reference = loaded.references[0]
    near, far = reference.logits[2].topk(2).indices.tolist()[1], int(reference.logits[2].argmin())
    for token, status in ((near, "pass"), (far, "fail")):
        made = [*reference.tokens[:2], token, *reference.tokens[3:]]
        logits = reference.logits.clone()
        logits[2, near] = logits[2, reference.tokens[2]] - 5e-4
        compared = replace(reference, logits=logits)
        found = model_checks._compared([made], [compared], torch.float32, "it", "")
        assert found.status == status, found
    assert (
        "1 of 1 rows part at a tie"
        in model_checks._compared([[*reference.tokens[:2], near]], [compared], torch.float32, "it", "").evidence
    )
    short = model_checks._compared([reference.tokens[:-1]], [reference], torch.float32, "it", "")
    assert short.status == "fail" and "tokens by it" in short.evidence


def test_an_attention_kernel_that_is_wrong(loaded: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.nn.functional.scaled_dot_product_attention
    assert model_checks.attention_agrees(loaded).status == "pass"

    def wrong(query: torch.Tensor, *rest: torch.Tensor, **options: Any) -> torch.Tensor:
        made = right(query, *rest, **options)
        return made if query.dtype == torch.float64 else made * 1.001

    monkeypatch.setattr(model_checks.F, "scaled_dot_product_attention", wrong)
    assert model_checks.attention_agrees(loaded).status == "fail"


def test_a_fast_path_that_is_right(loaded: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run here without a card, as far as a processor goes: used only if it is faster too."""
    times = iter([4.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr(model_checks, "_milliseconds", lambda engine, requests: next(times))
    loaded.proven.clear()
    found = FastPathCheck("runs_ahead")(loaded)
    assert found.status == "pass" and "1 ms a step of 16 rows, 4 on the plain path" in found.evidence
    assert loaded.proven == {"runs_ahead"}
    loaded.proven.clear()
    found = FastPathCheck("runs_ahead")(loaded)
    assert found.status == "pass" and "not faster, so the plain path is used" in found.evidence
    assert loaded.proven == set()


def test_the_times_are_real(loaded: Subject) -> None:
    assert 0 < model_checks._milliseconds(loaded.engine, loaded.requests) < 60_000


@pytest.mark.parametrize(
    ("name", "breaks", "words"),
    [
        ("flash_attention", None, "no FlashAttention for this base here"),
        ("cuda_graphs", None, "no graph was captured"),
        ("cuda_graphs", "logits", "parts from generate at token"),
        ("cuda_graphs", "raises", "CUDA graphs fail here: RuntimeError: capture failed"),
    ],
)
def test_a_fast_path_that_is_not_there_or_wrong(
    name: str, breaks: str | None, words: str, loaded: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a warning, since the plain path is used, and nothing is proven."""
    right: Callable[..., torch.Tensor] = StaticStep._forward

    def broken(self: StaticStep, step: Any) -> torch.Tensor:
        if breaks == "raises":
            raise RuntimeError("capture failed")
        return -right(self, step)

    if breaks is not None:
        monkeypatch.setattr(StaticStep, "_forward", broken)
        monkeypatch.setattr(Engine, "num_graphs", 1)
    loaded.proven.clear()
    found = FastPathCheck(name)(loaded)
    assert found.status == "warn" and words in found.evidence and "plain path is used" in found.remedy
    assert loaded.proven == set()


def test_a_gradient_that_is_not_trls(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A loss that is a hundredth too large. On the way the trainer's log says which path the rollouts take."""
    caplog.set_level("INFO", logger="training.grpo.trainer")
    right = RunTrainer._loss_of
    monkeypatch.setattr(RunTrainer, "_loss_of", lambda self, model, inputs: 1.01 * right(self, model, inputs))
    [line] = examine(subject(), "full", checks=[CHECKS[-1]]).lines
    assert line.status == "fail" and "from TRL's on 4 rows" in line.evidence and "bug report" in line.remedy
    assert "rollouts: plain path: the fast ones need a card" in caplog.text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (RuntimeError("an illegal memory access\nand more"), "RuntimeError: an illegal memory access"),
    ],
)
def test_a_step_that_breaks(error: Exception, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*args: object) -> None:
        raise error

    monkeypatch.setattr(step_check, "build_trainer", breaks)
    line = look(subject(), "step")["step"]
    assert line.status == "fail" and line.evidence.startswith(words) and line.remedy


def test_a_base_that_is_too_large_for_a_processor() -> None:
    for line in look(subject(load_config("a100")), "base", "step").values():
        assert line.status == "skip"
        assert line.name == "step" or line.evidence.startswith(NOT_HERE) and "3.8 billion" in line.evidence


def test_three_minutes_are_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LIMIT_SECONDS", -1.0)
    lines = look(subject(), "base", "prompts", "step")
    assert lines["base"].status == "pass"
    assert {lines[name].evidence for name in ("prompts", "step")} == {"not reached in -1 s"}


def test_pictures_are_as_large_as_the_run_lets_them_be() -> None:
    of_3b = Subject(load_config("a100"), load_settings(), {})
    for request in of_3b.requests:
        width, height = request.image.size
        assert 0.98 * 401_408 < width * height <= 401_408
    assert scaled(of_3b.requests[0].image, 1).size == (1, 1)
