"""One start of a run: it claims, or does nothing; its last word is written even on a full disk."""

import json
import os

import pytest

from training.config.run_config import load_config
from training.launch import worker as attempt
from training.runs.outcome import EXIT, judge, seconds_run
from training.runs.processes import is_alive, own_identity
from training.runs.recovery import PROCESS, process_of
from training.runs.store import RunStore

CONFIG = load_config("starter", {"max_steps": 20, "base": "no/where", "eval_rows": 0})


@pytest.fixture
def record(home):
    store = RunStore(home)
    record = store.submit(CONFIG, "me")
    return store.transition(record, "starting", launch="two")


def test_a_start_that_was_given_up_trains_nothing(record, home, capsys) -> None:
    assert attempt.main([str(home), record.id, "one"]) == 0
    assert "was given up" in capsys.readouterr().out
    assert not (record.folder / PROCESS).exists() and not (record.folder / EXIT).exists()
    assert RunStore(home).get(record.id) == record


@pytest.mark.slow
def test_what_the_trainer_refuses_is_its_last_word(record, home, capsys) -> None:
    store = RunStore(home)
    status = attempt.main([str(home), record.id, "two"])
    assert status in (2, 7)  # by whether the Hub can be asked
    running = store.get(record.id)
    assert running.status == "running" and is_alive(process_of(record.folder))
    end = judge(running)
    assert end is not None and end.status == "failed" and "no/where" in end.reason
    assert "no/where" in capsys.readouterr().out
    assert 0 < seconds_run(running) < 1e6


def test_the_last_word_has_its_room_from_the_start(record) -> None:
    with attempt._Beat(record.folder, "two", own_identity()) as beat:
        part = record.folder / f"{EXIT}.part"
        assert part.stat().st_size >= 4096 and part.stat().st_blocks > 0
        beat.end(4, "the disk is full " * 1000 + "\u2028\ud800")
    said = json.loads((record.folder / EXIT).read_text())
    assert said["status"] == 4 and said["reason"].startswith("the disk is full") and said["pid"] == os.getpid()
    assert (record.folder / EXIT).stat().st_size < 4096 and not part.exists()


def test_a_beat_that_cannot_be_written_ends_nothing(record) -> None:
    (record.folder / f"{PROCESS}.part").symlink_to("/dev/full")
    with attempt._Beat(record.folder, "two", own_identity()) as beat:
        beat.end(0, "")
    assert json.loads((record.folder / EXIT).read_text())["status"] == 0
