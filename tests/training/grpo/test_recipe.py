"""The profile `recipe` against plain TRL and PEFT code with the cookbook's settings, on the starter.

The plain side is written here as the cookbook's facts state it: the same settings, rows, order, steps and learning
rates, and the same weights after training on completions that are given, LoRA's dropout included.
"""

from __future__ import annotations

import dataclasses
import html
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Image, load_dataset
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image as Pictures
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from inference.adapters.hub_fetch import fetch_adapter
from inference.adapters.live import LiveAdapters
from inference.adapters.record import read_record
from inference.adapters.served import promote
from inference.common.settings import load_settings
from inference.engine.engine import Engine
from inference.prompt.system_prompt import R1_PROMPT
from inference.server.service import Service
from inference.ui.about import scores_html
from inference.ui.page import header_html
from tests.support.hub.client import Client, client_env
from tests.support.hub.repos import Hub, Repo
from tests.support.samples import STARTER, problems
from tests.training.grading.test_cookbook_rewards import FORM, by_math_verify
from training.config.run_config import RunConfig, load_config
from training.data.dataset import Splits, load_rows
from training.grpo.arguments import grpo_config
from training.grpo.trainer import RunTrainer, build_trainer
from training.hub.publish.publisher import finish
from training.pipeline.run import run
from training.runs.folder import RunFolder, step_of
from training.ui.training_app import grade_expected, new_problem

COOKBOOK: dict[str, Any] = {
    **{"learning_rate": 1e-5, "num_train_epochs": 1, "per_device_train_batch_size": 2, "num_generations": 2},
    **{"max_completion_length": 1024, "logging_steps": 10, "save_steps": 10, "report_to": ["tensorboard"]},
}
"""The settings that the cookbook gives; `bf16` and the Hub are of its machine."""
AUGUST_2025: dict[str, tuple[Any, Any]] = {
    # name: its default in the TRL of August 2025, and in the installed one
    **{"loss_type": ("bnpo", "dapo"), "beta": (0.0, 0.0), "epsilon": (0.2, 0.2), "num_iterations": (1, 1)},
    **{"scale_rewards": ("group", "group"), "temperature": (1.0, 1.0), "top_p": (1.0, 1.0), "top_k": (0, 0)},
    **{"gradient_checkpointing": (False, True), "max_grad_norm": (1.0, 1.0), "weight_decay": (0.0, 0.0)},
    **{"lr_scheduler_type": ("linear", "linear"), "warmup_steps": (0, 0), "gradient_accumulation_steps": (1, 1)},
    **{"importance_sampling_level": ("token", "token"), "mask_truncated_completions": (False, False)},
    **{"repetition_penalty": (1.0, 1.0), "disable_dropout": (False, False), "seed": (42, 42)},
}
"""Defaults that the cookbook left alone. (`scale_rewards` was called `True`, and `top_k` 0 was called `None`.)"""
OURS_ALONE = {
    **{"output_dir": "the run's folder", "run_name": "the run's id", "project": "lookthink"},
    **{"reward_weights": "two ones, which is what `None` means", "logging_nan_inf_filter": "such a loss ends the run"},
    **{"disable_tqdm": "a bar of our own", "trackio_static_space_id": "nothing leaves this machine"},
    **{"ddp_broadcast_buffers": "none ever changes", "dataloader_pin_memory": "only on a GPU"},
}
"""Arguments that may differ, and why that changes no step."""
ROWS = 16


def as_file(picture: Pictures.Image, file_format: str = "PNG") -> dict[str, Any]:
    file = io.BytesIO()
    picture.save(file, file_format)
    return {"bytes": file.getvalue(), "path": None}


def write_dataset(path: Path) -> None:
    """Rows with repeats, a large picture, grey and turned ones, and a solution that our grader cannot read."""
    made = problems(4)
    pictures = [as_file(made[i % 4].image) for i in range(ROWS)]
    pictures[1] = as_file(made[1].image.resize((1100, 950)))
    pictures[2] = as_file(made[2].image.convert("L"), "JPEG")
    solutions = [f"<think>So ${i}$.</think>\n\n<answer>{made[i % 4].answer}</answer>" for i in range(ROWS)]
    solutions[3] = "It depends on what one sees in it. " * 30
    columns = {"image": pictures, "problem": [made[i % 4].problem for i in range(ROWS)], "solution": solutions}
    Dataset.from_dict(columns).cast_column("image", Image()).to_parquet(str(path))


def plain_rows(file: Path, cache: Path) -> Any:
    """The first half of the rows, split 80/20, by `datasets` alone."""
    rows = load_dataset("parquet", data_files=str(file), split="train[:50%]", cache_dir=str(cache))
    return rows.train_test_split(test_size=0.2, seed=42)


