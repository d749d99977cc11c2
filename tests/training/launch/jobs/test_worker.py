"""A Job with the real trainer in it: from the start through its log, over a timeout, to the Hub and home; cancelled."""

import json
import re
from pathlib import Path

import pytest

from inference.adapters.record import COMPARISON_FILE
from inference.common.errors import UserError
from tests.support.hub.repos import Hub
from tests.support.job_world import JobWorld
from training.config.run_config import load_config
from training.hub.backup.mirror import copied_step, mirror_run
from training.launch.jobs.worker import ORDER, Order, begin
from training.runs.folder import RunFolder, step_of
from training.runs.record import RunRecord, is_away
from training.runs.recovery import make_folder
from training.runs.store import RunStore


@pytest.fixture
def world(hub: Hub, hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    world = JobWorld(hub, hub_url, tmp_path, monkeypatch)
    yield world
    world.jobs.end_all()


def steps(folder: Path) -> list[int]:
    path = folder / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
@pytest.mark.long
def test_a_run_over_a_timeout_to_its_adapter_on_the_hub_and_at_home(world: JobWorld, hub: Hub) -> None:
    world.jobs.hold_at = re.compile(
        r"checkpoint of step [1-9]\d* is in the bucket"
    )  # or it may be done before it is looked at
    record = world.ask(max_steps=6, publish_to="me/adapter")
    world.wait(lambda: steps(record.folder) != [] and copied_step(world.state, record.id) > 0)
    assert world.jobs.hold_at is None, "it stands still"
    first = world.all()[0]
    world.jobs.end(first, "ERROR", "Job timeout")
    done = world.until(record, "succeeded", "failed")
    assert done.status == "succeeded", (done.reason, world.logs())
    assert [job.stage for job in world.all()] == ["ERROR", "COMPLETED"]
    said = [line["data"] for job in world.all() for line in job.lines]
    assert sum(line.startswith("pass  Greedy tokens:") for line in said) == 2, "the doctor goes before each trainer"
    [report] = (world.state / "doctor").glob("*.json")
    assert json.loads(report.read_text())["form"] == "short", "and its report outlives the Job"
    second = json.loads(world.all()[1].spec["environment"][ORDER])["record"]
    assert second["checkpoint_step"] > 0 and "ran into its timeout" in "".join(second["reason"])
    assert steps(done.folder) == list(range(1, 7)) and done.step == 6
    newest = RunFolder(done.folder).newest_checkpoint()
    assert newest is not None and step_of(newest) == 6
    assert (done.folder / "adapter" / "adapter_model.safetensors").is_file()
    rollouts = (done.folder / "rollouts.jsonl").read_text().splitlines()
    assert {json.loads(line)["step"] for line in rollouts} == set(range(1, 7))
    assert all((done.folder / "images" / json.loads(line)["image"]).is_file() for line in rollouts)
    assert json.loads((done.folder / "request.json").read_text())["launcher"] == "job"
    repo = hub.repos["model", "me/adapter"]
    assert "adapter_model.safetensors" in repo.commits[repo.refs["main"]] and repo.private
    assert repo.commits[repo.refs["main"]]["adapter_model.safetensors"] == (
        (done.folder / "adapter" / "adapter_model.safetensors").read_bytes()
    )
    assert not is_away(done)


@pytest.mark.long
@pytest.mark.slow
def test_two_jobs_train_one_adapter(world: JobWorld) -> None:
    """They reach each other through their network alone, and the first one brings everything home."""
    record = world.ask(max_steps=2, num_nodes=2)
    done = world.until(record, "succeeded", "failed")
    assert done.status == "succeeded", (done.reason, world.logs())
    assert [job.stage for job in world.all()] == ["COMPLETED", "COMPLETED"] and steps(done.folder) == [1, 2]
    (start,) = json.loads((done.folder / "versions.json").read_text())
    assert start["num_processes"] == 2 and (done.folder / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.torture
def test_a_run_is_cancelled_amid_its_start(world: JobWorld) -> None:
    record = world.ask(max_steps=200)
    world.wait(lambda: (record.folder / "status.json").is_file())
    world.launcher.cancel(record.id)
    ended = world.until(record, "cancelled")
    assert world.all()[0].stage == "CANCELED" and "cancelled at step" in ended.reason


@pytest.mark.slow
@pytest.mark.torture
def test_a_run_over_many_jobs_and_its_comparison_with_the_served_adapter(world: JobWorld) -> None:
    """Timed out, killed without a word, cancelled and resumed; at home every step stands once."""
    record = world.ask(max_steps=60, eval_rows=4)
    for way in ("ERROR", "KILLED", "ERROR", "CANCELLED"):
        before = copied_step(world.state, record.id)
        world.wait(
            lambda before=before: bool(world.jobs.active()) and copied_step(world.state, record.id) > before, 600
        )
        job = world.jobs.active()[0]
        world.jobs.grace_seconds = 0.0 if way == "KILLED" else 60.0
        if way == "CANCELLED":
            world.launcher.cancel(record.id)
            world.until(record, "cancelled", seconds=600)
            world.launcher.resume(record.id)
        else:
            world.jobs.end(job, "ERROR", "Job timeout")
        world.wait(lambda job=job: job.is_over and world.store.get(record.id).job.get("id") != job.id, 600)
    done = world.until(record, "succeeded", seconds=900)
    assert steps(done.folder) == list(range(1, 61)) and len(world.all()) == 5
    comparison = json.loads((done.folder / "adapter" / COMPARISON_FILE).read_text())
    assert comparison["served"]["name"] == "starter-adapter" and comparison["decision"] == "waits"


def order(record: RunRecord) -> Order:
    return Order(record.to_json(), 3600, 300)


def test_a_job_goes_on_from_the_copy_with_what_was_changed(home: Path, tmp_path: Path) -> None:
    store = RunStore(home)
    record = store.submit(load_config("starter", {"max_steps": 90}), "owner", promote=True)
    (record.folder / "metrics.jsonl").write_text('{"step": 3}\n')
    (tmp_path / "state").mkdir()
    mirror_run(record.folder, tmp_path / "state")
    changed = record.run_config.model_copy(update={"max_hours": 5.0})
    asked = Order(record.to_json() | {"config": changed.model_dump(mode="json"), "launch": "a" * 16}, 3600, 300)
    found = begin(asked, tmp_path / "state", tmp_path / "elsewhere")
    assert steps(found.folder) == [3] and found.launch == "a" * 16 and found.status == "starting"
    assert RunFolder.open(found.folder)[1].max_hours == 5.0
    assert found.promote is False  # what is served is the app's


def test_a_job_begins_anew_only_where_nothing_was_done(home: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("training.launch.jobs.worker.COPY_SECONDS", 0.0)
    record = RunRecord("run-1", tmp_path / "run-1", load_config("starter").model_dump_json())
    make_folder(record, record.run_config)
    assert begin(order(record), tmp_path / "state", tmp_path / "one").folder.is_dir()
    late = Order(record.to_json() | {"checkpoint_step": 7}, 3600, 300)
    with pytest.raises(UserError, match="no copy of run run-1, which is at step 7"):
        begin(late, tmp_path / "state", tmp_path / "two")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"record": {}, "seconds": 1, "reserve_seconds": 1, "other": 1}'])
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="Jobs are started by the app"):
        Order.from_env({ORDER: text} if text else {})
