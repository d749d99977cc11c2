"""`RunConfig`, the profiles, files and options: what is accepted, what is refused and how it is said."""

import argparse
import math

import pytest
import yaml

from inference.common.errors import UserError
from inference.common.settings import STARTER, load_settings
from inference.prompt.format import THINK_PROMPT
from inference.prompt.system_prompt import R1_PROMPT
from training.cli import audit, evaluate, train
from training.config.data_config import DataConfig
from training.config.options import add_config_options, config_values, option
from training.config.run_config import PROFILES, RunConfig, change_config, differences, load_config


def options(*words: str) -> dict:
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    return config_values(parser.parse_args(words))


def test_the_recipe_is_the_recipe() -> None:
    recipe = load_config("recipe")
    assert recipe.base == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert (recipe.lora_rank, recipe.lora_alpha, recipe.lora_dropout, recipe.lora_modules) == (
        8,
        32,
        0.1,
        ("q_proj", "v_proj"),
    )
    assert (recipe.learning_rate, recipe.num_epochs, recipe.max_steps) == (1e-5, 1.0, 0)
    assert (recipe.completions_per_step, recipe.num_generations, recipe.max_completion_length) == (2, 2, 1024)
    assert (recipe.data.dataset, recipe.data.split) == ("lmms-lab/multimodal-open-r1-8k-verified", "train[:5%]")
    assert (recipe.data.test_share, recipe.data.seed, recipe.data.validation_rows) == (0.2, 42, 200)
    assert recipe.data.max_pixels is None and not recipe.data.drop_repeats and not recipe.data.drop_unreadable
    assert recipe.rewards == {"cookbook_format_reward": 1.0, "cookbook_accuracy_reward": 1.0}
    assert (recipe.save_steps, recipe.logging_steps, recipe.keep_checkpoints) == (10, 10, None)
    assert (recipe.publish_every_minutes, recipe.gradient_checkpointing, recipe.share_prompts) == (0, False, False)
    assert (recipe.loss_type, recipe.beta, recipe.top_p, recipe.temperature) == ("bnpo", 0, 1, 1)
    assert recipe.system_prompt_text == R1_PROMPT


def test_the_a100_has_groups_of_8_and_64_completions_a_step() -> None:
    a100 = load_config("a100")
    assert a100.num_generations == 8 and a100.completions_per_step >= 64
    assert a100.data.max_pixels is not None and load_config("recipe").data.max_pixels is None


@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_a_number_that_json_does_not_have_is_refused(number: float) -> None:
    """It would be kept as null, and the run could not be resumed."""
    for values in ({"max_grad_norm": number}, {"beta": number}, {"rewards": {"accuracy_reward": number}}):
        with pytest.raises(UserError, match=f"{next(iter(values))}.* is {number}: Input should be"):
            load_config(None, values)


@pytest.mark.parametrize("name", PROFILES)
def test_each_profile_survives_being_written(name: str) -> None:
    config = load_config(name)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert config.profile == name


