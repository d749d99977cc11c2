"""A run is asked to stop by signals: at once, or held until a step is done; the second counts, the third kills."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from training.pipeline.signals import Stop, StopRequested


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_at_once_where_nothing_is_held(number: int) -> None:
    with Stop() as stop:
        with pytest.raises(StopRequested):
            send(number)
        assert stop.is_requested and not stop.at_once
        send(number)  # while the folder is told why
        with pytest.raises(StopRequested):  # the next stage does not begin, even where the first was swallowed
            stop.check()


def test_held_until_the_end_of_the_block_and_the_second_at_once() -> None:
    with Stop() as stop, pytest.raises(StopRequested):
        with stop.held():
            send()
            assert stop.is_requested and not stop.at_once
        stop.check()
    with Stop() as stop, pytest.raises(StopRequested), stop.held():
        send()
        send()
    assert stop.at_once


def test_a_failure_handler_does_not_take_it_for_an_error() -> None:
    with Stop(), pytest.raises(StopRequested):
        try:
            send()
        except Exception:
            pytest.fail("it was taken for an error")


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Stop():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_the_third_is_left_to_the_system() -> None:
    code = """
import os, signal
from training.pipeline.signals import Stop, StopRequested
with Stop() as stop:
    for _ in range(3):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except StopRequested:
            pass
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == -signal.SIGTERM


def test_outside_the_main_thread_it_only_listens_to_nobody() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[bool] = []

    def enter() -> None:
        with Stop() as stop:
            seen.append(stop.is_requested)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [False] and signal.getsignal(signal.SIGTERM) == before
