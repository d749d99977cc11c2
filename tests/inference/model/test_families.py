"""Models of each family that is served: tiny ones with random weights, against transformers' own generate."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText
from transformers.utils import is_flash_attn_2_available, is_kernels_available

from inference.common.errors import UserError
from inference.engine import attention as groups
from inference.engine import scheduler
from inference.engine.engine import Engine, Request
from inference.model.families import check_family, join_encodings, switch_to_flash, use_flash_attention
from inference.model.tokenizer import TextStream
from inference.prompt.format import DIRECT_PROMPT, PLACE, THINK_PROMPT, build_messages
from tests.support.samples import problems, random_adapter
from tests.support.tiny_models import TINY, build_tiny, needs_num2words
from tests.support.waits import check_a_step

SIZES = [(140, 140), (260, 90), (64, 200), (140, 140)]
"""Of the rows' pictures: patches and tiles of several shapes, and one small."""


class Served:
    """A tiny base of a family, the engine on it, and what transformers and PEFT make of both."""

    def __init__(self, family: str, folder: Path) -> None:
        self.family = family
        self.base = build_tiny(family, folder / "base")
        self.adapter = random_adapter(folder / "adapter", base=self.base, strength=2.0)
        self.engine = Engine.load(self.base)
        self.engine.add_adapter("tuned", self.adapter)
        self.tokenizer = self.engine.tokenizer
        model: Any = AutoModelForImageTextToText.from_pretrained(self.base, dtype=torch.float32)
        self.peer = PeftModel.from_pretrained(model, self.adapter, "tuned").eval()

    def generate(self, row: Request) -> list[int]:
        """The new tokens that transformers' generate gives."""
        processor = self.tokenizer.processor
        inputs = processor_inputs(processor, row)
        options = {"max_new_tokens": row.max_new_tokens, "do_sample": False}
        options["suppress_tokens"] = list(self.tokenizer.vocabulary.suppressed)
        made = self.peer.generate(**inputs, **options, adapter_names=[row.adapter or "__base__"])
        return made[0, inputs.input_ids.shape[1] :].tolist()


def processor_inputs(processor: Any, row: Request) -> Any:
    """The tensors that the processor makes of a request by itself, its pictures in the messages."""
    images = iter(row.images)
    messages = build_messages(row.question, row.system_prompt, len(row.images))
    for part in (part for message in messages for part in message["content"] if part["type"] == "image"):
        part["image"] = next(images)
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return processor(text=[text], images=[list(row.images)], return_tensors="pt")


def several(rows: list[Request]) -> list[Request]:
    """Two pictures of unlike shapes, three with places in the text, and a picture twice."""
    one, two, three, _ = (row.image for row in rows)
    return [
        replace(rows[0], more_images=(two,)),
        replace(rows[1], more_images=(three, one), question=f"Is {PLACE} like {PLACE}, or like {PLACE}?"),
        replace(rows[2], more_images=(three,)),
    ]


@pytest.fixture(scope="module", params=TINY)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def rows() -> list[Request]:
    """Rows of unlike length, with pictures of unlike shapes, on base and adapter in no order."""
    adapters, prompts = ["tuned", None, None, "tuned"], [THINK_PROMPT, DIRECT_PROMPT, None]
    return [
        Request(p.image.convert("RGB").resize(size), p.problem, prompts[i % 3], adapter=adapters[i], max_new_tokens=12)
        for i, (p, size) in enumerate(zip(problems(4, seed=5), SIZES))
    ]


