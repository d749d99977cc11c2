"""The starter's parts, and the shipped model itself."""

import json

import pytest
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor

from inference.common.files import read_lines
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.prompt.format import TAGS, build_messages
from training.starter.model import SIDE, build_model, train_tokenizer
from training.starter.problems import iterate_problems


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(STARTER)


def test_files_are_small_enough_to_ship() -> None:
    sizes = {path.name: path.stat().st_size for path in STARTER.rglob("*") if path.is_file()}
    assert max(sizes.values()) < 10_000_000
    assert sum(p.stat().st_size for p in (STARTER / "adapter").iterdir()) < 2_000_000


def test_weights_are_a_small_qwen2_5_vl_in_bf16() -> None:
    with safe_open(STARTER / "model.safetensors", "pt") as tensors:
        kinds = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}
    assert kinds == {"BF16"}
    model = AutoModelForImageTextToText.from_pretrained(STARTER, use_safetensors=True)
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert model.num_parameters() <= 4_000_000


def test_the_adapter_adapts_the_language_model_only() -> None:
    with safe_open(STARTER / "adapter" / "adapter_model.safetensors", "pt") as tensors:
        names = list(tensors.keys())
    assert names and all(".language_model.layers." in name and ".lora_" in name for name in names)
    config = json.loads((STARTER / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "starter"


def test_the_history_of_the_shipped_run_is_small_and_can_be_served() -> None:
    folders = sorted(path for path in (STARTER / "history").iterdir() if path.is_dir())
    assert 1 < len(folders) <= 8
    assert sum(path.stat().st_size for path in (STARTER / "history").rglob("*")) < 8_000_000
    engine = Engine.load(STARTER)
    for folder in folders:
        engine.add_adapter(folder.name, folder)
    steps = [row["step"] for row in read_lines(STARTER / "history" / "metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1))
    assert {int(folder.name.removeprefix("step-")) for folder in folders} <= set(steps)


def test_digits_tags_and_markers_are_single_tokens(processor) -> None:
    tokenizer = processor.tokenizer
    for text in [*"0123456789", *TAGS, "<|im_end|>", "<|image_pad|>"]:
        assert len(tokenizer(text).input_ids) == 1, text
    assert tokenizer.tokenize("12.5") == ["1", "2", ".", "5"]


@pytest.mark.parametrize("text", ["7 + 5 = 12", "90° × 2", "naïve 😀 文字", "a\tb\nc", "<|im_end|>"])
def test_any_text_survives_the_tokenizer(processor, text: str) -> None:
    assert processor.tokenizer.decode(processor.tokenizer(text).input_ids) == text


def test_the_tags_are_text_and_stay_when_special_tokens_are_left_out(processor) -> None:
    ids = processor.tokenizer("<think>1</think><|im_end|>").input_ids
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == "<think>1</think>"


def test_a_picture_becomes_its_share_of_tokens(processor) -> None:
    problem = next(iterate_problems("train", 3))
    text = processor.apply_chat_template(build_messages(problem.problem), add_generation_prompt=True)
    encoded = processor(text=[text], images=[problem.image], return_tensors="pt")
    num_image_tokens = (encoded["input_ids"] == processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")).sum()
    assert num_image_tokens == (SIDE // 28) ** 2
    assert text.startswith("<|im_start|>system\n") and text.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_the_tokenizer_learns_the_same_from_the_same() -> None:
    corpus = ["What is the sum of bars A and B?", "Bar A is 3. 3 + 4 = 7."] * 20
    one, two = train_tokenizer(corpus), train_tokenizer(corpus)
    assert one.get_vocab() == two.get_vocab()
    assert build_model(one).num_parameters() < 4_000_000
