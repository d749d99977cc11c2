"""Prompts read in pieces: the same tokens as of one forward, beside streams that go on, short ones before long ones."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.common.errors import UserError
from inference.common.settings import STARTER
from inference.engine import prefill, scheduler
from inference.engine.batch import Batch
from inference.engine.engine import Engine, Request
from inference.engine.generation import Generation
from inference.engine.prefill import Prefill
from inference.engine.sequence import Sequence
from tests.support.plain_models import PLAIN, build_plain
from tests.support.samples import problems
from tests.support.tiny_models import TINY, build_tiny

LONG = " Count them one by one, and say which." * 20


@pytest.fixture(scope="module")
def small() -> Engine:
    made = Engine.load(STARTER, max_num_seqs=3)
    made.add_adapter("tuned", STARTER / "adapter")
    return made


@pytest.fixture(scope="module")
def rows() -> list[Request]:
    """The second and the third have long prompts."""
    made = [Request(p.image.convert("RGB"), p.problem, max_new_tokens=6, min_new_tokens=6) for p in problems(4, seed=9)]
    long = [replace(row, question=row.question + LONG) for row in made[1:3]]
    return [made[0], replace(long[0], adapter="tuned"), long[1], made[3]]


def endless(row: Request) -> Request:
    return replace(row, max_new_tokens=400, min_new_tokens=400)


def num_tokens(generation: Generation) -> int:
    return len(generation.token_ids()[0])


def steps_until(engine: Engine, generation: Generation, tokens: int) -> int:
    """Steps of the engine until a generation has so many tokens."""
    steps = 0
    while num_tokens(generation) < tokens:
        engine.step()
        steps += 1
    return steps


@pytest.mark.parametrize("family", TINY)
def test_pieces_give_what_a_whole_prompt_gives(family: str, tmp_path: Path) -> None:
    """For every family: pictures of several shapes cut anywhere, prompts of unlike length."""
    engine = Engine.load(build_tiny(family, tmp_path / "base"))
    sizes = [(140, 140), (260, 90), (64, 200)]
    asked = [Request(p.image.convert("RGB").resize(s), p.problem) for p, s in zip(problems(3, seed=5), sizes)]
    images = engine.encode([row.image for row in asked])
    prompts = [tuple(engine.tokenizer.prompt_ids(row, image.placeholders)) for row, image in zip(asked, images)]

    def sequences() -> list[Sequence]:
        return [Sequence(i, asked[i], prompts[i], 0, images[i]) for i in (0, 1, 2, 0)]

    with torch.inference_mode():
        whole = Prefill(*parts(engine), sequences())
        assert whole.read()
        for size in (3, 3 * 7, 3 * 50):
            pieces = Prefill(*parts(engine), sequences())
            num_pieces = 1
            while not pieces.read(size):
                num_pieces += 1
            expected, found = whole.result(), pieces.result()
            assert num_pieces == -(-expected.length // (size // 3)) > 1
            torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
            assert torch.equal(found.positions, expected.positions) and torch.equal(found.sources, expected.sources)
            for ours, theirs in zip(found.states, expected.states):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", TINY)
def test_log_probabilities_of_a_prefix_are_those_of_its_tokens(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the logits of one prompt after the other tell that begins a token later; also in small pieces."""
    engine = Engine.load(build_tiny(family, tmp_path / "base"))
    texts = ["<think>3 + 4 = 7.</think>", "It is red.", "", "<answer>"]
    pictures = [p.image.convert("RGB") for p in problems(4, seed=5)]
    asked = [Request(image, "How many?", prefix=t, prefix_logprobs=True) for image, t in zip(pictures, texts)]
    asked[3] = replace(asked[3], prefix_logprobs=False)
    images = engine.encode([row.image for row in asked])

    def sequence(index: int, cut: int | None = None) -> Sequence:
        row, ids = asked[index], engine.tokenizer.prompt_ids(asked[index], images[index].placeholders)
        return Sequence(index, row, tuple(ids[:cut]), len(engine.tokenizer.prefix_ids(row)), images[index])

    def expected(index: int) -> list[float]:
        ids, found = engine.tokenizer.prefix_ids(asked[index]), []
        for left in range(len(ids), 0, -1):
            plain = replace(asked[index], prefix="", prefix_logprobs=False)
            one = Prefill(*parts(engine), [replace(sequence(index, -left), request=plain)])
            one.read()
            found.append(float(one.result().logits[0].log_softmax(-1)[ids[-left]]))
        return found

    with torch.inference_mode():
        for most in (2**26, 3_000):
            monkeypatch.setattr(prefill, "MAX_LOGITS", most)
            for size in (None, 40):
                read = Prefill(*parts(engine), [sequence(i) for i in range(4)])
                while not read.read(size):
                    pass
                read.result()
                for index in range(3):
                    assert read.sequences[index].prefix_logprobs == pytest.approx(expected(index), abs=1e-3)
                assert read.sequences[3].prefix_logprobs == ()


