"""StateKeeper: an app with an empty disk finds its runs, and what it served; nothing is lost on the way there."""

from __future__ import annotations

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
from tests.support.hub.client import Client
from tests.support.hub.faults import KINDS, NONSENSE, Fault
from tests.support.hub.repos import Hub, Repo
from tests.support.samples import SMALL_RUN, perturbed_adapter
from training.config.run_config import RunConfig
from training.hub.backup.keeper import StateKeeper
from training.hub.backup.mirror import run_state
from training.hub.backup.snapshots import StateTree
from training.launch.local import LocalLauncher
from training.runs.folder import RunFolder
from training.runs.snapshot import newest_groups
from training.runs.store import RunStore
from training.runs.upkeep import delete_run

CONFIG = RunConfig(**SMALL_RUN)
REPO = "me/adapter-state"
ON_SPACE = {"SPACE_ID": "me/look"}


class App:
    """The part of an app that keeps its state, on a disk of its own."""

    def __init__(self, home: Path, state: Path | None, **keeping: str) -> None:
        env = {"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home)} | (
            {"LOOKTHINK_STATE": str(state)} if state else {}
        )
        found = load_settings(env=env, has_gpu=False)
        self.settings: Settings = found.model_copy(
            update={"training": found.training.model_copy(update={"publish_to": "me/adapter"})}
        )
        self.store = RunStore(home)
        self.launcher = LocalLauncher(self.store)
        self.keeper = StateKeeper(self.settings, self.store, env=keeping)
        if isinstance(self.keeper.place, object) and hasattr(self.keeper.place, "first_wait"):
            self.keeper.place.first_wait = self.keeper.place._wait = 0.0
            self.keeper.place.every_seconds = 0.0

    def runs(self) -> dict[str, str]:
        self.launcher._see_to_folders()
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
    first.keeper.look()
    assert first.keeper.trouble is None
    second = App(tmp_path / "second", state)
    second.keeper.look()
    assert second.runs() == first.runs() == {done.path.name: "succeeded", stopped.path.name: "interrupted"}
    assert [r.number for r in second.store.list()] == [r.number for r in first.store.list()]
    assert RunFolder(second.store.folder / done.path.name).history() == done.history()
    again = serving(second.settings)
    assert (again.name, again.digest, again.by) == (promoted.name, promoted.digest, "alice") and not again.notice
    said = str(second.store.notice)
    assert "2 runs, 1 promoted adapter, which adapter is served" in said and "after the restart" in said
    newest = StateTree(run_state(state, done.path.name)).newest_path()
    second.keeper.look()
    assert newest == StateTree(run_state(state, done.path.name)).newest_path(), (
        "nothing has changed, nothing is written"
    )


def test_nothing_here_is_written_over(tmp_path: Path, state: Path) -> None:
    first = App(tmp_path / "first", state)
    run = first.ended()
    first.keeper.look()
    append_line(run.metrics, {"step": 4})
    again = App(tmp_path / "first", state)
    again.keeper.look()
    assert len(run.history()) == 4 and again.store.notice is None


def test_a_run_that_was_deleted_stays_deleted(tmp_path: Path, state: Path) -> None:
    first = App(tmp_path / "first", state)
    run, other = first.ended(), first.ended()
    first.keeper.look()
    delete_run(first.store, run.path.name)
    App(tmp_path / "first", state).keeper.look()
    assert list(first.runs()) == [other.path.name]
    second = App(tmp_path / "second", state)
    second.keeper.look()
    assert list(second.runs()) == [other.path.name]


def test_a_run_whose_folder_is_only_gone_comes_back(tmp_path: Path, state: Path) -> None:
    first = App(tmp_path / "first", state)
    run = first.ended()
    first.keeper.look()
    shutil.rmtree(run.path)
    first.keeper.look()
    assert first.runs() == {run.path.name: "lost"}
    again = App(tmp_path / "first", state)
    again.keeper.look()
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
    first.keeper.look()
    second = App(tmp_path / "second", state)
    second.keeper.look()
    assert second.runs() == {record.id: "running"}
    assert second.store.get(record.id).deaths == 0


