"""Machines that share a run, here threads, which know each other by one address alone."""

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from inference.common.errors import UserError
from inference.common.settings import load_settings
from training.config.run_config import load_config
from training.launch import rendezvous
from training.launch.jobs.launcher import launcher_for
from training.launch.local import LocalLauncher
from training.launch.rendezvous import HERE, Node, Rendezvous, node_here
from training.pipeline.signals import Stop, StopRequested
from training.runs.store import RunStore


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def on_each(count: int, body: Callable[[Rendezvous], object]) -> list:
    """What the body returns on each machine."""
    address = free_address()

    def machine(number: int) -> object:
        with Rendezvous(Node(number, count, address), Stop()) as others:
            return body(others)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(machine, range(count)))


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (Node(0, 2), "2 machines share the run; give the first one's address"),
        (Node(0, 2, "node0"), "the address is 'node0'; give machine 0's as HOST:PORT"),
        (Node(0, 2, "node0:99999"), "the address is 'node0:99999'"),
        (Node(2, 2, "node0:29500"), "this is machine 2 of 2; give 0 to 1"),
    ],
)
def test_an_address_or_number_that_is_none_is_refused(node: Node, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Rendezvous(node, Stop())


def test_a_machine_is_the_only_one_unless_the_launcher_says_otherwise(monkeypatch) -> None:
    assert node_here(1) == Node()
    with pytest.raises(UserError, match="num_nodes is 2, and the launcher has started 1"):
        node_here(2)
    monkeypatch.setenv(HERE, Node(1, 2, "node0:29500").to_json())
    assert node_here(2) == Node(1, 2, "node0:29500")


def test_a_run_in_the_background_has_one_machine(home) -> None:
    for launcher in (LocalLauncher(RunStore(home)), launcher_for(load_settings(), RunStore(home))):
        with pytest.raises(UserError, match="num_nodes is 2, and a run in the background has this one alone"):
            launcher.check(load_config("starter", {"num_nodes": 2}))


def test_an_address_that_is_taken_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot be used"):
            Rendezvous(Node(0, 2, f"127.0.0.1:{taken.getsockname()[1]}"), Stop())


def test_each_learns_its_first_process_and_the_number_of_all() -> None:
    assert on_each(3, lambda others: others.join(others.node.number + 1)) == [(0, 6), (1, 6), (3, 6)]


def test_one_machine_waits_for_nobody() -> None:
    with Rendezvous(Node(), Stop()) as alone:
        assert alone.join(4) == (0, 4) and alone.look() is None and alone.port > 0
        assert alone.tell(1, "broken") == (1, "broken")


def test_the_first_early_end_is_the_reason_on_all(monkeypatch) -> None:
    monkeypatch.setattr(rendezvous, "_BEAT_SECONDS", 0.0)
    has_told = threading.Event()

    def body(others: Rendezvous) -> object:
        others.join(1)
        if others.node.number == 1:
            others.tell(1, "process 3 of 4 was killed (SIGKILL)")
            has_told.set()
        assert has_told.wait(10)
        seen = others.look()
        return seen, others.tell(1, "connection closed")

    own, far = "process 3 of 4 was killed (SIGKILL)", "on machine 1: process 3 of 4 was killed (SIGKILL)"
    assert on_each(2, body) == [((1, far), (1, far)), ((1, own), (1, own))]


def test_a_machine_that_is_done_is_not_lost_and_a_silent_one_is(monkeypatch) -> None:
    monkeypatch.setattr(rendezvous, "_BEAT_SECONDS", 0.0)
    monkeypatch.setattr(rendezvous, "LOST_SECONDS", 0.0)
    done = {2: threading.Event(), 3: threading.Event()}

    def body(others: Rendezvous) -> object:
        others.join(1)
        is_done = done[others.node.count]
        if others.node.number == 1:
            assert others.tell(0, "") == (0, "")
            is_done.set()
        assert is_done.wait(10)
        if others.node.number > 0:
            return None
        others.look()  # the beats that there are
        return others.look()

    assert on_each(2, body)[0] is None
    assert on_each(3, body)[0] == (1, "machine 2 of 3 does not answer any more")


def test_a_first_machine_that_leaves_before_all_have_come_ends_the_wait() -> None:
    address = free_address()
    first, second = (Rendezvous(Node(number, 3, address), Stop()) for number in (0, 1))
    del first
    with pytest.raises(UserError, match="machine 0 of 3 does not answer any more"):
        second.join(1)


def test_machines_that_do_not_come_and_a_stop_end_the_wait(monkeypatch) -> None:
    monkeypatch.setattr(rendezvous, "JOIN_SECONDS", 0.3)
    address = free_address()
    with pytest.raises(UserError, match=f"machine 0 of 2 does not answer at {address}"):
        Rendezvous(Node(1, 2, address), Stop())
    with Rendezvous(Node(0, 2, address), stop := Stop()) as others:
        monkeypatch.setattr(rendezvous, "_ANSWER", rendezvous.timedelta(0))  # nobody is there to read its end
        with pytest.raises(UserError, match=rf"of 2 machines, \[1\] have not come .* the address {address}"):
            others.join(1)
        stop.is_requested = True
        with pytest.raises(StopRequested):
            others.join(1)