def plain_format(completions: list, **columns: Any) -> list[float]:
    return [float(FORM.match(completion[0]["content"]) is not None) for completion in completions]


def plain_accuracy(completions: list, solution: list[str], **columns: Any) -> list[float]:
    return [by_math_verify(gold, completion[0]["content"]) for gold, completion in zip(solution, completions)]


def plain_trainer(rows: Any, folder: Path) -> GRPOTrainer:
    """TRL and PEFT as their documentation uses them."""

    def conversation(row: dict[str, Any]) -> dict[str, Any]:
        return {
            "prompt": [{"role": "system", "content": R1_PROMPT}, {"role": "user", "content": row["problem"]}],
        }

    model = AutoModelForImageTextToText.from_pretrained(STARTER, dtype=torch.float32)
    lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=32, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])
    values = {name: august for name, (august, _) in AUGUST_2025.items()} | COOKBOOK
    arguments = GRPOConfig(output_dir=str(folder), use_cpu=True, bf16=False, **values | {"max_completion_length": 24})
    return GRPOTrainer(
        model=get_peft_model(model, lora),
        processing_class=AutoProcessor.from_pretrained(STARTER, padding_side="left"),
        reward_funcs=[plain_format, plain_accuracy],
        args=arguments,
        train_dataset=rows.map(conversation),
    )


@dataclass
class Both:
    """The same run by this project and by plain code."""

    config: RunConfig
    splits: Splits
    ours: RunTrainer
    plain: GRPOTrainer
    rows: Any


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("recipe")
    file = folder / "rows.parquet"
    write_dataset(file)
    data = {"dataset": str(file), "split": "train[:50%]", "validation_rows": 2}
    config = load_config("recipe", {"base": "starter", "max_completion_length": 24, "data": data})
    splits, rows = load_rows(config.data, home=folder / "home"), plain_rows(file, folder / "cache")
    ours = build_trainer(config, splits.train, RunFolder.create(folder / "run", config), [])
    return Both(config, splits, ours, plain_trainer(rows["train"], folder / "plain"), rows)


def test_each_default_of_august_2025_is_set_and_the_installed_ones_are_known(tmp_path: Path) -> None:
    installed = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    ours = grpo_config(load_config("recipe"), tmp_path, on_gpu=False, bf16=False)
    for name, (august, today) in AUGUST_2025.items():
        assert (getattr(ours, name), getattr(installed, name)) == (august, today), name


def test_the_settings_are_the_cookbooks(tmp_path: Path) -> None:
    ours = grpo_config(load_config("recipe"), tmp_path, on_gpu=False, bf16=False)
    values = {name: august for name, (august, _) in AUGUST_2025.items()} | COOKBOOK
    plain = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **values)
    names = [field.name for field in dataclasses.fields(GRPOConfig) if hasattr(plain, field.name)]
    different = {name for name in names if getattr(ours, name) != getattr(plain, name)}
    assert different <= OURS_ALONE.keys(), sorted(different - OURS_ALONE.keys())


def test_the_lora_is_the_cookbooks(both: Both) -> None:
    ours, plain = (
        {n: p.shape for n, p in t.model.named_parameters() if p.requires_grad} for t in (both.ours, both.plain)
    )
    assert ours == plain and ours
    settings = [t.model.peft_config["default"] for t in (both.ours, both.plain)]
    assert len({(each.r, each.lora_alpha, each.lora_dropout) for each in settings}) == 1


@pytest.mark.parametrize("role", ["train", "test"])
def test_the_rows_are_those_that_come(role: str, both: Both) -> None:
    """None is removed, scaled or compressed again, and they are in the same order."""
    ours, plain = getattr(both.splits, role), both.rows[role]
    assert len(ours) == len(plain) > 0 and not len(both.splits.dropped)
    for one, other in zip(ours, plain):
        assert (one["problem"], one["solution"]) == (other["problem"], other["solution"])
        assert np.array_equal(np.asarray(one["image"].convert("RGB")), np.asarray(other["image"].convert("RGB")))


def test_other_profiles_drop_what_repeats(both: Both, tmp_path: Path) -> None:
    data = both.config.data.model_copy(update={"drop_repeats": True, "drop_unreadable": True})
    dropped = load_rows(data, home=tmp_path).dropped.counts()
    assert dropped["also in test"] > 0 and dropped["gold unreadable"] > 0


