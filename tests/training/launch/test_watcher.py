"""What the app looks after is looked after on, whatever goes wrong in one part of it."""

from __future__ import annotations

import pytest

from inference.common.errors import UserError
from training.launch.watcher import Watcher


class Launcher:
    """Runs that can be watched, or not."""

    def __init__(self) -> None:
        self.problem: Exception | None = None
        self.looks = 0

    def reconcile(self) -> None:
        self.looks += 1
        if self.problem is not None:
            raise self.problem


def test_each_is_looked_after_whatever_the_others_do(caplog: pytest.LogCaptureFixture) -> None:
    launcher, seen = Launcher(), []

    def full() -> None:
        seen.append("full")
        raise UserError("The disk is full. Make room.")

    watcher = Watcher(launcher, also=[full, lambda: seen.append("last")])
    watcher.look()
    assert (launcher.looks, seen, watcher.trouble) == (1, ["full", "last"], "The disk is full. Make room.")
    launcher.problem = RuntimeError("broken")
    watcher.look()
    assert (launcher.looks, seen[2:]) == (2, ["full", "last"])
    assert watcher.trouble == "the runs cannot be watched: RuntimeError: broken"
    watcher.look()
    assert [record.getMessage() for record in caplog.records].count(watcher.trouble) == 1
    launcher.problem, watcher.also = None, ()
    watcher.look()
    assert watcher.trouble is None


def test_it_looks_until_it_is_stopped() -> None:
    launcher = Launcher()
    watcher = Watcher(launcher, every_seconds=0.01)
    watcher.start()
    while launcher.looks < 3:
        pass
    watcher.stop()
    looks = launcher.looks
    watcher.stop()
    assert launcher.looks == looks
