"""The processes of one start of a run, one for each card: starts them, watches them, and ends all when one ends early.

    status, reason = train_together(folder, 4, stop)
    status, reason = train_together(folder, 8, stop, Node(number=1, count=2, address="10.0.0.5:29500"))

Each process runs `python -m training.launch.ranks FOLDER` with the environment of `torchrun` and trains on the run's
folder as `training.launch.worker` does alone. On each of several machines one launcher does this, and they end together
too. `torchrun` itself and `accelerate launch` kill processes that have not ended 30 seconds after a signal, and a step
with its checkpoint may take longer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import read_json, write_json
from training.config.run_config import RunConfig, check_processes
from training.launch.rendezvous import ALONE, Node, Rendezvous
from training.pipeline.signals import Stop, StopRequested
from training.runs.failures import INTERRUPTED, RunFailed
from training.runs.folder import RunFolder
from training.runs.outcome import WRONG_INPUT
from training.runs.processes import memory_kills, own_identity, signal_name

_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 10.0
"""After the first process that ended early, before the others, which wait for it, are killed."""
_OUTCOME = "LOOKTHINK_OUTCOME"
"""The environment variable that names the file for a process's exit status and reason."""


@dataclass
class _Rank:
    number: int
    total: int
    """Processes of all machines."""
    process: subprocess.Popen[bytes]
    outcome: Path
    kills_before: int | None
    """Processes that the kernel had killed for want of memory before it began."""

    def end(self) -> tuple[int, str]:
        """Its exit status and the reason. A killed process has written none: then the status is 1."""
        values = read_json(self.outcome) or {}
        status, reason = self.process.returncode, str(values.get("reason") or "")
        if status >= 0:
            return status, reason
        now = memory_kills() if status == -signal.SIGKILL else None
        if now is not None and self.kills_before is not None and now > self.kills_before:
            words = "was killed by the kernel: out of memory; start fewer processes on this machine or give it more"
        else:
            words = f"was killed ({signal_name(-status)})"
        return 1, f"process {self.number} of {self.total} {words}"

    def ended_at(self) -> float:
        """The time at which it failed, by its own word; of a killed process 0, as the others fail because of it."""
        failed_at = (read_json(self.outcome) or {}).get("time")
        return failed_at if self.process.returncode > 0 and isinstance(failed_at, float) else 0.0


def processes_of(config: RunConfig) -> int:
    """The number of processes that a run gets on this machine: its own, or one a card, at least one.

    Raises `UserError` if so many cannot share its steps.
    """
    import torch

    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if cards and config.num_processes > cards:
        raise UserError(
            f"num_processes is {config.num_processes}, and this machine has {cards} cards; give at most {cards}"
        )
    num_processes = config.num_processes or cards or 1
    check_processes(config, num_processes)
    return num_processes


def train_together(folder: Path, num_processes: int, stop: Stop, node: Node = ALONE) -> tuple[int, str]:
    """Trains in `num_processes` processes of this machine; returns the exit status, and the reason if it is not 0.

    The first process that ends early gives the reason, on whichever machine. A request to stop is passed on once to
    each. Raises `UserError`, and `StopRequested` while it waits for the other machines.
    """
    with Rendezvous(node, stop) as others:
        first, total = others.join(num_processes)
        check_processes(RunFolder.open(folder)[1], total)
        with tempfile.TemporaryDirectory() as temporary, stop.held():
            ranks = _start(folder, range(first, first + num_processes), total, others, Path(temporary))
            try:
                status, reason = _watch(ranks, stop, others)
            finally:
                for rank in ranks:
                    if rank.process.poll() is None:
                        rank.process.kill()
                    rank.process.wait()
        return others.tell(status, reason)


def _start(folder: Path, numbers: range, total: int, others: Rendezvous, temporary: Path) -> list[_Rank]:
    threads = max(1, (os.cpu_count() or 1) // len(numbers))
    shared = {"OMP_NUM_THREADS": str(threads)} | os.environ
    shared |= {"MASTER_ADDR": others.host, "MASTER_PORT": str(others.port)}
    shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}  # torch's own: the store is there already
    ranks, kills = [], memory_kills()
    for local, number in enumerate(numbers):
        outcome = temporary / f"{number}.json"
        own = {"RANK": number, "LOCAL_RANK": local, "WORLD_SIZE": total, "LOCAL_WORLD_SIZE": len(numbers)}
        environment = shared | {name: str(value) for name, value in own.items()} | {_OUTCOME: str(outcome)}
        command = [sys.executable, "-m", "training.launch.ranks", str(folder)]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        ranks.append(_Rank(number, total, process, outcome, kills))
    return ranks


def _watch(ranks: list[_Rank], stop: Stop, others: Rendezvous) -> tuple[int, str]:
    """Waits for all processes, or for the first that ends early and then at most `_GRACE_SECONDS` for the others."""
    first: tuple[int, str] | None = None
    until = float("inf")
    is_told = False
    while running := [rank for rank in ranks if rank.process.poll() is None]:
        if stop.is_requested and not is_told:
            is_told = True
            for rank in running:
                rank.process.terminate()
        elsewhere = others.look()
        if first is None and (first := _first_end(ranks) or elsewhere) is not None:
            first = others.tell(*first)
            until = time.monotonic() + _GRACE_SECONDS
        if time.monotonic() > until:
            break
        time.sleep(_LOOK_SECONDS)
    return first or _first_end(ranks) or (0, "")


def _first_end(ranks: list[_Rank]) -> tuple[int, str] | None:
    """The end of the process that ended early; of several the first one, as the others fail for lack of it."""
    early = [rank for rank in ranks if rank.process.poll()]
    return min(early, key=_Rank.ended_at).end() if early else None


def train(path: Path, stop: Stop) -> tuple[int, str]:
    """Trains on the run's folder in this process; returns the exit status, and the reason if it is not 0."""
    try:
        from training.pipeline.run import is_finished, run  # slow to import; an error of it is a reason too

        folder, config = RunFolder.open(path)
        if not is_finished(folder, config):  # else it was killed before `exit.json` was written
            run(config, path, resume=True, stop=stop, began=own_identity())
        return 0, ""
    except StopRequested:
        return INTERRUPTED, "stopped while starting"
    except RunFailed as failure:
        return failure.status, str(failure)
    except UserError as error:
        return WRONG_INPUT, str(error)
    except Exception as error:  # a bug or a fault: the launcher tries again, and the log has the traceback
        traceback.print_exc()
        return 1, f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:500]}"


def main() -> int:
    """One of the processes; returns its exit status."""
    with Stop() as stop:
        status, reason = train(Path(sys.argv[1]), stop)
    write_json(Path(os.environ[_OUTCOME]), {"status": status, "reason": reason, "time": time.time()})
    return status


if __name__ == "__main__":
    sys.exit(main())
