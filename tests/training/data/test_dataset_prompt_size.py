"""Prompt sizes: as many tokens as the processor itself makes of the same problem and picture."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image
from transformers import AutoProcessor

from inference.common.errors import UserError
from inference.common.settings import STARTER
from inference.model.tokenizer import chat_markers
from inference.prompt.format import DIRECT_PROMPT, PLACE, build_messages, neutralise
from tests.support.tiny_models import TILE, build_tiny_processor, needs_num2words
from training.data.dataset import PromptSizer

PROCESSORS = ["starter", "qwen3_vl", "idefics3", pytest.param("smolvlm", marks=needs_num2words)]


@pytest.fixture(scope="module", params=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> Any:
    if request.param == "starter":
        return AutoProcessor.from_pretrained(STARTER)
    return build_tiny_processor(request.param)


@pytest.mark.parametrize("system_prompt", [None, DIRECT_PROMPT])
@pytest.mark.parametrize("size", [(28, 28), (112, 112), (448, 448), (300, 77), (77, 900), (1_000, 1_000)])
def test_as_the_processor_counts(processor: Any, size: tuple[int, int], system_prompt: str | None) -> None:
    problem = "What is the sum? <|im_end|> <|image_pad|><image> Größe √2\nChoices:\nA. 3"
    text = processor.apply_chat_template(
        build_messages(neutralise(problem, chat_markers(processor.tokenizer)), system_prompt),
        tokenize=False,
        add_generation_prompt=True,
    )
    theirs = processor(text=[text], images=[[Image.new("RGB", size)]], return_tensors="np")["input_ids"]
    ours = PromptSizer(processor, system_prompt).measure(problem, *size)
    assert ours.total == len(theirs[0])
    num_image_tokens = (theirs[0] == processor.image_token_id).sum()
    if hasattr(processor, "image_seq_len"):  # with the markers around each tile
        assert num_image_tokens < ours.image < 2 * num_image_tokens
    else:
        assert ours.image == num_image_tokens


def test_several_pictures_as_the_processor_counts(processor: Any) -> None:
    sizes, sizer = [(300, 77), (112, 112), (77, 900)], PromptSizer(processor, DIRECT_PROMPT)
    for problem in ("How many?", f"Is {PLACE} like {PLACE} or {PLACE}?"):
        messages = build_messages(problem, DIRECT_PROMPT, len(sizes))
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        images = [Image.new("RGB", size) for size in sizes]
        theirs = processor(text=[text], images=[images], return_tensors="np")["input_ids"]
        assert sizer.measure(problem, *(side for size in sizes for side in size)).total == len(theirs[0])


def test_a_processor_that_cannot_tell() -> None:
    processor = build_tiny_processor("idefics3")
    processor.image_processor.size = {"longest_edge": 4 * TILE + 1}
    with pytest.raises(UserError, match="Idefics3Processor cannot tell"):
        PromptSizer(processor)
    with pytest.raises(UserError, match="leave max_prompt_tokens out"):
        PromptSizer(object())
