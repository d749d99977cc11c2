"""How a run that is gone has ended, by its own word or for lack of one; progress, grace and tails from its folder."""

import json
import os

import pytest

from inference.common.files import append_line
from training.config.run_config import load_config
from training.runs import outcome
from training.runs.failures import BUDGET_SPENT, DISK_FULL, INTERRUPTED, NOT_A_NUMBER, OUT_OF_MEMORY
from training.runs.folder import RunFolder
from training.runs.outcome import (
    EXIT,
    MAX_GRACE_SECONDS,
    MIN_GRACE_SECONDS,
    OUTPUT,
    WRONG_INPUT,
    grace_seconds,
    judge,
    last_rows,
    log_tail,
    progress,
    seconds_a_step,
    seconds_run,
)
from training.runs.processes import boot_id
from training.runs.record import RunRecord

CONFIG = load_config("starter", {"max_steps": 20})


def record_in(path, **changes) -> RunRecord:
    folder = RunFolder.create(path / "run", CONFIG)
    values = {"config": CONFIG.model_dump_json(), "launch": "one", "status": "running", "boot_id": boot_id()}
    return RunRecord(id="run", folder=folder.path, **(values | changes))


def say(record: RunRecord, status, reason: str = "so it was", **more) -> None:
    said = {"launch": "one", "status": status, "reason": reason, "seconds": 60} | more
    (record.folder / EXIT).write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("status", "stop_for", "ends", "reason"),
    [
        (0, "", "succeeded", ""),
        (0, "cancel", "succeeded", ""),  # it was quicker
        (1, "", None, None),  # a bug or bad luck: tried again
        (WRONG_INPUT, "", "failed", "so it was"),
        (OUT_OF_MEMORY, "", "failed", "so it was"),
        (DISK_FULL, "", "failed", "so it was"),
        (NOT_A_NUMBER, "cancel", "failed", "so it was"),
        (INTERRUPTED, "", "interrupted", "stopped by a signal that was not sent from here"),
        (INTERRUPTED, "cancel", "cancelled", "cancelled at step 0; it has no checkpoint yet"),
        (INTERRUPTED, "budget", "interrupted", "the budget of 2.00 h is used up"),
        (BUDGET_SPENT, "", "interrupted", "so it was"),
        (None, "", None, None),  # it was killed
        (None, "cancel", "cancelled", "cancelled"),
        (None, "budget", "interrupted", "used up"),
        ("0", "", None, None),
    ],
)
def test_how_it_ended(status, stop_for: str, ends: str | None, reason: str | None, tmp_path) -> None:
    record = record_in(tmp_path, stop_for=stop_for, max_hours=2.0)
    if status is not None:
        say(record, status)
    end = judge(record)
    assert (end and end.status) == ends
    assert end is None or str(reason) in end.reason


@pytest.mark.parametrize(
    ("before", "now", "returncode", "said"),
    [
        (3, 4, -9, "the kernel killed it: out of memory; with --resume lower micro_batch_size"),
        (3, 4, None, "the kernel killed it: out of memory"),  # it was started by another process
        (3, 3, -9, "it was killed (SIGKILL, which the kernel also does where memory runs out)"),
        (3, 4, -11, "it was killed (SIGSEGV)"),
        (3, 4, 0, "it died"),
        (None, 4, None, "it died"),
        ("3", 4, None, "it died"),
        (3, None, None, "it died"),
    ],
)
def test_a_death_for_want_of_memory_is_told_with_its_remedy(
    before, now, returncode, said: str, tmp_path, monkeypatch
) -> None:
    record = record_in(tmp_path)
    (record.folder / "process.json").write_text(json.dumps({"launch": "one", "memory_kills": before}))
    monkeypatch.setattr(outcome, "memory_kills", lambda: now)
    assert outcome.death_words(record, returncode).startswith(said)
    (record.folder / "process.json").write_text(json.dumps({"launch": "zero", "memory_kills": before}))
    assert "the kernel killed it" not in outcome.death_words(record, returncode)


def test_a_word_of_an_earlier_start_counts_for_nothing(tmp_path) -> None:
    record = record_in(tmp_path)
    say(record, 0, launch="zero")
    assert judge(record) is None and seconds_run(record) == 0
    say(record, 0)
    assert judge(record) is not None and seconds_run(record) == 60


def test_a_machine_that_was_shut_down_has_not_ended_its_run(tmp_path) -> None:
    record = record_in(tmp_path, boot_id="another")
    say(record, INTERRUPTED)
    assert judge(record) is None


