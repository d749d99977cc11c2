"""The starter's making: all three stages at toy size, stopped and resumed, and exported whole."""

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from training.cli.pretrain import pretrain
from training.starter.pretrainer import PretrainConfig, Pretrainer

CONFIG = PretrainConfig(
    see_steps=2, reason_steps=2, mix_steps=2, batch_size=4, pool_size=24, held_out_size=24, checkpoint_steps=3
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder, target = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("made")
    pretrain(CONFIG, folder, target)
    return folder, target


@pytest.mark.slow
def test_the_exported_model_loads_and_is_what_was_trained(finished) -> None:
    folder, target = finished
    model = AutoModelForImageTextToText.from_pretrained(target, use_safetensors=True)
    trained = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert torch.equal(model.state_dict()[name], trained[name].to(torch.bfloat16))
    assert AutoProcessor.from_pretrained(target).tokenizer("7").input_ids
    assert '"steps": 6' in (target / "training.json").read_text()


@pytest.mark.slow
def test_a_resumed_run_goes_on_where_it_stopped(finished) -> None:
    folder, _ = finished
    trainer = Pretrainer(CONFIG, folder)
    assert trainer.load() and trainer.step == 6 and trainer.stage() is None
    longer = Pretrainer(PretrainConfig(**{**vars(CONFIG), "mix_steps": 4}), folder)
    longer.load()
    losses = longer.train_step(*longer.stage())
    again = Pretrainer(PretrainConfig(**{**vars(CONFIG), "mix_steps": 4}), folder)
    again.load()
    assert again.train_step(*again.stage()) == pytest.approx(losses)


def test_stages_follow_each_other() -> None:
    trainer = Pretrainer.__new__(Pretrainer)
    trainer.config = CONFIG
    seen = []
    for trainer.step in range(7):
        place = trainer.stage()
        seen.append(place and place[0])
    assert seen == ["see", "see", "reason", "reason", "mix", "mix", None]


@pytest.mark.slow
def test_a_run_can_begin_with_a_trained_starter(finished, tmp_path) -> None:
    folder, target = finished
    for name in ("pool-24-1.npz", "pool-24-1.pt", "pool-24-2.npz", "pool-24-2.pt"):
        (tmp_path / name).symlink_to(folder / name)
    warm = Pretrainer(CONFIG, tmp_path, start_from=target)
    stored = AutoModelForImageTextToText.from_pretrained(target, use_safetensors=True).state_dict()
    name = "model.visual.blocks.0.mlp.up_proj.weight"
    assert torch.equal(warm.model.state_dict()[name].to(torch.bfloat16), stored[name])
    assert warm.step == 0
