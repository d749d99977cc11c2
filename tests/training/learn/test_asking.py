"""What broke with a promotion: asked once, in the background of an app or by the process that promoted; it never stands
in a promotion's way."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from inference.adapters.served import promote, roll_back, serving
from inference.common.files import exclusive
from inference.common.settings import Settings, load_settings
from inference.engine.engine import Engine
from inference.model.request import Request
from inference.server.queue import MAX_SEQS_BESIDE_OTHERS, RequestQueue
from inference.server.visitors import OWNER, Visitor
from tests.support.samples import problems, random_adapter
from training.learn import asking
from training.learn.asking import LOCK, PromotionAsker, answers_here, answers_text, counts
from training.learn.pinned import MAX_QUESTIONS, Asked, PinnedRow, Said
from training.learn.promoted import BROKE, MAX_PENDING, MAX_RESULTS, Answers, Promoted, Promotion
from training.runs.store import RunStore

SECONDS = 60


@dataclass
class World:
    """A home with two questions pinned, and an adapter that breaks them."""

    settings: Settings
    engine: Engine
    folder: Path

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def promoted(self) -> Promoted:
        return Promoted(self.settings)

    def promote(self, seed: int = 0, strength: float = 3.0) -> str:
        adapter = random_adapter(self.folder / f"broken{seed}", strength=strength, seed=seed)
        if not (adapter / "evaluation.json").exists() and seed != 1:  # 1 is not known outside the reward
            (adapter / "evaluation.json").write_text(json.dumps({"outside": KNOWN}))
        return str(promote(self.home, adapter, "me", settings=self.settings).name)

    def asker(self) -> PromotionAsker:
        queue = RequestQueue(lambda: self.engine, self.settings.limits)
        queue.wait_loaded()
        return PromotionAsker(self.settings, queue)


KNOWN = {"sentence": "Outside the reward nothing is shown to have changed.", "abilities": []}


@pytest.fixture
def world(home: Path, engine: Engine, tmp_path: Path) -> World:
    settings = load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home)}, has_gpu=False)
    found = World(settings, engine, tmp_path)
    for problem in problems(2, seed=3):
        found.promoted.questions.add(problem.image, problem.problem, problem.answer)
    return found


@pytest.fixture
def asker(world: World) -> Iterator[PromotionAsker]:
    found = world.asker()
    yield found
    found.stop(SECONDS)


def until_done(asker: PromotionAsker) -> None:
    end = time.monotonic() + SECONDS
    while (asker.is_running or asker.promoted.pending() or asker._by_hand) and time.monotonic() < end:
        time.sleep(0.02)
    assert not asker.is_running and not asker.promoted.pending()


def test_every_promotion_is_asked_about_once(world: World, asker: PromotionAsker) -> None:
    """Two at once, too: the second against the first. A roll back is none."""
    first, second = world.promote(), world.promote(2)
    asker.look()
    assert asker.is_running
    until_done(asker)
    results = world.promoted.results()
    assert results[first].count("broke") >= 1 and results[first].before == "starter-adapter"
    assert results[second].before == first and not results[second].count("broke")
    assert asker.last == second and [one.new for one in results[second].rows] != []
    roll_back(world.home, "me", settings=world.settings)
    assert not world.promoted.pending()
    again = world.promote(2)
    assert again == second and [one.new.name for one in world.promoted.pending()] == [second]


def test_nothing_pinned_and_all_known_asks_no_engine(world: World) -> None:
    """And a question that is pinned later is not put to a promotion of before."""
    for one in world.promoted.questions.all():
        world.promoted.questions.remove(one.key)
    name = world.promote()
    assert "nothing is shown to have changed" in answers_here(world.settings)
    problem = problems(1)[0]
    world.promoted.questions.add(problem.image, problem.problem, problem.answer)
    assert not world.promoted.pending() and world.promoted.results()[name].rows == []


def test_outside_the_reward_it_is_asked_where_no_evaluation_did(world: World, asker: PromotionAsker) -> None:
    name = world.promote(1, strength=0.5)  # a stronger one never ends its completions
    asker.look()
    until_done(asker)
    outside = world.promoted.results()[name].outside
    assert outside is not None and outside["sentence"].startswith("Outside the reward")
    assert {one["before"]["num_rows"] for one in outside["abilities"]} == {24}
    text = answers_text(world.promoted, Asked(name, world.home / "adapters" / name))
    assert "describes the picture: base " in text and " to " in text and "of 24 rows" in text
    before = world.promoted.results()[name]
    asker.ask(Asked("the base alone", None), Asked(name, world.home / "adapters" / name))
    until_done(asker)
    after = world.promoted.results()[name]
    assert after.outside == before.outside and after.promoted == before.promoted and after.before == "the base alone"


def test_questions_go_a_few_at_a_time_behind_those_of_visitors(
    world: World, asker: PromotionAsker, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = asker._queue
    assert queue is not None
    monkeypatch.setattr(asking, "RETRY_SECONDS", 0.05)
    asked: list[tuple[str, int]] = []
    submit = queue.submit
    monkeypatch.setattr(
        queue, "submit", lambda rows, visitor: asked.append((visitor.id, len(rows))) or submit(rows, visitor)
    )
    crowd = [
        submit([Request(problem.image, problem.problem, max_new_tokens=64, min_new_tokens=64)], Visitor(f"v{i}"))
        for i, problem in enumerate(problems(world.settings.limits.max_waiting + 1))
    ]
    name = world.promote()
    asker.look()
    until_done(asker)
    assert all(one.completions(SECONDS) for one in crowd)
    assert len(asked) > 1, "the queue was full at first"
    assert set(asked) == {(OWNER, MAX_SEQS_BESIDE_OTHERS)} and world.promoted.results()[name].count("broke") >= 1


def test_a_run_that_has_the_card_is_waited_for(world: World, asker: PromotionAsker) -> None:
    queue = asker._queue
    assert queue is not None
    queue.rest("A run needs the GPU.")
    name = world.promote()
    asker.look()
    time.sleep(0.3)
    assert asker.waiting == name and not asker.is_running and name not in world.promoted.results()
    queue.wake()
    asker.look()
    until_done(asker)
    assert asker.waiting == "" and world.promoted.results()[name].rows


def test_an_adapter_that_goes_while_it_is_asked_is_asked_to_the_end(world: World, asker: PromotionAsker) -> None:
    """And one that is gone before says so; the next is asked all the same."""
    gone, kept = world.promote(), world.promote(2)
    for file in (world.home / "adapters" / gone).iterdir():
        file.unlink()
    asker.look()
    until_done(asker)
    results = world.promoted.results()
    assert "not an adapter" in results[gone].trouble and "not an adapter" in results[kept].trouble
    name = world.promote(3)
    seen = threading.Event()
    complete = world.engine.generate

    def withdrawing(requests):  # type: ignore[no-untyped-def]
        if not seen.is_set():
            seen.set()
            for file in (world.home / "adapters" / name).iterdir():
                file.unlink()
        return complete(requests)

    answers = world.promoted.ask(world.engine, withdrawing, world.promoted.pending()[0])
    assert not answers.trouble and len(answers.rows) == 2 and seen.is_set()


def test_what_breaks_is_told_in_words_and_kept(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def breaking(requests: object) -> list[object]:
        raise RuntimeError("CUDA: /secret/path")

    world.promote(1)
    promotion = world.promoted.pending()[0]
    answers = world.promoted.ask(world.engine, breaking, promotion)  # type: ignore[arg-type]
    assert answers.trouble == BROKE and answers.outside_trouble == BROKE and not world.promoted.pending()
    assert "Ask them again on the adapter's card" in answers_text(world.promoted, promotion.new)
    assert "/secret/path" not in answers.model_dump_json()


@pytest.mark.parametrize("seconds", [0.0, SECONDS])
def test_the_command_line_leaves_it_to_a_running_app_and_waits(world: World, seconds: float) -> None:
    name = world.promote()
    with exclusive(world.home / LOCK):  # as an app holds it
        if not seconds:
            assert f"the card of {name} shows them" in answers_here(world.settings, wait_seconds=0)
            return
        promotion = world.promoted.pending()[0]
        app = threading.Thread(target=world.promoted.ask, args=(world.engine, world.engine.generate, promotion))
        app.start()
        text = answers_here(world.settings, wait_seconds=seconds)
        app.join()
    assert "of 2 broke, 0 mended, against starter-adapter" in text and "broke: " in text


def test_without_an_app_the_process_asks_itself(world: World, asker: PromotionAsker) -> None:
    """And the app that comes later has nothing to ask."""
    world.promote()
    text = answers_here(world.settings)
    assert text.splitlines()[1].startswith("  broke: ") and "nothing is shown to have changed" in text
    assert answers_here(world.settings) == "" and not world.promoted.pending()


def test_the_promotion_stands_where_nothing_can_be_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    name = world.promote()
    kinds: list[type[Exception]] = [ValueError, sqlite3.DatabaseError, MemoryError, RuntimeError]
    for kind in kinds:

        def fails(*args: object, kind: type[Exception] = kind, **options: object) -> Engine:
            raise kind("CUDA out of memory.\nmore")

        monkeypatch.setattr(Engine, "load", fails)
        text = answers_here(world.settings)
        assert "not asked: CUDA out of memory. An app that runs, or starts, asks by itself" in text
    assert serving(world.settings).name == name and world.promoted.pending(), "it is asked later"
    store = RunStore(world.home)
    monkeypatch.setattr(RunStore, "active", lambda self: type("Run", (), {"id": "night", "launcher": "local"}))
    store.set_notice(None)
    assert "The run night has the machine" in answers_here(world.settings)
    assert "CUDA" in answers_here(world.settings, own_run="night")


def test_only_the_newest_promotions_and_results_are_kept(world: World) -> None:
    world.promote()
    answers_here(world.settings)
    names = [world.promote(seed) for seed in range(2, 3 + MAX_PENDING)]
    assert [one.new.name for one in world.promoted.pending()] == names[-MAX_PENDING:]
    path = world.promoted.questions.folder / "results.json"
    old = Answers(before="x", at="", rows=[])
    path.write_text(json.dumps({"results": {f"a{number}": old.model_dump() for number in range(MAX_RESULTS)}}))
    base = Asked("the base alone", None)
    world.promoted.keep_without_asking(Promotion(base, Asked("new", None)))
    assert len(world.promoted.results()) == MAX_RESULTS and {"a0", "new"} ^ set(world.promoted.results()) >= {"a0"}
    for text in ("[]", "{", '{"results": {"a": 3}}', '{"results": ' + "[" * 100_000):
        path.write_text(text)
        assert not world.promoted.results()


def test_the_largest_results_can_be_read_again(world: World) -> None:
    said = Said(answer="€" * 200, right=True)
    row = PinnedRow(question="€" * 600, gold="€" * 200, before=said, new=said)
    answers = Answers(before="x", at="", rows=[row] * MAX_QUESTIONS)
    for number in range(MAX_RESULTS):
        world.promoted._keep(f"a{number}", answers)
    assert len(world.promoted.results()) == MAX_RESULTS


def test_what_broke_comes_first(world: World) -> None:
    right, wrong = Said(answer="4", right=True), Said(answer="5", right=False)
    pairs = [(right, right), (wrong, right), (right, wrong)]
    rows = [PinnedRow(question="q", gold="4", before=before, new=new) for before, new in pairs]
    rows.insert(1, PinnedRow(question="q", gold="4", trouble="no picture"))
    answers = Answers(before="night", at="", rows=rows)
    assert [row.change for row in answers.ordered()] == ["broke", "not asked", "mended", "same"]
    assert counts("day", answers) == "1 of 4 broke, 1 mended, 1 not asked, against night; day has 2 of 4 right"