@pytest.mark.parametrize("seconds", [-1, float("nan"), 1e300, "60", None])
def test_a_time_edited_into_nonsense_is_no_time(seconds, tmp_path) -> None:
    record = record_in(tmp_path)
    say(record, 0, seconds=seconds)
    assert seconds_run(record) == 0


def test_progress_is_the_last_whole_line(tmp_path) -> None:
    record = record_in(tmp_path)
    assert progress(record) == {"step": 0, "metrics": {}}
    metrics = record.folder / "metrics.jsonl"
    append_line(metrics, {"step": 1, "reward": 0.5, "step_time": 2.0})
    append_line(metrics, {"step": 2, "reward": 0.75, "step_time": 3.0, "note": "text", "loss": float("nan")})
    with metrics.open("a") as file:
        file.write('{"step": 3, "rew')
    found = progress(record)
    assert found == {"step": 2, "max_steps": 20, "metrics": {"step": 2, "reward": 0.75, "step_time": 3.0}}
    assert seconds_a_step(record.folder) == 2.5


@pytest.mark.parametrize("line", ["[]", '{"step": "x"}', '{"step": -4}', "[" * 50_000, '{"step": 1e999}'])
def test_metrics_edited_by_hand_are_no_progress(line: str, tmp_path) -> None:
    record = record_in(tmp_path)
    (record.folder / "metrics.jsonl").write_text(line + "\n")
    assert progress(record) == {}


def test_the_steps_of_a_run_by_epochs_are_found_out(tmp_path) -> None:
    config = CONFIG.model_copy(update={"max_steps": 0, "num_epochs": 3.0})
    record = record_in(tmp_path, config=config.model_dump_json())
    append_line(record.folder / "metrics.jsonl", {"step": 5, "epoch": 0.5})
    assert progress(record)["max_steps"] == 30


def test_the_grace_is_measured(tmp_path) -> None:
    record = record_in(tmp_path)
    assert grace_seconds(record.folder) == MIN_GRACE_SECONDS
    for seconds in (40.0, 70.0, -3.0, float("inf")):
        append_line(record.folder / "metrics.jsonl", {"step": 1, "step_time": seconds})
    assert grace_seconds(record.folder) == MIN_GRACE_SECONDS + 140
    folder = RunFolder(record.folder)
    checkpoint = folder.checkpoints / "checkpoint-1"
    checkpoint.mkdir()
    (checkpoint / "weights").write_bytes(b"x")
    folder.mark_complete(checkpoint, 3)
    signed = (checkpoint / "complete.json").stat().st_mtime
    os.utime(checkpoint / "weights", (signed - 25, signed - 25))
    assert grace_seconds(record.folder) == pytest.approx(MIN_GRACE_SECONDS + 140 + 50)
    os.utime(checkpoint / "weights", (0, 0))  # a clock that was set in between
    assert grace_seconds(record.folder) == MIN_GRACE_SECONDS + 140 < MAX_GRACE_SECONDS


def test_the_tail_of_a_log_is_plain_text_and_short(tmp_path) -> None:
    record = record_in(tmp_path)
    assert log_tail(record.folder) == ""
    bar = "\r".join(f"{i} of 9000" for i in range(9000))
    (record.folder / OUTPUT).write_bytes(b"first\n" + bar.encode() + b"\n\x1b[31mred\x1b[0m \xff end\n\n")
    assert log_tail(record.folder).splitlines() == ["8999 of 9000", "[31mred[0m \ufffd end"]
    bars = (
        "Loading weights: 100%|████| 116/116 [00:00<00:00]\nMap: 100%|██| 40/40\nLoading weights:  50%|██  | 58/116\n"
    )
    (record.folder / OUTPUT).write_text(f"{bars}step 1\nMap of the data: 100 rows\n")
    assert log_tail(record.folder).splitlines()[1:] == ["step 1", "Map of the data: 100 rows"]
    assert "50%" in log_tail(record.folder), "a bar that is not full tells that something goes on"


def test_the_last_rows_are_read_from_the_end_alone(tmp_path) -> None:
    path = tmp_path / "rows.jsonl"
    for step in range(5000):
        append_line(path, {"step": step})
    assert [row["step"] for row in last_rows(path, 3)] == [4997, 4998, 4999]
    assert 0 < len(last_rows(path, 10_000, max_bytes=1000)) < 100
