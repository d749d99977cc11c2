"""Jobs in trouble: no right to them, a full disk, prices that vanish, Jobs that are gone or come late."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from inference.common.files import exclusive
from inference.common.hub_errors import HubError
from tests.support.hub.faults import Fault
from tests.support.hub.repos import Hub
from tests.support.job_world import QUICK, SPACE, TOKEN, JobWorld
from training.hub.backup.mirror import mirror_run
from training.launch.jobs.api import JobsHub
from training.launch.jobs.job import Pace
from training.launch.jobs.log import JobLog, mark_line
from training.launch.jobs.result import bring_home, update_records
from training.runs.record import IN_BUCKET, RunRecord, is_away

WAITS = "metrics(1)\nprint('a line', flush=True)\ntime.sleep(60)\n"
CREATE, LIST = "POST /api/jobs/me", "GET /api/jobs/me"


@pytest.fixture
def world(hub: Hub, hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobWorld]:
    """Its Jobs wait; `world.code_of(...)` makes them do something else."""
    found = JobWorld(hub, hub_url, tmp_path, monkeypatch, QUICK, WAITS)
    yield found
    found.jobs.end_all()


def asked(hub: Hub, what: str) -> int:
    return sum(f"{method} {urlsplit(path).path}" == what for method, path in hub.requests)


def test_who_may_not_see_jobs_is_told_and_the_hub_is_not_hammered(world: JobWorld, hub: Hub) -> None:
    """In the app, where the Hub is asked in the background: looking for lost runs must not hold up the others."""
    hub.faults.append(Fault("401", LIST, times=-1))
    world.launcher = world.new_launcher(in_background=True, pace=Pace(look=0.1, longest_wait=1000.0))
    record = world.ask()
    assert "does not let this token" in world.until(record, "failed").reason and world.all() == []
    for _ in range(100):
        world.launcher.reconcile()
        time.sleep(0.01)
    assert asked(hub, LIST) < 20, "later and later each time"


def test_a_hub_that_asks_to_wait_is_left_alone(world: JobWorld, hub: Hub) -> None:
    """The client waits by itself, for as long as the Hub asks: meanwhile nothing is asked beside it."""
    hub.faults.append(Fault("429", LIST, times=-1, retry_after=1000))
    world.launcher = world.new_launcher(hub=lambda name: JobsHub(name, deadline_seconds=0.3))
    record = world.ask()
    world.wait(lambda: "asks to wait" in world.store.get(record.id).reason)
    world.wait(lambda: "it is started when it does" in world.store.get(record.id).reason)
    assert asked(hub, LIST) == 1


def test_a_log_that_is_refused_is_asked_for_less_and_less(world: JobWorld, hub: Hub) -> None:
    hub.faults.append(Fault("500", "GET .*/logs", times=-1))
    record = world.ask()
    world.launcher = world.new_launcher(pace=Pace(look=0.0, longest_wait=1000.0))
    world.until(record, "running")
    for _ in range(30):
        world.launcher.reconcile()
    assert sum(path.endswith("/logs") for _, path in hub.requests) < 15
    hub.faults.clear()
    world.jobs.end(world.all()[0], "CANCELED")
    world.until(record, "interrupted")
    assert "a line" in (record.folder / "output.log").read_text(), "of a Job that is over it is asked for at once"


def test_a_disk_that_refuses_is_said_and_the_run_starts_when_it_does_not(world: JobWorld) -> None:
    record = world.ask()
    (in_the_way := record.folder / f".{IN_BUCKET}.part").mkdir()
    world.launcher = world.new_launcher(in_background=True)
    world.wait(lambda: "the disk here refuses" in world.store.get(record.id).reason)
    assert world.store.get(record.id).status == "starting" and world.all() == []
    in_the_way.rmdir()
    assert world.until(record, "running").reason == ""
    assert len(world.all()) == 1


def test_a_configuration_of_another_version_starts_nothing(world: JobWorld) -> None:
    record = world.ask()
    world.store.update(record, config='{"of": "another version"}')
    assert "of another version" in world.until(record, "failed").reason


def test_a_price_that_was_not_to_be_had_is_asked_for_again(
    world: JobWorld, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.hub.space.prices.RETRY_SECONDS", 0.0)
    hub.faults.append(Fault("500", "GET /api/jobs/hardware", times=-1))
    record = world.ask()
    world.until(record, "running")
    assert world.store.get(record.id).dollars_per_hour is None
    hub.faults.clear()
    world.wait(lambda: world.store.get(record.id).dollars_per_hour == pytest.approx(2.5, rel=1e-3))


def test_a_job_that_is_deleted_on_the_hub_is_not_started_again(world: JobWorld) -> None:
    world.launcher = world.new_launcher(pace=Pace(look=0.1, log=0.5, bucket=0.5))
    record = world.ask()
    world.until(record, "running")
    job = world.all()[0]
    world.jobs.end_all()
    del world.jobs.jobs[job.id]
    ended = world.until(record, "interrupted", "failed")
    assert "its Job was deleted on the Hub, not from here; it has no checkpoint yet" in ended.reason
    assert ended.status == "interrupted" and world.all() == []


def test_a_job_that_comes_after_its_run_was_cancelled_is_ended(world: JobWorld, hub: Hub) -> None:
    world.launcher = world.new_launcher(pace=Pace(look=0.1, fetch=0.1))
    hub.faults.append(Fault("refused", CREATE, times=-1))
    record = world.ask()
    world.wait(lambda: asked(hub, CREATE) > 0)
    world.launcher.cancel(record.id)
    ended = world.until(record, "cancelled")
    labels = {"app": "lookthink", "run": record.id, "launch": ended.launch, "space": "me--lookthink", "home": "space"}
    late = world.jobs.start("me", {"flavor": "a100-large", "command": ["sleep", "60"], "labels": labels})
    world.wait(lambda: late.is_over)
    assert late.stage == "CANCELED" and world.store.get(record.id).status == "cancelled"


def test_to_cancel_what_has_ended_meanwhile_is_no_trouble(world: JobWorld, hub: Hub) -> None:
    jobs = JobsHub("me", TOKEN)
    job = world.jobs.start("me", {"flavor": "a100-large", "command": ["true"]})
    world.wait(lambda: job.is_over)
    jobs.cancel(job.id)
    jobs.cancel("f" * 24)
    hub.faults.append(Fault("401", "POST .*/cancel"))
    with pytest.raises(HubError, match="does not let this token"):
        jobs.cancel(job.id)


def test_a_job_that_is_done_is_done_though_neither_log_nor_bucket_answer(
    hub: Hub, hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = Pace(look=0.1, log=0.3, fetch=0.1)
    world = JobWorld(hub, hub_url, tmp_path, monkeypatch, pace, "time.sleep(1)\nend(0)")
    record = world.ask()
    world.until(record, "running")
    hub.faults.append(Fault("500", "GET .*/logs", times=-1))
    (record.folder / "job.lock").unlink(missing_ok=True)
    world.launcher = world.new_launcher()
    while not world.all()[0].is_over:
        time.sleep(0.05)
    world.state.rename(tmp_path / "away")
    done = world.until(record, "succeeded", "failed", "interrupted")
    assert done.status == "succeeded" and "which is not mounted here" in done.reason and len(world.all()) == 1
    assert (record.folder / IN_BUCKET).is_file(), "it is fetched when the bucket is there again"
    assert not world.state.exists()


def test_a_page_in_the_place_of_a_log_is_no_log(
    hub: Hub, hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = JobWorld(hub, hub_url, tmp_path, monkeypatch, QUICK, "metrics(1)\nend(0)")
    hub.faults.append(Fault("html", "GET .*/logs", times=2))
    done = world.until(world.ask(), "succeeded", "failed")
    assert (done.status, done.step) == ("succeeded", 1), done.reason


def test_a_job_that_is_done_but_not_kept_can_go_on(
    hub: Hub, hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket was full: the adapter was lost with the Job's disk, whatever the Job says."""
    code = 'checkpoint(1)\nprint(f"@lookthink {launch} is not in the bucket", flush=True)'
    world = JobWorld(hub, hub_url, tmp_path, monkeypatch, QUICK, code)
    record = world.ask()
    ended = world.until(record, "succeeded", "failed", "interrupted")
    assert "its adapter did not reach the bucket; is that full?; it can go on from step 1" in ended.reason
    assert not is_away(ended) and len(world.all()) == 1
    world.launcher.reconcile()
    assert world.store.get(record.id).status == "interrupted"


