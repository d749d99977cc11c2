"""Rows that come and go at any step, against transformers' own generate; bf16; and how tokens are drawn."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText

from inference.common.settings import STARTER
from inference.engine.engine import Engine, Request
from inference.engine.generation import Generation
from inference.engine.sampler import Sampler
from inference.prompt.format import DIRECT_PROMPT, THINK_PROMPT, build_messages
from tests.support.samples import problems, random_adapter

LENGTH = 24
TIE = 1e-4
"""Logits nearer than this may come in either order."""
BF16 = 0.35
"""How far a logit may be off in bf16, where logits span about 40."""
NAMES = ("one", "two", None)


class Peer:
    """The engine with few slots, the same base in transformers, and what that makes of each row greedily."""

    def __init__(self, folder: Path) -> None:
        from peft import PeftModel

        self.engine = Engine.load(STARTER, max_num_seqs=4)
        base: Any = AutoModelForImageTextToText.from_pretrained(STARTER, dtype=torch.float32)
        self.model: Any = None
        for seed, name in enumerate(("one", "two")):
            path = random_adapter(folder / name, seed, r=4 + 4 * seed)
            self.engine.add_adapter(name, path)
            if self.model is None:
                self.model = PeftModel.from_pretrained(base, path, name).eval()
            else:
                self.model.load_adapter(path, name)
        prompts = (THINK_PROMPT, DIRECT_PROMPT, None)
        self.rows = [
            Request(p.image.convert("RGB"), p.problem, prompts[i % 3], adapter=NAMES[i % 3], max_new_tokens=LENGTH)
            for i, p in enumerate(problems(5, seed=5))
        ]
        self.expected = [self.generate(row) for row in self.rows]

    def inputs(self, row: Request) -> Any:
        processor = self.engine.tokenizer.processor
        messages = build_messages(row.question, row.system_prompt)
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
        return processor(text=[text], images=[row.image], return_tensors="pt")

    def generate(self, row: Request) -> list[int]:
        inputs = self.inputs(row)
        never = list(self.engine.tokenizer.vocabulary.suppressed)
        options = {"max_new_tokens": LENGTH, "do_sample": False, "suppress_tokens": never}
        made = self.model.generate(**inputs, **options, adapter_names=[row.adapter or "__base__"])
        return made[0, inputs.input_ids.shape[1] :].tolist()

    def check(self, number: int, found: Sequence[int]) -> None:
        """`found` begins as what transformers makes of the row, but for a tie."""
        expected = self.expected[number]
        differs = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), None)
        if differs is not None:
            row = self.rows[number]
            ids = expected[:differs]
            logits = teacher_forced(self.model, self.inputs(row), ids, adapter_names=[row.adapter or "__base__"])[-1]
            assert abs(logits[found[differs]] - logits[expected[differs]]) < TIE


def teacher_forced(model: Any, inputs: Any, ids: list[int], **options: Any) -> torch.Tensor:
    """Logits (1 + len(ids), V) of the tokens after the prompt, in one forward without a cache."""
    whole = torch.cat([inputs.input_ids, torch.tensor([ids], dtype=torch.long)], dim=1)
    kinds = torch.cat([inputs.mm_token_type_ids, torch.zeros(1, len(ids), dtype=torch.long)], dim=1)
    with torch.no_grad():
        logits = model(
            input_ids=whole,
            attention_mask=torch.ones_like(whole),
            mm_token_type_ids=kinds,
            pixel_values=inputs.pixel_values,
            image_grid_thw=inputs.image_grid_thw,
            **options,
        ).logits[0]
    return logits[inputs.input_ids.shape[1] - 1 :].float()


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Peer:
    return Peer(tmp_path_factory.mktemp("peer"))


VISIT = st.tuples(st.integers(0, 30), st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(1, 60))


@settings(max_examples=16, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(VISIT, min_size=1, max_size=5), st.booleans())
def test_rows_join_and_leave_at_any_step(peer: Peer, visits: list[tuple[int, list[int], int]], ahead: bool) -> None:
    """Each visit comes at a step with some rows, and goes after a number of steps if they have not ended by then."""
    peer.engine._scheduler.runs_ahead = ahead
    under_way: list[tuple[Generation, list[int], threading.Event, int]] = []
    step = 0
    while step <= 30 or not all(decode.is_over for decode, *_ in under_way):
        for begins, numbers, lasts in visits:
            if begins == step:
                stop = threading.Event()
                decode = peer.engine.stream([peer.rows[number] for number in numbers], stop)
                under_way.append((decode, numbers, stop, step + lasts))
        for decode, _, stop, until in under_way:
            if step == until:
                stop.set()
            decode.read()
        peer.engine.step()
        step += 1
    for decode, numbers, _, _ in under_way:
        decode.skip()
        for number, completion in zip(numbers, decode.completions, strict=True):
            peer.check(number, completion.token_ids)
            if not completion.stopped:
                assert len(completion.token_ids) == len(peer.expected[number])
    assert (
        not peer.engine._scheduler._running
        and not peer.engine._scheduler._groups
        and not peer.engine._scheduler._pending
    )
    peer.engine._scheduler.runs_ahead = False


def test_a_seed_gives_the_same_text_whoever_comes_and_goes(peer: Peer) -> None:
    hot = [replace(row, temperature=1.2, seed=50 + i) for i, row in enumerate(peer.rows)]
    alone = [peer.engine.generate([row])[0].token_ids for row in hot]
    decodes = []
    for row in hot:  # one more at every other step; the fifth waits for a slot
        decodes.append(peer.engine.stream([row]))
        peer.engine.step()
        peer.engine.step()
    assert [[c.token_ids for c in finish(decode)] for decode in decodes] == [[ids] for ids in alone]


def test_empty_slots_give_back_what_is_much(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    found = peer.engine.generate(peer.rows[:2])
    slots = peer.engine._scheduler._batch
    assert slots._cache.nbytes > 0, "little is kept"
    monkeypatch.setattr("inference.engine.batch.MAX_IDLE_BYTES", 1)
    again = peer.engine.generate(peer.rows[:2])
    assert slots._cache.nbytes == 0 and [c.token_ids for c in again] == [c.token_ids for c in found]


def finish(decode: Generation) -> list[Any]:
    for _ in decode:
        pass
    return decode.completions


def test_bf16_stays_near_transformers(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teacher-forced: both read the same tokens, and the logits of each are compared."""
    engine = Engine.load(STARTER, dtype=torch.bfloat16)
    model: Any = AutoModelForImageTextToText.from_pretrained(STARTER, dtype=torch.bfloat16)
    rows = [replace(peer.rows[i], adapter=None) for i in (0, 1)]
    taught = [list(range(first, first + 12)) for first in (60, 200)]  # any tokens will do that end nothing
    seen: list[torch.Tensor] = []

    def choose(self: Sampler, logits: torch.Tensor, step: int) -> torch.Tensor:
        seen.append(logits.float().clone())
        return torch.tensor([ids[len(seen) - 1] for ids in taught])

    monkeypatch.setattr(Sampler, "choose", choose)
    engine.generate([replace(row, max_new_tokens=12) for row in rows])
    assert len(seen) == 12
    for i, row in enumerate(rows):
        inputs = peer.inputs(row)
        inputs["pixel_values"] = inputs["pixel_values"].bfloat16()
        expected = teacher_forced(model, inputs, taught[i][:11])
        found = torch.stack([logits[i] for logits in seen])
        assert expected.std() > 1 and (found - expected).abs().max() < BF16


