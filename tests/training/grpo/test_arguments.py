"""A run's `trl`: what goes to TRL's `GRPOConfig` as it is, what the engine's loss makes of it, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from inference.common.errors import UserError
from inference.common.files import read_lines
from tests.support.samples import SMALL_RUN
from training.config.run_config import RunConfig, change_config, load_config
from training.data.dataset import load_rows
from training.grpo.arguments import check_trl, grpo_config, rolls_out_by_trl
from training.grpo.micro_batches import has_signal
from training.grpo.trainer import RunTrainer, build_trainer
from training.hub.publish.package import public_config
from training.pipeline.preflight import check_run
from training.runs.folder import RunFolder

FIELDS = "trl:\n  epsilon_high: 0.28\n  scale_rewards: none\n  num_iterations: 2\n  weight_decay: 1e-2\n"


def test_fields_go_to_trl_as_they_are(tmp_path: Path) -> None:
    """From a YAML file, with the run's own settings beside them; the run's folder has them, and a change is refused."""
    file = tmp_path / "run.yaml"
    file.write_text(FIELDS)
    config = load_config("starter", {"learning_rate": 2e-4, "logging_steps": 2}, file)
    check_trl(config)
    args = grpo_config(config, tmp_path, on_gpu=False, bf16=False)
    assert (args.epsilon_high, args.scale_rewards, args.num_iterations, args.weight_decay) == (0.28, "none", 2, 0.01)
    assert (args.epsilon, args.learning_rate) == (0.2, 2e-4)
    folder = RunFolder.create(tmp_path / "run", config)
    assert RunFolder.open(folder.path)[1].trl == config.trl
    with pytest.raises(UserError, match="trl.num_iterations: 2, not 3"):
        RunFolder.open(folder.path, change_config(config, {"trl": config.trl | {"num_iterations": 3}}))


@pytest.mark.parametrize(
    ("trl", "said"),
    [
        (
            {"epsilon_hihg": 1},
            "trl has epsilon_hihg, which TRL's GRPOConfig does not have; the nearest are epsilon",
        ),
        (
            {"learning_rate": 1},
            "which a run decides by its own settings; set learning_rate itself",
        ),
        ({"per_device_train_batch_size": 4}, "trl has per_device_train_batch_size, which a run decides"),
        ({"save_total_limit": 4}, "trl has save_total_limit, which a run decides by its own settings; leave it out"),
        ({"hub_model_id": "owner/name"}, "trl has hub_model_id, which a run decides"),
        ({"eval_strategy": "steps"}, "trl has eval_strategy, which a run decides"),
        ({"model_init_kwargs": {}}, "trl has model_init_kwargs, which a run decides"),
        ({"epsilon_high": "wide"}, "trl.epsilon_high is 'wide': Input should be a valid number"),
        ({"num_iterations": 1.5}, "trl.num_iterations is 1.5: Input should be a valid integer"),
        ({"num_iterations": 0}, "trl.num_iterations is 0; give at least 1"),
        ({"num_iterations": 2}, "rewards come every 2 steps, and logging_steps is 1; set it to a multiple of 2"),
        ({"epsilon_high": -1}, "trl.epsilon_high is -1.0; give at least 0"),
        ({"top_entropy_quantile": 0}, "trl.top_entropy_quantile is 0.0; give above 0, at most 1"),
        ({"scale_rewards": "groups"}, "trl.scale_rewards is 'groups'; give one of group, batch, none"),
        (
            {"vllm_importance_sampling_clip_min": 3.0, "vllm_importance_sampling_clip_max": 2.0},
            "TRL refuses the run with trl",
        ),
    ],
)
def test_what_contradicts_the_run_is_refused(trl: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        check_run(load_config("starter", {"trl": trl, "report_to": [], "data": {"train_rows": 8}}))
    assert said in str(caught.value)


def test_a_server_of_vllm() -> None:
    """Its address does not leave the machine with a published adapter."""
    server = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://10.0.0.2:8000"}
    config = RunConfig(trl=server)
    check_trl(config)
    assert rolls_out_by_trl(config) and not rolls_out_by_trl(RunConfig(trl={"epsilon_high": 0.3}))
    assert public_config(config)["trl"] == {"use_vllm": True, "vllm_mode": "server"}
    with pytest.raises(UserError, match="resample_rounds is 2 with trl.use_vllm; leave one of them out"):
        check_trl(change_config(config, {"resample_rounds": 2}))


def test_a_run_recorded_with_the_settings_of_vllm_is_read() -> None:
    assert RunConfig.model_validate({"vllm": "off", "vllm_url": "http://127.0.0.1:8000"}) == RunConfig()


def make(folder: Path, **values: Any) -> RunTrainer:
    small = SMALL_RUN | {"max_completion_length": 64, "data": {"train_rows": 8, "test_rows": 4}}
    config = load_config("starter", small | values)
    check_trl(config)
    trainer = build_trainer(config, load_rows(config.data).train, RunFolder.create(folder / "run", config), [])
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def rewards_of(trainer: RunTrainer) -> torch.Tensor:
    """(rows, functions), of the newest batch."""
    return torch.tensor(list(zip(*(list(values)[-8:] for values in trainer._logs["rewards"].values()))))


@pytest.mark.slow
def test_the_engines_loss_honours_them(tmp_path: Path) -> None:
    """Advantages and loss by the formulas of the papers, on the log-probabilities of the engine's passes."""
    trl = {
        "scale_rewards": "none",
        "mask_truncated_completions": True,
        "epsilon_high": 0.28,
        "num_iterations": 2,
        "top_entropy_quantile": 0.5,
    }
    trainer = make(tmp_path, trl=trl, logging_steps=2)
    inputs = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    sums = rewards_of(trainer) @ torch.tensor([0.5, 1.0])
    expected = (sums.view(2, 4) - sums.view(2, 4).mean(1, keepdim=True)).flatten()
    torch.testing.assert_close(inputs["advantages"], expected)
    completions = [c for group in read_lines(trainer.writer.folder.rollouts) for c in group["completions"]]
    assert (inputs["completion_mask"].sum(1) == 0).tolist() == [c["truncated"] for c in completions]
    assert all(c["num_tokens"] == 64 for c in completions if c["truncated"])
    assert not all(c["truncated"] for c in completions)

    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    length, tokens = inputs["completion_ids"].shape[1], inputs["completion_mask"].bool()
    with torch.no_grad():
        log_probs, entropies, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, length, compute_entropy=True, pixel_values=inputs["rollout_prompts"]
        )
    torch.testing.assert_close(inputs["old_per_token_logps"], log_probs)
    generator = torch.Generator().manual_seed(0)
    ratio = 0.7 + 0.8 * torch.rand(log_probs.shape, generator=generator)  # beyond both bounds
    inputs["old_per_token_logps"] = log_probs - ratio.log()
    inputs["advantages"] = torch.tensor([1.0, -1, 0.5, -0.5, 1, -1, 0.5, -0.5])
    terms = torch.minimum(ratio * inputs["advantages"][:, None], ratio.clamp(0.8, 1.28) * inputs["advantages"][:, None])
    kept = tokens & (entropies >= entropies[tokens].quantile(0.5))
    expected = -terms[kept].sum() / tokens.sum()
    torch.testing.assert_close(trainer._compute_loss(trainer.model, inputs).detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_rewards_that_are_normalised_one_by_one(tmp_path: Path) -> None:
    """GDPO: each reward is normalised in its group, then their weighted sum over the batch; what is left of a group
    without a signal is 0."""
    trainer = make(tmp_path, trl={"multi_objective_aggregation": "normalize_then_sum"})
    inputs = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    grouped = rewards_of(trainer).view(2, 4, 2)
    each = (grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)
    sums = (each * torch.tensor([0.5, 1.0])).sum(2).flatten()
    torch.testing.assert_close(inputs["advantages"], (sums - sums.mean()) / (sums.std() + 1e-4))
    alive = (grouped.std(1) > 0).any(1).repeat_interleave(4)
    assert not has_signal(inputs["advantages"])[~alive].any()


@pytest.mark.slow
def test_each_batch_is_trained_on_several_times(tmp_path: Path) -> None:
    trainer = make(tmp_path, trl={"num_iterations": 2}, logging_steps=2, max_steps=4, max_completion_length=8)
    trainer.train()
    assert {group["step"] for group in read_lines(trainer.writer.folder.rollouts)} == {1, 3}
    rows = [row for row in trainer.state.log_history if "reward" in row]
    assert [row["step"] for row in rows] == [2, 4]
    trainer._buffered_inputs, trainer._step, trainer.state.global_step = None, 0, 5
    trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    assert trainer._step == 5, "resumed amid a batch, it generates again and then at the same steps"
