"""Pretraining rows: the processor's own pixels, the loss on completions alone, the modes of answering, the drills."""

import itertools
import random
import re

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from inference.common.settings import STARTER
from inference.prompt.format import THINK_PROMPT, is_well_formed, parse_completion
from training.grading.grader import grade_answer, last_answer
from training.starter.pretraining_data import (
    LABELS,
    MODE_SHARES,
    MODES,
    WAY_SHARES,
    Batches,
    Pool,
    caption,
    completion,
    drill,
    patches,
)
from training.starter.problems import iterate_problems
from training.starter.templates import KINDS, WAYS


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Pool:
    return Pool.load_or_draw(tmp_path_factory.mktemp("pool"), 24, seed=5)


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(STARTER)


def test_pixels_are_those_of_the_processor(pool: Pool, processor) -> None:
    stream = iterate_problems("train", 500_000)
    images = [next(stream).image for _ in range(4)]
    expected = processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
    assert torch.allclose(patches(pool.pixels[:4]), expected, atol=1e-5)


def test_a_kept_pool_is_read_again(pool: Pool, tmp_path) -> None:
    one = Pool.load_or_draw(tmp_path, 6, seed=9)
    two = Pool.load_or_draw(tmp_path, 6, seed=9)
    assert np.array_equal(one.pixels, two.pixels) and one.texts == two.texts


@pytest.mark.parametrize(("mode", "way"), itertools.product(MODES, WAYS))
def test_every_mode_states_the_answer(mode: str, way: str) -> None:
    stream = iterate_problems("train", 11)
    for _ in range(60):
        problem = next(stream)
        text = completion(problem.thoughts | {"answer": problem.answer}, mode, way)
        assert is_well_formed(text) == (mode == "tags")
        assert grade_answer(problem.answer, last_answer(text)).correct, text
    assert parse_completion(completion({"careful": "r", "answer": "4"}, "direct")).thinking == ""


def test_labels_stand_on_the_completion_alone(pool: Pool, processor) -> None:
    batches = Batches(pool, processor)
    batch = batches.collate(
        [(0, "How many?", "7"), (1, "How many red circles are there?", "<think>2</think>")], THINK_PROMPT
    )
    ids, labels = batch["input_ids"], batch["labels"]
    trained_on = [processor.tokenizer.decode(row[label != -100]) for row, label in zip(ids, labels)]
    assert trained_on == ["7<|im_end|>", "<think>2</think><|im_end|>"]
    assert (labels[labels != -100] == ids[labels != -100]).all()


def test_mixed_rows_follow_the_shares(pool: Pool, processor) -> None:
    batches, tagged, total = Batches(pool, processor), 0, 0
    opening = processor.tokenizer.convert_tokens_to_ids("<think>")
    for _ in range(40):
        for part in batches.mixed(32, 16):
            first = (part["labels"] != -100).int().argmax(1)
            starts = part["labels"][torch.arange(len(first)), first]
            tagged, total = tagged + int((starts == opening).sum()), total + len(starts)
    assert 0.2 < tagged / total < 0.6
    for by_kind in (MODE_SHARES, WAY_SHARES):
        assert all(abs(sum(shares) - 1) < 1e-9 for shares in by_kind.values()) and set(by_kind) == set(KINDS)


def test_a_model_that_is_made_to_think_picks_among_ways_by_their_first_token(processor) -> None:
    first = {way: processor.tokenizer(f"<think>{words}").input_ids[1] for way, words in WAYS.items()}
    assert len(set(first.values())) == 3


def test_every_mark_has_a_label_and_every_picture_a_caption() -> None:
    stream = iterate_problems("train", 12)
    for _ in range(80):
        problem = next(stream)
        assert problem.marks and {mark.label for mark in problem.marks} <= set(LABELS)
        assert caption(problem)


def test_drills_are_right() -> None:
    rng, chosen = random.Random(3), 0
    for _ in range(500):
        question, completion = drill(rng)
        assert is_well_formed(completion)
        parsed = parse_completion(completion)
        options = dict(re.findall(r"^([A-D])\. (.+)$", question, re.MULTILINE))
        answer = options[parsed.answer] if options else parsed.answer
        chosen += bool(options)
        assert len(set(options.values())) == len(options)
        if term := re.search(r"What is (.+)\?", question):
            left, sign, right = term[1].split(" ")
            value = {"+": int(left) + int(right), "-": int(left) - int(right), "×": int(left) * int(right)}
            assert grade_answer(str(value.get(sign, int(left) / int(right) if sign == "/" else None)), answer).correct
        else:
            assert f"Which choice is {answer}?" in question
    assert 150 < chosen < 450
