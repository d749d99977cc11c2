"""What a run needs of a card: by models whose sizes are known, and by what more of anything must do."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from inference.common.errors import UserError
from training.config.run_config import load_config
from training.runs.estimate.memory import BatchChoice, Card, MemoryNeed, Sharing, memory_need
from training.runs.estimate.shapes import ModelSizes, sizes_by, sizes_of

TEXT = {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "vocab_size": 151936}
TEXT |= {"num_attention_heads": 16, "num_key_value_heads": 2, "tie_word_embeddings": True}
VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048}


@pytest.fixture(scope="module")
def of_3b() -> ModelSizes:
    """Qwen2.5-VL-3B by its published configuration."""
    config = AutoConfig.for_model(
        "qwen2_5_vl", text_config=TEXT, vision_config=VISION, tie_word_embeddings=True, vocab_size=151936
    )
    return sizes_by(config)


def test_the_sizes_of_a_real_base(of_3b: ModelSizes) -> None:
    lora = of_3b.lora_parameters(8, ("q_proj", "v_proj"))
    assert lora == 1_843_200
    assert of_3b.parameters + lora == 3_756_466_176  # as PEFT counts them for this base and LoRA
    assert (of_3b.kv_width, of_3b.layers) == (256, 36)  # 36,864 bytes a token in bf16


def test_the_sizes_of_the_starter() -> None:
    assert 3_200_000 < sizes_of("starter").parameters < 4_000_000
    with pytest.raises(UserError, match="not known: its configuration cannot be read"):
        sizes_of("nobody/nothing")


def test_the_parts_of_a_need(of_3b: ModelSizes) -> None:
    config = load_config("recipe", {"data": {"max_prompt_tokens": 1000}})
    need = memory_need(config, of_3b)
    assert need.weights == 2 * of_3b.parameters and need.adapter == 16 * 1_843_200
    assert need.rollouts > 2 * 2025 * 36_864  # two rows, with the end token
    assert need.total == pytest.approx(need.weights + need.adapter + need.loss + need.overhead)
    assert memory_need(load_config("starter"), sizes_of("starter")).total < need.total


def test_sharded_weights_leave_room_and_two_layers_are_whole(of_3b: ModelSizes) -> None:
    config = load_config("a100", {"prompts_per_step": 32})
    whole, alone = (memory_need(config, of_3b, num_processes=count) for count in (8, 1))
    sharded = memory_need(config.model_copy(update={"shard_weights": True}), of_3b, num_processes=8)
    assert sharded.weights == whole.weights / 8 and sharded.adapter == whole.adapter
    embedding, tower = 2 * 151_936 * 2048, 2 * of_3b.vision_parameters
    two_layers = 2 * sum(2 * inputs * outputs for _, inputs, outputs in of_3b.linears) / 36
    gathered = sharded.rollouts - whole.rollouts
    assert gathered == pytest.approx(embedding + tower + two_layers, rel=1e-3)
    assert sharded.pictures - whole.pictures == pytest.approx(gathered)
    assert sharded.total < whole.total
    alone_sharded = memory_need(config.model_copy(update={"shard_weights": True}), of_3b)
    assert alone_sharded.weights == alone.weights, "one process holds all"


def test_logits_are_held_in_tiles(of_3b: ModelSizes) -> None:
    """A vocabulary that is larger than a tile costs the loss nothing."""
    batch = BatchChoice(64, True)
    few, many = (memory_need(load_config("a100"), replace(of_3b, vocabulary=n), batch=batch) for n in (2**15, 2**19))
    assert few.loss == many.loss


@pytest.mark.parametrize(
    ("total", "held", "beside", "alone", "said"),
    [
        (80, 10, True, True, "goes on answering"),
        (60, 10, False, True, "leaves the card while the run trains"),
        (40, 0, False, False, "not enough: lower micro_batch_size"),
    ],
)
def test_who_gives_way(total: float, held: float, beside: bool, alone: bool, said: str) -> None:
    sharing = Sharing(MemoryNeed(8e9, 1e9, 0.0, 20e9, 40e9, 1e9), Card(total * 1e9, held * 1e9))
    assert (sharing.fits_beside, sharing.fits_alone, sharing.gives_way) == (beside, alone, not beside)
    assert said in sharing.words and "about 50 GB" in sharing.words


@given(st.integers(1, 8), st.integers(0, 5), st.booleans())
def test_more_never_needs_less(groups: int, doublings: int, checkpointing: bool) -> None:
    sizes = sizes_of("starter")

    def total(**values: object) -> float:
        base = {"prompts_per_step": groups, "micro_batch_size": 8 * groups, "max_completion_length": 64}
        return memory_need(
            load_config("starter", base | {"gradient_checkpointing": checkpointing} | values), sizes
        ).total

    longer = total(max_completion_length=64 * 2**doublings)
    assert longer >= total() and total(lora_rank=64) > total()
    assert total(gradient_checkpointing=True) <= total(gradient_checkpointing=False)
    assert total(precision="fp32") > total(precision="bf16")
