"""Mirror: a run's copy follows it, grows by tails, has the newest whole checkpoint, and is whole or none."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path

import pytest

from inference.common.errors import UserError
from inference.common.files import append_line, write_whole
from tests.inference.prompt.test_image import encoded, gradient
from tests.support.samples import SMALL_RUN
from training.config.run_config import RunConfig
from training.data.own_sets.sets import OwnSets
from training.hub.backup import copies
from training.hub.backup.copies import NUM_MANIFESTS, CopyFolder, Manifest
from training.hub.backup.mirror import (
    RunBackup,
    RunMirror,
    ServingMirror,
    copied_step,
    forget_run,
    mirror_run,
    run_copy,
    served_copy,
)
from training.hub.backup.restore import restore_home, restore_run
from training.learn.pinned import PinnedQuestions
from training.runs.folder import RunFolder

RUN = "20261122-143000-a1b2"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


@pytest.fixture
def run(home: Path) -> RunFolder:
    folder = RunFolder.create(home / "runs" / RUN, RunConfig(**SMALL_RUN))
    append_line(folder.metrics, {"step": 1, "reward": 0.5})
    folder.set_status("running", "training", 1)
    return folder


def checkpoint(run: RunFolder, step: int, size: int = 5000, whole: bool = True) -> Path:
    path = run.checkpoints / f"checkpoint-{step}"
    path.mkdir()
    (path / "adapter_model.safetensors").write_bytes(random.Random(step).randbytes(size))
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": 9}))
    if whole:
        run.mark_complete(path, keep=2)
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def back(state: Path, tmp_path: Path, name: str = "other") -> Path:
    return restore_run(RUN, state, tmp_path / name)


def test_a_run_comes_back_as_it_was(run: RunFolder, state: Path, tmp_path: Path) -> None:
    checkpoint(run, 1)
    checkpoint(run, 2)
    checkpoint(run, 3, whole=False)
    for name in ("lock", "config.json.part", ".hidden"):
        (run.path / name).write_text("not to be copied")
    (run.path / "link.json").symlink_to("/etc/hostname")
    os.mkfifo(run.path / "pipe")
    assert mirror_run(run.path, state).num_changed == 6
    found = content(back(state, tmp_path))
    expected = {name: data for name, data in content(run.path).items() if "checkpoint-1" not in name}
    for name in ("lock", "config.json.part", ".hidden", "link.json"):
        expected.pop(name, None)
    assert found == {name: data for name, data in expected.items() if "checkpoint-3" not in name}
    assert RunFolder(tmp_path / "other" / "runs" / RUN).newest_checkpoint() is not None


def test_only_what_has_changed_is_copied(run: RunFolder, state: Path, tmp_path: Path) -> None:
    checkpoint(run, 1, size=100_000)
    mirror = RunMirror(run.path, state)
    assert mirror.step().num_bytes > 100_000
    assert mirror.step() == RunMirror(run.path, state).step() == mirror_run(run.path, state)
    assert mirror.step().num_changed == 0 and len(run_copy(state, RUN).manifests()) == 1
    for again in (mirror, RunMirror(run.path, state)):
        append_line(run.metrics, {"step": 2})
        done = again.step()
        assert done.num_changed == 1 and done.num_bytes == len('{"step": 2}\n')
    assert content(back(state, tmp_path))["metrics.jsonl"] == run.metrics.read_bytes()


@pytest.mark.parametrize("fresh", [False, True], ids=["one process", "a new process"])
def test_a_growing_file_costs_at_most_three_times_its_size(
    run: RunFolder, state: Path, tmp_path: Path, fresh: bool
) -> None:
    rollouts, sizes, copy = run.path / "rollouts.jsonl", random.Random(0), run_copy(state, RUN)
    (run.path / "train.log").write_bytes(b"")
    mirror, num_bytes = RunMirror(run.path, state), 0
    for number in range(100):
        append_line(rollouts, {"text": "x" * sizes.randrange(500, 4000)})
        with (run.path / "train.log").open("ab") as file:
            file.write(sizes.randbytes(500))
        num_bytes += (RunMirror(run.path, state) if fresh else mirror).step().num_bytes
        if number % 20 == 7:
            assert content(back(state, tmp_path, f"after-{number}")) == content(run.path)
    grown = rollouts.stat().st_size + (run.path / "train.log").stat().st_size
    assert num_bytes < 3 * grown
    assert sum(copy.sizes().values()) < 3 * grown, "with all that the three newest manifests need"
    assert all(len(file.parts) < 40 for file in copy.manifests()[0].files.values())
    assert content(back(state, tmp_path)) == content(run.path)


def test_a_log_that_was_written_anew_is_copied_whole(run: RunFolder, state: Path, tmp_path: Path) -> None:
    train_log, mirror = run.path / "train.log", RunMirror(run.path, state)
    for text in ("one\n", "one\ntwo\n", "three\n", "1\n2\n3\n4\n", ""):
        train_log.write_text(text)
        mirror.step()
        assert (back(state, tmp_path) / "train.log").read_text() == text


def test_files_that_no_manifest_needs_are_deleted(run: RunFolder, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror, copy = RunMirror(run.path, state), run_copy(state, RUN)
    (copy.path / "00000001-000000").mkdir(parents=True)
    (copy.path / "00000001-000000" / "metrics.jsonl").write_text("of a pass that was killed")
    for step in range(2, 9):
        append_line(run.metrics, {"step": step})
        mirror.step()
    needed = set().union(*(manifest.paths for manifest in copy.manifests()))
    stored = {path for path in copy.sizes() if not path.startswith("manifest-")}
    assert stored - needed == {"00000001-000000/metrics.jsonl"}, "it may be of a pass under way"
    monkeypatch.setattr(copies, "LEFT_OVER_SECONDS", -1.0)
    RunMirror(run.path, state).step()
    assert {path for path in copy.sizes() if not path.startswith("manifest-")} == needed
    assert len(list(copy.path.iterdir())) == len({path.partition("/")[0] for path in needed}) + NUM_MANIFESTS


def test_a_line_half_written_waits_for_its_end(run: RunFolder, state: Path, tmp_path: Path) -> None:
    whole = run.metrics.read_bytes()
    with run.metrics.open("a") as file:
        file.write('{"step": 2, "rew')
    mirror = RunMirror(run.path, state)
    mirror.step()
    assert content(back(state, tmp_path))["metrics.jsonl"] == whole
    with run.metrics.open("a") as file:
        file.write('ard": 1}\n')
    mirror.step()
    assert content(back(state, tmp_path))["metrics.jsonl"] == run.metrics.read_bytes()


@pytest.mark.parametrize("fresh", [False, True], ids=["one process", "a new process"])
def test_records_that_were_wound_back_are_copied_anew(run: RunFolder, state: Path, tmp_path: Path, fresh: bool) -> None:
    for step in (2, 3):
        append_line(run.metrics, {"step": step, "reward": 0.25})
    mirror = RunMirror(run.path, state)
    mirror.step()
    run.rewind(1)
    for step in (2, 3, 4):
        append_line(run.metrics, {"step": step, "reward": 0.75})
    (RunMirror(run.path, state) if fresh else mirror).step()
    assert content(back(state, tmp_path))["metrics.jsonl"] == run.metrics.read_bytes()


def test_a_checkpoint_that_goes_while_it_is_copied(
    run: RunFolder, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer deletes the old one as soon as it has a new one: what is copied is one of them, whole."""
    first = checkpoint(run, 1)
    opened = copies.open_plain

    def deleting(path: Path):
        if path.name == "trainer_state.json" and first.exists():
            run.mark_complete(checkpoint(run, 2, whole=False), keep=1)
        return opened(path)

    monkeypatch.setattr(copies, "open_plain", deleting)
    mirror_run(run.path, state)
    found = RunFolder(back(state, tmp_path)).newest_checkpoint()
    assert not first.exists() and found is not None and found.name == "checkpoint-2"


