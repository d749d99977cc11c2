"""The queue on disk: what waits survives kills and deleted checkpoints, newer replaces older, results replace both."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.adapters.record import adapter_digest
from inference.common.errors import UserError
from inference.common.settings import STARTER
from tests.support.run_folders import add_checkpoint, begun_run, finished_run
from training.hub.publish.queue import PublishQueue, State, publish_words, result_step, waiting_runs


def put(queue: PublishQueue, repo: str, step: int, is_result: bool = False, is_kept: bool = False) -> None:
    about = {"repo": repo, "step": step, "is_result": is_result, "is_kept": is_kept}
    queue.put(STARTER / "adapter", STARTER, "starter", **about)


def test_what_waits_outlives_its_checkpoint(tmp_path: Path) -> None:
    run = begun_run(tmp_path / "night")
    checkpoint = add_checkpoint(run, 1)
    weights = (checkpoint / "adapter_model.safetensors").read_bytes()
    queue = PublishQueue(run.path)
    folder = queue.put(checkpoint, checkpoint, "base", repo="me/a", step=1, is_result=False)
    assert os.stat(folder / "adapter_model.safetensors").st_nlink == 2, "a link costs no time and no room"
    shutil.rmtree(checkpoint)
    assert (folder / "adapter_model.safetensors").read_bytes() == weights
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    assert not {"optimizer.pt", "training_args.bin", "README.md"} & {path.name for path in folder.iterdir()}


def test_half_an_item_and_a_broken_record_are_nothing(tmp_path: Path) -> None:
    queue = PublishQueue(begun_run(tmp_path / "night").path)
    put(queue, "me/a", 1)
    shutil.copytree(queue.waiting()[0].folder, queue.path / ".new-0000")  # a kill before its last rename
    (queue.path / "123-ab").mkdir()
    (queue.path / "record.json").write_text('{"published": 3')
    assert [item.step for item in queue.waiting()] == [1] and queue.state() == State()
    assert [folder for _, folder in waiting_runs(tmp_path)] == [tmp_path / "night"]


@pytest.mark.parametrize(
    "change",
    [
        {"repo": 5},
        {"repo": "../../etc"},
        {"step": "4"},
        {"step": -1},
        {"public": "yes"},
        {"queued_at": None},
        {"folder": "/etc"},
        {"more": 1},
    ],
)
def test_an_item_that_was_edited_by_hand_is_told_and_neither_sent_nor_thrown_away(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    queue = PublishQueue(begun_run(tmp_path / "night").path)
    put(queue, "me/a", 1)
    path = queue.waiting()[0].folder / "item.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    put(queue, "me/b", 2)
    assert [item.repo for item in queue.waiting()] == ["me/b"] and queue.unreadable() == [path.parent]
    queue.take_out(queue.waiting()[0])
    assert f"{path.parent.name} in night/publish cannot be read" in publish_words(queue.run)
    path.write_text("{")
    assert queue.unreadable() == [path.parent] and path.is_file()


@pytest.mark.parametrize(
    "record",
    [
        '{"notice": "", "tries": 1e999, "next_try": 0, "published": []}',
        '{"notice": "", "tries": 0, "next_try": 0, "published": 5}',
        "[" * 100_000,
        '{"notice"',
    ],
)
def test_a_record_that_was_edited_by_hand_is_an_empty_one(tmp_path: Path, record: str) -> None:
    queue = PublishQueue(begun_run(tmp_path / "night").path)
    put(queue, "me/a", 1)
    (queue.path / "record.json").write_text(record)
    assert queue.state() == State() and publish_words(queue.run) == "Step 1 is on its way to me/a."


def test_no_record_puts_the_next_try_off_for_ever(tmp_path: Path) -> None:
    """As after a clock that was set back."""
    queue = PublishQueue(begun_run(tmp_path / "night").path)
    put(queue, "me/a", 1)
    queue.keep(State("it waits", 3, time.time() + 3_600, [{"no": "repo"}, {"repo": "me/a", "commit": "c" * 40}]))
    kept = queue.state()
    assert kept.next_try > time.time() and [entry["commit"] for entry in kept.published] == ["c" * 40]
    for far in (time.time() + 30_000, float("inf")):
        queue.keep(State("it waits", 3, far))
        assert queue.state() == State("it waits", 3, 0.0)


@pytest.mark.parametrize("broken", [b"", b"zzzzzzzz", b"\xff\xfe", b"0123"])
def test_a_key_that_is_none_is_made_anew(tmp_path: Path, broken: bytes) -> None:
    queue = PublishQueue(begun_run(tmp_path / "night").path)
    put(queue, "me/a", 1)
    (queue.path / "key").write_bytes(broken)
    assert re.fullmatch("[0-9a-f]{8}", queue.key()) and queue.key() == PublishQueue(queue.run).key()


def test_two_that_make_the_key_at_once_have_the_same(tmp_path: Path) -> None:
    queue = PublishQueue(begun_run(tmp_path / "night").path)
    queue.path.mkdir()
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: PublishQueue(queue.run).key(), range(16)))) == 1


@pytest.mark.parametrize("of_these", [True, False])
def test_an_evaluation_of_other_weights_is_not_sent_along(tmp_path: Path, of_these: bool) -> None:
    run = finished_run(tmp_path / "night")
    about = {"num_rows": 3, "adapter_digest": adapter_digest(run.adapter) if of_these else "0" * 64}
    (run.adapter / "evaluation.json").write_text(json.dumps({"about": about}))
    folder = PublishQueue(run.path).put(run.adapter, None, "starter", repo="me/a", step=4, is_result=True)
    assert (folder / "evaluation.json").is_file() == of_these


def test_what_has_no_adapter_is_not_queued(tmp_path: Path) -> None:
    run = begun_run(tmp_path / "night")
    with pytest.raises(UserError, match="holds no adapter to publish"):
        PublishQueue(run.path).put(tmp_path, None, "base", repo="me/a", step=1, is_result=False)
    assert not list(run.path.glob("publish/[0-9]*"))


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["result", "checkpoint", "kept"]), min_size=1, max_size=6))
def test_nothing_is_lost_that_a_newer_one_does_not_replace(puts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        queue = PublishQueue(Path(folder))
        for step, kind in enumerate(puts):
            put(queue, "me/a", step, kind == "result", kind == "kept")
            put(queue, "me/b", step)
        steps = {kind: [step for step, each in enumerate(puts) if each == kind] for kind in puts}
        waiting = [item.step for item in queue.waiting() if item.repo == "me/a"]
        assert waiting == sorted(waiting) and waiting[-1] == len(puts) - 1, "the newest always waits"
        results = [step for step in waiting if puts[step] == "result"]
        assert results == steps.get("result", [])[-1:], "and the newest result, whatever follows it"
        assert [step for step in waiting if puts[step] == "kept"] == steps.get("kept", []), "and each that is kept"
        assert [step for step in waiting if puts[step] == "checkpoint"] in ([], steps.get("checkpoint", [])[-1:])
        assert [item.step for item in queue.waiting() if item.repo == "me/b"] == [len(puts) - 1]
        while waiting_now := queue.waiting():
            queue.take_out(waiting_now[0])
        assert not list(queue.path.glob("[0-9]*"))


def test_the_lock_and_the_key(tmp_path: Path) -> None:
    queue = PublishQueue(begun_run(tmp_path / "night").path)
    put(queue, "me/a", 1)
    assert queue.key() == PublishQueue(queue.run).key() and len(queue.key()) == 8
    with queue.held() as mine, PublishQueue(queue.run).held() as other:
        assert mine and not other


def test_the_step_of_a_result(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "night")
    assert result_step(run) == 4
    (run.path / "validation.json").write_text('{"chosen": 2}')
    assert result_step(run) == 2


def test_words_for_whoever_watches(tmp_path: Path) -> None:
    queue = PublishQueue(begun_run(tmp_path / "night").path)
    assert publish_words(queue.run) == ""
    assert publish_words(queue.run, "me/a") == "Its adapter goes to me/a: nothing is there yet."
    put(queue, "me/a", 25)
    assert publish_words(queue.run) == "Step 25 is on its way to me/a."
    done = {"repo": "me/a", "step": 20, "is_result": False, "commit": "c" * 40, "tag": None}
    queue.keep(State("step 25 waits: the Hub cannot be reached", 3, time.time() + 60, [done]))
    said = publish_words(queue.run)
    assert said.startswith("Step 20 is published as me/a@cccccccccccc. Step 25 waits: the Hub cannot be reached. ")
    assert "The next try is in " in said
