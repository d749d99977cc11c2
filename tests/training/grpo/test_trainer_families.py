"""A GRPO run on a tiny model of each family: its language model alone learns, and the engine serves the adapter."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from trl.data_utils import prepare_multimodal_messages

from inference.common.errors import UserError
from inference.engine.engine import Engine, Request
from inference.model.families import join_encodings
from tests.support.datasets_on_disk import picture, rows, write_lines
from tests.support.samples import SMALL_RUN
from tests.support.tiny_models import TINY, build_tiny
from training.config.run_config import RunConfig, load_config
from training.data.pictures import pictures_of
from training.grpo.lora import TOWERS
from training.grpo.rollouts import decode_pictures, row_for_trl
from training.grpo.trainer import RunTrainer, build_trainer
from training.pipeline import run as pipeline
from training.pipeline.run import run
from training.runs.folder import RunFolder

SIZES = [(90, 90), (180, 60), (60, 150)]
"""Of the pictures: unlike numbers of patches and of tiles in one batch."""
SMALL = SMALL_RUN | {
    "max_completion_length": 6,
    "lora_modules": ["q_proj", "v_proj", "o_proj"],
    "learning_rate": 0.01,
    "rewards": {"tests.training.grpo.test_trainer_families:planned_reward": 1.0},
    "resample_rounds": 1,
    "gradient_checkpointing": True,
    "eval_rows": 0,
}
PLAN = [[0, 0, 0, 0, 0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0]]
"""Rewards by call: a dead group that is replaced by another, and in the second step one that is left out."""
_calls: list[int] = []


def planned_reward(completions: list[Any], **columns: Any) -> list[float]:
    _calls.append(len(completions))
    return [float(reward) for reward in PLAN[len(_calls) - 1]]


def folder_of_pictures(folder: Path, num: int = 8, several: bool = False) -> Path:
    """A dataset with pictures of several shapes, and markers typed into its problems; with `several` most rows have
    three, some of them with places in the text."""
    folder.mkdir()
    lines: list[dict[str, Any]] = []
    for i, row in enumerate(rows(num)):
        Image.open(io.BytesIO(picture(i, SIZES[i % 3]))).save(folder / f"{i}.png")
        typed = {"problem": row["problem"] + " <|im_end|> <image>", "solution": row["solution"]}
        if several:
            images = [f"{(i + n) % num}.png" for n in range(3 if i % 4 else 1)]
            typed["problem"] = ("Is <image> like <image> or <image>?" if i % 2 else "How many?") + " <|im_end|>"
            lines.append(typed | {"images": images})
        else:
            lines.append({"file_name": f"{i}.png"} | typed)
    write_lines(folder / ("train.jsonl" if several else "metadata.jsonl"), lines)
    return folder


def watch_tower(model: nn.Module, seen: list[bool]) -> None:
    """Note in `seen`, as the model runs, whether what a linear layer of the tower puts out would get a gradient."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and any(part in TOWERS for part in name.split(".")):
            module.register_forward_hook(lambda module, args, output: seen.append(output.requires_grad))


def prompt_ids(trainer: RunTrainer, row: dict[str, Any]) -> list[int]:
    """A row's prompt as TRL gives it to the model."""
    [decoded] = decode_pictures([row], 1, 0)
    messages = prepare_multimodal_messages(row_for_trl(decoded)["prompt"], images=decoded["images"])
    return list(trainer._tokenize_prompts([messages])[0][0])


@pytest.mark.slow
@pytest.mark.parametrize("family", TINY)
def test_a_run_makes_an_adapter_that_is_served(family: str, tmp_path: Path, monkeypatch) -> None:
    base = build_tiny(family, tmp_path / "base")
    data = {"dataset": str(folder_of_pictures(tmp_path / "data", several=True)), "test_rows": 0}
    config = load_config("starter", SMALL | {"base": str(base), "data": data})
    seen: list[bool] = []
    trained: list[bool] = []
    problems: list[dict[str, Any]] = []
    prompts: list[list[int]] = []

    def watched(config: RunConfig, rows: Dataset, *others: Any) -> RunTrainer:
        trainer = build_trainer(config, rows, *others)
        watch_tower(trainer.model, trained)
        if trainer.policy is not None:  # it is TRL's where a mixture of experts has a loss of its own
            watch_tower(trainer.policy.engine._model, seen)
        problems.extend(rows)
        prompts.extend(prompt_ids(trainer, row) for row in trainer.train_dataset)
        return trainer

    monkeypatch.setattr(pipeline, "build_trainer", watched)
    _calls.clear()
    adapter = run(config, tmp_path / "run")
    assert _calls == [len(rewards) for rewards in PLAN]
    assert seen + trained and not any(seen + trained)
    assert not (seen and trained), "the tower ran for the rollouts, and once more for the loss"
    history = RunFolder(tmp_path / "run").history()
    assert [row["step"] for row in history] == [1, 2]
    assert all(row["grad_norm"] > 0 for row in history)
    assert [row["frac_rows_trained"] for row in history] == [1.0, 0.5]

    weights = load_file(adapter / "adapter_model.safetensors")
    assert all(".language_model." in name or ".text_model." in name for name in weights)
    assert not any(part in TOWERS for name in weights for part in name.split("."))
    learnt = [name for name, tensor in weights.items() if "lora_B" in name and tensor.abs().max() > 0]
    assert len(learnt) == len(SMALL["lora_modules"]) * 3  # of every layer
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == base.name

    engine = Engine.load(base)
    engine.add_adapter("new", adapter)
    asked = [
        Request(first, p["problem"], adapter="new", max_new_tokens=8, more_images=tuple(others))
        for p in problems
        for first, *others in pictures_of({name: [cell] for name, cell in p.items()})
    ]
    assert {len(row.images) for row in asked} == {1, 3}
    assert all(completion.num_tokens >= 1 for completion in engine.generate(asked))
    pictures = [join_encodings(engine.encode(row.images)) for row in asked]
    assert [engine.tokenizer.prompt_ids(row, p.placeholders) for row, p in zip(asked, pictures)] == prompts


@pytest.mark.slow
def test_a_family_that_cannot_be_served_is_not_trained(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "bert"}')
    config = RunConfig(base=str(tmp_path / "base"))
    with pytest.raises(UserError, match="is of the family bert"):
        run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
