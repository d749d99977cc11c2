"""CachedAnswers: nobody waits long, nothing is asked twice at a time, and an answer holds as long as it is good for.
PeriodicTask: no work keeps a core busy."""

from __future__ import annotations

import threading
import time

from inference.common.background import CachedAnswers, PeriodicTask


def test_a_late_answer_holds_nobody_up_and_comes_later() -> None:
    asked, gate, now = [], threading.Event(), [0.0]

    def ask(key: str) -> str:
        asked.append(key)
        gate.wait(60)
        return f"{key} {len(asked)}"

    patient: CachedAnswers[str, str] = CachedAnswers(ask, lambda found: 100.0, wait_seconds=0.02, clock=lambda: now[0])
    assert [patient.get("a"), patient.get("a"), patient.get("b")] == [None, None, None] and sorted(asked) == ["a", "b"]
    gate.set()
    patient.wait_seconds = 60.0
    for thread, _ in list(patient._asking.values()):
        thread.join(60)
    assert patient.get("a") == "a 2" and len(asked) == 2
    now[0] = 101.0
    gate.clear()
    patient.wait_seconds = 0.02
    assert patient.get("a") == "a 2", "what was known before, while the new one is late"
    gate.set()
    patient._asking["a"][0].join(60)
    assert patient.get("a") == "a 3"


def test_work_that_asks_for_no_wait_does_not_keep_a_core_busy() -> None:
    """0 is what a count returns where nothing was counted."""
    calls: list[float] = []

    def work() -> float:
        calls.append(time.monotonic())
        return 0

    task = PeriodicTask(work, 60.0, "test")
    task.start()
    time.sleep(0.3)
    task.stop(10.0)
    assert 1 < len(calls) <= 40