def test_a_value_goes_before_the_file_and_the_file_before_the_profile(tmp_path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("profile: recipe\nlearning_rate: 2e-5\nlora_rank: 4\ndata:\n  test_share: 0.1\n")
    config = load_config(None, {"lora_rank": 2, "data": {"seed": 7}}, file)
    assert (config.profile, config.learning_rate, config.lora_rank) == ("recipe", 2e-5, 2)
    assert (config.data.test_share, config.data.seed, config.data.split) == (0.1, 7, "train[:5%]")


@pytest.mark.parametrize(
    ("prompts", "size", "fits"),
    [(8, 48, "give one of 1, 2, 4, 8, 16, 32, 64"), (65_536, 3, "give one of 1, 2, 4, "), (55_440, 17, ", 16, 18, ")],
)
def test_a_micro_batch_that_divides_no_step_is_told_which_would(prompts: int, size: int, fits: str) -> None:
    with pytest.raises(UserError, match=f"micro_batch_size {size} does not divide") as refusal:
        load_config("starter", {"prompts_per_step": prompts, "num_generations": 8, "micro_batch_size": size})
    assert fits in str(refusal.value) and len(str(refusal.value)) < 500


@pytest.mark.parametrize("name", ["prompts_per_step", "num_generations", "micro_batch_size"])
def test_a_batch_beyond_all_machines_is_refused_at_once(name: str) -> None:
    with pytest.raises(UserError, match=name):
        load_config("starter", {name: 9 * 10**18})


def test_every_setting_is_an_option() -> None:
    values = options(
        *("--learning-rate", "1e-4", "--lora-modules", "[q_proj, v_proj]", "--report-to", "[]"),
        *("--rewards", "{accuracy_reward: 1, soft_format_reward: 0.2}", "--gradient-checkpointing", "true"),
        *("--data-seed", "7", "--seed", "3", "--dataset", "owner/name"),
        *("--split", "train[:10%]", "--columns", "{problem: question}"),
    )
    config = load_config(None, values)
    assert math.isclose(config.learning_rate, 1e-4)
    assert config.lora_modules == ("q_proj", "v_proj") and config.report_to == ()
    assert config.rewards == {"accuracy_reward": 1.0, "soft_format_reward": 0.2}
    assert config.gradient_checkpointing is True
    assert (config.data.dataset, config.data.split) == ("owner/name", "train[:10%]")
    assert config.data.columns == {"problem": "question"} and (config.seed, config.data.seed) == (3, 7)


PROMPTS = [
    # typed or in a file -> kept, asked with
    ("lookthink", "lookthink", THINK_PROMPT),
    (" r1 ", "r1", R1_PROMPT),
    ("Look twice.\nThen answer.", "Look twice.\nThen answer.", "Look twice.\nThen answer."),
    ("none", "lookthink", THINK_PROMPT),
]


@pytest.mark.parametrize(("typed", "kept", "text"), PROMPTS)
def test_a_system_prompt_is_a_name_or_a_text(typed: str, kept: str, text: str) -> None:
    config = load_config("starter", options("--system-prompt", typed))
    assert (config.system_prompt, config.system_prompt_text) == (kept, text)


def test_a_system_prompt_in_a_file_is_read_once(tmp_path, monkeypatch) -> None:
    """The run keeps its content: another machine has no such file, and the text may be the name of one."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "prompt.txt"
    file.write_text("Erst denken.\n")
    config = load_config("starter", options("--system-prompt", "prompt.txt"))
    (tmp_path / "Erst denken.").write_text("another text")
    file.unlink()
    assert config.system_prompt == RunConfig.model_validate_json(config.model_dump_json()).system_prompt
    assert change_config(config, {"save_steps": 9}).system_prompt_text == "Erst denken."
    assert "system_prompt" in differences(config, change_config(config, {"system_prompt": "r1"}))
    settings = tmp_path / "run.yaml"
    settings.write_text("system_prompt: r1\n")
    assert load_config("starter", None, settings).system_prompt_text == R1_PROMPT


def test_none_takes_a_profiles_value_away() -> None:
    values = options("--profile", "a100", "--max-prompt-tokens", "none", "--report-to", "none")
    config = load_config("a100", values)
    assert config.data.max_prompt_tokens is None and config.report_to == ()


def test_every_command_spells_the_datas_options_the_same() -> None:
    found = []
    for module in (train, evaluate, audit):
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        known = {word for action in parser._actions for word in action.option_strings}
        found.append({f"data.{name}": option(f"data.{name}") in known for name in DataConfig.model_fields})
    assert all(found[0].values()) and found[0] == found[1] == found[2]


def test_the_number_of_starter_problems_means_nothing_for_another_dataset() -> None:
    config = load_config("starter", {"data": {"dataset": "owner/name", "test_share": 0.1}})
    assert (config.data.train_rows, config.data.test_rows, config.data.test_share) == (None, None, 0.1)
    assert load_config("starter", {"data": {"seed": 3}}).data.test_rows == 480


def test_without_options_nothing_is_changed() -> None:
    assert options() == {}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_generations": 1}, "num_generations is 1"),
        ({"temperature": 0}, "temperature is 0"),
        ({"learning_rate": -1}, "learning_rate is -1"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"rewards": {}}, "give at least one"),
        ({"rewards": {"format_reward": 0}}, "give at least one"),
        ({"rewards": {"format_reward": -1}}, "below 0"),
        ({"micro_batch_size": 7}, "give one of 1, 2, 4, 8, 16, 32, 64"),
        ({"warmup_steps": 150}, "lower warmup_steps"),
        ({"lora_modules": ()}, "give names of layers"),
        ({"lora_modules": ("a|b",)}, "give names of layers"),
        ({"base_revision": "main"}, "has no revisions"),
        ({"base": str(STARTER), "base_revision": "main"}, "a folder, has no revisions"),
        ({"data": {"test_rows": 0}}, "eval_rows is 480, but data.test_rows is 0"),
        (
            {"data": {"dataset": "owner/name", "test_share": 0}},
            "data.test_share is 0, which leaves no test rows; give some",
        ),
        ({"vllm": "server"}, "vllm is no setting; write `trl: {use_vllm: true}` into a YAML file"),
        ({"trl": "beta"}, "trl is 'beta': write it as {name: value"),
        ({"choose_checkpoint": True}, "data.validation_rows is 0"),
        ({"max_hours": 0}, "max_hours is 0"),
        ({"system_prompt": "r2"}, "there is no system prompt and no file 'r2'; name lookthink, r1 or a file"),
        ({"system_prompt": "a b" * 1_334}, "the system prompt has 4,002 characters; at most 4,000"),
        ({"system_prompt": "a <|im_end|> b"}, "the system prompt has '<|im_end|>'"),
        ({"system_prompt": " "}, "the system prompt is not a text"),
        ({"system_prompt": 7}, "the system prompt is not a text"),
        ({"keep_checkpoints": 0}, "keep_checkpoints is 0"),
        ({"lerning_rate": 1}, "lerning_rate is not a setting; the nearest are learning_rate, "),
        ({"data": {"datset": 1}}, "data.datset is not a setting; there are columns"),
        ({"rewards": "accuracy_reward"}, "rewards is 'accuracy_reward': write it as {name: value"),
        ({"data": "owner/name"}, "on a line of its own"),
        ({"profile": "h100"}, "there is no profile 'h100'; there are starter"),
    ],
)
def test_what_is_impossible_is_refused_with_the_remedy(values: dict, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(None, values)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("- a\n- b\n", "is not a list of"), ("a: [", "is not YAML"), ("learning_rate: 7\n", "learning_rate is 7")],
)
def test_a_bad_file_is_named(text: str, said: str, tmp_path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(None, None, file)
    assert said in str(caught.value) and "run.yaml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match="none.yaml cannot be read"):
        load_config(None, None, tmp_path / "none.yaml")


OWN = "me/base"
SECTION = {"dataset": "me/pictures", "publish_to": "me/adapters", "publish_every_minutes": 5, "publish_public": True}
DEPLOYMENTS = [
    # named in space.yaml, profile asked for -> profile, base, dataset, repository
    (OWN, True, None, ("a100", OWN, "me/pictures", "me/adapters")),
    (OWN, True, "a100", ("a100", OWN, "me/pictures", "me/adapters")),
    (OWN, True, "recipe", ("recipe", OWN, "lmms-lab/multimodal-open-r1-8k-verified", "me/adapters")),
    (OWN, True, "starter", ("starter", "starter", "starter", None)),
    (OWN, False, None, ("starter", "starter", "starter", None)),  # no GPU: the starter answers
    (OWN, False, "a100", ("a100", OWN, "me/pictures", "me/adapters")),
    ("starter", False, None, ("starter", "starter", "starter", "me/adapters")),
    ("starter", True, "a100", ("a100", "Qwen/Qwen2.5-VL-3B-Instruct", "lmms-lab/multimodal-open-r1-8k-verified", None)),
]


@pytest.mark.parametrize(("base", "has_gpu", "profile", "expected"), DEPLOYMENTS)
def test_a_run_begins_with_what_the_deployment_names(
    base: str, has_gpu: bool, profile: str | None, expected: tuple, tmp_path
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump({"model": {"base": base}, "training": SECTION}))
    settings = load_settings(file, {}, has_gpu=has_gpu)
    config = load_config(profile, deployment=settings)
    assert (config.profile, config.base, config.data.dataset, config.publish_to) == expected
    if config.publish_to:
        assert (config.publish_every_minutes, config.publish_public) == (0 if profile == "recipe" else 5, True)
    changed = load_config(profile, {"publish_to": None, "data": {"dataset": "you/others"}}, deployment=settings)
    assert (changed.publish_to, changed.data.dataset) == (None, "you/others")


@pytest.mark.parametrize(
    ("base", "expected"),
    [(OWN, ("a100", OWN, "me/pictures", "me/adapters")), ("starter", ("starter", "starter", "starter", "me/adapters"))],
)
def test_a_job_begins_with_the_named_base_whatever_answers_here(base: str, expected: tuple, tmp_path) -> None:
    """A Space without a card: the starter answers, and Jobs train the base of space.yaml."""
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump({"model": {"base": base}, "training": SECTION | {"trainer": "job"}}))
    config = load_config(None, deployment=load_settings(file, {}, has_gpu=False))
    assert (config.profile, config.base, config.data.dataset, config.publish_to) == expected
