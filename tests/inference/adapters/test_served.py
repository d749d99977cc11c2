"""Which adapter is served: promotions, roll backs, who goes before whom, and files that are broken or gone."""

from __future__ import annotations

import json
import os
import resource
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.adapters.record import adapter_digest
from inference.adapters.served import (
    FILE,
    MAX_EARLIER,
    MAX_HISTORY,
    Change,
    Entry,
    ServedFile,
    ServedMeanwhile,
    locked,
    promote,
    read_served,
    roll_back,
    serving,
    write_served,
)
from inference.adapters.versions import version_folder
from inference.common.errors import UserError
from inference.common.settings import STARTER, Settings, load_settings
from tests.support.samples import perturbed_adapter

SHIPPED = STARTER / "adapter"


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three, each unlike the others."""
    root = tmp_path_factory.mktemp("adapters")
    return [perturbed_adapter(root / f"own-{seed}", seed) for seed in range(3)]


@pytest.fixture
def settings(home: Path) -> Settings:
    """A fresh deployment of the starter."""
    return load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home)}, has_gpu=False)


def test_a_fresh_home_serves_what_the_settings_name(settings: Settings) -> None:
    found = serving(settings)
    assert (found.path, found.name, found.source) == (SHIPPED, "starter-adapter", "settings")
    assert (found.since, found.before, found.history, found.notice) == (None, None, (), "")
    bare = serving(settings.model_copy(update={"adapter": None}))
    assert (bare.path, bare.name, bare.digest) == (None, None, None)


def test_promotions_and_roll_backs_in_turn(settings: Settings, adapters: list[Path]) -> None:
    home, (one, two, three) = settings.home, adapters
    first = promote(home, one, "alice", settings=settings)
    assert first.source == "served.json" and first.by == "alice" and first.since and first.since.endswith("Z")
    assert first.name == f"own-0-{adapter_digest(one)[:8]}" and first.path == version_folder(home, first.name)
    assert first.before == Entry()
    second = promote(home, two, "bob", settings=settings)
    assert second.before and second.before.adapter == first.name
    assert promote(home, two, "carol", settings=settings) == second, "what is served already is not promoted again"
    back = roll_back(home, "carol", settings=settings, instead_of=second.digest)
    with pytest.raises(UserError, match=f"Meanwhile {first.name} is served; look again"):
        roll_back(home, "dora", settings=settings, instead_of=second.digest)  # who pressed at the same moment
    assert (back.name, back.by) == (first.name, "carol")
    third = promote(home, three, "alice", settings=settings)
    assert roll_back(home, "alice", settings=settings).name == first.name, "not to the one that was rolled back from"
    last = roll_back(home, "alice", settings=settings)
    assert (last.path, last.source, last.by, last.before) == (SHIPPED, "settings", "alice", None)
    with pytest.raises(UserError, match="Nothing was served before"):
        roll_back(home, "alice", settings=settings)
    told = [(change.action, change.adapter, change.before) for change in last.history]
    assert told == [
        ("promote", first.name, None),
        ("promote", second.name, first.name),
        ("roll back", first.name, second.name),
        ("promote", third.name, first.name),
        ("roll back", first.name, third.name),
        ("roll back", None, first.name),
    ]


def test_lookthink_adapter_goes_before_the_file_and_the_file_before_the_settings(
    settings: Settings, adapters: list[Path]
) -> None:
    promoted = promote(settings.home, adapters[0], "alice", settings=settings)
    env = {"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(settings.home), "LOOKTHINK_ADAPTER": str(adapters[1])}
    pinned = load_settings(env=env, has_gpu=False)
    found = serving(pinned)
    assert (found.path, found.source) == (adapters[1], "LOOKTHINK_ADAPTER")
    assert str(promoted.name) in found.notice and "unset" in found.notice
    with pytest.raises(UserError, match="LOOKTHINK_ADAPTER is set to .*Start without it"):
        promote(settings.home, adapters[2], "bob", settings=pinned)
    with pytest.raises(UserError, match="LOOKTHINK_ADAPTER is set to .*Start without it"):
        roll_back(settings.home, "bob", settings=pinned)
    assert serving(settings) == promoted


def test_instead_of_keeps_a_promotion_from_what_was_not_compared(settings: Settings, adapters: list[Path]) -> None:
    compared = serving(settings).digest
    promote(settings.home, adapters[0], "somebody", settings=settings)
    before = read_served(settings.home)
    with pytest.raises(ServedMeanwhile, match="own-0"):
        promote(settings.home, adapters[1], "a run", settings=settings, instead_of=compared)
    assert read_served(settings.home) == before
    known = serving(settings).digest
    assert str(promote(settings.home, adapters[1], "a run", settings=settings, instead_of=known).name).startswith(
        "own-1"
    )


SPOILS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda f: f.write_text(f.read_text()[:40]), "cannot be used"),
    "empty": (lambda f: f.write_text(""), "cannot be used"),
    "another type": (lambda f: f.write_text("[1]"), "cannot be used"),
    "no UTF-8": (lambda f: f.write_bytes(b"\xff\xfe"), "cannot be used"),
    "a setting of one's own": (lambda f: f.write_text('{"serve": "me"}'), "cannot be used .serve"),
    "a way out of the folder": (lambda f: f.write_text('{"served": {"adapter": "../../etc"}}'), "served.adapter"),
    "a path": (lambda f: f.write_text('{"served": {"adapter": "/etc"}}'), "served.adapter"),
    "very long": (lambda f: f.write_text(" " * 1_000_001), "larger than 1 MB"),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_broken_file_is_told_and_kept_when_the_next_one_is_written(
    settings: Settings, adapters: list[Path], spoil: str
) -> None:
    home = settings.home
    promote(home, adapters[0], "alice", settings=settings)
    spoiling, message = SPOILS[spoil]
    spoiling(home / FILE)
    broken = (home / FILE).read_bytes()
    found = serving(settings)
    assert found.path == SHIPPED and found.source == "settings" and "Correct it, or promote" in found.notice
    with pytest.raises(UserError, match=message):
        read_served(home)
    with pytest.raises(UserError, match="cannot be used"):
        roll_back(home, "alice", settings=settings)
    assert (home / FILE).read_bytes() == broken, "nothing but a promotion sets it aside"
    again = promote(home, adapters[0], "alice", settings=settings)
    assert again.source == "served.json" and not again.notice
    [kept] = home.glob("served.broken-*.json")
    assert kept.read_bytes() == broken


def test_a_version_that_is_gone_changed_or_of_another_base_is_told(settings: Settings, adapters: list[Path]) -> None:
    promoted = promote(settings.home, adapters[0], "alice", settings=settings)
    assert promoted.path
    other = serving(settings.model_copy(update={"base": "Qwen/Qwen2.5-VL-3B-Instruct", "adapter": None}))
    assert other.path is None and "was trained on starter" in other.notice
    weights = promoted.path / "adapter_model.safetensors"
    shutil.copyfile(adapters[1] / weights.name, weights)
    assert "not those that were promoted" in serving(settings).notice
    shutil.copyfile(adapters[0] / weights.name, weights)
    assert serving(settings) == promoted
    shutil.rmtree(promoted.path)
    found = serving(settings)
    assert found.path == SHIPPED and "is gone" in found.notice and "Promote it or another one again" in found.notice
    assert promote(settings.home, adapters[0], "alice", settings=settings).name == promoted.name, "the remedy works"


def test_a_roll_back_passes_over_what_is_gone(settings: Settings, adapters: list[Path]) -> None:
    first, second, _ = (promote(settings.home, each, "alice", settings=settings) for each in adapters)
    shutil.rmtree(str(second.path))
    found = roll_back(settings.home, "alice", settings=settings)
    assert found.name == first.name and str(second.name) in found.history[-1].note


def test_the_run_may_be_deleted(settings: Settings, adapters: list[Path]) -> None:
    run = settings.home / "runs" / "20261122-143000-a1b2"
    shutil.copytree(adapters[0], run / "adapter")
    promoted = promote(settings.home, run / "adapter", "alice", settings=settings)
    shutil.rmtree(run)
    assert serving(settings) == promoted and not promoted.notice
    assert str(promoted.name).startswith("20261122-143000-a1b2-")


def test_two_writers_lose_nothing(settings: Settings, adapters: list[Path]) -> None:
    def change(adapter: Path) -> None:
        promote(settings.home, adapter, adapter.name, settings=settings)
        promote(settings.home, SHIPPED, adapter.name, settings=settings)

    threads = [threading.Thread(target=change, args=(each,)) for each in adapters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    found = read_served(settings.home)
    chain = [None, *(change.adapter for change in found.history)]
    assert [change.before for change in found.history] == chain[:-1], "each one knows the one before"
    assert found.served.adapter == chain[-1] and len(found.earlier) == len(found.history)
    assert len(list((settings.home / "adapters").iterdir())) == 4


def test_what_is_kept_is_bounded(home: Path) -> None:
    home.mkdir()
    entries = [
        Entry(adapter=f"v{number}", digest="0", since="2026-11-22T14:30:00Z", by="alice") for number in range(300)
    ]
    changes = [
        Change(at="2026-11-22T14:30:00Z", by="alice", action="promote", adapter=f"v{number}", before=None)
        for number in range(300)
    ]
    with locked(home):
        file = ServedFile(served=entries[-2], earlier=(Entry(), *entries[:-2]), history=tuple(changes))
        write_served(home, file, entries[-1], (*file.earlier, file.served), "promote")
    found = read_served(home)
    assert len(found.history) == MAX_HISTORY and len(found.earlier) == MAX_EARLIER + 1
    assert found.earlier[0] == Entry(), "what the settings name can always be returned to"
    assert found.earlier[-1].adapter == "v298" and (home / FILE).stat().st_size < 100_000


def test_a_full_disk_changes_nothing_and_is_told(settings: Settings, adapters: list[Path]) -> None:
    before = promote(settings.home, adapters[0], "alice", settings=settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # no file can grow beyond it: half an adapter
    try:
        with pytest.raises(UserError, match="What is served stays as it was.*Free some space"):
            promote(settings.home, adapters[1], "bob", settings=settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert serving(settings) == before
    assert [path.name for path in (settings.home / "adapters").iterdir()] == [before.name], "no half of it is left"


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, settings: Settings, adapters: list[Path]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the right to write"):
        promote(tmp_path / "file" / "home", adapters[0], "alice", settings=settings)


def test_what_a_killed_promotion_leaves_is_no_hindrance(settings: Settings, adapters: list[Path]) -> None:
    half = settings.home / "adapters" / ".incoming-0123"
    half.mkdir(parents=True)
    (half / "adapter_config.json").write_text("{")
    (settings.home / f".{FILE}.part").write_text('{"served": ')
    assert serving(settings).path == SHIPPED
    promote(settings.home, adapters[0], "alice", settings=settings)
    assert not half.exists() and not (settings.home / f".{FILE}.part").exists()


def test_the_file_is_plain(settings: Settings, adapters: list[Path]) -> None:
    promoted = promote(settings.home, adapters[0], "alice", settings=settings)
    content = json.loads((settings.home / FILE).read_text())
    assert content["served"] == {
        "adapter": promoted.name,
        "digest": adapter_digest(adapters[0]),
        "since": promoted.since,
        "by": "alice",
    }
    assert ServedFile.model_validate(content).history[0].action == "promote"
    assert os.fspath(settings.home) not in (settings.home / FILE).read_text(), "a home may be moved"
