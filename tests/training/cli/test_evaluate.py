"""`python -m training evaluate` from its options to its files, on the starter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inference.adapters.record import read_record
from inference.common.errors import UserError
from tests.support import datasets_on_disk
from tests.support.samples import STARTER
from training import __main__ as command_line
from training.config.run_config import load_config
from training.evaluation import evaluate as module
from training.evaluation.held_out import rows_digest
from training.runs.folder import RunFolder
from training.runs.provenance import model_digest

FAST = ["--rows", "2", "--max-new-tokens", "8", "--batch-size", "2"]
BASE_ONLY = [*FAST, "--conditions", "base-thinking", "--adapter", "none"]


def run(*options: Any) -> int:
    return command_line.main(["evaluate", *map(str, options)])


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_base_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "evaluation.json"
    assert run(*BASE_ONLY, "--output", target, "--completions") == 0
    data = read(target)
    known: dict[str, Any] = {"num_rows": 2, "seed": 0, "max_new_tokens": 8, "batch_size": 2, "num_samples": 1}
    known |= {"base": "starter", "adapter": None, "dataset": "starter", "role": "test"}
    assert {name: data["about"][name] for name in known} == known
    assert len(data["completions"]["base-thinking"]) == 2
    assert str(tmp_path) not in target.read_text(encoding="utf-8"), "a path of this machine is in the record"
    output = capsys.readouterr()
    assert "| base-thinking |" in output.out and "2/2" in output.err
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "evaluation-accuracy.png",
        "evaluation.json",
        "evaluation.md",
    ], "its parts are gone when it is whole"


def test_killed_and_given_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after two batches, then the same command: it says so, decodes the rest, and the report is the same."""
    options = [*FAST, "--conditions", "main", "--plots", "none"]
    assert run(*options, "--output", tmp_path / "whole.json") == 0
    killed = tmp_path / "killed.json"
    with monkeypatch.context() as stopped:
        stopped.setattr(module, "evaluate", stopping_after(2))
        assert run(*options, "--output", killed) == 130
    assert not killed.exists() and len(list(tmp_path.glob("killed.*.parts.jsonl"))) == 1
    capsys.readouterr()
    assert run(*options, "--seed", 1, "--output", killed) == 0
    assert "starting anew" in (said := capsys.readouterr().err) and "another rows, another settings" in said
    other = read(killed)
    assert run(*options, "--output", killed) == 0
    said = capsys.readouterr().err
    assert "4 completions are done" in said and "an earlier report is kept as killed.1.json" in said
    assert read(tmp_path / "killed.1.json") == other
    whole, resumed = read(tmp_path / "whole.json"), read(killed)
    for each in (whole, resumed):
        each["about"].pop("seconds")
    assert resumed == whole
    assert not list(tmp_path.glob("*.parts.jsonl"))


def stopping_after(num: int) -> Any:
    """`evaluate` that is interrupted after so many batches."""
    evaluate = module.evaluate

    def stopped(*args: Any, **options: Any) -> Any:
        parts = options["parts"]
        add, calls = parts.add, 0

        def add_and_stop(*batch: Any) -> None:
            nonlocal calls
            add(*batch)
            calls += 1
            if calls == num:
                raise KeyboardInterrupt

        parts.add = add_and_stop
        return evaluate(*args, **options)

    return stopped


def test_a_dataset_and_a_role(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = datasets_on_disk.write_folder(tmp_path / "pictures", 12)
    target = tmp_path / "evaluation.json"
    data = ["--dataset", folder, "--validation-rows", 3, "--test-rows", 2]
    assert run(*BASE_ONLY, *data, "--role", "validation", "--output", target) == 0
    found = read(target)
    assert found["about"]["dataset"] == "pictures" and found["about"]["role"] == "validation"
    assert found["about"]["num_rows"] == 2 and "most frequent train answer of its kind" in found["baselines"]
    assert run(*BASE_ONLY, "--dataset", folder, "--role", "validation") == 2
    assert "give --validation-rows" in capsys.readouterr().err


@pytest.fixture
def finished_run(tmp_path: Path) -> RunFolder:
    """A run's folder with the starter's adapter for its own."""
    data = {"train_rows": 4, "test_rows": 3, "validation_rows": 2, "seed": 5}
    folder = RunFolder.create(tmp_path / "run", load_config("starter", {"data": data, "max_completion_length": 12}))
    folder.adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder.adapter / name).write_bytes((STARTER / "adapter" / name).read_bytes())
    return folder