def test_what_is_likely_has_a_high_log_probability(small: Engine, rows: list[Request], tmp_path: Path) -> None:
    """A greedy completion asked for again as a prefix; the pieces of its tokens are its text."""
    text = small.generate([replace(rows[0], max_new_tokens=60, min_new_tokens=0, adapter="tuned")])[0].text
    wrong = text.replace("<answer>", "<answer>1")
    asked = replace(rows[0], prefix_logprobs=True, adapter="tuned", max_new_tokens=1, min_new_tokens=0)
    pair = [replace(asked, prefix=one) for one in (text, wrong)]
    right, other = (completion.prefix_logprobs for completion in small.generate(pair))
    pieces = small.tokenizer.prefix_pieces(text)
    assert "".join(pieces) == text and len(pieces) == len(right)
    assert min(right) > -2 and sum(other) < sum(right) - 2
    with pytest.raises(UserError, match="gives no log-probabilities"):
        Engine.load(build_plain(list(PLAIN)[0], tmp_path / "plain")).generate([replace(asked, adapter=None)])


def parts(engine: Engine) -> Any:
    batch = engine._batch
    assert isinstance(batch, Batch)
    return batch._model, batch._family, batch._router, batch._vocabulary


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_prompt_read_in_pieces_gives_the_same_tokens(
    small: Engine, rows: list[Request], temperature: float, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a stream that gets a token in every step meanwhile."""
    monkeypatch.setattr(scheduler, "PIECE_TOKENS", 40)
    monkeypatch.setattr(small._scheduler, "runs_ahead", ahead)
    asked = [replace(row, temperature=temperature, seed=3) for row in rows[1:3]]
    alone = [small.generate([row])[0].token_ids for row in asked]
    stop = threading.Event()
    stream = small.stream([endless(rows[0])], stop)
    steps_until(small, stream, 2)
    generations = [small.stream([row]) for row in asked]
    waited = 0
    while not all(generation.has_ended() for generation in generations):
        before = num_tokens(stream)
        small.step()
        assert num_tokens(stream) == before + 1, "the stream goes on"
        waited += not num_tokens(generations[1])
    assert waited > 10, "both prompts were read in pieces"
    assert [tuple(generation.token_ids()[0]) for generation in generations] == alone
    stop.set()
    small.step()


def test_between_two_steps_no_more_is_read_than_a_piece(
    small: Engine, rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "PIECE_TOKENS", 200)
    read, sizes = Prefill.read, list[int]()

    def noted(self: Prefill, max_tokens: int | None = None) -> bool:
        before = self._num_read
        done = read(self, max_tokens)
        sizes.append((self._num_read - before) * len(self._ids))
        return done

    monkeypatch.setattr(Prefill, "read", noted)
    stop = threading.Event()
    stream = small.stream([endless(rows[0])], stop)
    small.step()
    assert len(sizes) == 1
    others = [small.stream([row]) for row in (rows[3], rows[1], rows[2])]
    while not all(generation.has_ended() for generation in others):
        before = len(sizes)
        small.step()
        assert len(sizes) - before <= 1 and max(sizes[1:], default=0) <= 200
    assert len(sizes) > 4
    stop.set()
    small.step()
    del stream
    group = small.stream([*rows[:3]])  # asked for together, nobody else waits: one forward
    sizes.clear()
    small.step()
    assert len(sizes) == 1 and sizes[0] > 600 and [len(ids) for ids in group.token_ids()] == [1, 1, 1]
    del group


def test_a_short_prompt_does_not_wait_for_a_long_one(
    small: Engine, rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has every second turn; and the long one has the others, however many short ones come."""
    monkeypatch.setattr(scheduler, "PIECE_TOKENS", 200)
    monkeypatch.setattr(scheduler, "UNPAID_SECONDS", 1e9)
    length = len(small.tokenizer.prompt_ids(rows[1], small.encode([rows[1].image])[0].placeholders))
    num_pieces = -(-length // 200)
    assert num_pieces >= 3
    stop = threading.Event()
    stream = small.stream([endless(rows[0])], stop)
    small.step()
    long = small.stream([rows[1]])
    small.step()
    steps, comers = 1, 0
    while not num_tokens(long):
        short = small.stream([replace(rows[3], max_new_tokens=1, min_new_tokens=1)])
        comers += 1
        steps += steps_until(small, short, 1)
    assert comers >= num_pieces - 1 and steps <= 2 * num_pieces
    stop.set()
    small.step()
    del stream


def test_a_prompt_that_is_stopped_or_breaks_amid_its_pieces_leaves_no_trace(
    small: Engine, rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "PIECE_TOKENS", 100)
    alone = small.generate([rows[2]])[0].token_ids
    stop, leave = threading.Event(), threading.Event()
    stream = small.stream([endless(rows[0])], stop)
    small.step()
    left = small.stream([rows[1]], leave)
    small.step()
    assert small.num_free_seqs == 1 and not num_tokens(left)
    leave.set()
    small.step()
    assert small.num_free_seqs == 2 and left.has_ended() and left.completions[0].num_tokens == 0
    broken = small.stream([rows[1]])
    small.step()
    with monkeypatch.context() as patch:
        patch.setattr(Prefill, "read", lambda self, max_tokens: 1 / 0)
        while broken.group.error is None:
            small.step()
    with pytest.raises(ZeroDivisionError):
        next(broken)
    before = num_tokens(stream)
    last = small.stream([rows[2]])
    steps_until(small, last, 6)
    assert tuple(last.token_ids()[0]) == alone and num_tokens(stream) > before
    stop.set()
    small.step()
    assert small.num_free_seqs == 3


def test_steps_get_as_much_time_as_reading(small: Engine, rows: list[Request], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading that takes for ever is done at every sixteenth step, once it is ahead by more than it may be."""
    monkeypatch.setattr(scheduler, "PIECE_TOKENS", 100)
    monkeypatch.setattr(scheduler, "UNPAID_SECONDS", -1.0)  # always ahead
    stop = threading.Event()
    stream = small.stream([endless(rows[0])], stop)
    small.step()
    long = small.stream([rows[1]])
    length = len(long.group.sequences[0].prompt_ids)
    assert steps_until(small, long, 1) == scheduler.MAX_STEPS_BETWEEN * -(-length // 100)
    stop.set()
    small.step()
    del stream


def test_the_lower_priority_is_read_first(small: Engine, rows: list[Request]) -> None:
    stop = threading.Event()
    busy = small.stream([endless(row) for row in rows[:3]], stop)
    small.step()
    generations = [small.stream([rows[3]], priority=priority) for priority in (2.0, 1.0, 1.0, 0.5)]
    waiting = [sequence.priority for sequence in small._scheduler._waiting]
    assert waiting == [0.5, 1.0, 1.0, 2.0]
    found = [s for s in small._scheduler._waiting if s.priority == 1.0]
    assert found == [generation.group.sequences[0] for generation in generations[1:3]], "first come among equals"
    stop.set()
    while not all(generation.has_ended() for generation in generations):
        small.step()
    del busy


@pytest.mark.parametrize("family", list(PLAIN)[:1])
def test_a_family_that_is_not_known_reads_whole_prompts_one_by_one(
    family: str, tmp_path: Path, rows: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.load(build_plain(family, tmp_path / family))
    asked = [replace(row, adapter=None, temperature=1.0, seed=7) for row in (rows[0], rows[3], rows[3], rows[0])]
    alone = [engine.generate([row])[0].token_ids for row in asked]
    monkeypatch.setattr(scheduler, "PIECE_TOKENS", 1)
    stop = threading.Event()
    stream = engine.stream([endless(rows[0])], stop)
    engine.step()
    group = engine.stream(asked)
    while not group.has_ended():
        before = num_tokens(stream)
        engine.step()
        assert num_tokens(stream) == before + 1
    assert [tuple(ids) for ids in group.token_ids()] == alone
    stop.set()
    engine.step()
