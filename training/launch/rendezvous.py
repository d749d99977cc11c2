"""The machines of one start of a run: each tells the others its number of processes, its end, and that it is there.

    with Rendezvous(Node(number=1, count=2, address="10.0.0.5:29500"), stop) as others:
        first, total = others.join(num_processes=8)       # 8, 16
        others.look()                                     # (status, reason) once a machine has ended early
        status, reason = others.tell(status, reason)      # those of the first that did

They know each other by the first one's address alone. It holds torch's key-value store (`TCPStore`), by which the
training processes find each other too.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from inference.common.errors import UserError, first_line
from training.pipeline.signals import Stop

if TYPE_CHECKING:
    from torch.distributed import TCPStore

JOIN_SECONDS = 900.0
"""Longest wait for the other machines: a Job may wait in the Hub's queue."""
LOST_SECONDS = 90.0
"""A machine that has said nothing for so long is taken for lost."""
_ANSWER = timedelta(seconds=20)
_BEAT_SECONDS = 2.0
_LOOK_SECONDS = 0.2
HERE = "LOOKTHINK_NODE"
"""The environment variable for the `Node` of a Job, as JSON."""
_NO_ANSWER = RuntimeError
"""Torch's `DistError` is one. Importing this module must not load torch."""
_END = "end"
"""The store's name for the first early end: number, status and reason."""


@dataclass(frozen=True)
class Node:
    """A machine among those that share a run."""

    number: int = 0
    """From 0; the first one keeps the records."""
    count: int = 1
    address: str = "127.0.0.1:0"
    """`host:port` of the first machine, as the others reach it; with port 0 any free one."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def host_and_port(self) -> tuple[str, int]:
        """Raises `UserError` for an address that is none, or a number that is not below the count."""
        if self.count > 1 and self.address == Node.address:
            raise UserError(f"{self.count} machines share the run; give the first one's address, as 10.0.0.5:29500")
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65_535:
            raise UserError(f"the address is {self.address!r}; give machine 0's as HOST:PORT, as 10.0.0.5:29500")
        if not 0 <= self.number < self.count:
            raise UserError(f"this is machine {self.number} of {self.count}; give 0 to {self.count - 1}")
        return host, int(port)


ALONE = Node()


def node_here(count: int) -> Node:
    """This machine by the environment variable `HERE`, else the only one. Raises `UserError` for another count."""
    node = Node(**json.loads(os.environ.get(HERE, "{}")))
    if node.count != count:
        raise UserError(
            f"num_nodes is {count}, and the launcher has started {node.count}; start the run on each machine"
        )
    return node


class Rendezvous:
    """The machines of one start. Of a single one it only names the store's port."""

    def __init__(self, node: Node, stop: Stop) -> None:
        """Connects to the first machine, or waits for it. Raises `UserError` if it cannot be reached in time."""
        self.node, self._stop = node, stop
        self.host, port = node.host_and_port()
        self._store = self._connect(port)
        self.port: int = self._store.port
        self._beats: dict[int, tuple[int, float]] = {}
        """Of each other machine its newest beat, and when it came here."""
        self._beat_at = 0.0
        self._num_beats = 0

    def __enter__(self) -> Rendezvous:
        return self

    def __exit__(self, *error: object) -> None:
        """The first machine, which holds the store, waits a moment for the others to read how it ended."""
        until = time.monotonic() + _ANSWER.total_seconds()
        with contextlib.suppress(_NO_ANSWER):
            self._store.set(f"gone/{self.node.number}", "")
            while self.node.number == 0 and time.monotonic() < until:
                if self._store.check([f"gone/{other}" for other in range(1, self.node.count)]):
                    break
                time.sleep(_LOOK_SECONDS)

    def join(self, num_processes: int) -> tuple[int, int]:
        """The number of this machine's first process, and the number of all. Waits for all machines.

        Raises `UserError` if they do not come in time, and `StopRequested`.
        """
        try:
            counts = self._counts(num_processes)
        except _NO_ANSWER as error:
            raise UserError(f"machine 0 of {self.node.count} does not answer any more; start the run again") from error
        return sum(counts[: self.node.number]), sum(counts)

    def _counts(self, num_processes: int) -> list[int]:
        names = [f"processes/{number}" for number in range(self.node.count)]
        self._store.set(names[self.node.number], str(num_processes))
        until = time.monotonic() + JOIN_SECONDS
        while not self._store.check(names):
            self._stop.check()
            if time.monotonic() > until:
                missing = [i for i, name in enumerate(names) if not self._store.check([name])]
                raise UserError(
                    f"of {self.node.count} machines, {missing} have not come in {JOIN_SECONDS:.0f} s; start the run "
                    f"there with the address {self.host}:{self.port}"
                )
            time.sleep(_LOOK_SECONDS)
        return [int(self._store.get(name)) for name in names]

    def look(self) -> tuple[int, str] | None:
        """The exit status and the reason of the first machine that ended early, or was lost."""
        now = time.monotonic()
        if self.node.count == 1 or now - self._beat_at < _BEAT_SECONDS:
            return None
        self._beat_at = now
        self._num_beats += 1
        try:
            self._store.set(f"beat/{self.node.number}", str(self._num_beats))
            if self._store.check([_END]):
                return self._read(self._store.get(_END))
            lost = [other for other in range(self.node.count) if self._is_lost(other, now)]
        except _NO_ANSWER:
            lost = [0]
        return (1, f"machine {lost[0]} of {self.node.count} does not answer any more") if lost else None

    def tell(self, status: int, reason: str) -> tuple[int, str]:
        """Tells the others how this machine ended; returns the end of the first one that ended early."""
        if self.node.count > 1:
            with contextlib.suppress(_NO_ANSWER):  # the first machine has ended
                if not status:
                    self._store.set(f"done/{self.node.number}", "")
                else:
                    end = json.dumps([self.node.number, status, reason])
                    return self._read(self._store.compare_set(_END, "", end))
        return status, reason

    def _read(self, end: bytes) -> tuple[int, str]:
        number, status, reason = json.loads(end)
        return status, reason if number == self.node.number else f"on machine {number}: {reason}"

    def _is_lost(self, other: int, now: float) -> bool:
        if other == self.node.number or self._store.check([f"done/{other}"]):
            return False
        newest = int(self._store.get(f"beat/{other}")) if self._store.check([f"beat/{other}"]) else 0
        if newest != self._beats.get(other, (-1, 0.0))[0]:
            self._beats[other] = newest, now
        return now - self._beats[other][1] > LOST_SECONDS

    def _connect(self, port: int) -> TCPStore:
        from torch.distributed import TCPStore

        is_first, until = self.node.number == 0, time.monotonic() + JOIN_SECONDS
        while not is_first:
            with contextlib.suppress(OSError), socket.create_connection((self.host, port), _ANSWER.total_seconds()):
                break
            self._stop.check()
            if time.monotonic() > until:
                raise UserError(
                    f"machine 0 of {self.node.count} does not answer at {self.node.address}; start the run there, and "
                    "give its address and a port that is open between the machines"
                )
            time.sleep(_LOOK_SECONDS)
        try:
            return TCPStore(self.host, port, is_master=is_first, wait_for_workers=False, timeout=_ANSWER)
        except _NO_ANSWER as error:
            raise UserError(f"the address {self.node.address} cannot be used: {first_line(error)}") from error
