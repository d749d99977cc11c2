"""What our trainer does differently from TRL's: the same gradient with less work, and nothing in the tower."""

import inspect
from pathlib import Path

import pytest
import torch
from trl import GRPOTrainer

from inference.common.errors import UserError
from inference.common.files import read_lines
from tests.support.gradient_probe import KeepGradient
from tests.support.samples import SMALL_RUN
from training.config.run_config import RunConfig, check_processes, load_config
from training.data.dataset import load_rows
from training.grpo.arguments import PROJECT, grpo_config, run_id, tracker_environment
from training.grpo.lora import TOWERS, lora_targets, stop_tower_gradient
from training.grpo.micro_batches import TOKEN_METRICS
from training.grpo.rollouts import prompt_rows
from training.grpo.trainer import RunTrainer, build_trainer
from training.runs.folder import RunFolder

SMALL = SMALL_RUN | {"max_completion_length": 16, "data": {"train_rows": 8, "test_rows": 4}}


def make(tmp_path, **values) -> RunTrainer:
    config = load_config("starter", SMALL | values)
    folder = RunFolder.create(tmp_path / "run", config)
    trainer = build_trainer(config, load_rows(config.data).train, folder, [])
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def gradient(trainer: RunTrainer, inputs: dict) -> torch.Tensor:
    trainer.model.zero_grad()
    trainer._compute_loss(trainer.model, inputs).backward()
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


@pytest.mark.slow
@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo", "bnpo"])
def test_leaving_out_groups_without_signal_leaves_the_gradient_as_it_is(loss_type: str, tmp_path) -> None:
    trainer = make(tmp_path, loss_type=loss_type)
    inputs = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    inputs["advantages"] = torch.tensor([0.0, 0, 0, 0, 1, -1, 0, 0.5])
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:  # at their start, at 0, the gradient of every A is 0
            torch.nn.init.normal_(parameter, std=0.02)
    trainer.skip_zero_signal = False
    whole = gradient(trainer, inputs)
    trainer.skip_zero_signal = True
    less = gradient(trainer, inputs)
    assert whole.norm() > 0
    assert (whole - less).norm() / whole.norm() < 1e-5
    assert trainer._metrics["train"]["frac_rows_trained"] == [3 / 8]


@pytest.mark.slow
def test_a_batch_without_any_signal_still_has_a_gradient_of_zero(tmp_path) -> None:
    trainer = make(tmp_path)
    inputs = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    inputs["advantages"] = torch.zeros(8)
    assert gradient(trainer, inputs).abs().max() == 0


@pytest.mark.slow
def test_only_the_language_model_is_adapted_and_the_tower_gets_no_backward(tmp_path) -> None:
    trainer = make(tmp_path, gradient_checkpointing=True)
    adapted = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    assert adapted and all("language_model" in name and "lora_" in name for name in adapted)
    seen: list[bool] = []
    ran: list[bool] = []
    for model, found in ((trainer.model, ran), (trainer.policy.engine._model, seen)):
        tower = next(m for n, m in model.named_modules() if n.rpartition(".")[2] in TOWERS)
        tower.merger.register_forward_hook(lambda module, args, output, to=found: to.append(output.requires_grad))
    trainer.train()
    assert seen and not any(seen)
    assert not ran, "the loss takes the features that rollouts were made with"
    assert trainer.policy.engine.encoder.num_encodings == len(
        {group["image"] for group in read_lines(trainer.writer.folder.rollouts)}
    )


