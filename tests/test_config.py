"""A run's configuration is checked where it enters."""

import json

import pytest
from pydantic import ValidationError

from training.config import RunConfig


def test_defaults_are_a_whole_configuration() -> None:
    config = RunConfig()
    assert config.base == "starter"
    assert config.completions_per_step == config.prompts_per_step * config.num_generations


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_steps", 0),
        ("num_generations", 1),
        ("temperature", 0),
        ("learning_rate", -1e-3),
        ("max_completion_length", 10_000),
        ("lora_rank", 0),
        ("seed", -1),
        ("no_such_field", 1),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        RunConfig.model_validate({field: value})


def test_a_run_needs_a_reward() -> None:
    with pytest.raises(ValidationError, match="at least one reward"):
        RunConfig(format_weight=0, accuracy_weight=0)


def test_the_configuration_is_kept(tmp_path) -> None:
    config = RunConfig(max_steps=3, seed=5)
    config.write(tmp_path)
    assert RunConfig.model_validate(json.loads((tmp_path / "config.json").read_text())) == config
