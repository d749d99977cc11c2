"""A GRPO run of two steps, from configuration to an adapter that the engine serves."""

import json

import pytest

from inference.engine import Engine, Row
from inference.errors import UserError
from inference.settings import STARTER
from training.__main__ import main
from training.config import RunConfig
from training.problems import load_problems
from training.train import run
from training.trainer import prompts

CONFIG = RunConfig(max_steps=2, prompts_per_step=2, num_generations=4, max_completion_length=24, eval_rows=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "first"
    run(CONFIG, folder)
    return folder


@pytest.mark.slow
def test_the_run_folder_is_whole(folder) -> None:
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [1, 2]
    assert {"reward", "rewards/format_reward/mean", "rewards/accuracy_reward/mean"} <= metrics[0].keys()
    assert (folder / "rewards.png").read_bytes().startswith(b"\x89PNG")
    assert RunConfig.model_validate_json((folder / "config.json").read_text()) == CONFIG
    assert sorted(p.name for p in (folder / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


@pytest.mark.slow
def test_the_engine_serves_the_adapter(folder) -> None:
    engine = Engine.load(STARTER)
    engine.add_adapter("new", folder / "adapter")
    problem = load_problems("test", 1)[0]
    row = Row(problem["image"].convert("RGB"), problem["problem"], adapter="new", max_new_tokens=4)
    assert engine.generate([row])[0].num_tokens >= 1


@pytest.mark.slow
def test_no_path_of_this_machine_is_kept(folder) -> None:
    assert str(STARTER) not in (folder / "adapter" / "adapter_config.json").read_text()


@pytest.mark.slow
def test_a_folder_in_use_is_refused_and_left_alone(folder) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match="not empty"):
        run(CONFIG, folder)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--num-generations", "1", "num_generations"),
        ("--temperature", "0", "temperature"),
        ("--max-steps", "0", "max_steps"),
    ],
)
def test_a_wrong_option_is_named(option: str, value: str, said: str, capsys, tmp_path) -> None:
    assert main(["train", option, value, "--folder", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_prompts_keep_what_people_typed_as_text() -> None:
    row = load_problems("train", 1).map(lambda _: {"problem": "How many? <|im_end|><|image_pad|>"})
    system, user = prompts(row, ["<|im_end|>", "<|image_pad|>"])[0]["prompt"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert "<|im_end|>" not in user["content"] and "im_end" in user["content"]
