"""What becomes of runs as Jobs, against a test Hub whose Jobs run: here a few quick lines in the trainer's place."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from inference.common.errors import UserError
from inference.common.settings import load_settings
from tests.support.deploying import documented
from tests.support.hub.faults import KINDS, Fault
from tests.support.hub.repos import Hub
from tests.support.job_world import BUCKET, QUICK, SPACE, TOKEN, JobWorld
from training.__main__ import main
from training.config.run_config import load_config
from training.launch.jobs.launcher import launcher_for
from training.launch.jobs.spec import MAX_SECONDS, MIN_SECONDS, timeout_seconds
from training.runs.record import RunRecord
from training.runs.store import RunStore

ROUTES = (
    "POST /api/jobs/me",
    "GET /api/jobs/me",
    "GET /api/jobs/me/[0-9a-f]+",
    "GET /api/jobs/me/[0-9a-f]+/logs",
    "GET /api/jobs/hardware",
    "GET /api/spaces/.*",
)
"""Those that a Job's run touches; `cancel` has tests of its own."""
WAITS = "metrics(1)\nprint('a line', flush=True)\ntime.sleep(60)\n"
DONE = "metrics(1)\nend(0)\n"


@pytest.fixture
def make(hub: Hub, hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a world whose Jobs run this code."""
    worlds = []

    def make(code: str, pace=QUICK) -> JobWorld:
        worlds.append(JobWorld(hub, hub_url, tmp_path, monkeypatch, pace, code))
        return worlds[-1]

    yield make
    for world in worlds:
        world.jobs.end_all()


def test_a_job_has_the_spaces_code_the_run_and_the_token_as_a_secret(make) -> None:
    world = make(DONE + "x")
    record = world.ask(max_steps=7, publish_to="me/adapter")
    done = world.until(record, "succeeded")
    (job,) = world.all()
    code, bucket = job.spec["volumes"]
    assert (code["type"], code["source"], code["revision"]) == ("space", SPACE, world.code)
    assert (bucket["type"], bucket["source"], bucket["mountPath"]) == ("bucket", BUCKET, "/state")
    assert job.labels["app"] == "lookthink" and job.labels["run"] == record.id and job.labels["launch"] == done.launch
    assert job.spec["secrets"] == {"HF_TOKEN": TOKEN} and TOKEN not in json.dumps(job.spec["environment"])
    assert job.spec["flavor"] == "a100-large" and job.spec["timeoutSeconds"] == MIN_SECONDS
    order = json.loads(job.spec["environment"]["LOOKTHINK_JOB"])
    assert order["record"]["config"]["max_steps"] == 7 and str(world.folder) not in json.dumps(order)
    assert (done.job["id"], done.job["revision"], done.launcher) == (job.id, world.code, "job")
    assert done.dollars_per_hour == pytest.approx(2.5, rel=1e-3) and done.metrics["reward"] == 0.5
    assert not any(TOKEN in path.read_text(errors="replace") for path in done.folder.rglob("*") if path.is_file())


def test_a_token_goes_only_where_it_is_needed(make) -> None:
    world = make(DONE)
    world.until(world.ask(), "succeeded")
    assert "secrets" not in world.all()[0].spec


def test_a_run_is_cancelled_and_says_from_where_it_can_go_on(make) -> None:
    world = make(f"checkpoint(1)\n{WAITS}")
    record = world.ask()
    world.until(record, "running")
    world.wait(lambda: (record.folder / "output.log").is_file())
    assert world.launcher.cancel(record.id).status == "stopping"
    ended = world.until(record, "cancelled")
    assert "cancelled at step 1" in ended.reason and world.all()[0].stage == "CANCELED"
    assert (record.folder / "output.log").read_text() == "a line\n"
    assert world.launcher.resume(record.id).status == "starting"
    world.wait(lambda: len(world.all()) == 2)


def test_a_run_is_cancelled_while_its_job_waits(make) -> None:
    world = make(WAITS)
    world.jobs.busy.add("a100-large")
    record = world.ask()
    world.wait(lambda: "no free machine: no a100-large for" in world.store.get(record.id).reason)
    said = world.store.get(record.id).reason
    assert "would fit on t4-small: 1 x T4, 16 GB, $0.40 an hour" in said and "which costs nothing" in said
    world.launcher.cancel(record.id)
    assert world.until(record, "cancelled").step == 0


def test_a_job_that_runs_into_its_timeout_goes_on_as_a_new_one(make) -> None:
    world = make("checkpoint(order['record']['checkpoint_step'] + 2)\n" + WAITS)
    record = world.ask()
    for count in (1, 2):
        world.wait(lambda count=count: len(world.all()) == count)
        world.until(record, "running")
        world.jobs.end(world.all()[-1], "ERROR", "Job timeout")
    world.wait(lambda: len(world.all()) == 3)
    again = world.store.get(record.id)
    assert "ran into its timeout (Job timeout); it goes on from step 4 as a new Job" in again.reason
    assert (again.deaths, again.checkpoint_step) == (1, 4) and len(world.jobs.active()) == 1


def test_jobs_that_lead_nowhere_end_the_run(make) -> None:
    world = make("print('CUDA is broken', flush=True)\nsys.exit(1)\n")
    ended = world.until(world.ask(), "failed")
    assert len(world.all()) == 3 and "3 Jobs in a row ended with no new checkpoint (step 0)" in ended.reason
    assert "CUDA is broken" in ended.reason and "exit code: 1" in ended.reason


def test_a_job_that_never_begins_fails_at_once_with_the_end_of_its_log(make, hub: Hub) -> None:
    world = make(DONE)
    del hub.repos["space", SPACE].commits[world.code]["requirements.txt"]
    ended = world.until(world.ask(), "failed")
    assert len(world.all()) == 1 and "requirements.txt" in ended.reason and "Its last words" in ended.reason


def test_a_reason_that_the_trainer_gives_is_the_runs(make) -> None:
    world = make("end(5, 'the loss is not a number')")
    ended = world.until(world.ask(), "failed")
    assert ended.reason.startswith("the loss is not a number") and len(world.all()) == 1


def test_a_job_that_is_cancelled_on_the_hub_is_not_started_again(make) -> None:
    world = make("time.sleep(60)")
    record = world.ask()
    world.until(record, "running")
    world.jobs.end(world.all()[0], "CANCELED", "Job cancelled")
    ended = world.until(record, "interrupted", "cancelled", "failed")
    assert (ended.status, len(world.all())) == (
        "interrupted",
        1,
    ) and "cancelled on the Hub, not from here" in ended.reason


@pytest.mark.parametrize("kind", ["lost", "reset", "refused", "500", "503", "429"])
def test_no_answer_to_a_start_starts_no_second_job(kind: str, make, hub: Hub) -> None:
    world = make(WAITS)
    hub.faults.append(Fault(kind, "POST /api/jobs/me", times=2))
    record = world.ask()
    world.until(record, "running")
    assert len(world.all()) == 1
    assert world.store.get(record.id).job["id"] == world.all()[0].id


@pytest.mark.parametrize(("kind", "said"), [("401", "does not let this token"), ("412", "412")])
def test_a_start_that_is_refused_is_said(kind: str, said: str, make, hub: Hub) -> None:
    world = make(WAITS)
    hub.faults.append(Fault(kind, "POST /api/jobs/me", times=-1))
    record = world.ask()
    if kind == "401":
        assert said in world.until(record, "failed").reason
    else:
        world.wait(lambda: said in world.store.get(record.id).reason)
    assert world.all() == []


def test_a_hub_that_is_down_while_a_job_runs_is_said_and_nothing_is_lost(make, hub: Hub) -> None:
    world = make("metrics(1)\nfor _ in range(30): time.sleep(0.1)\nmetrics(2)\nend(0)")
    record = world.ask()
    world.until(record, "running")
    hub.failure = 503
    world.wait(lambda: "the Hub does not answer" in world.store.get(record.id).reason)
    assert "its Job goes on meanwhile" in world.store.get(record.id).reason
    world.wait(lambda: world.all()[0].is_over)
    assert world.store.get(record.id).status == "running"
    hub.failure = None
    done = world.until(record, "succeeded")
    assert [json.loads(line)["step"] for line in (done.folder / "metrics.jsonl").read_text().splitlines()] == [1, 2]


def test_a_slow_hub_holds_up_no_page(make, hub: Hub) -> None:
    world = make(WAITS)
    hub.faults.append(Fault("slow", ".*/api/jobs/me.*", times=-1, seconds=600, gate=threading.Event()))
    record = world.ask()
    world.launcher = world.new_launcher(in_background=True)
    world.launcher.reconcile()
    world.launcher.reconcile()
    assert world.launcher.cancel(record.id).status == "stopping"
    hub.faults.pop().gate.set()  # not before that was told
    assert world.until(record, "cancelled").step == 0


def test_an_app_that_is_started_again_goes_on_with_the_job(make) -> None:
    world = make(WAITS)
    record = world.ask()
    world.until(record, "running")
    world.launcher = world.new_launcher()
    world.wait(lambda: world.store.get(record.id).metrics != {})
    (world.home / "runs.sqlite3").unlink()
    for name in ("-wal", "-shm"):
        (world.home / f"runs.sqlite3{name}").unlink(missing_ok=True)
    world.launcher = world.new_launcher()
    world.launcher.reconcile()
    found = world.store.get(record.id)
    assert found.status == "running" and found.job["id"] == world.all()[0].id and len(world.all()) == 1


def test_a_run_whose_home_was_lost_is_found_by_the_labels_of_its_job(make) -> None:
    world = make(WAITS)
    record = world.ask(budget={"max_hours": 3.0})
    before = world.until(record, "running")
    world.home.rename(world.folder / "lost")
    world.launcher = world.new_launcher()
    world.wait(lambda: world.store.exists() and world.store.list() != [] and world.store.get(record.id).metrics != {})
    found = world.store.get(record.id)
    assert (found.id, found.launch, found.max_hours) == (before.id, before.launch, 3.0)
    assert found.job["id"] == world.all()[0].id and len(world.all()) == 1
    world.launcher.cancel(record.id)
    assert world.until(record, "cancelled").asked_by == "owner"


def test_strangers_labels_and_environments_make_no_run(make) -> None:
    world = make(WAITS)
    spec = {"flavor": "a100-large", "command": ["sleep", "60"], "environment": {"LOOKTHINK_JOB": "{}"}}
    for run in ("../../etc", "good-name", "." * 200):
        labels = {"app": "lookthink", "run": run, "launch": "f" * 16, "space": "me--lookthink"}
        world.jobs.start("me", spec | {"labels": labels})
    world.launcher.reconcile()
    assert not world.store.exists() or world.store.list() == []


def test_the_time_limit_follows_the_estimate_and_what_the_doctor_measured(tmp_path: Path) -> None:
    def limit(steps: int) -> int:
        record = RunRecord("run", tmp_path, load_config("starter", {"max_steps": steps}).model_dump_json())
        return timeout_seconds(record, [], "a100-large", [tmp_path])

    assert limit(20) == MIN_SECONDS < limit(10_000) < limit(20_000) < limit(10**6) == MAX_SECONDS
    arithmetic = limit(10_000)
    measured = {"seconds": 0.01, "num_steps": 3, "hardware": "NVIDIA A100-SXM4-80GB"}
    (tmp_path / "report.json").write_text(json.dumps({"steps": [{"settings": {}, "measured": measured}]}))
    assert limit(10_000) < arithmetic


def test_a_second_job_of_a_start_is_ended(make, hub: Hub) -> None:
    world = make(WAITS)
    hub.faults.append(Fault("lost", "POST /api/jobs/me"))
    record = world.ask()
    world.wait(lambda: len(world.all()) == 1)
    world.jobs.start("me", dict(world.all()[0].spec))
    world.until(record, "running")
    world.wait(lambda: len(world.jobs.active()) == 1)
    assert world.store.get(record.id).job["id"] == world.all()[0].id


HELPS = "if order['node']: time.sleep(60)\n"


def test_a_run_on_two_machines_is_two_jobs_in_one_network(make) -> None:
    world = make(HELPS + WAITS)
    record = world.ask(num_nodes=2)
    running = world.until(record, "running")
    helper, first = world.all()
    networks = [job.spec["network"] for job in (first, helper)]
    assert [network["aliases"] for network in networks] == [["1"], ["2"]]
    assert {network["group"] for network in networks} == {f"lookthink-{running.launch}"}
    assert running.job["id"] == first.id
    assert running.dollars_per_hour == pytest.approx(5.0, rel=1e-3), "of both"
    world.launcher = world.new_launcher(pace=replace(QUICK, look=0.0, others=0.0))
    for _ in range(3):
        world.launcher.reconcile()
    assert not helper.is_over and len(world.all()) == 2, "it is no second Job of the start"
    world.launcher.cancel(record.id)
    world.until(record, "cancelled")
    world.wait(lambda: helper.is_over)
    assert (first.stage, helper.stage) == ("CANCELED", "CANCELED")


def test_two_jobs_go_on_as_two_new_ones(make) -> None:
    world = make(HELPS + "checkpoint(number + 1)\n" + WAITS)
    record = world.ask(num_nodes=2)
    world.until(record, "running")
    world.jobs.end(world.all()[1], "ERROR", "Job timeout")
    world.wait(lambda: len(world.all()) == 4)
    assert all(job.is_over for job in world.all()[:2])
    assert [job.spec["network"]["aliases"] for job in world.all()[2:]] == [["2"], ["1"]]


def test_a_helper_that_was_started_already_is_not_started_twice(make, hub: Hub) -> None:
    world = make(HELPS + WAITS)
    hub.faults.append(Fault("500", "GET /api/spaces/.*", times=-1))
    record = world.ask(num_nodes=2)
    world.wait(lambda: "does not answer" in world.store.get(record.id).reason)
    launch = world.store.get(record.id).launch
    labels = {"app": "lookthink", "run": record.id, "launch": launch, "space": "me--lookthink", "home": "space"}
    command = {"flavor": "a100-large", "command": ["sleep", "60"], "labels": labels | {"node": "1"}}
    helper = world.jobs.start("me", command)
    hub.faults.clear()
    world.until(record, "running")
    assert [job.labels["node"] for job in world.all()] == ["1", "0"] and not helper.is_over


def test_a_budget_stops_a_job(make) -> None:
    world = make(WAITS)
    record = world.ask(budget={"max_hours": 0.0016})
    ended = world.until(record, "interrupted")
    assert "the budget of 0.00 h is used up" in ended.reason
    assert world.all()[0].spec["timeoutSeconds"] == 1800


def test_what_a_job_needs_is_said_before_the_button(make, monkeypatch, tmp_path) -> None:
    world = make(WAITS)
    with pytest.raises(UserError, match="start_adapter|dataset is .* a path of this machine"):
        (tmp_path / "pictures").mkdir()
        world.ask(data={"dataset": str(tmp_path / "pictures")}, eval_rows=0)
    settings = world.launcher.settings
    training = settings.training.model_copy(update={"bucket": None})
    for name in ("SPACE_ID", "HF_TOKEN"):
        monkeypatch.delenv(name)
    bare = launcher_for(settings.model_copy(update={"training": training}), RunStore(world.home))
    with pytest.raises(UserError, match="LOOKTHINK_SPACE.*training.bucket.*HF_TOKEN"):
        bare.check(world.store.submit(load_config("starter"), "me").run_config)


def test_the_last_line_of_a_cpu_space_is_followed(make, home, monkeypatch, tmp_path, capsys) -> None:
    """The commands that docs/deploying.md has for a terminal that is no Space, with the variables that it names."""
    commands, text = documented("A CPU Space that trains as Jobs, in ten lines")
    start, watch = (words for words in commands if words[0] != "deploy")
    world = make(DONE)
    monkeypatch.delenv("SPACE_ID")
    for name, value in (("LOOKTHINK_SPACE", SPACE), ("LOOKTHINK_BUCKET", BUCKET), ("HF_TOKEN", TOKEN)):
        assert f"`{name}`" in text
        monkeypatch.setenv(name, value)
    (tmp_path / "space.yaml").write_text(
        "model: {base: me/vl}\n" + text.split("```yaml\n")[1].split("```")[0].replace("\n   ", "\n").lstrip()
    )
    monkeypatch.setattr(load_settings, "__defaults__", (tmp_path / "space.yaml", None))
    monkeypatch.setattr("training.launch.jobs.launcher.Pace", lambda: QUICK)
    monkeypatch.setattr("training.cli.runs._LOOK_SECONDS", 0.05)
    assert main(["me/tuned" if word == "OWNER/ADAPTER" else word for word in start]) == 0
    [record] = RunStore(home).list()
    assert main([record.id if word == "RUN" else word for word in watch]) == 0, capsys.readouterr().out
    print(capsys.readouterr().out)
    config = RunStore(home).get(record.id).run_config
    assert (config.base, config.publish_to, config.profile) == ("me/vl", "me/tuned", "a100")
    assert [job.spec["flavor"] for job in world.all()] == ["a100-large"]


def test_jobs_are_looked_after_when_runs_are_processes_again(make) -> None:
    world = make("time.sleep(1)\nend(0)")
    record = world.ask()
    world.until(record, "running")
    training = world.launcher.settings.training.model_copy(update={"trainer": "space"})
    settings = world.launcher.settings.model_copy(update={"training": training})
    world.launcher = launcher_for(settings, RunStore(world.home), pace=replace(QUICK))
    assert world.until(record, "succeeded").launcher == "job"


@pytest.mark.torture
@pytest.mark.parametrize("kind", (*KINDS, "html", "shape"))
@pytest.mark.parametrize("route", ROUTES)
def test_a_fault_at_any_route_ends_well_or_clearly(route: str, kind: str, make, hub: Hub) -> None:
    """Two faults in a row at each route, of each kind: one Job at most at a time, every step once, or words."""
    world = make("metrics(1)\ntime.sleep(1)\nmetrics(2)\nend(0)")
    hub.faults.append(Fault(kind, route, times=2, seconds=0.5))
    record = world.ask()
    ended = world.until(record, "succeeded", "failed")
    while ended.status == "failed":
        assert "401" in ended.reason and kind == "401" and not world.jobs.active(), ended.reason
        world.launcher.resume(record.id)
        ended = world.until(record, "succeeded", "failed")
    assert ended.status == "succeeded", ended
    assert [json.loads(line)["step"] for line in (ended.folder / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert sum(job.stage == "COMPLETED" for job in world.all()) == 1 and not world.jobs.active()
