"""The page's pure parts: the words of a view, the line before the engine."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, cast

import pytest
from PIL import Image

from inference.common.errors import UserError
from inference.common.settings import DEFAULT_LIMITS
from inference.engine.engine import Engine
from inference.model.request import Request
from inference.server.queue import RequestQueue
from inference.ui.differences import describe
from inference.ui.stream import failed, watch
from inference.ui.view import State, View, figures, notes_html, status_html, thought_title
from tests.support.serving import WAIT_SECONDS, SteeredEngine
from training.grading.grader import grade_lenient

IMAGE = Image.new("RGB", (112, 112), "white")
THOUGHT = "<think>3 + 4 = 7.</think> <answer>7</answer>"


def test_figures_have_units() -> None:
    assert figures(163, 3.13) == "3.1 s · 163 tokens · 52 tokens/s"
    assert figures(1, 0.25) == "0.25 s · 1 token · 4 tokens/s"


def test_a_view_tells_its_state() -> None:
    done = View(State.DONE, THOUGHT, num_tokens=10, seconds=2, thought_tokens=8, thought_seconds=1.6)
    assert thought_title(replace(done, state=State.THINKING)) == "Thinking…"
    assert thought_title(done) == "Thought for 1.6 s · 8 tokens · 5 tokens/s"
    assert "2.0 s · 10 tokens · 5 tokens/s" in status_html(done)
    assert "2 questions ahead" in status_html(View(State.WAITING, ahead=2))
    assert "still loading" in status_html(View(State.WAITING, is_loading=True))
    assert "Continue" in notes_html(replace(done, state=State.CUT_OFF))
    assert "You stopped" in notes_html(replace(done, state=State.STOPPED))
    assert "matches" in notes_html(replace(done, verdict=grade_lenient("7", THOUGHT)))
    wrong = notes_html(replace(done, verdict=grade_lenient("<answer><b></answer>", THOUGHT)))
    assert "&lt;b&gt;" in wrong and "<b>" not in wrong
    for state in State:
        assert f'data-state="{state.value.replace(" ", "-")}"' in status_html(View(state))


def test_a_failure_keeps_what_was_there_and_shows_only_user_errors() -> None:
    assert failed(UserError("Too long.")).message == "Too long."
    broken = failed(RuntimeError("secret"), View(State.CUT_OFF, "text so far"))
    assert "secret" not in broken.message and broken.text == "text so far" and broken.state == State.FAILED


RIGHT, WRONG = grade_lenient("7", "7"), grade_lenient("8", "7")
DIRECT, TUNED = View(State.DONE, "7", num_tokens=2), View(State.DONE, THOUGHT, num_tokens=12, thought_tokens=9)


@pytest.mark.parametrize(
    ("base", "tuned", "words"),
    [
        (DIRECT, TUNED, ["base answered at once; the fine-tuned model reasoned", "Both answer 7", "Only the"]),
        (TUNED, TUNED, ["about the same length", "Both kept the format"]),
        (TUNED, replace(TUNED, thought_tokens=90), ["the fine-tuned model longer: 90 tokens to 9"]),
        (DIRECT, replace(TUNED, state=State.CUT_OFF), ["The fine-tuned model did not come to its end"]),
        (replace(DIRECT, verdict=WRONG), replace(TUNED, verdict=RIGHT), ["Only the fine-tuned model is right"]),
        (replace(DIRECT, verdict=WRONG), replace(TUNED, verdict=WRONG), ["Neither is right"]),
    ],
)
def test_differences(base: View, tuned: View, words: list[str]) -> None:
    for word in words:
        assert word in describe(base, tuned)


def rows(length: int = 8, **options: Any) -> list[Request]:
    return [Request(IMAGE, "How many circles?", max_new_tokens=length, min_new_tokens=length, **options)]


def test_the_line_serves_in_order_and_gives_places(engine: Engine) -> None:
    line = RequestQueue(lambda: cast(Engine, SteeredEngine(engine, max_num_seqs=1)))
    line.wait_loaded()
    jobs = [line.submit(rows(200)) for _ in range(3)]
    assert [job.ahead for job in jobs][1:] == [1, 2] or jobs[0].wait(0)
    jobs[1].stop()
    assert jobs[1].wait(WAIT_SECONDS) and jobs[1].progress()[0].num_tokens == 0
    assert jobs[2].wait(WAIT_SECONDS) and jobs[0].wait(0)
    assert jobs[2].progress()[0].num_tokens == 200


def test_nobody_waits_for_the_end_of_another(engine: Engine) -> None:
    line = RequestQueue(lambda: engine)
    alone = engine.generate(rows(12))[0].token_ids
    long = line.submit(rows(1000))
    while not long.progress()[0].num_tokens:
        assert not long.wait(0.005)
    others = [line.submit(rows(12)) for _ in range(5)]
    for job in others:
        assert job.wait(WAIT_SECONDS) and job.ahead == 0
        completion = job.progress()[0].completion
        assert completion is not None and completion.token_ids == alone
    assert not long.wait(0) and line.is_answering and line.num_waiting == 0
    long.stop()
    assert long.wait(WAIT_SECONDS)


def test_a_pair_takes_two_slots_and_nobody_passes_it(engine: Engine) -> None:
    line = RequestQueue(lambda: cast(Engine, SteeredEngine(engine, max_num_seqs=2)))
    line.wait_loaded()
    long = line.submit(rows(1000))
    while not long.progress()[0].num_tokens:
        assert not long.wait(0.005)
    pair, single = line.submit(rows(4) * 2), line.submit(rows(4))
    assert not pair.wait(0.1) and [job.ahead for job in (long, pair, single)] == [0, 1, 2]
    long.stop()
    assert pair.wait(WAIT_SECONDS) and single.wait(WAIT_SECONDS)
    assert [progress.num_tokens for progress in pair.progress()] == [4, 4]


def test_stop_ends_a_decode_and_the_line_goes_on(engine: Engine) -> None:
    line = RequestQueue(lambda: engine)
    job = line.submit(rows(1000))
    while not job.progress()[0].num_tokens:
        assert not job.wait(0.005)
    job.stop()
    assert job.wait(WAIT_SECONDS)
    completion = job.progress()[0].completion
    assert completion is not None and completion.stopped and completion.num_tokens < 1000
    assert line.submit(rows(2)).wait(WAIT_SECONDS)


def test_a_full_line_refuses(engine: Engine) -> None:
    ready = threading.Event()
    line = RequestQueue(lambda: (ready.wait(), engine)[1], DEFAULT_LIMITS.model_copy(update={"max_waiting": 2}))
    jobs = [line.submit(rows()) for _ in range(3)]
    assert jobs[0].is_loading
    with pytest.raises(UserError, match="2 questions are waiting"):
        line.submit(rows())
    ready.set()
    assert jobs[2].wait(WAIT_SECONDS)


def test_what_breaks_a_decode_is_handed_on_and_the_line_goes_on(engine: Engine) -> None:
    steered = SteeredEngine(engine)
    line = RequestQueue(lambda: cast(Engine, steered))
    steered.error = UserError("no")
    with pytest.raises(UserError, match="no"):
        list(watch(line.submit(rows()), "", grade_lenient))
    steered.error = None
    assert [view.state for view in list(watch(line.submit(rows()), "", grade_lenient))[-1]] == [State.CUT_OFF]


def test_an_engine_that_does_not_load_is_told() -> None:
    def load() -> Engine:
        raise UserError("no such base")

    with pytest.raises(UserError, match="no such base"):
        RequestQueue(load).wait_loaded()


def test_a_continued_completion_adds_up(engine: Engine) -> None:
    line = RequestQueue(lambda: engine)
    earlier = list(watch(line.submit(rows(8)), "", grade_lenient))[-1][0]
    [view] = list(watch(line.submit(rows(4, prefix=earlier.text)), "", grade_lenient, earlier))[-1]
    assert view.num_tokens == 12 and view.seconds > earlier.seconds and view.text.startswith(earlier.text)


def test_whoever_stops_listening_stops_the_job(engine: Engine) -> None:
    line = RequestQueue(lambda: engine)
    job = line.submit(rows(1000))
    views = watch(job, "", grade_lenient)
    next(views)
    views.close()  # type: ignore[attr-defined]
    assert job.wait(WAIT_SECONDS) and job.progress()[0].num_tokens < 1000