def test_a_run_is_evaluated_where_it_is(finished_run: RunFolder) -> None:
    assert run("--run", finished_run.path, "--conditions", "main") == 0
    found = read(finished_run.adapter / "evaluation.json")
    assert found["about"]["num_rows"] == 3 and found["about"]["max_new_tokens"] == 256
    assert found["verdict"].endswith(".")
    record = read_record(finished_run.adapter)
    assert record.num_rows == 3 and record.test_accuracy is not None and record.base_accuracy is not None
    assert (finished_run.path / "evaluation-accuracy.png").is_file()
    assert (finished_run.path / "evaluation-differences.png").is_file()
    assert run("--run", finished_run.path, "--conditions", "main", "--role", "validation", "--plots", "none") == 0
    assert read(finished_run.path / "evaluation-validation.json")["about"]["num_rows"] == 2
    assert read(finished_run.adapter / "evaluation.json") == found, "the page's scores are those of test rows"


def test_a_report_with_more_is_not_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "evaluation.json"
    two = [*FAST, "--adapter", "none", "--plots", "none", "--output", target, "--conditions"]
    assert run(*two, "base-thinking", "base-direct") == 0
    first = read(target)
    assert run(*two, "base-thinking") == 0
    assert "kept as evaluation.1.json" in capsys.readouterr().err
    assert read(tmp_path / "evaluation.1.json") == first
    assert run(*two, "base-thinking", "base-direct") == 0
    assert "kept" not in capsys.readouterr().err, "it has all that stood there"
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["evaluation.1.json", "evaluation.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "0"], "--rows is 0"),
        (["--samples", "0"], "--samples is 0"),
        (["--samples", "4", "--conditions", "main"], "no condition is sampled"),
        (["--seed", "-1"], "--seed is -1"),
        (["--temperature", "0"], "temperature of sampling is 0"),
        (["--conditions", "base-dreaming"], "no condition 'base-dreaming'; choose from base-direct"),
        (["--conditions", "adapter-thinking", "--adapter", "none"], "adapter-thinking needs an adapter"),
        (["--role", "train"], "--role is train"),
        (["--output", "no/such/folder/x.json"], "no folder"),
        (["--output", "."], "which is a folder"),
        (["--plots", "no/such/folder"], "--plots is no/such/folder, but there is no folder"),
        (["--base", "no/such/model", "--rows", "1"], "no/such/model"),
        (["--adapter", "no/such/adapter", "--rows", "1"], "no/such/adapter"),
        (["--dataset", "no/such/folder/x.jsonl"], "no/such/folder/x.jsonl"),
        (["--data-seed", "many"], "seed is 'many'"),
        (["--run", "no/such/run"], "no/such/run is not a run folder"),
    ],
)
def test_wrong_options_end_with_a_message(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*options) == 2
    assert message in capsys.readouterr().err


def test_an_adapter_for_another_base_is_named_with_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((STARTER / "adapter" / name).read_bytes())
    config = read(tmp_path / "adapter_config.json") | {"base_model_name_or_path": "Qwen/Qwen2.5-VL-3B-Instruct"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert run("--rows", "1", "--adapter", tmp_path) == 2
    said = capsys.readouterr().err
    assert "trained on Qwen/Qwen2.5-VL-3B-Instruct" in said and "starter" in said


def test_a_run_that_cannot_be_evaluated(finished_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--run", finished_run.path, "--data-seed", 3) == 2
    assert "takes the data from the run; leave --data-seed out" in capsys.readouterr().err
    (finished_run.adapter / "adapter_config.json").unlink()
    finished_run.set_status("interrupted")
    assert run("--run", finished_run.path) == 2
    assert "has no adapter yet (it is interrupted); finish it with train --resume" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["fly"], ["evaluate", "--data-split", "train"]])
def test_wrong_commands_show_the_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(argv)
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


def test_a_path_of_this_machine_stays_out_of_the_record(tmp_path: Path) -> None:
    assert module._shown_name(str(tmp_path)) == tmp_path.name
    assert module._shown_name("Qwen/Qwen2.5-VL-3B-Instruct") == "Qwen/Qwen2.5-VL-3B-Instruct"


def test_fingerprints_tell_models_and_rows_apart(tmp_path: Path, problems: Any) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((STARTER / "adapter" / name).read_bytes())
    assert model_digest(tmp_path) == model_digest(STARTER / "adapter"), "an evaluation beside it is no part of it"
    weights = bytearray((tmp_path / "adapter_model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    assert model_digest(tmp_path) != model_digest(STARTER / "adapter")
    before = model_digest(tmp_path)
    (tmp_path / "evaluation-1.safetensors").write_bytes(b"weights of another name")
    assert model_digest(tmp_path) != before
    (tmp_path / "known_pictures.safetensors").write_bytes(b"one")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "known_pictures.safetensors"}}')
    before = model_digest(tmp_path)
    (tmp_path / "known_pictures.safetensors").write_bytes(b"two")
    assert model_digest(tmp_path) != before, "an index names it as weights"
    digests = {rows_digest(problems.select(some)) for some in ([0, 1], [1, 0], [0], [0, 1])}
    assert len(digests) == 3


def test_an_evaluation_is_checked_when_it_is_made() -> None:
    with pytest.raises(UserError, match="--batch-size is 0"):
        module.EvaluationConfig(batch_size=0)
