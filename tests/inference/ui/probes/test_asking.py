"""The probes of an answer, on the running app with the starter's own adapter."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from PIL import Image, ImageChops

from inference.common.errors import Busy, UserError
from inference.common.settings import STARTER
from inference.engine.engine import Engine
from inference.server.service import Question
from inference.server.submission import Submission
from inference.server.visitors import Visitor
from inference.ui.probes import asking as probes
from inference.ui.probes.asking import PARTS, VOTES, Answered, hidden_parts, probe_look, probe_thought, probe_votes
from tests.support.serving import Server, serve
from training.starter.problems import Problem, make_problem
from training.starter.templates import TEMPLATES

T = TypeVar("T")
VISITOR = Visitor()


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("probes")
    with serve(engine, folder / "home", STARTER / "adapter") as running:
        yield running


def a_problem(words: str, seed: int = 3) -> Problem:
    template = next(one for one in TEMPLATES if one.kind == words)
    return make_problem(random.Random(seed), "test", template)


@pytest.fixture(scope="module")
def asked(server: Server) -> tuple[Question, Answered]:
    problem = a_problem("digits")
    question = server.service.read_question(problem.image.convert("RGB"), problem.problem)
    completion = server.engine.generate([question.request(question.adapter)])[0]
    return question, probes.parts_of(completion)


def result(steps: Generator[tuple[int, int], None, T]) -> tuple[T, list[tuple[int, int]]]:
    """What the steps return, and what they yielded."""
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return stop.value, seen


def watch(submission: Submission) -> None: ...


def test_a_changed_thought_is_followed(server: Server, asked: tuple[Question, Answered]) -> None:
    question, answered = asked
    found, seen = result(probe_thought(server.service, question, answered, VISITOR, watch))
    by_name = {one.name: one for one in found}
    assert list(by_name) == ["half", "none", "other", "number"]
    assert answered.thought.startswith(by_name["half"].thought) and by_name["none"].thought == ""
    assert by_name["number"].note and not by_name["number"].is_same, "the starter reads its answer from its thought"
    assert by_name["other"].thought not in ("", answered.thought)
    assert all(done < total == 5 for done, total in seen)


def test_a_sentence_depends_on_the_part_that_it_reads(server: Server, asked: tuple[Question, Answered]) -> None:
    """A sentence about a digit needs the part with the digit, arithmetic none; the answer comes from the thought."""
    question, answered = asked
    found, _ = result(probe_look(server.service, question, answered, VISITOR, watch))
    assert "".join(one.text for one in found.thought).replace(" ", "") == answered.thought.replace(" ", "")
    assert found.answer.text == answered.answer and max(found.answer.drops) < 1
    reading = [one for one in found.thought if one.text.startswith("Digit")]
    assert len(reading) >= 2 and all(max(one.drops) > 1 and one.blank > 1 for one in reading)
    parts = [one.drops.index(max(one.drops)) for one in reading]
    assert len(set(parts)) == len(parts), "each digit stands elsewhere"
    ink = ImageChops.invert(question.image.convert("L"))
    for part in parts:
        row, column = divmod(part, PARTS)
        w, h = (side / PARTS for side in ink.size)
        assert (
            ink.crop((int(column * w), int(row * h), int((column + 1) * w), int((row + 1) * h))).getextrema()[1] > 100
        )
    calculating = [one for one in found.thought if "=" in one.text]
    assert calculating and all(max(map(abs, one.drops)) < 1 for one in calculating)


def test_votes_are_counted_by_meaning_and_sampled_anew(server: Server, asked: tuple[Question, Answered]) -> None:
    question, answered = asked
    found, _ = result(probe_votes(server.service, question, answered, VISITOR, watch))
    assert sum(votes for _, votes in found.counts) == VOTES and found.counts[0][0] == answered.answer
    is_same = probes.sameness(server.service, question)
    assert is_same("7", "7.0") and is_same("1/2", "0.5") and not is_same("7", "8") and not is_same("", "7")
    with server.steered(prefix="<answer>"):
        scattered, _ = result(probe_votes(server.service, question, answered, VISITOR, watch))
    assert [votes for _, votes in scattered.counts] == sorted((v for _, v in scattered.counts), reverse=True)


def test_without_a_thought_there_is_none_to_change(server: Server, asked: tuple[Question, Answered]) -> None:
    with pytest.raises(UserError, match="no thought"):
        next(probe_thought(server.service, asked[0], Answered("7", "", "7"), VISITOR, watch))


def test_a_thought_without_a_number_has_three_probes(server: Server, asked: tuple[Question, Answered]) -> None:
    answered = Answered("<think>It is red.</think> <answer>red</answer>", "It is red.", "red")
    found, _ = result(probe_thought(server.service, asked[0], answered, VISITOR, watch))
    assert [one.name for one in found] == ["half", "none", "other"]


def test_an_answer_that_did_not_think_gives_no_thought(server: Server, asked: tuple[Question, Answered]) -> None:
    with server.steered(prefix="<think></think>\n<answer>8</answer>"):
        found, _ = result(probe_thought(server.service, *asked, VISITOR, watch))
    assert [one.name for one in found] == ["half", "none", "number"], "an empty one is asked once"


def test_chance_changes_no_answer(
    server: Server, asked: tuple[Question, Answered], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's temperature is that of the answer before; only the votes are sampled."""
    question, answered = replace(asked[0], temperature=1.0), asked[1]
    requests: list[Any] = []
    submit = server.service.queue.submit
    monkeypatch.setattr(
        server.service.queue, "submit", lambda these, *rest: (requests.extend(these), submit(these, *rest))[1]
    )
    for probe, temperature in ((probe_thought, 0.0), (probe_look, 0.0), (probe_votes, probes.VOTES_TEMPERATURE)):
        requests.clear()
        result(probe(server.service, question, answered, VISITOR, watch))
        assert {one.temperature for one in requests} == {temperature}


