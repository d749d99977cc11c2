"""Runs as Jobs, against a test Hub whose Jobs really run: from the start through the log to the adapter at home."""

from pathlib import Path

import pytest

from tests.hub_repos import Hub
from tests.job_world import JobWorld


@pytest.fixture
def world(hub: Hub, hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    world = JobWorld(hub, hub_url, tmp_path, monkeypatch)
    yield world
    world.jobs.end_all()


@pytest.mark.slow
def test_a_run_from_its_start_through_its_log_to_its_adapter(world: JobWorld) -> None:
    record = world.ask(eval_rows=4)
    done = world.until(record, "succeeded", "failed")
    assert done.status == "succeeded", (done, world.logs())
    print(sorted(p.relative_to(done.folder).as_posix() for p in done.folder.rglob("*") if p.is_file()))
    print(done)
    print((done.folder / "output.log").read_text())