def test_a_mixed_batch_gives_what_transformers_gives_row_by_row(
    served: Served, rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = served.engine.encoder.num_encodings
    both = [*rows, *(replace(row, adapter=None if row.adapter else "tuned") for row in rows)]
    completions = served.engine.generate(both)
    assert [list(c.token_ids) for c in completions] == [served.generate(row) for row in both]
    assert served.engine.encoder.num_encodings == before + len(rows)
    assert len({c.token_ids for c in completions}) == len(both)  # picture, question and adapter all tell
    monkeypatch.setattr(groups, "MIN_SPARED_BYTES", 1)
    twice = served.engine.generate([row for row in both for _ in range(2)])  # in groups, which are read once
    assert [c.token_ids for c in twice] == [c.token_ids for c in completions for _ in range(2)]


def test_a_step_waits_for_nothing(served: Served, rows: list[Request]) -> None:
    """Transformers' own part in it included."""
    sampled = [replace(row, temperature=float(i % 2), top_p=0.9, min_new_tokens=2 * i) for i, row in enumerate(rows)]
    check_a_step(served.engine, sampled)


def test_a_completion_depends_on_the_picture(served: Served, rows: list[Request]) -> None:
    red, blue = (replace(rows[0], image=Image.new("RGB", SIZES[0], colour)) for colour in ("red", "blue"))
    one, other = served.engine.generate([red, blue])
    assert one.token_ids != other.token_ids


def test_a_prompt_is_the_one_the_processor_makes(served: Served, rows: list[Request]) -> None:
    processor = served.tokenizer.processor
    for row in [*rows, *several(rows)]:
        expected = processor_inputs(processor, row)["input_ids"][0].tolist()
        pictures = join_encodings(served.engine.encoder.encode(row.images))
        assert served.tokenizer.prompt_ids(row, pictures.placeholders) == expected
        assert expected.count(served.tokenizer.vocabulary.image) == len(pictures.features)


def test_pixels_of_several_pictures_are_those_the_processor_makes(served: Served, rows: list[Request]) -> None:
    for row in several(rows):
        expected = processor_inputs(served.tokenizer.processor, row)
        made = [served.engine.family.process(image) for image in row.images]
        for name in ("pixel_values", "image_grid_thw", "pixel_attention_mask"):
            if name in expected:
                ours = torch.cat([inputs[name] for inputs in made], dim=0 if "image_grid_thw" in expected else 1)
                assert torch.equal(ours, expected[name])


def test_several_pictures_give_what_transformers_gives(
    served: Served, rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside rows with one, in any order, and read in pieces, the cut within a picture included."""
    asked = [*several(rows), rows[0], replace(several(rows)[0], image=rows[1].image, more_images=(rows[0].image,))]
    expected = [served.generate(row) for row in asked]
    before = served.engine.encoder.num_encodings
    assert [list(c.token_ids) for c in served.engine.generate(asked)] == expected
    assert served.engine.encoder.num_encodings <= before + len(rows)  # each picture once
    if served.family != "qwen3_vl_moe":  # it says one token again and again
        assert expected[0] != expected[-1]  # their order tells
    monkeypatch.setattr(groups, "MIN_SPARED_BYTES", 1)
    twice = served.engine.generate([row for row in asked for _ in range(2)])
    assert [list(c.token_ids) for c in twice] == [ids for ids in expected for _ in range(2)]
    monkeypatch.setattr(scheduler, "MAX_PREFILL_TOKENS", 64)
    assert [list(c.token_ids) for c in served.engine.generate(asked)] == expected


def test_a_template_that_drops_a_picture_is_named(
    served: Served, rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = served.tokenizer.hf_tokenizer.convert_ids_to_tokens(served.tokenizer.vocabulary.image)
    monkeypatch.setattr(served.tokenizer.processor, "chat_template", f"{marker}?")
    with pytest.raises(UserError, match="chat template writes 1 of the 2 pictures; ask about one"):
        served.engine.generate([several(rows)[0]])


def test_typed_markers_stay_text(served: Served, rows: list[Request]) -> None:
    special = set(served.tokenizer.hf_tokenizer.convert_tokens_to_ids(list(served.tokenizer.markers)))
    assert served.tokenizer.vocabulary.image in special
    image = served.engine.encoder.encode([rows[0].image])[0]
    plain = served.tokenizer.prompt_ids(replace(rows[0], question="How many?"), image.placeholders)
    for marker in served.tokenizer.markers:
        typed = replace(rows[0], question=f"How {marker} many?{marker}", prefix=marker)
        ids = served.tokenizer.prompt_ids(typed, image.placeholders)
        assert [i for i in ids if i in special] == [i for i in plain if i in special]


def test_a_stream_says_what_the_tokenizer_says(served: Served) -> None:
    tokenizer = served.tokenizer.hf_tokenizer
    ids = tokenizer("<think>3 + 4 = 7.\n\nGrün √2 🙂</think>", add_special_tokens=False).input_ids
    stream = TextStream(served.tokenizer)
    pieces = [stream.feed(i) for i in [*ids, tokenizer.eos_token_id]]
    assert "".join(pieces) == "<think>3 + 4 = 7.\n\nGrün √2 🙂</think>"


def test_an_adapter_on_the_tower_is_refused(served: Served, tmp_path: Path) -> None:
    folder = random_adapter(
        tmp_path / "tower", base=served.base, target_modules=r".*(visual|vision_model).*(qkv|q_proj)"
    )
    with pytest.raises(UserError, match="linear layers of the language model only"):
        served.engine.add_adapter("tower", folder)


def test_what_is_no_vision_language_model_is_named() -> None:
    with pytest.raises(UserError, match="some/base is of the family bert, which is no vision-language .*qwen2_vl, .*"):
        check_family("some/base", "bert")
    check_family("some/base", "gemma3")  # the engine does not know it: it goes the plain way


@needs_num2words
def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = build_tiny("smolvlm", tmp_path / "base")
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)
    with pytest.raises(UserError, match="cannot be loaded on this machine: Package `num2words` is required"):
        Engine.load(base)


def test_a_cpu_keeps_what_it_has(engine: Engine) -> None:
    tower = engine._model.model.visual
    assert not use_flash_attention(tower) and tower.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.bfloat16), ("cuda", torch.float32)])
def test_it_needs_a_gpu_and_half_precision(device: str, dtype: torch.dtype) -> None:
    assert not use_flash_attention(SimpleNamespace(device=torch.device(device), dtype=dtype))


@pytest.mark.skipif(is_kernels_available() or is_flash_attn_2_available(), reason="a package has it here")
def test_where_transformers_refuses_it_the_tower_goes_on(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    tower = engine._model.model.visual
    with caplog.at_level(logging.WARNING, "inference.model.families"):
        assert not switch_to_flash(tower)
    assert "no FlashAttention for the vision tower" in caplog.text and tower.config._attn_implementation == "sdpa"