def test_a_bucket_that_lags_behind_is_waited_for(
    hub: Hub, hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "metrics(1)\ntime.sleep(0.5)\nstate += '-late'\nmetrics(2)\nend(0)"
    world = JobWorld(hub, hub_url, tmp_path, monkeypatch, replace(QUICK, bucket=1.0, fetch=0.1), code)
    record = world.ask()
    done = world.until(record, "succeeded", "failed", "interrupted")
    assert done.status == "succeeded" and "does not show its newest copy" in done.reason and is_away(done)
    copy = world.state / "runs" / record.id
    shutil.rmtree(copy)
    copy.with_name(f"{record.id}-late").rename(copy)
    world.wait(lambda: not is_away(done))
    assert (done.folder / "adapter" / "adapter_config.json").is_file()


def test_the_curves_of_a_job_come_while_it_runs_and_tell_their_age(
    hub: Hub, hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = JobWorld(hub, hub_url, tmp_path, monkeypatch, QUICK, WAITS)
    record = world.ask()
    world.wait(lambda: world.store.get(record.id).step == 1 and "usage" in world.store.get(record.id).job)
    now = world.store.get(record.id)
    assert now.status == "running" and 0 <= time.time() - now.job["copied_at"] < 60
    seconds = (QUICK.records, Pace().records, Pace().mirror)
    assert seconds[1] + seconds[2] + Pace().look < 60, "at most a minute old"
    world.launcher.reconcile()
    time.sleep(2 * QUICK.records)
    world.launcher.reconcile()
    assert world.store.get(record.id).job == now.job, "of the copy, not of the look"
    world.jobs.end_all()


def test_the_curves_of_a_job_come_while_the_hub_does_not_answer(
    hub: Hub, hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "metrics(1)\nwhile not os.path.exists(state + '-go'): time.sleep(0.05)\nmetrics(2)\ntime.sleep(60)\n"
    pace = replace(QUICK, longest_wait=1000.0)
    world = JobWorld(hub, hub_url, tmp_path, monkeypatch, pace, code)
    record = world.ask()
    world.wait(lambda: world.store.get(record.id).step == 1)
    hub.faults.append(Fault("500", "GET /api/jobs/.*", times=-1))
    world.wait(lambda: "the Hub does not answer" in world.store.get(record.id).reason)
    (world.state / "runs" / f"{record.id}-go").touch()
    world.wait(lambda: world.store.get(record.id).step == 2, seconds=30)
    assert "the Hub does not answer" in world.store.get(record.id).reason
    world.jobs.end_all()


@pytest.mark.parametrize("of", ["me/a-copy", "a laptop"])
def test_no_other_home_takes_a_job_for_its_own(world: JobWorld, monkeypatch: pytest.MonkeyPatch, of: str) -> None:
    record = world.ask()
    world.until(record, "running")
    world.home = world.folder / "another-home"
    if of == "a laptop":
        monkeypatch.delenv("SPACE_ID")
        monkeypatch.setenv("LOOKTHINK_SPACE", SPACE)
    else:
        monkeypatch.setenv("SPACE_ID", of)
    other = world.new_launcher()
    other.reconcile()
    assert not other.store.exists() or other.store.list() == []
    assert len(world.jobs.active()) == 1


class Lines:
    """A Hub that gives the log of one Job."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines

    def log(self, job_id: str, *, is_over: bool) -> Iterator[str]:
        yield from self.lines


def follow(record: RunRecord, *lines: str) -> JobLog:
    """Its log, taken to the end."""
    log = JobLog(record, Lines(*lines))  # type: ignore[arg-type]
    log.follow(is_over=True)
    assert log._thread is not None
    log._thread.join(30)
    return log


def test_no_line_of_a_log_is_taken_twice_and_strange_ones_are_shown(tmp_path: Path) -> None:
    launch = "a" * 16
    record = RunRecord("run", tmp_path, "{}", launch=launch, job={"id": "one"})
    lines = ["Job started", mark_line("guessed", "is not in the bucket"), "\x1b[2J\ud800 half a text"]
    log = follow(record, *lines)
    assert log.is_whole and not log.has_begun and not log.is_lost
    log = follow(record, *lines, mark_line(launch, "begins"), "next", "x" * 100_000)
    assert log.has_begun and not log.is_lost
    text = (tmp_path / "output.log").read_text()
    assert text.startswith("Job started\n\x1b[2J? half a text\nnext\nxxx") and len(text) < 2000
    assert not follow(record, *lines[:1]).is_whole, "a log that was cut off"
    second = replace(record, job={"id": "two"})
    log = follow(second, "again", mark_line(launch, "is not in the bucket"))
    assert log.is_lost and (tmp_path / "output.log").read_text().endswith("again\n")


def test_no_line_of_a_log_is_shown_twice_though_the_bucket_is_ahead(tmp_path: Path) -> None:
    (state := tmp_path / "bucket").mkdir()
    (in_job := tmp_path / "job" / "run").mkdir(parents=True)
    lines = [f"line {number}" for number in range(1, 7)]
    (in_job / "config.json").write_text("{}")
    (in_job / "output.log").write_text("".join(f"{line}\n" for line in lines))
    mirror_run(in_job, state)
    record = RunRecord("run", tmp_path / "run", "{}", launch="a" * 16, job={"id": "one"})
    record.folder.mkdir()
    follow(record, *lines[:4])
    assert update_records(record, state) is not None and (record.folder / "config.json").is_file()
    follow(record, *lines)
    assert (record.folder / "output.log").read_text().split() == " ".join(lines).split()
    (record.folder / "output.log").write_text("line 1\n")
    bring_home(record, state)
    assert (record.folder / "output.log").read_text().split() == " ".join(lines).split(), "at the end"


def test_one_process_follows_a_log(tmp_path: Path) -> None:
    record = RunRecord("run", tmp_path, "{}", launch="a" * 16, job={"id": "one"})
    with exclusive(tmp_path / "job.lock"):
        assert not follow(record, "a line").is_whole
    assert not (tmp_path / "output.log").exists() and follow(record, "a line").is_whole


def test_what_a_job_uses_is_noted_while_it_runs_and_a_refusal_does_no_harm(world: JobWorld, hub: Hub) -> None:
    hub.faults.append(Fault("401", "GET .*/metrics", times=2))
    world.launcher = world.new_launcher(pace=Pace(look=0.1, usage=0.2))
    record = world.ask()
    world.until(record, "running")
    world.wait(lambda: "usage" in world.store.get(record.id).job and world.store.get(record.id).job["usage"])
    job = world.store.get(record.id).job
    used, total = job["usage"]["memory"]
    assert 0 < used < total == 150_000_000_000 and job["usage"]["gpu_shares"] == [0.4]
    assert job["usage"]["gpus"] == [[12_000_000_000, 80_000_000_000]] and job["id"] == world.all()[0].id
    assert JobsHub("me", TOKEN).usage(job["id"])["gpus"] == job["usage"]["gpus"]
