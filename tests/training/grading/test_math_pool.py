"""The pool: nasty formulas, threads, forks, kills, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests import ROOT
from training.grading import math_pool as grading_pool
from training.grading.grader import grade_answer
from training.grading.math_pool import GONE, STARVED, Budget, MathLimit, MathProcess, math_equal, num_workers
from training.grading.math_worker import MEMORY_LIMIT_BYTES

on_linux = pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="reads processes under /proc")
NASTY = {
    "a tower of powers": "9^{9^{9^9}}",
    "a shorter tower": "9^{9^9}",
    "a factorial": "10000000!",
    "factorials of factorials": "(9!)!",
    "a binomial": "\\binom{10^9}{5\\cdot 10^8}",
    "nested fractions": "\\frac{1}{1+" * 1000 + "1" + "}" * 1000,
    "nested parentheses": "(" * 2000 + "1" + ")" * 2000,
    "a long sum": "+".join(["x^{97}"] * 20_000),
    "a long number": "7" * 100_000,
    "control characters": "\x00\x1b[2J\ud800\u202e" * 1000,
    "new lines": "\n[]\n" * 1000,
}


@pytest.mark.parametrize("formula", NASTY.values(), ids=NASTY)
def test_a_nasty_formula_is_wrong_with_a_reason_and_the_next_is_graded(formula: str) -> None:
    """Once as an answer, and once past the checks that keep most of them from the workers."""
    verdict = grade_answer("x+1", formula)
    assert not verdict.correct and verdict.rule
    assert math_equal(f"x+{len(formula)}", f"{len(formula)}+x", budget=patient())  # now a worker is free
    started = time.monotonic()
    try:
        assert not math_equal("x+1", formula)
    except MathLimit as limit:
        assert str(limit)
    assert time.monotonic() - started < STARVED * grading_pool.TIME_LIMIT_SECONDS + 60
    assert math_equal("x+2", f"{len(formula)}+x-{len(formula) - 2}", budget=patient())


def test_one_that_runs_long_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert math_equal("x+3", "3+x", budget=patient())
    order = []

    def nasty() -> None:
        with pytest.raises(MathLimit, match=grading_pool.NO_TIME):
            math_equal("x+3", "9^{9^9}+3", budget=Budget())
        order.append("nasty")

    monkeypatch.setattr(grading_pool, "TIME_LIMIT_SECONDS", 4.0)
    thread = threading.Thread(target=nasty)
    thread.start()
    assert not math_equal("x+3", "x+4", budget=patient())
    order.append("plain")
    thread.join(200)
    assert order == ["plain", "nasty"]


@pytest.mark.parametrize(("halted_seconds", "is_answered"), [(1.0, True), (60.0, False)])
def test_a_worker_that_gets_no_time_loses_none(
    halted_seconds: float, is_answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that does much else; but not for ever."""
    assert math_equal(f"x+{halted_seconds}", f"{halted_seconds}+x", budget=patient())
    monkeypatch.setattr(grading_pool, "TIME_LIMIT_SECONDS", 0.4)
    while grading_pool._the_pool()._starting:
        time.sleep(0.05)
    workers = grading_pool._the_pool().process_ids()
    assert workers
    for process_id in workers:
        os.kill(process_id, signal.SIGSTOP)
    going_on = threading.Timer(halted_seconds, lambda: [os.kill(each, signal.SIGCONT) for each in workers])
    started = time.monotonic()
    going_on.start()
    try:
        if is_answered:
            assert math_equal("x+30", "30+x")
            assert time.monotonic() - started >= halted_seconds - 0.1
        else:
            with pytest.raises(grading_pool.NotGraded, match=grading_pool.STOPPED):
                math_equal("x+31", "31+x")
            assert going_on.is_alive(), "it was given up while they stood still"
    finally:
        going_on.cancel()
        grading_pool._the_pool().close()
        grading_pool._forget()


def test_what_was_cut_off_is_tried_again_only_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading_pool, "TIME_LIMIT_SECONDS", 0.5)
    spent = []
    for retry_seconds in (600.0, 0.0):
        monkeypatch.setattr(grading_pool, "RETRY_SECONDS", retry_seconds)
        for _ in range(2):
            budget = Budget()
            with pytest.raises(MathLimit, match=grading_pool.NO_TIME):
                math_equal("x+4", f"9^{{9^9}}+{retry_seconds}", budget=budget)
            spent.append(budget.left_seconds < 0.1)
    assert spent == [True, False, True, True]


def test_a_grading_whose_time_is_spent_asks_no_more() -> None:
    budget = Budget()
    budget.left_seconds = 0.0
    with pytest.raises(MathLimit, match=grading_pool.NO_TIME):
        math_equal("x+3", "x+5", budget=budget)