def test_a_mount_that_is_missing_is_told_and_found_later(tmp_path: Path, state: Path) -> None:
    first = App(tmp_path / "first", state)
    run = first.ended()
    first.keeper.look()
    state.rename(tmp_path / "away")
    second = App(tmp_path / "second", state)
    second.ended()
    second.keeper.look()
    assert "LOOKTHINK_STATE" in str(second.keeper.trouble) and not state.exists()
    (tmp_path / "away").rename(state)
    second.keeper.look()
    assert second.keeper.trouble is None and len(second.runs()) == 2 and run.path.name in second.runs()


def test_the_thread_copies_by_itself_and_at_its_end(tmp_path: Path, state: Path) -> None:
    app = App(tmp_path / "first", state)
    app.keeper.every_seconds = 60
    app.keeper.start()
    assert app.keeper.wait(120)
    run = app.ended()
    app.keeper.stop(30)
    assert StateTree(run_state(state, run.path.name)).manifests()


def test_without_a_place_nothing_is_kept_and_nothing_said(tmp_path: Path) -> None:
    app = App(tmp_path / "first", None)
    app.keeper.start()
    app.keeper.look()
    app.keeper.stop(1)
    assert app.keeper.place is None and app.keeper.wait(0) and app.keeper.trouble is None


def test_without_a_bucket_a_private_repository_keeps_the_runs(tmp_path: Path, repo: Hub) -> None:
    first = App(tmp_path / "first", None, **ON_SPACE)
    first.keeper.look()
    assert ("model", REPO) not in repo.repos, "there is nothing to keep yet"
    run = first.ended()
    promoted = promote(first.settings.home, perturbed_adapter(tmp_path / "own"), "alice", settings=first.settings)
    first.keeper.look()
    found = kept(repo)
    assert found.private and len(found.commits) == 2, "one commit, after the one that makes it"
    first.keeper.look()
    assert len(found.commits) == 2, "nothing new, no commit"
    second = App(tmp_path / "second", None, **ON_SPACE)
    second.keeper.look()
    assert second.runs() == {run.path.name: "succeeded"} and serving(second.settings).digest == promoted.digest
    delete_run(second.store, run.path.name)
    second.keeper.look()
    assert not any("runs/" in path for path in found.commits[found.refs["main"]])
    assert any("serving/" in path for path in found.commits[found.refs["main"]])
    texts = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"hf_token_of_me" not in texts


def test_a_public_repository_is_told_no_secrets(tmp_path: Path, repo: Hub) -> None:
    repo.repo("model", REPO).commit({})
    app = App(tmp_path / "first", None, **ON_SPACE)
    app.ended()
    app.keeper.look()
    assert "is public" in str(app.keeper.trouble) and len(kept(repo).commits) == 1


def test_without_a_token_it_says_what_is_missing(tmp_path: Path, hub_client: Client) -> None:
    app = App(tmp_path / "first", None, **ON_SPACE)
    app.ended()
    app.keeper.look()
    assert "secret HF_TOKEN" in str(app.keeper.trouble)


def test_what_does_not_belong_there_is_neither_read_nor_touched(tmp_path: Path, repo: Hub) -> None:
    first = App(tmp_path / "first", None, **ON_SPACE)
    run = first.ended()
    first.keeper.look()
    kept(repo).commit({"runs/../../x": b"1", "README.md": b"# Mine", "runs/a/evil.py": b"1/0", "served.json": b"{}"})
    second = App(tmp_path / "second", None, **ON_SPACE)
    second.keeper.look()
    second.ended()
    second.keeper.look()
    assert run.path.name in second.runs() and second.keeper.trouble is None
    assert not list(tmp_path.rglob("evil.py")) and not (tmp_path / "second" / "served.json").exists()
    assert "README.md" in kept(repo).commits[kept(repo).refs["main"]]


