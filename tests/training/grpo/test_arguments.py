"""A run's `trl`: what goes to TRL's `GRPOConfig` as it is, and what is refused before anything loads."""

from pathlib import Path
from typing import Any

import pytest

from inference.common.errors import UserError
from training.config.run_config import RunConfig, change_config, load_config
from training.grpo.arguments import check_trl, grpo_config, rolls_out_by_trl
from training.hub.publish.package import public_config
from training.pipeline.preflight import check_run
from training.runs.folder import RunFolder

FIELDS = "trl:\n  epsilon_high: 0.28\n  scale_rewards: none\n  num_iterations: 2\n  weight_decay: 1e-2\n"


def test_fields_go_to_trl_as_they_are(tmp_path: Path) -> None:
    """From a YAML file, with the run's own settings beside them; the run's folder has them, and a change is refused."""
    file = tmp_path / "run.yaml"
    file.write_text(FIELDS)
    config = load_config("starter", {"learning_rate": 2e-4}, file)
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