def test_any_thread_may_ask() -> None:
    pairs = [(f"x+{i}", f"{i + i % 2}+x") for i in range(20, 36)]
    verdicts: dict[int, bool] = {}

    def ask(i: int) -> None:
        verdicts[i] = math_equal(*pairs[i], budget=patient())

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(pairs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(400)
    assert [verdicts[i] for i in range(len(pairs))] == [i % 2 == 0 for i in range(len(pairs))]


def test_killed_workers_are_replaced() -> None:
    assert math_equal("x+41", "41+x", budget=patient())
    pool = grading_pool._the_pool()
    before = pool.process_ids()
    for process_id in before:
        os.kill(process_id, signal.SIGKILL)
    for process_id in before:
        wait_until_gone(process_id)
    assert math_equal("x+42", "42+x", budget=patient())
    assert not set(before) & set(pool.process_ids())


@on_linux
def test_a_question_that_a_dying_worker_never_read_is_not_to_blame() -> None:
    worker = MathProcess()
    assert worker.reply(300) == "yes"
    os.kill(worker.process.pid, signal.SIGSTOP)  # its end of the pipe stays open, and nobody reads
    asked = threading.Thread(target=lambda: replies.append(worker.ask(["1", "1", "equal"], 100.0)))
    replies: list[str] = []
    asked.start()
    time.sleep(0.2)
    os.kill(worker.process.pid, signal.SIGKILL)
    asked.join(timeout=180)
    assert replies == [GONE]
    worker.kill()


def test_there_are_as_many_workers_as_cpus_within_reason() -> None:
    assert 2 <= num_workers() <= 8
    assert len(grading_pool._the_pool().process_ids()) <= num_workers()


@on_linux
def test_workers_have_a_memory_limit() -> None:
    assert math_equal("x+51", "51+x", budget=patient())
    for process_id in grading_pool._the_pool().process_ids():
        limits = Path(f"/proc/{process_id}/limits").read_text()
        [line] = [line for line in limits.splitlines() if line.startswith("Max address space")]
        assert line.split()[3] == str(MEMORY_LIMIT_BYTES)


FORK = """
import os
from training.grading import math_pool as grading_pool
from training.grading.grader import grade_answer
grading_pool.TIME_LIMIT_SECONDS = 100.0
assert grade_answer("x+1", "1+x").correct
mine = grading_pool._the_pool().process_ids()
child = os.fork()
if child == 0:
    is_right = grade_answer("x+2", "2+x").correct and not grade_answer("x+2", "x+1").correct
    apart = not set(mine) & set(grading_pool._the_pool().process_ids())
    os._exit(0 if is_right and apart else 1)
assert os.waitpid(child, 0)[1] == 0
assert grade_answer("x+3", "3+x").correct
assert set(mine) <= set(grading_pool._the_pool().process_ids())
"""
LEAVE = """
import sys, threading, time
from training.grading import math_pool as grading_pool
budget = grading_pool.Budget()
budget.left_seconds = 100.0
assert grading_pool.math_equal("x+1", "1+x", budget=budget)
if "busy" in sys.argv:
    nasty = ("1", "9^{9^9}", "equal", budget)
    threading.Thread(target=grading_pool.math_equal, args=nasty, daemon=True).start()
    time.sleep(1)
print(*grading_pool._the_pool().process_ids(), flush=True)
if "wait" in sys.argv:
    time.sleep(600)
"""


@on_linux
def test_a_forked_child_has_workers_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, check=True, timeout=500)


@on_linux
@pytest.mark.parametrize("words", [[], ["wait"], ["busy", "wait"]], ids=["exit", "kill", "kill while a worker is busy"])
def test_no_worker_outlives_its_process(words: list[str]) -> None:
    process = subprocess.Popen([sys.executable, "-c", LEAVE, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    process_ids = [int(word) for word in process.stdout.readline().split()]
    assert process_ids
    if "wait" in words:
        process.kill()
    process.wait(300)
    process.stdout.close()
    for process_id in process_ids:
        wait_until_gone(process_id)


def patient() -> Budget:
    budget = Budget()
    budget.left_seconds = 100.0
    return budget


def wait_until_gone(process_id: int) -> None:
    """A zombie is gone too: what is left to do is its parent's."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"process {process_id} is still there")


def test_workers_killed_again_and_again_give_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever kills them from outside makes no answer wrong."""

    def killed(self: MathProcess, question: list[str], limit_seconds: float) -> str:
        self.process.kill()
        self.process.wait()
        return grading_pool.BROKEN

    monkeypatch.setattr(MathProcess, "ask", killed)
    verdict = grade_answer("x+61", "61+x")
    assert (verdict.correct, verdict.is_graded, verdict.rule) == (False, False, grading_pool.KILLED)
    monkeypatch.undo()
    grading_pool._remembered.clear()
    assert math_equal("x+61", "61+x", budget=patient())
