"""The evaluation of a run: the same from the command line and after training."""

import argparse
from pathlib import Path

from training.cli.evaluate import add_arguments, read_options
from training.config.run_config import load_config
from training.evaluation.conditions import GROUPS
from training.evaluation.evaluate import run_evaluation, run_outputs
from training.runs.folder import RunFolder


def read(*words: str) -> tuple:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return read_options(parser.parse_args(words))


def test_the_command_and_the_end_of_training_do_the_same(tmp_path: Path) -> None:
    values = {"base": "owner/base", "base_revision": "abc", "eval_rows": 7, "max_completion_length": 300}
    folder = RunFolder.create(tmp_path / "run", load_config("starter", values))
    folder.adapter.mkdir()
    (folder.adapter / "adapter_config.json").write_text("{}")
    after_training = run_evaluation(RunFolder.open(folder.path)[1], folder.adapter)
    evaluation, outputs = read("--run", str(folder.path), "--conditions", "main")
    assert evaluation == after_training and outputs == run_outputs(folder)
    assert (evaluation.base, evaluation.revision, evaluation.num_rows, evaluation.max_new_tokens) == (
        "owner/base",
        "abc",
        7,
        300,
    )
    assert evaluation.data == RunFolder.open(folder.path)[1].data and evaluation.role == "test"
    assert (outputs.target, outputs.plots) == (folder.adapter / "evaluation.json", folder.path)
    assert {c.name for c in read("--run", str(folder.path))[0].conditions} == set(GROUPS["all"])
    validation, outputs = read("--run", str(folder.path), "--role", "validation", "--rows", "3")
    assert (validation.num_rows, outputs.target) == (3, folder.path / "evaluation-validation.json")
    other, _ = read("--run", str(folder.path), "--base", "owner/other")
    assert (other.base, other.revision) == ("owner/other", None), "a revision is of one base"


def test_short_completions_of_training_do_not_cut_the_base_off() -> None:
    assert run_evaluation(load_config("starter", {"max_completion_length": 12}), None).max_new_tokens == 256
    assert run_evaluation(load_config("starter", {"eval_rows": 0}), None).num_rows is None, "all of them"