def test_the_order_is_that_of_trl(both: Both) -> None:
    ours, plain = ([row for batch in t.get_train_dataloader() for row in batch] for t in (both.ours, both.plain))
    assert [row["prompt"] for row in ours] == [row["prompt"] for row in plain]
    assert [row["solution"] for row in ours] == [row["solution"] for row in plain]
    assert len(ours) == 2 * len(both.splits.train)


def test_307_rows_are_307_steps_with_the_same_learning_rates(both: Both, tmp_path: Path) -> None:
    rates = []
    for trainer in (both.ours, both.plain):
        rows = trainer.train_dataset
        trainer.train_dataset = rows.select([i % len(rows) for i in range(307)])
        try:
            batches = trainer.get_train_dataloader()
            steps = trainer.set_initial_training_values(trainer.args, batches)[-1]
            trainer.create_optimizer_and_scheduler(steps)
            found = []
            for _ in range(steps):
                found.append(trainer.lr_scheduler.get_last_lr())
                trainer.optimizer.step()
                trainer.lr_scheduler.step()
            rates.append(found)
        finally:
            trainer.train_dataset, trainer.optimizer, trainer.lr_scheduler = rows, None, None
    assert rates[0] == rates[1] and len(rates[0]) == 307
    assert rates[0][0][0] == 1e-5 and rates[0][-1][0] == pytest.approx(1e-5 / 307)


class SameDraws(TrainerCallback):
    """Seeds each step, so that both sides draw the same dropout; keeps the gradient and the rate of each."""

    def __init__(self) -> None:
        self.gradients: list[torch.Tensor] = []
        self.rates: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        torch.manual_seed(state.global_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        found = [p.grad.flatten() for _, p in sorted(model.named_parameters()) if p.grad is not None]
        self.gradients.append(torch.cat(found).clone())
        self.rates.append(kwargs["optimizer"].param_groups[0]["lr"])


@pytest.mark.slow
def test_the_gradients_and_the_trained_weights_are_those_of_plain_trl(both: Both, monkeypatch: Any) -> None:
    """Of every step of an epoch, on completions that are given, with a dropout for each row."""
    tokenizer = both.plain.processing_class.tokenizer
    texts = ("<think>\n$4$ of them.\n</think>\n<answer>\n4\n</answer>", "It is $7$.")
    given = [[*tokenizer(text).input_ids, tokenizer.eos_token_id] for text in texts]
    length = max(map(len, given))
    padded = torch.tensor([ids + [tokenizer.pad_token_id] * (length - len(ids)) for ids in given])
    monkeypatch.setattr(both.plain.model, "generate", lambda input_ids, **kw: torch.cat([input_ids, padded], 1))
    monkeypatch.setattr(both.ours.policy, "generate", lambda *args, **kw: [list(ids) for ids in given])
    generator = torch.Generator().manual_seed(0)
    start = {n: torch.randn(p.shape, generator=generator) * 0.05 for n, p in lora(both.ours).items()}
    kept = []
    for trainer in (both.ours, both.plain):
        for name, parameter in lora(trainer).items():
            parameter.data = start[name].clone()
        kept.append(SameDraws())
        trainer.add_callback(kept[-1])
        trainer.train()
    ours, plain = kept
    assert len(ours.gradients) == len(plain.gradients) == len(both.splits.train)
    assert ours.rates == plain.rates and len(set(ours.rates)) == len(ours.rates)
    for one, other in zip(ours.gradients, plain.gradients):
        assert other.norm() > 0 and (one - other).norm() / other.norm() < 1e-4
    trained = [torch.cat([p.detach().flatten() for _, p in sorted(lora(t).items())]) for t in (both.ours, both.plain)]
    begun = torch.cat([start[name].flatten() for name in sorted(start)])
    assert (trained[0] - trained[1]).norm() < 1e-2 * (trained[1] - begun).norm()
    logged = [[row for row in t.state.log_history if "reward" in row] for t in (both.ours, both.plain)]
    assert [row["reward"] for row in logged[0]] == pytest.approx([row["reward"] for row in logged[1]])


def lora(trainer: GRPOTrainer) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in trainer.model.named_parameters() if "lora_" in name}


def test_the_cookbooks_format_is_what_the_named_prompt_shows_with_line_ends() -> None:
    shown = re.search(r"<think> the reasoning </think><answer> the result </answer>", R1_PROMPT)
    assert shown is not None and not FORM.match(shown[0]), "as it was: the prompt's own example gets no reward"


