"""What the steps changed in a completion: asked of the shipped checkpoints, told in words, refused in words."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inference.common.files import append_line
from inference.common.settings import load_settings
from inference.engine.engine import Engine
from inference.server.queue import RequestQueue
from tests.support.samples import problems
from training.admin.access import Access
from training.config.run_config import load_config
from training.learn.record import shipped_checkpoints
from training.ui.answers.taught import Taught, TaughtTokens, default_pair, taught_html
from training.ui.sections.rollout_cards import rollouts_html
from training.ui.training_app import TrainingApp

EVIL = "<script>x</script>"
PROBLEM = problems(1, seed=5)[0]
STEPS = 5, 40, 200


class World:
    """A run with kept checkpoints and one recorded problem at step 40, and the page's own engine."""

    def __init__(self, home: Path, engine: Engine) -> None:
        self.settings = load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home)}, has_gpu=False)
        side = TrainingApp(self.settings, Access(home))
        self.queue = RequestQueue(lambda: engine)
        self.queue.wait_loaded()
        self.context = side.context(lambda: None, self.queue)
        self.record = side.store.submit(load_config("starter", {"max_steps": 200}), "me")
        self.folder = self.record.folder
        shipped = shipped_checkpoints()
        for step in STEPS:
            shutil.copytree(shipped[step], self.folder / "checkpoints" / f"checkpoint-{step}")
        self.taught = TaughtTokens(self.context)

    def write(self, text: str, **values: Any) -> None:
        (self.folder / "images").mkdir(exist_ok=True)
        PROBLEM.image.save(self.folder / "images" / "p.jpg", quality=85)
        one = {"text": text, "num_tokens": 5, "truncated": False, "advantage": 1.0, "rewards": {}}
        group = {"step": 40, "prompt": PROBLEM.problem, "image": "p.jpg", "completions": [one, one | {"text": EVIL}]}
        append_line(self.folder / "rollouts.jsonl", group | values)

    def at(self, answer: int = 1, step: int = 40, number: int = 1) -> str:
        return f"#/train/watch/{self.record.id}/{step}/{number}/{answer}"

    def open(self, address: str, *pair: str) -> str:
        found = self.taught.found(self.taught.open(address, *pair))
        assert found[0] == address
        return found[1]


@pytest.fixture
def world(home: Path, engine: Engine) -> Iterator[World]:
    yield World(home, engine)


GOOD = f"<think>I look.</think><answer>{PROBLEM.answer}</answer>"


def test_tokens_are_told_between_the_checkpoints_around_the_step(world: World) -> None:
    world.write(GOOD)
    begun = time.monotonic()
    html = world.open(world.at())
    assert time.monotonic() - begun < 3
    assert '<option value="5" selected>' in html and '<option value="40" selected>' in html
    assert html.count("<option") == 8 and "From step 5 to step 40 this answer became likelier" in html
    assert html.count("data-words=") == html.count('<th scope="row">') > 5
    assert "The text gives" in html and "recorded ones: JPEGs" in html
    other = world.open(world.at(), "0", "200")
    assert "From the base to step 200" in other and other != html
    assert "From step 5 to step 40" in world.open(world.at(), "7", "EVIL"), "steps that are not kept are not asked"
    assert "stayed as likely: <b>0 nats</b>" in world.open(world.at(), "200", "200"), (
        "nothing changes between one and itself"
    )


def test_the_text_of_a_model_stays_text_and_stands_under_its_answer(world: World) -> None:
    world.write(GOOD)
    key = world.taught.open(world.at(2))
    groups = world.context.rollouts(world.record, 40)[1]
    html = rollouts_html(groups, address=f"#/train/watch/{world.record.id}/40", taught=world.taught.found(key))
    assert html.count('class="lt-taught"') == 1 and html.count('data-tokens="#') == 1 and "<script" not in html
    assert world.taught.found("") == world.taught.found("#/train/watch/other/1/1/1  ") == ("", "")


def test_what_cannot_be_asked_is_told_in_words(world: World) -> None:
    assert "no longer on record" in world.open(world.at())
    world.write(GOOD)
    for address in (world.at(9), world.at(number=3), world.at(step=41)):
        assert "no longer on record" in world.open(address)
    assert "did not name an answer" in world.open("#/train/watch/../40/1/1")
    world.write("", step=41)
    assert "has 0 characters" in world.open(world.at(step=41))
    world.write(GOOD, step=42, image="gone.jpg")
    assert "no longer in the run" in world.open(world.at(step=42))
    (world.folder / "images" / "q.jpg").write_bytes(b"no picture")
    world.write(GOOD, step=43, image="q.jpg")
    assert "not a picture" in world.open(world.at(step=43))
    world.write("word " * 7_000, step=44)
    assert 'role="alert"' in world.open(world.at(step=44)), "longer than the base's positions"
    world.queue.rest("A run needs the GPU.")
    assert "A run needs the GPU." in world.open(world.at())
    world.queue.wake()
    world.context.queue = None
    assert "not loaded yet" in world.open(world.at())
    shutil.rmtree(world.folder / "checkpoints")
    assert "has kept no checkpoint" in world.open(world.at())


def test_only_the_base_that_answers_is_asked(world: World) -> None:
    world.write(GOOD)
    world.context.settings = world.settings.model_copy(update={"base": "Qwen/Qwen2.5-VL-3B-Instruct"})
    assert "The run trained starter, and Qwen2.5-VL-3B-Instruct answers here" in world.open(world.at())


def test_a_picture_that_the_page_reads_smaller_is_told(world: World) -> None:
    world.write(GOOD)
    Image.new("RGB", (400, 300), "white").save(world.folder / "images" / "p.jpg")
    limits = world.settings.limits.model_copy(update={"max_model_pixels": 40_000})
    world.context.settings = world.settings.model_copy(update={"limits": limits})
    assert "reads a picture of 400 × 300 pixels at" in world.open(world.at())


@given(st.lists(st.tuples(st.text(max_size=6), st.floats(-50, 0), st.floats(-50, 0)), max_size=6))
def test_any_tokens_are_shown_and_escaped(tokens: list[tuple[str, float, float]]) -> None:
    tokens.append((EVIL, -1.0, -0.5))
    pieces, before, after = zip(*tokens)
    html = taught_html(Taught(pieces, before, after), (0, 5))
    assert "<script" not in html and html.count("data-words=") == len(tokens)
    shares = [float(part.split('"')[0]) for part in html.split('style="--a:')[1:]]
    assert all(0 <= share <= 1 for share in shares)


def test_the_pair_lies_around_the_update_that_learnt_from_the_answer() -> None:
    cases = {1: (0, 5), 5: (0, 5), 6: (5, 10), 10: (5, 10), 11: (0, 10)}
    assert {step: default_pair([0, 5, 10], step) for step in cases} == cases
    assert default_pair([0, 5], 0) == (0, 5)