def test_what_the_length_limit_cuts_off_is_no_answer(server: Server, asked: tuple[Question, Answered]) -> None:
    """An answer that Continue has brought further than the page's limit is probed with room for it, and a bit more."""
    question, answered = replace(asked[0], max_new_tokens=4), asked[1]
    votes, _ = result(probe_votes(server.service, question, answered, VISITOR, watch))
    assert votes.num_cut == 0 and votes.counts[0][0] == answered.answer
    found, _ = result(probe_thought(server.service, question, answered, VISITOR, watch))
    assert not any("cut off" in one.void for one in found)
    with server.steered(is_endless=True):
        votes, _ = result(probe_votes(server.service, question, answered, VISITOR, watch))
        look, _ = result(probe_look(server.service, question, answered, VISITOR, watch))
    assert (votes.counts, votes.num_cut) == ((("", VOTES),), VOTES)
    assert (look.blank, look.swapped, look.is_cut) == ("", "", (True, True))


def test_a_probe_waits_and_counts_like_questions(
    server: Server, asked: tuple[Question, Answered], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each submission has at most eight requests and takes a place; one that is left is stopped."""
    question, answered = asked
    sizes: list[int] = []
    submit = server.service.queue.submit

    def counted(requests: Any, *args: Any) -> Submission:
        sizes.append(len(requests))
        return submit(requests, *args)

    monkeypatch.setattr(server.service.queue, "submit", counted)
    held: list[Submission] = []
    result(probe_look(server.service, question, answered, VISITOR, held.append))
    assert sizes == [8, 8, probes.LOOK_REQUESTS - 16] and max(sizes) <= probes.MAX_REQUESTS
    with server.steered(is_endless=True):
        steps = probe_votes(server.service, question, answered, VISITOR, held.append)
        next(steps)
        steps.close()
    assert held[-1].wait(60), "it is stopped"
    others = Visitor("another visitor")
    with server.steered(is_endless=True), pytest.raises(Busy, match="not answered yet"):
        many = [probe_votes(server.service, question, answered, others, held.append) for _ in range(9)]
        for one in many:
            next(one)
    for one in many:
        one.close()


def test_a_page_that_is_closed_between_two_groups_asks_for_nothing_more(
    server: Server, asked: tuple[Question, Answered], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, held = server.service.queue, list[Submission]()
    submit = queue.submit

    def closed_after_the_first(*args: Any) -> Submission:
        if held:
            queue.disconnect("page")  # no group is under way just now
        return submit(*args)

    monkeypatch.setattr(queue, "submit", closed_after_the_first)
    with pytest.raises(UserError, match="stopped"):
        result(probe_look(server.service, *asked, Visitor("someone", "page"), held.append))
    assert len(held) == 2 and all(one.num_tokens == 0 for one in held[1].progress())
    assert not queue.is_answering and not queue.num_waiting


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (140, 140), (801, 37)])
def test_every_pixel_is_hidden_once(size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 90).convert("RGB")
    image.putpixel((0, 0), (255, 0, 0))
    hidden = hidden_parts(image)
    assert len(hidden) == PARTS**2
    boxes = [box for one in hidden if (box := ImageChops.difference(image, one).getbbox())]
    assert sum((box[2] - box[0]) * (box[3] - box[1]) for box in boxes) <= size[0] * size[1]
    assert (boxes or size == (1, 1)) and all(one.size == size for one in hidden)
