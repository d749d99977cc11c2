"""Backup: an app with an empty disk finds its runs, and what it served; nothing is lost on the way there."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from inference.adapters.served import promote, serving
from inference.common.files import append_line
from inference.common.settings import Settings, load_settings
from tests.inference.prompt.test_image import encoded, gradient
from tests.support.hub.client import Client
from tests.support.hub.faults import KINDS, NONSENSE, Fault
from tests.support.hub.repos import Hub, Repo
from tests.support.samples import SMALL_RUN, perturbed_adapter
from training.config.run_config import RunConfig
from training.hub.backup.backup import REPOSITORY_RESTORED, Backup
from training.hub.backup.copies import digest_of
from training.hub.backup.mirror import run_copy
from training.launch.local import LocalLauncher
from training.learn.pinned import PinnedQuestions
from training.runs.folder import RunFolder
from training.runs.store import RunStore
from training.runs.upkeep import delete_run

CONFIG = RunConfig(**SMALL_RUN)
REPO = "me/adapter-state"
ON_SPACE = {"SPACE_ID": "me/look"}


class App:
    """The part of an app that keeps its state, on a disk of its own."""

    def __init__(self, home: Path, state: Path | None, **env_of_space: str) -> None:
        env = {"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home)} | (
            {"LOOKTHINK_STATE": str(state)} if state else {}
        )
        loaded = load_settings(env=env, has_gpu=False)
        self.settings: Settings = loaded.model_copy(
            update={"training": loaded.training.model_copy(update={"publish_to": "me/adapter"})}
        )
        self.store = RunStore(home)
        self.launcher = LocalLauncher(self.store)
        self.backup = Backup(self.settings, self.store, env=env_of_space)
        self.backup.first_wait_seconds = 0.0

    def runs(self) -> dict[str, str]:
        self.launcher._read_folders()
        return {record.id: record.status for record in self.store.list()}

    def ended(self, status: str = "succeeded", steps: int = 3) -> RunFolder:
        """A run that has come to its end, as its folder and its record say."""
        record = self.store.submit(CONFIG, "owner")
        folder = RunFolder(record.folder)
        for step in range(1, steps + 1):
            append_line(folder.metrics, {"step": step, "reward": step / 10})
        (folder.images / "a.jpg").write_bytes(b"a picture")
        (folder.path / "train.log").write_text("said\n" * 10)
        for name in ("starting", "running", status):
            record = self.store.transition(record, name, step=steps)  # type: ignore[assignment]
        return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "bucket").mkdir()
    return tmp_path / "bucket"


@pytest.fixture
def repo(hub: Hub, hub_client: Client) -> Hub:
    """A Hub where `me` may write."""
    hub.tokens["hf_token_of_me"] = "me"
    hub_client.log_in("hf_token_of_me")
    return hub


def kept(hub: Hub) -> Repo:
    return hub.repos[("model", REPO)]


def test_an_empty_disk_finds_every_run_and_what_was_served(tmp_path: Path, state: Path) -> None:
    first = App(tmp_path / "first", state)
    done, stopped = first.ended(), first.ended("interrupted")
    promoted = promote(first.settings.home, perturbed_adapter(tmp_path / "own"), "alice", settings=first.settings)
    first.backup.look()
    pinned = PinnedQuestions(first.settings.home)
    pinned.add(encoded(gradient()), "How many?", "4")
    first.backup.look()
    assert first.backup.trouble is None
    second = App(tmp_path / "second", state)
    second.backup.look()
    assert PinnedQuestions(second.settings.home).all() == pinned.all()
    assert second.runs() == first.runs() == {done.path.name: "succeeded", stopped.path.name: "interrupted"}
    assert [r.number for r in second.store.list()] == [r.number for r in first.store.list()]
    assert RunFolder(second.store.folder / done.path.name).history() == done.history()
    again = serving(second.settings)
    assert (again.name, again.digest, again.by) == (promoted.name, promoted.digest, "alice") and not again.notice
    said = str(second.store.notice)
    assert (
        "2 runs, 1 promoted adapter, which adapter is served, the pinned questions" in said
        and "after the restart" in said
    )
    newest = run_copy(state, done.path.name).newest_path()
    second.backup.look()
    assert newest == run_copy(state, done.path.name).newest_path(), "nothing has changed, nothing is written"


def test_nothing_here_is_written_over(tmp_path: Path, state: Path) -> None:
    first = App(tmp_path / "first", state)
    run = first.ended()
    first.backup.look()
    append_line(run.metrics, {"step": 4})
    again = App(tmp_path / "first", state)
    again.backup.look()
    assert len(run.history()) == 4 and again.store.notice is None


def test_a_run_that_was_deleted_stays_deleted(tmp_path: Path, state: Path) -> None:
    first = App(tmp_path / "first", state)
    run, other = first.ended(), first.ended()
    first.backup.look()
    delete_run(first.store, run.path.name)
    App(tmp_path / "first", state).backup.look()
    assert list(first.runs()) == [other.path.name]
    second = App(tmp_path / "second", state)
    second.backup.look()
    assert list(second.runs()) == [other.path.name]


def test_a_run_whose_folder_is_only_gone_comes_back(tmp_path: Path, state: Path) -> None:
    first = App(tmp_path / "first", state)
    run = first.ended()
    first.backup.look()
    shutil.rmtree(run.path)
    first.backup.look()
    assert first.runs() == {run.path.name: "lost"}
    again = App(tmp_path / "first", state)
    again.backup.look()
    assert again.runs()[run.path.name] == "succeeded" and len(run.history()) == 3


def test_a_run_that_was_under_way_goes_on_elsewhere(tmp_path: Path, state: Path) -> None:
    """Its process was one of a machine that is gone: the launcher starts it again, from what was kept."""
    first = App(tmp_path / "first", state)
    record = first.store.submit(CONFIG, "owner")
    for name in ("starting", "running"):
        record = first.store.transition(  # type: ignore[assignment]
            record, name, launch="ab", pid=1, pid_created=1.0, boot_id="another"
        )
    (record.folder / "process.json").write_text(
        json.dumps({"launch": "ab", "pid": 1, "created": 1.0, "boot_id": "another", "seconds": 60})
    )
    first.backup.look()
    second = App(tmp_path / "second", state)
    second.backup.look()
    assert second.runs() == {record.id: "running"}
    assert second.store.get(record.id).deaths == 0


def test_a_mount_that_is_missing_is_told_and_found_later(tmp_path: Path, state: Path) -> None:
    first = App(tmp_path / "first", state)
    run = first.ended()
    first.backup.look()
    state.rename(tmp_path / "away")
    second = App(tmp_path / "second", state)
    second.ended()
    second.backup.look()
    assert "LOOKTHINK_STATE" in str(second.backup.trouble) and not state.exists()
    (tmp_path / "away").rename(state)
    second.backup.look()
    assert second.backup.trouble is None and len(second.runs()) == 2 and run.path.name in second.runs()


def test_the_thread_copies_by_itself_and_at_its_end(tmp_path: Path, state: Path) -> None:
    app = App(tmp_path / "first", state)
    app.backup.start()
    assert app.backup.wait(120)
    run = app.ended()
    app.backup.stop(30)
    assert run_copy(state, run.path.name).manifests()


def test_without_a_bucket_nothing_is_kept_and_nothing_said(tmp_path: Path) -> None:
    app = App(tmp_path / "first", None)
    app.backup.start()
    app.backup.look()
    app.backup.stop(1)
    assert not app.backup.is_needed and app.backup.wait(0) and app.backup.trouble is None


def old_copy(folder: Path, source: Path) -> None:
    """A copy as earlier versions made it: pieces of files under their digests, and a manifest."""
    (folder / "content").mkdir(parents=True)
    files: dict[str, object] = {}
    for path in (path for path in source.rglob("*") if path.is_file()):
        data = path.read_bytes()
        pieces = [data[: len(data) // 2], data[len(data) // 2 :]]
        parts = [{"digest": hashlib.sha256(piece).hexdigest(), "size": len(piece)} for piece in pieces]
        for part, piece in zip(parts, pieces, strict=True):
            (folder / "content" / str(part["digest"])).write_bytes(piece)
        files[path.relative_to(source).as_posix()] = {"mtime_ns": path.stat().st_mtime_ns, "parts": parts}
    body = {"number": 7, "at": 1.5, "files": files}
    text = json.dumps({"manifest": body, "digest": digest_of(body)})
    (folder / "manifest-00000007-abcdef.json").write_text(text)


@pytest.fixture
def old_run(tmp_path: Path, repo: Hub) -> str:
    """A run that an earlier version kept in the repository; its name."""
    app = App(tmp_path / "earlier", None)
    run = app.ended()
    old_copy(tmp_path / "old" / "runs" / run.path.name, run.path)
    (tmp_path / "old" / "kept-for.json").write_text('{"space": "me/look"}')
    files = {p.relative_to(tmp_path / "old").as_posix(): p.read_bytes() for p in (tmp_path / "old").rglob("*.*")}
    files |= {p.relative_to(tmp_path / "old").as_posix(): p.read_bytes() for p in (tmp_path / "old").rglob("content/*")}
    repo.repo("model", REPO).commit(files | {"README.md": b"# Mine", "runs/a/evil.py": b"1/0", "served.json": b"{}"})
    kept(repo).private = True
    return run.path.name


def test_a_bucket_of_an_earlier_version_is_restored_and_gone_on_with(tmp_path: Path, state: Path) -> None:
    first = App(tmp_path / "first", state)
    run = first.ended()
    old_copy(state / "runs" / run.path.name, run.path)
    second = App(tmp_path / "second", state)
    second.backup.look()
    assert second.runs() == {run.path.name: "succeeded"}
    append_line(RunFolder(second.store.folder / run.path.name).metrics, {"step": 4})
    (second.store.folder / run.path.name / "status.json").write_text("{}")
    second.backup.look()
    third = App(tmp_path / "third", state)
    third.backup.look()
    assert len(RunFolder(third.store.folder / run.path.name).history()) == 4
    for _ in range(3):
        append_line(run.metrics, {"step": 5})
        (run.path / "status.json").write_text("{}")
        App(tmp_path / "first", state).backup.look()
    assert not (state / "runs" / run.path.name / "manifest-00000007-abcdef.json").exists()
    fourth = App(tmp_path / "fourth", state)
    fourth.backup.look()
    assert len(RunFolder(fourth.store.folder / run.path.name).history()) == 6


@pytest.mark.parametrize("has_bucket", [True, False])
def test_a_repository_of_an_earlier_version_is_restored_once_and_never_written(
    tmp_path: Path, state: Path, repo: Hub, old_run: str, has_bucket: bool
) -> None:
    num_commits = len(kept(repo).commits)
    where = state if has_bucket else None
    app = App(tmp_path / "first", where, **ON_SPACE)
    app.backup.look()
    assert app.backup.trouble is None and app.runs() == {old_run: "succeeded"}
    assert "1 run" in str(app.store.notice)
    assert not list((tmp_path / "first").rglob("evil.py")) and not (tmp_path / "first" / "state").exists()
    assert not (tmp_path / "first" / "served.json").exists()
    app.ended()
    num_requests = len(repo.requests)
    app.backup.look()
    App(tmp_path / "first", where, **ON_SPACE).backup.look()
    assert len(repo.requests) == num_requests and len(kept(repo).commits) == num_commits
    assert ((state if has_bucket else tmp_path / "first") / REPOSITORY_RESTORED).is_file()
    if has_bucket:  # an empty disk finds it in the bucket
        again = App(tmp_path / "again", where, **ON_SPACE)
        again.backup.look()
        assert old_run in again.runs() and len(repo.requests) == num_requests


def test_without_such_a_repository_it_is_asked_for_once(tmp_path: Path, repo: Hub) -> None:
    for _ in range(2):
        app = App(tmp_path / "first", None, **ON_SPACE)
        app.backup.look()
        app.backup.look()
        assert app.backup.trouble is None and ("model", REPO) not in repo.repos
    assert sum("api/models" in path for _, path in repo.requests) <= 2


def test_without_a_token_nothing_is_fetched(tmp_path: Path, hub: Hub, hub_client: Client) -> None:
    app = App(tmp_path / "first", None, **ON_SPACE)
    app.backup.look()
    assert app.backup.trouble is None and hub.requests == []


@pytest.mark.parametrize("has_bucket", [True, False])
def test_a_space_that_was_duplicated_leaves_the_first_ones_runs_alone(
    tmp_path: Path, state: Path, repo: Hub, old_run: str, has_bucket: bool
) -> None:
    copy = App(tmp_path / "copy", None, SPACE_ID="me/copy")
    if has_bucket:
        first = App(tmp_path / "first", state, **ON_SPACE)
        first.backup.look()
        copy = App(tmp_path / "copy", state, SPACE_ID="me/copy")
    copy.ended()
    copy.backup.look()
    words = "keeps the runs of the Space me/look, and this is me/copy"
    assert words in (str(copy.backup.trouble) if has_bucket else str(copy.store.notice))
    assert old_run not in copy.runs() and not copy.backup.restored.runs
    if has_bucket:
        again = App(tmp_path / "again", state, **ON_SPACE)
        again.backup.look()
        assert list(again.runs()) == [old_run] and again.backup.trouble is None
        (state / "kept-for.json").unlink()  # it has taken the other's place
        copy.backup.look()
        assert old_run in copy.runs() and "me/copy" in (state / "kept-for.json").read_text()


def test_a_token_that_is_not_valid_is_no_missing_repository(
    tmp_path: Path, repo: Hub, old_run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On the Hub itself, whose addresses begin with https, the client takes such an answer for a missing repository.
    monkeypatch.setattr("huggingface_hub.utils._http.REPO_API_REGEX", re.compile("/api/models/"))
    repo.failure = 401
    app = App(tmp_path / "first", None, **ON_SPACE)
    app.backup.look()
    assert "HF_TOKEN" in str(app.backup.trouble) and app.runs() == {}
    repo.failure = None
    app.backup.look()
    assert list(app.runs()) == [old_run]


def test_the_sleep_time_of_the_space_is_kept_too(tmp_path: Path, state: Path) -> None:
    first = App(tmp_path / "first", state)
    first.ended()
    (tmp_path / "first" / "sleep.json").write_text('{"before_seconds": 900}')
    first.backup.look()
    second = App(tmp_path / "second", state)
    second.backup.look()
    assert json.loads((tmp_path / "second" / "sleep.json").read_text()) == {"before_seconds": 900}
    (tmp_path / "second" / "sleep.json").unlink()
    second.backup.look()
    App(tmp_path / "third", state).backup.look()
    assert not (tmp_path / "third" / "sleep.json").exists(), "it was set again"


FETCHING = ("GET .*/api/models/.*", "HEAD .*/resolve/.*", "GET .*/resolve/.*")
FETCHED = [("reset", FETCHING[2]), ("500", FETCHING[0])]
"""A sample; `make torture` has every kind at every route."""
EVERY = (*KINDS, *NONSENSE[:2])
TORTURE = bool(os.environ.get("LOOKTHINK_TORTURE"))


@pytest.mark.torture(sampled=True)
@pytest.mark.parametrize(("kind", "where"), list(itertools.product(EVERY, FETCHING)) if TORTURE else FETCHED)
def test_a_fault_while_the_repository_is_read_is_made_up_for(
    tmp_path: Path, repo: Hub, old_run: str, impatient: None, kind: str, where: str
) -> None:
    app = App(tmp_path / "first", None, **ON_SPACE)
    repo.faults.append(Fault(kind, where, times=-1, retry_after=0, seconds=0.2))
    app.backup.look()
    assert "are not here yet" in str(app.backup.trouble) or kind in ("lost", "reset", "slow")
    repo.faults.clear()
    app.backup.look()
    assert app.backup.trouble is None and app.runs() == {old_run: "succeeded"}


def test_a_hub_that_is_down_keeps_no_run_from_the_bucket(
    tmp_path: Path, state: Path, repo: Hub, old_run: str, impatient: None
) -> None:
    repo.failure = 503
    app = App(tmp_path / "first", state, **ON_SPACE)
    run = app.ended()
    app.backup.look()
    assert "has trouble" in str(app.backup.trouble) and run_copy(state, run.path.name).manifests()
    repo.failure = None
    app.backup.look()
    assert set(app.runs()) == {run.path.name, old_run} and app.backup.trouble is None


def test_failures_are_waited_out_longer_and_longer(tmp_path: Path, repo: Hub, old_run: str, impatient: None) -> None:
    app = App(tmp_path / "first", None, **ON_SPACE)
    app.backup.first_wait_seconds = 1000.0
    repo.faults.append(Fault("429", "GET .*", times=-1, retry_after=2000))
    app.backup.look()
    num_requests = len(repo.requests)
    app.backup.look()
    assert len(repo.requests) == num_requests, "not before the Hub wants it"
    assert app.backup._not_before - time.monotonic() > 1900