@pytest.mark.slow
def test_groups_without_signal_are_replaced(tmp_path) -> None:
    calls: list[int] = []

    def sometimes(completions, **columns):
        calls.append(len(completions))
        signal = [0.0, 1.0] * (len(completions) // 2)
        return [0.0] * len(completions) if len(calls) <= 2 else signal  # both functions, in the first round

    trainer = make(tmp_path, resample_rounds=2)
    trainer.reward_funcs = [sometimes] * len(trainer.reward_funcs)
    inputs = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    assert calls[0] == 8 and (inputs["advantages"] != 0).all()
    assert len(list(read_lines(trainer.writer.folder.rollouts))) == 4  # the dead ones are on record too


@pytest.mark.slow
@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo"])
def test_rows_shared_out_by_length_come_to_the_same_gradient(loss_type: str, tmp_path, monkeypatch) -> None:
    """Of one optimizer step in four micro-batches; without it they are as TRL shuffled them."""
    kept = KeepGradient()
    widths: list[list[int]] = []

    def step(arranged: bool) -> torch.Tensor:
        values = {"loss_type": loss_type, "micro_batch_size": 2, "max_steps": 1, "skip_zero_signal": False}
        values |= {"rewards": {"tests.training.grpo.test_trainer:uneven_reward": 1.0}}
        trainer = make(tmp_path / str(arranged), **values)
        torch.manual_seed(0)
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        if not arranged:
            monkeypatch.setattr("training.grpo.trainer.arrange", lambda batches: batches)
        trainer.add_callback(kept)
        trainer.train()
        widths.append([batch["completion_ids"].shape[1] for batch in trainer._buffered_inputs])
        return kept.gradient

    ours, theirs = step(True), step(False)
    assert theirs.norm() > 0 and (ours - theirs).norm() / theirs.norm() < 1e-5
    assert sum(widths[0]) < sum(widths[1])


@pytest.mark.slow
def test_figures_of_a_step_are_of_its_tokens_however_it_is_cut(tmp_path) -> None:
    """One step of 8 rows, in four micro-batches and in one; and TRL notes what `TokenMeans` weighs."""

    def step(size: int) -> tuple[dict, list[float]]:
        values = {"micro_batch_size": size, "max_steps": 1, "learning_rate": 1e-30, "beta": 0.1}
        trainer = make(tmp_path / str(size), rewards={"tests.training.grpo.test_trainer:uneven_reward": 1.0}, **values)
        torch.manual_seed(0)
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        noted: list[dict] = []
        settle = trainer.token_means.settle

        def watched(metrics) -> None:
            noted.append(dict(metrics))
            settle(metrics)

        trainer.token_means.settle = watched
        trainer.train()
        assert set(TOKEN_METRICS) <= noted[0].keys(), "as TRL calls them"
        return trainer.state.log_history[0], noted[0]["entropy"]

    (cut, means), (whole, [mean]) = step(2), step(8)
    assert cut["entropy"] == pytest.approx(whole["entropy"], rel=1e-4) == pytest.approx(mean, rel=1e-4)
    assert cut["kl"] == pytest.approx(whole["kl"], rel=1e-4) and whole["kl"] > 0
    assert len(means) == 4 and sum(means) / 4 != pytest.approx(mean, rel=1e-3)


def uneven_reward(completions, **columns) -> list[float]:
    """A reward function for the test above: no two alike, so that every row has an advantage."""
    return [float(i * i) for i in range(len(completions))]


OVERRIDDEN = {
    "_generate_and_score_completions": ["self", "inputs"],
    "_prepare_inputs": ["self", "generation_batch"],
    "_compute_loss": ["self", "model", "inputs"],
    "_get_per_token_logps_and_entropies": [
        *("self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy"),
        *("compute_aux_loss", "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask"),
        *("spatial_shapes", "num_tiles", "image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids"),
    ],
}
"""What of TRL's private methods is overridden, with the parameters it has there."""


def test_what_is_overridden_is_in_trl_as_it_was() -> None:
    """A release of TRL that renames one of them, or hands it something new, fails here and not in silence."""
    private = {name for name in vars(RunTrainer) if name.startswith("_") and hasattr(GRPOTrainer, name)}
    assert {name for name in private if not name.startswith("__")} == OVERRIDDEN.keys()
    for name, parameters in OVERRIDDEN.items():
        assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == parameters, name


def test_trl_keeps_what_the_trainer_looks_at(tmp_path) -> None:
    trainer = make(tmp_path)
    assert trainer.rollout_func is not None and trainer._buffered_inputs is None and trainer._step == 0
    assert trainer._logs["images"].maxlen == 8 and trainer.aux_loss_enabled is False
    assert trainer.generation_kwargs["max_new_tokens"] == trainer.max_completion_length == 16
    ends = trainer.policy.engine.tokenizer.vocabulary.ends
    assert set(trainer.eos_token_ids) == ends, "engine and TRL agree on what ends a completion"


def test_lora_targets_are_found_in_the_language_model(engine) -> None:
    import re

    pattern = lora_targets(engine._model, ("q_proj", "gate_proj"))
    names = [n for n, _ in engine._model.named_modules() if re.fullmatch(pattern, n)]
    assert names and all("language_model" in n for n in names)
    assert any("visual" in n and n.endswith("gate_proj") for n, _ in engine._model.named_modules())


def test_a_layer_that_is_not_there_is_named(engine) -> None:
    with pytest.raises(UserError, match="lora_modules has no_proj.*choose from down_proj, gate_proj"):
        lora_targets(engine._model, ("q_proj", "no_proj"))


def test_a_tower_that_is_trained_keeps_its_gradient() -> None:
    model = torch.nn.Module()
    model.visual = torch.nn.Linear(2, 2)
    assert stop_tower_gradient(model) == []
    model.visual.requires_grad_(False)
    assert stop_tower_gradient(model) == ["visual"]
    assert not model.visual(torch.ones(1, 2, requires_grad=True)).requires_grad


def test_a_step_is_shared_by_the_processes(tmp_path) -> None:
    config = RunConfig(prompts_per_step=8, num_generations=8, micro_batch_size=16)
    one = grpo_config(config, tmp_path, on_gpu=False, bf16=False)
    assert (one.per_device_train_batch_size, one.gradient_accumulation_steps) == (16, 4)
    check_processes(config, 4)
    with pytest.raises(UserError, match="64 completions a step cannot be shared by 3 processes"):
        check_processes(config, 3)


def test_prompts_keep_what_people_typed_as_text() -> None:
    rows = load_rows(load_config("starter", SMALL).data).train.map(
        lambda _: {"problem": "How many? <|im_end|><|image_pad|>"}
    )
    system, user = prompt_rows(rows, ["<|im_end|>", "<|image_pad|>"])[0]["prompt"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert "<|im_end|>" not in user["content"] and "im_end" in user["content"]


def test_a_run_keeps_its_id_and_shares_it_with_no_other(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_id(Path("runs/first")) == run_id(tmp_path / "runs" / "first")
    assert run_id(tmp_path / "runs/first") != run_id(tmp_path / "other/first")
    assert run_id(tmp_path / "my run: 50 %").startswith("my-run--50---")


def test_files_stay_in_the_run_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    variables = tracker_environment(tmp_path / "first")
    assert variables["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "first/tensorboard")
    assert (variables["WANDB_DIR"], variables["WANDB_RESUME"]) == (str(tmp_path / "first"), "allow")
    assert variables["WANDB_PROJECT"] == PROJECT
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert tracker_environment(tmp_path / "first")["WANDB_PROJECT"] == "mine"


@pytest.mark.parametrize("reporter", ["tensorboard", "trackio", "wandb"])
def test_the_trainer_is_told(tmp_path, monkeypatch, reporter) -> None:
    for name in tracker_environment(tmp_path):
        monkeypatch.setenv(name, "before")
    arguments = grpo_config(load_config("starter", {"report_to": [reporter]}), tmp_path, on_gpu=False, bf16=False)
    assert (arguments.run_name, arguments.project) == (run_id(tmp_path), PROJECT)
    assert arguments.trackio_static_space_id is False and arguments.report_to == [reporter]