@pytest.mark.slow
def test_the_adapter_of_plain_code_answers_in_the_app_as_with_peft(
    both: Both,
    hub: Hub,
    hub_client: Client,
    engine: Engine,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Saved by TRL, fetched from a repository that says no prompt, promoted with the recipe's, asked by a visitor.

    The second question is asked as of a base that has a repetition penalty.
    """
    generator = torch.Generator().manual_seed(1)
    for _, parameter in sorted(lora(both.plain).items()):
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    both.plain.save_model(str(tmp_path / "saved"))
    saved = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir() if path.is_file()}
    hub.repo("model", "cook/recipe").commit(saved)
    settings = load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home)}, has_gpu=False)
    folder = fetch_adapter("cook/recipe", home, settings.base)
    promote(home, folder, "alice", settings=settings, system_prompt=R1_PROMPT)
    adapters = LiveAdapters(settings)
    adapters.start(engine)
    adapters.stop()
    service = Service(settings, lambda: engine, adapters, grade_expected, lambda: new_problem(True), [])
    service.queue.wait_loaded()
    assert "system prompt: r1" in header_html(service) and html.escape(R1_PROMPT) in scores_html(service)
    tuned = PeftModel.from_pretrained(
        AutoModelForImageTextToText.from_pretrained(STARTER, dtype=torch.float32), str(tmp_path / "saved")
    ).eval()
    processor = AutoProcessor.from_pretrained(STARTER)
    others = 0
    for problem, penalty in zip(problems(2), (1.0, 1.3)):
        monkeypatch.setattr(engine, "repetition_penalty", penalty)
        question = service.read_question(problem.image, problem.problem, max_new_tokens=32)
        submission = service.queue.submit([question.request(question.adapter), question.request(None)])
        assert submission.wait(120) and submission.error is None
        ours, base = (progress.completion for progress in submission.progress())
        messages = [
            {"role": "system", "content": [{"type": "text", "text": R1_PROMPT}]},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": problem.problem}]},
        ]
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[text], images=[problem.image.convert("RGB")], return_tensors="pt")
        made = tuned.generate(**inputs, max_new_tokens=32, do_sample=False, repetition_penalty=penalty)
        theirs = made[0, inputs["input_ids"].shape[1] :]
        assert ours is not None and base is not None and list(ours.token_ids) == theirs.tolist()
        others += ours.token_ids != base.token_ids
    assert others, "the adapter does something"
    service.queue.close("the end of the test")


@pytest.mark.slow
def test_a_run_logs_each_tenth_step_keeps_and_publishes_all_checkpoints_and_says_its_prompt(
    both: Both, hub: Hub, hub_client: Client, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.tokens["hf_of_the_cook"] = "cook"
    for name, value in client_env(hub_client.url, tmp_path / "cache", "hf_of_the_cook").items():
        monkeypatch.setenv(name, value)
    data = both.config.data.model_dump(exclude_unset=True)
    values = {"base": "starter", "max_completion_length": 4, "num_epochs": 2, "save_steps": 3, "eval_rows": 0}
    config = load_config("recipe", values | {"data": data, "publish_to": "cook/recipe"})
    adapter = run(config, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    assert [row["step"] for row in folder.history()] == [10, 12]
    assert all("rewards/cookbook_format_reward/mean" in row for row in folder.history())
    assert sorted(map(step_of, folder.checkpoints.glob("checkpoint-*"))) == [3, 6, 9, 12]
    assert read_record(adapter).system_prompt == R1_PROMPT and read_record(adapter).says_prompt
    events = list((tmp_path / "run" / "tensorboard").rglob("events.*"))
    assert events, "as the cookbook reports"
    assert finish(folder.path, 240), "the run's own publisher sends them, or this does"
    check_published(hub.repos["model", "cook/recipe"], folder)


def check_published(repo: Repo, folder: RunFolder) -> None:
    """A commit for each checkpoint, in order, then one of the result, each with its own weights and prompt."""
    commits, steps = repo.line(repo.refs["main"])[-2::-1], [3, 6, 9, 12, 12]
    assert [repo.messages[sha].split(" [")[0] for sha in commits] == [f"Step {step} of run run" for step in steps]
    assert repo.private and repo.tags == {"run": commits[-1]}
    sources = [*(folder.checkpoints / f"checkpoint-{step}" for step in steps[:-1]), folder.adapter]
    for sha, step, source in zip(commits, steps, sources, strict=True):
        files = repo.commits[sha]
        said = json.loads(files["lookthink/run.json"])
        assert files["adapter_model.safetensors"] == (source / "adapter_model.safetensors").read_bytes()
        assert (said["step"], said["is_result"], said["system_prompt"]) == (step, sha == commits[-1], R1_PROMPT)
        assert {"README.md", "adapter_config.json", "tokenizer.json"} <= files.keys()
        assert not [name for name in files if name.endswith((".pt", ".bin", ".pth"))], "no optimizer, no pickle"
