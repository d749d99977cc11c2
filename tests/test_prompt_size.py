"""Prompt sizes: as many tokens as the processor itself makes of the same problem and picture."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image
from transformers import AutoProcessor

from inference.errors import UserError
from inference.format import DIRECT_PROMPT, build_messages, neutralise
from inference.settings import STARTER
from training.prompt_size import PromptSizer


@pytest.fixture(scope="module")
def processor() -> Any:
    return AutoProcessor.from_pretrained(STARTER)


@pytest.mark.parametrize("system_prompt", [None, DIRECT_PROMPT])
@pytest.mark.parametrize("size", [(28, 28), (112, 112), (448, 448), (300, 77), (77, 900), (1_000, 1_000)])
def test_as_the_processor_counts(processor: Any, size: tuple[int, int], system_prompt: str | None) -> None:
    problem = "What is the sum? <|im_end|> <|image_pad|> Größe √2\nChoices:\nA. 3"
    text = processor.apply_chat_template(
        build_messages(neutralise(problem, processor.tokenizer.all_special_tokens), system_prompt),
        tokenize=False,
        add_generation_prompt=True,
    )
    theirs = processor(text=[text], images=[[Image.new("RGB", size)]], return_tensors="np")["input_ids"]
    ours = PromptSizer(processor, system_prompt).measure(problem, *size)
    assert ours.total == len(theirs[0])
    assert ours.image == (theirs[0] == processor.image_token_id).sum()


def test_a_processor_that_cannot_tell() -> None:
    with pytest.raises(UserError, match="leave max_prompt_tokens out"):
        PromptSizer(object())
