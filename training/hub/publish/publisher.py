"""Sends the adapters that a run has queued for the Hub, in a separate process: no step and no visitor waits for it.

    python -m training.hub.publish.publisher FOLDER             # sends what is due, then ends: started by the app
    python -m training.hub.publish.publisher FOLDER --follow    # until standard input ends: started by the trainer

A failed upload is tried again after growing waits, and not before the Hub's `Retry-After`; the reason is in the queue's
record and in the run's log. The queue is on disk, so the next process continues where this one ended.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from inference.common.background import backoff_seconds
from inference.common.environment import hide_secrets
from inference.common.errors import UserError
from inference.common.hub_errors import HubUnreachable, limit_waiting
from training.hub.publish.queue import Item, PublishQueue, broken_words
from training.hub.publish.upload import Published, entry_of, send

if TYPE_CHECKING:
    from huggingface_hub import HfApi

POLL_SECONDS = 1.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 5.0, 600.0
"""The wait after a failure, unless the Hub asks for more."""
TRY_SECONDS = 1_800
"""The limit of one try: an answer that arrives byte by byte never ends by itself."""
_PARENT = os.getppid()
FINAL_TRIES = 3
"""Tries of a command before it gives up."""
log = logging.getLogger(__name__)


def work(
    queue: PublishQueue, api: HfApi, first_seconds: float = FIRST_WAIT_SECONDS, *, at_once: bool = False
) -> float | None:
    """Sends the items that are due (`at_once`: all); returns the seconds until the next try, `None` if none waits.

    `first_seconds` is the wait after a first failure. The caller must hold the queue.
    """
    while queue.waiting():
        if not at_once and (wait := queue.state().next_try - time.time()) > 0:
            return wait
        failed = _send_all(queue, api)
        if failed is not None:
            return _put_off(queue, *failed, first_seconds)
    return None


def _send_all(queue: PublishQueue, api: HfApi) -> tuple[Item, UserError] | None:
    """Sends all items, also after one that failed; returns the first failed one with its error."""
    failed: tuple[Item, UserError] | None = None
    for item in queue.waiting():
        try:
            published = send(api, queue, item)
        except UserError as trouble:
            failed = failed or (item, trouble)
            if isinstance(trouble, HubUnreachable):
                break  # the others would fail in the same way
        else:
            _note(queue, published)
            queue.take_out(item)
    return failed


def _note(queue: PublishQueue, published: Published) -> None:
    """Records a publication; after a kill before this it is found in the repository."""
    state = queue.state()
    if not any(entry.get("commit") == published.commit for entry in state.published):
        state.published.append(entry_of(published))
    state.notice, state.tries, state.next_try = published.notice, 0, 0.0
    queue.keep(state)
    where = f"{published.repo} at {published.commit[:12]} on {published.revision}"
    say(queue, f"published step {published.step} to {where}" + (f"; {published.notice}" if published.notice else ""))


def _put_off(queue: PublishQueue, item: Item, trouble: UserError, first_seconds: float) -> float:
    state = queue.state()
    state.tries += 1
    retry_after = trouble.retry_after if isinstance(trouble, HubUnreachable) else 0.0
    wait = max(backoff_seconds(state.tries, first_seconds, LONGEST_WAIT_SECONDS), retry_after)
    notice = hide_secrets(f"step {item.step} waits: {trouble}")
    if notice != state.notice:
        say(queue, notice)
    state.notice, state.next_try = notice, time.time() + wait
    queue.keep(state)
    return wait


def say(queue: PublishQueue, words: str) -> None:
    """Adds a line to the run's log."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    with (queue.run / "train.log").open("a", encoding="utf-8") as file:
        file.write(f"{stamp} INFO training.hub.publish.publisher: {hide_secrets(words)}\n")


def finish(
    folder: Path, seconds: float, first_seconds: float = FIRST_WAIT_SECONDS, shown: Callable[[str], None] = print
) -> bool:
    """Sends all items, or waits until the run's own publisher has; gives up after `seconds` or `FINAL_TRIES` failures.

    Prints the result; returns True if nothing waits any more. It blocks.
    """
    queue, end, tries = PublishQueue(folder), time.monotonic() + seconds, 0
    while queue.waiting() and time.monotonic() < end and tries < FINAL_TRIES:
        wait: float | None = 0.2
        with queue.held() as mine:
            if mine:
                wait = work(queue, hub_api(), first_seconds, at_once=True)
                tries += 1
        if wait is None or time.monotonic() + wait > end or tries == FINAL_TRIES:
            break
        time.sleep(wait)
    return tell(queue, shown)


def tell(queue: PublishQueue, shown: Callable[[str], None] = print) -> bool:
    """Prints what is published and what waits; True if nothing waits."""
    state, waiting = queue.state(), queue.waiting()
    if state.published and not waiting:
        last = state.published[-1]
        shown(f"published: {last['repo']}@{last.get('tag') or last['commit']}")
    if state.notice:
        shown(f"publishing: {state.notice}")
    if broken := [path.name for path in queue.unreadable()]:
        shown(f"publishing: {broken_words(queue.run, broken)}")
    if waiting:
        shown(f"not published yet: `python -m training publish {queue.run}` tries again; so does a running app")
    return not waiting


def hub_api() -> HfApi:
    """The Hub's client with time limits, which hold for the whole process."""
    from huggingface_hub import HfApi

    limit_waiting()
    return HfApi()


def main(argv: Sequence[str] | None = None) -> int:
    """Sends the queue; 0 if nothing waits any more."""
    parser = argparse.ArgumentParser("python -m training.hub.publish.publisher", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("--first-seconds", type=float, default=FIRST_WAIT_SECONDS)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.nice(5)  # training and answering have priority
    signal.signal(signal.SIGALRM, _out_of_time)
    queue = PublishQueue(args.folder)
    if not args.follow:
        with queue.held() as mine:
            return int(mine and _timed(queue, args.first_seconds) is not None)
    while True:
        with queue.held() as mine:
            if mine:
                _follow(queue, args.first_seconds)
                return int(bool(queue.waiting()))
        if _has_ended(POLL_SECONDS):
            return 1


def _follow(queue: PublishQueue, first_seconds: float) -> None:
    """Sends until the trainer has ended, then once more what it queued last."""
    while True:
        wait = _timed(queue, first_seconds)
        if _has_ended(min(POLL_SECONDS, POLL_SECONDS if wait is None else wait)):
            _timed(queue, first_seconds, at_once=True)
            return


def _timed(queue: PublishQueue, first_seconds: float, *, at_once: bool = False) -> float | None:
    signal.alarm(TRY_SECONDS)
    try:
        return work(queue, hub_api(), first_seconds, at_once=at_once) if queue.waiting() else None
    finally:
        signal.alarm(0)


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise HubUnreachable(f"the Hub has taken more than {TRY_SECONDS // 60} minutes")


def _has_ended(seconds: float) -> bool:
    """Waits; True once the parent process has ended, or has closed this process's standard input.

    A process that the parent forked may hold the pipe open, so the parent's end is checked separately.
    """
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return os.getppid() != _PARENT or (bool(ready) and os.read(sys.stdin.fileno(), 1) == b"")


if __name__ == "__main__":
    sys.exit(main())