@pytest.mark.parametrize("after", range(0, 40, 3))
def test_killed_at_any_write_the_copy_before_is_restored(
    run: RunFolder, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A mount that goes away in the middle of a write leaves half a file; nothing of it is ever restored."""
    checkpoint(run, 1)
    mirror_run(run.path, state)
    before = content(run.path)
    checkpoint(run, 2)
    append_line(run.metrics, {"step": 2})
    run.set_status("running", "training", 2)
    left = after

    def write(path: Path, pieces) -> None:
        nonlocal left
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for piece in pieces:
                for at in range(0, len(piece), 500):
                    if left == 0:
                        raise OSError(5, "the mount is gone", str(path))
                    left -= 1
                    file.write(piece[at : at + 500])
                    file.flush()

    monkeypatch.setattr(copies, "write_stream", write)
    try:
        mirror_run(run.path, state)
    except OSError:
        pass
    monkeypatch.undo()
    found = content(back(state, tmp_path))
    now = {name: data for name, data in content(run.path).items() if "checkpoint-1" not in name}
    assert found in (before, now)
    mirror_run(run.path, state)
    assert content(back(state, tmp_path, "third")) == now, "and the next pass goes on from what there was"


def test_a_damaged_copy_gives_way_to_the_one_before(run: RunFolder, state: Path, tmp_path: Path) -> None:
    mirror = RunMirror(run.path, state)
    for step in range(2, 8):
        write_whole(run.path / "status.json", json.dumps({"status": "running", "step": step}))
        mirror.step()
    tree = run_copy(state, RUN)
    manifests = tree.manifests()
    assert len(manifests) == NUM_MANIFESTS and manifests[0].number == 6
    newest = tree.path / manifests[0].files["status.json"].parts[0].where
    newest.write_bytes(b"x" * newest.stat().st_size)  # the size is right, the content is not
    assert json.loads(content(back(state, tmp_path))["status.json"])["step"] == 6
    second = tree.newest_path()
    assert second is not None
    second.write_text(second.read_text()[:-20])
    for manifest in tree.manifests():
        (tree.path / manifest.files["config.json"].parts[0].where).unlink(missing_ok=True)
    with pytest.raises(UserError, match="incomplete and was left alone"):
        back(state, tmp_path, "third")
    assert not (tmp_path / "third" / "runs" / RUN).exists()


def test_what_was_lost_of_a_copy_is_copied_again(run: RunFolder, state: Path, tmp_path: Path) -> None:
    mirror_run(run.path, state)
    tree = run_copy(state, RUN)
    for path in tree.sizes():
        if not path.startswith("manifest-"):
            (tree.path / path).unlink()
    mirror_run(run.path, state)
    assert content(back(state, tmp_path)) == content(run.path)


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/../../b", "", "a//b", "a\\b", "a\nb", "x/" * 30])
def test_no_manifest_leads_out_of_the_folder(name: str) -> None:
    with pytest.raises(ValueError, match="no path of a file inside"):
        Manifest.model_validate({"files": {name: {"mtime_ns": 0, "parts": []}}})


def test_a_run_that_is_gone_keeps_its_copy(run: RunFolder, state: Path) -> None:
    mirror = RunMirror(run.path, state)
    mirror.step()
    run.path.rename(run.path.parent / "away")
    with pytest.raises(FileNotFoundError, match="no run here"):
        mirror.step()
    assert run_copy(state, RUN).manifests()[0].files


def test_a_missing_mount_is_told_and_made_by_nobody(
    run: RunFolder, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.hub.backup.mirror._FINISH_WAITS", (0.0, 0.0))
    state.rmdir()
    checkpoint(run, 4)
    steps: list[int] = []
    backup = RunBackup(run.path, state, every_seconds=600, on_step=steps.append)
    assert not backup.finish() and "is the bucket mounted?" in str(backup.trouble)
    assert not state.exists() and steps == []
    state.mkdir()
    assert backup.finish() and backup.trouble is None, "the last pass finds it there again"
    assert steps == [4] and copied_step(state, RUN) == 4


def test_deleting_a_copy_leaves_nothing(run: RunFolder, state: Path) -> None:
    mirror_run(run.path, state)
    forget_run(RUN, state)
    assert list((state / "runs").iterdir()) == []
    forget_run(RUN, state)


def test_what_is_served_is_copied_with_its_versions(home: Path, state: Path) -> None:
    version = home / "adapters" / "first-0123abcd"
    version.mkdir(parents=True)
    (version / "adapter_config.json").write_text("{}")
    (home / "adapters" / ".incoming-1").mkdir()
    (home / "adapters" / ".incoming-1" / "half").write_text("")
    (home / "served.json").write_text("{}")
    (home / "secret").write_text("not to be copied")
    assert ServingMirror(home, state).step().num_changed == 2
    found = restore_home(home.parent / "new", state)
    assert content(home.parent / "new") == {
        "served.json": b"{}",
        "adapters/first-0123abcd/adapter_config.json": b"{}",
        "served.lock": b"",
    }
    assert (found.versions, found.served) == (["first-0123abcd"], True)


def test_a_set_of_ones_own_is_copied_and_comes_back(home: Path, state: Path, tmp_path: Path) -> None:
    """With the rows that were left out; one that is deleted stays deleted."""
    sets, new = OwnSets(home), home.parent / "new"
    (tmp_path / "picture").write_bytes(encoded(gradient()))
    for name in ("bars", "other"):
        for number in range(3):
            sets.add(name, tmp_path / "picture", f"How many, {number}?", str(number))
    sets.leave_out("bars", sets.rows("bars")[0].key)
    mirror = ServingMirror(home, state)
    mirror.step()
    sets.delete("other")
    mirror.step()
    found = restore_home(new, state)
    assert found.sets == ["bars"] and "1 dataset" in found.summary
    assert OwnSets(new).rows("bars") == sets.rows("bars") and OwnSets(new).names() == ["bars"]
    assert all((new / "sets" / "bars" / row.file_name).is_file() for row in sets.rows("bars"))
    assert mirror.step().num_changed == 0


def test_pinned_questions_are_copied_and_come_back(home: Path, state: Path, tmp_path: Path) -> None:
    """One that is removed stays removed; a damaged picture keeps no other; a home with an own list keeps that."""
    pinned, new = PinnedQuestions(home), PinnedQuestions(home.parent / "new")
    picture = encoded(gradient())
    one, gone, damaged = (pinned.add(picture, f"How many, {number}?", "4") for number in range(3))
    mirror = ServingMirror(home, state)
    mirror.step()
    pinned.remove(gone.key)
    (home / "pinned" / "results.json").write_text('{"results": {}}')
    assert mirror.step().num_changed == 3 and not mirror.step().num_changed
    piece = served_copy(state).manifests()[0].files[f"pinned/{damaged.key}.png"].parts[0]
    (served_copy(state).path / piece.where).unlink()
    found = restore_home(new.folder.parent, state)
    assert found.pinned and "the pinned questions" in found.summary and damaged.key in found.problems[0]
    assert new.all() == [one, damaged] and (new.folder / "results.json").is_file()
    assert new.picture(one).read_bytes() == pinned.picture(one).read_bytes() and not new.picture(damaged).exists()
    new.remove(one.key)
    assert not restore_home(new.folder.parent, state).pinned and new.all() == [damaged]


def test_pinned_questions_that_cannot_be_read_now_stay_in_the_copy(
    home: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned, new = PinnedQuestions(home), tmp_path / "empty"
    pinned.add(encoded(gradient()), "How many?", "4")
    ServingMirror(home, state).step()
    monkeypatch.setattr(CopyFolder, "read", lambda tree, part: (_ for _ in ()).throw(OSError(errno.EIO, "gone")))
    found = restore_home(new, state)
    assert not found.pinned and not found.is_all and not PinnedQuestions(new).all()
    (new / "served.json").write_text("{}")
    assert ServingMirror(new, state).step().num_changed == 1
    monkeypatch.undo()
    assert restore_home(new, state).pinned and PinnedQuestions(new).all() == pinned.all()