@pytest.mark.parametrize("has_bucket", [True, False])
def test_a_space_that_was_duplicated_leaves_the_first_ones_runs_alone(
    tmp_path: Path, state: Path, repo: Hub, has_bucket: bool
) -> None:
    where = state if has_bucket else None
    first = App(tmp_path / "first", where, **ON_SPACE)
    run = first.ended()
    first.keeper.look()
    copy = App(tmp_path / "copy", where, SPACE_ID="me/copy")
    copy.ended()
    copy.keeper.look()
    assert "keeps the runs of the Space me/look, and this is me/copy" in str(copy.keeper.trouble)
    assert run.path.name not in copy.runs() and not copy.keeper.restored.runs
    again = App(tmp_path / "again", where, **ON_SPACE)
    again.keeper.look()
    assert list(again.runs()) == [run.path.name] and again.keeper.trouble is None
    if has_bucket:  # it has taken the other's place
        (state / "kept-for.json").unlink()
        copy.keeper.look()
        assert run.path.name in copy.runs() and "me/copy" in (state / "kept-for.json").read_text()


def test_a_token_that_is_not_valid_is_no_empty_repository(
    tmp_path: Path, repo: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = App(tmp_path / "first", None, **ON_SPACE)
    run = first.ended()
    first.keeper.look()
    # On the Hub itself, whose addresses begin with https, the client takes such an answer for a missing repository.
    monkeypatch.setattr("huggingface_hub.utils._http.REPO_API_REGEX", re.compile("/api/models/"))
    repo.failure = 401
    second = App(tmp_path / "second", None, **ON_SPACE)
    second.keeper.look()
    assert "does not accept the token" in str(second.keeper.trouble) and second.runs() == {}
    repo.failure = None
    second.keeper.look()
    assert list(second.runs()) == [run.path.name]


def test_a_repository_keeps_the_pictures_of_the_newest_step(tmp_path: Path, repo: Hub) -> None:
    first = App(tmp_path / "first", None, **ON_SPACE)
    run = first.ended()
    for step, name in ((1, "a.jpg"), (2, "b.jpg"), (2, "../config.json"), (2, "gone.jpg")):
        group = {"step": step, "prompt": "How many?", "image": name, "completions": [{"text": "2"}]}
        append_line(run.rollouts, group)
        (run.images / "b.jpg").write_bytes(b"the newest")
    first.keeper.look()
    second = App(tmp_path / "second", None, **ON_SPACE)
    second.keeper.look()
    assert first.keeper.trouble is None and second.runs() == {run.path.name: "succeeded"}
    there = second.store.folder / run.path.name / "images"
    assert [path.name for path in there.iterdir()] == ["b.jpg"] and len(newest_groups(there.parent)) == 3


def test_when_the_space_is_to_sleep_again_is_kept_too(tmp_path: Path, repo: Hub) -> None:
    first = App(tmp_path / "first", None, **ON_SPACE)
    first.ended()
    (tmp_path / "first" / "sleep.json").write_text('{"before_seconds": 900}')
    first.keeper.look()
    second = App(tmp_path / "second", None, **ON_SPACE)
    second.keeper.look()
    assert json.loads((tmp_path / "second" / "sleep.json").read_text()) == {"before_seconds": 900}
    (tmp_path / "second" / "sleep.json").unlink()
    second.keeper.look()
    App(tmp_path / "third", None, **ON_SPACE).keeper.look()
    assert not (tmp_path / "third" / "sleep.json").exists(), "it was set again"


SENDING = ("POST .*/repos/create", "GET .*/api/models/.*", "POST .*/preupload/main", "POST .*/commit/main")
FETCHING = ("GET .*/api/models/.*", "HEAD .*/resolve/.*", "GET .*/resolve/.*")
SENT = [("lost", SENDING[3]), ("reset", SENDING[0]), ("412", SENDING[3]), ("429", SENDING[2])]
FETCHED = [("reset", FETCHING[2]), ("500", FETCHING[0])]
"""A sample; `make torture` has every kind at every route."""
EVERY = (*KINDS, *NONSENSE[:2])
TORTURE = bool(os.environ.get("LOOKTHINK_TORTURE"))


def fault(kind: str, where: str) -> Fault:
    return Fault(kind, where, times=-1, retry_after=0, seconds=0.2)


@pytest.mark.parametrize(("kind", "where"), list(itertools.product(EVERY, SENDING)) if TORTURE else SENT)
def test_a_fault_while_it_is_sent_loses_nothing_and_keeps_nothing_twice(
    tmp_path: Path, repo: Hub, impatient: None, kind: str, where: str
) -> None:
    first = App(tmp_path / "first", None, **ON_SPACE)
    num_commits = 2
    if where != SENDING[0]:
        first.ended()
        first.keeper.look()
        num_commits = 3
    run = first.ended()
    repo.faults.append(fault(kind, where))
    first.keeper.look()
    assert "kept on this machine only for now" in str(first.keeper.trouble) or kind in ("lost", "reset", "slow")
    repo.faults.clear()
    first.keeper.look()
    assert first.keeper.trouble is None and len(kept(repo).commits) == num_commits, "one more, whatever went wrong"
    second = App(tmp_path / "second", None, **ON_SPACE)
    second.keeper.look()
    assert run.path.name in second.runs() and len(second.runs()) == num_commits - 1


@pytest.mark.parametrize(("kind", "where"), list(itertools.product(EVERY, FETCHING)) if TORTURE else FETCHED)
def test_a_fault_while_it_is_brought_back_is_made_up_for(
    tmp_path: Path, repo: Hub, impatient: None, kind: str, where: str
) -> None:
    first = App(tmp_path / "first", None, **ON_SPACE)
    run = first.ended()
    first.keeper.look()
    repo.faults.append(fault(kind, where))
    second = App(tmp_path / "second", None, **ON_SPACE)
    second.keeper.look()
    assert second.keeper.trouble or kind in ("lost", "reset", "slow")
    repo.faults.clear()
    second.keeper.look()
    assert second.keeper.trouble is None and second.runs() == {run.path.name: "succeeded"}
    assert len(kept(repo).commits) == 2


def test_a_hub_that_is_down_at_the_start_costs_nothing_that_is_kept(tmp_path: Path, repo: Hub, impatient: None) -> None:
    first = App(tmp_path / "first", None, **ON_SPACE)
    run = first.ended()
    first.keeper.look()
    repo.failure = 503
    second = App(tmp_path / "second", None, **ON_SPACE)
    other = second.ended()
    second.keeper.look()
    assert "has trouble" in str(second.keeper.trouble)
    repo.failure = None
    second.keeper.look()
    assert set(second.runs()) == {run.path.name, other.path.name}
    third = App(tmp_path / "third", None, **ON_SPACE)
    third.keeper.look()
    assert set(third.runs()) == {run.path.name, other.path.name}


def test_failures_are_waited_out_longer_and_longer(tmp_path: Path, repo: Hub, impatient: None) -> None:
    app = App(tmp_path / "first", None, **ON_SPACE)
    app.ended()
    place = app.keeper.place
    place.first_wait = place._wait = 1000.0  # type: ignore[union-attr]
    repo.faults.append(Fault("429", "GET .*", times=-1, retry_after=2000))
    app.keeper.look()
    asked = len(repo.requests)
    app.keeper.look()
    assert len(repo.requests) == asked, "not before the Hub wants it"
    assert place._not_before - time.monotonic() > 1900  # type: ignore[union-attr]
