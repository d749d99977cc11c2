"""Families that the engine does not know: their greedy tokens are those of `generate`, whatever is beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText

from inference.engine.engine import Engine
from inference.model.request import Request
from inference.prompt.format import DIRECT_PROMPT, PLACE
from tests.support.plain_models import PLAIN, build_plain
from tests.support.samples import random_adapter


@pytest.fixture(scope="module", params=PLAIN)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_plain(request.param, tmp_path_factory.mktemp("plain") / request.param)


@pytest.fixture(scope="module")
def engine(base: Path) -> Engine:
    return Engine.load(base)


def picture(width: int, height: int, colour: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (width, height), colour)
    image.paste((255, 255, 0), (5, 5, 20, 20))
    return image


def asked(**values: Any) -> list[Request]:
    """Two requests of different pictures, prompts and lengths."""
    one = Request(picture(90, 90, (200, 0, 0)), "How many circles are there?", max_new_tokens=9, **values)
    other = Request(picture(120, 60, (0, 0, 200)), "What is 3 + 4?", DIRECT_PROMPT, max_new_tokens=6, **values)
    return [one, other]


def generated(model: Any, engine: Engine, request: Request) -> list[int]:
    """The greedy tokens by transformers' own loop."""
    inputs = engine.tokenizer.inputs(request)  # type: ignore[attr-defined]
    ids = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=request.max_new_tokens,
        suppress_tokens=list(engine.tokenizer.vocabulary.suppressed),
    )
    return ids[0, inputs["input_ids"].shape[1] :].tolist()


def test_greedy_tokens_are_those_of_generate(base: Path, engine: Engine) -> None:
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    requests = asked()
    assert engine.is_plain
    found = [list(completion.token_ids) for completion in engine.generate(requests)]
    assert found == [generated(model, engine, request) for request in requests]
    pictures = {"image": requests[1].image, "more_images": (requests[0].image,)}
    several = Request(**pictures, question=f"Is {PLACE} like {PLACE}?", max_new_tokens=5)
    assert list(engine.generate([several])[0].token_ids) == generated(model, engine, several)
    continued = Request(requests[0].image, requests[0].question, max_new_tokens=4, prefix="It is")
    assert list(engine.generate([continued])[0].token_ids) == generated(model, engine, continued)


def test_each_row_has_its_own_adapter(base: Path, engine: Engine, tmp_path: Path) -> None:
    """Beside the base, and as PEFT computes it alone."""
    folder = random_adapter(tmp_path / "tuned", base=base, target_modules=r".*language_model.*\.(q|v|o)_proj")
    engine.add_adapter("tuned", folder)
    requests = [*asked(), *asked(adapter="tuned")]
    found = [list(completion.token_ids) for completion in engine.generate(requests)]
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    alone = [generated(model, engine, request) for request in requests[:2]]
    tuned = PeftModel.from_pretrained(model, str(folder)).eval()
    assert found == alone + [generated(tuned, engine, request) for request in requests[2:]]
    assert found[:2] != found[2:]


def test_a_seed_gives_one_text_whatever_is_beside_it(engine: Engine) -> None:
    one, other = asked(temperature=1.0, seed=5)
    text = engine.generate([one])[0].text
    assert [completion.text for completion in engine.generate([other, one])][1] == text
    streamed = {0: ""}
    for updates in engine.stream([one]):
        for index, piece in updates:
            streamed[index] += piece
    assert streamed[0] == text