def test_tokens_are_drawn_as_the_model_says(peer: Peer) -> None:
    """The first token of 2,000 seeds against its distribution, by a chi-square that one run in 10,000 fails."""
    num, row = 2_000, replace(peer.rows[2], temperature=1.5, max_new_tokens=1)
    engine = Engine.load(STARTER, max_num_seqs=500)
    drawn = [c.token_ids[0] for c in engine.generate([replace(row, seed=seed) for seed in range(num)])]
    logits = teacher_forced(peer.model, peer.inputs(row), [], adapter_names=["__base__"])[0] / row.temperature
    logits[list(engine.tokenizer.vocabulary.suppressed)] = -torch.inf
    expected = logits.softmax(-1) * num
    likely = (expected >= 5).nonzero()[:, 0]
    counts = torch.bincount(torch.tensor(drawn), minlength=len(expected)).float()
    observed = torch.cat([counts[likely], (num - counts[likely].sum())[None]])
    wanted = torch.cat([expected[likely], (num - expected[likely].sum())[None]]).clamp(min=1e-3)
    statistic, freedom = ((observed - wanted) ** 2 / wanted).sum().item(), len(likely)
    assert freedom >= 3
    assert statistic < freedom + 3.72 * (2 * freedom) ** 0.5 + 9.2, "the tail of a chi-square (Laurent and Massart)"
