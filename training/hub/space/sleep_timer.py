"""Keeps a Space awake while a run trains in it, and sets its sleep time again afterwards.

    timer = SleepTimer(settings)
    timer.set_training(True)          # from the watcher, every few seconds; returns at once
    timer.note                        # the reason in words if it cannot be kept awake

The earlier sleep time is in `sleep.json`, in the home and in the bucket, so that the next app sets it again however run
and app have ended. If both files are lost, and the timer is off although no run trains, the sleep time of space.yaml is
set. Secrets and variables of the Space would outlive anything, but a change of one restarts it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from inference.common.background import PeriodicTask, backoff_seconds
from inference.common.hub_errors import hub_exceptions, limit_waiting, reason
from inference.common.logs import event
from inference.common.settings import Settings
from inference.common.space_file import FREE_HARDWARE

NEVER = -1
FILE = "sleep.json"
FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 300.0
RECHECK_SECONDS = 600.0
"""Between two looks while a run trains: somebody may have switched the timer on again."""
_MAX_SECONDS = 10**8
log = logging.getLogger(__name__)


class SleepTimer:
    """The sleep time of this Space; does nothing outside a Space."""

    def __init__(
        self,
        settings: Settings,
        env: Mapping[str, str] | None = None,
        *,
        first_wait: float = FIRST_WAIT_SECONDS,
        recheck: float = RECHECK_SECONDS,
    ) -> None:
        """`env` is the process's environment by default; `first_wait` and `recheck` are in seconds."""
        env = os.environ if env is None else env
        self.space = env.get("SPACE_ID", "").strip()
        self._token = env.get("HF_TOKEN", "").strip()
        self._home, self._state = settings.home, settings.state
        self._minutes = settings.space.sleep_minutes
        self._first_wait, self._recheck = first_wait, recheck
        self.note = ""
        """The reason why it may fall asleep while a run trains; empty if it does not."""
        self._is_training: bool | None = None
        self._num_failures = 0
        self._task = PeriodicTask(self._look, recheck, "sleep-timer")

    def set_training(self, is_training: bool) -> None:
        """Tells whether a run trains in this Space; returns at once, since a background thread asks the Hub."""
        if not self.space:
            return
        if not self._token:
            self.note = _NO_TOKEN if is_training else ""
            return
        if is_training == self._is_training:
            return
        self._is_training = is_training
        self._task.wake()
        self._task.start()

    def stop(self) -> None:
        """Ends the thread; the sleep time stays as it is."""
        self._task.stop(LONGEST_WAIT_SECONDS)

    def _look(self) -> float:
        """Brings the timer up to date; the seconds until the next look."""
        limit_waiting()
        is_training = bool(self._is_training)
        try:
            self._settle(is_training)
            self._num_failures = 0
            return self._recheck if is_training else threading.TIMEOUT_MAX
        except hub_exceptions() as error:
            self._fail(is_training, reason(error))
        except OSError as error:  # of the disk, or of the bucket's mount
            self._fail(is_training, f"{FILE} cannot be written ({error.strerror})")
        self._num_failures += 1
        return backoff_seconds(self._num_failures, self._first_wait, LONGEST_WAIT_SECONDS)

    def _settle(self, is_training: bool) -> None:
        """Sets the Space's sleep time as it should be now."""
        from huggingface_hub import HfApi

        api = HfApi(token=self._token)
        runtime = api.get_space_runtime(self.space)
        if (runtime.requested_hardware or runtime.hardware) in FREE_HARDWARE:
            self.note = _FREE if is_training else ""
            return
        now = runtime.sleep_time if runtime.sleep_time is not None and runtime.sleep_time >= 0 else NEVER
        if is_training and now != NEVER:
            self._remember(now)
            api.set_space_sleep_time(self.space, NEVER)
            event("sleep_timer_off", before_seconds=now)
        elif not is_training:
            before = self._remembered() or self._minutes * 60
            if now == NEVER and before:
                api.set_space_sleep_time(self.space, before)
                event("sleep_timer_on", seconds=before)
            self._forget()
        self.note = ""

    def _fail(self, is_training: bool, why: str) -> None:
        if is_training:
            note = f"The Space may fall asleep while the run trains: its sleep timer could not be switched off, {why}."
        else:
            note = f"The Space does not fall asleep by itself: its sleep timer could not be switched on again, {why}."
        if note != self.note:
            log.warning("%s It is tried again.", note)
        self.note = f"{note} It is tried again; it can be set on the Space's page under Settings."

    def _remember(self, seconds: int) -> None:
        """Writes the sleep time down before the timer is switched off; one file is enough. Raises `OSError`."""
        refused: list[OSError] = []
        for path in self._files:
            try:
                self._home.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"before_seconds": seconds, "at": time.time()}), encoding="utf-8")
            except OSError as error:
                refused.append(error)
        if len(refused) == len(self._files):
            raise refused[0]

    def _remembered(self) -> int | None:
        return next((seconds for path in self._files if (seconds := _read(path))), None)

    def _forget(self) -> None:
        for path in self._files:
            with contextlib.suppress(OSError):  # the file is read only if the timer is off and no run trains
                path.unlink(missing_ok=True)

    @property
    def _files(self) -> list[Path]:
        """The files that hold it; a mount that is missing must not become a folder of this machine."""
        state = [self._state / FILE] if self._state is not None and self._state.is_dir() else []
        return [self._home / FILE, *state]


_NO_TOKEN = (
    "The Space may fall asleep while the run trains: it has no secret HF_TOKEN to switch its sleep timer off with. Add "
    "one on its page under Settings."
)
_FREE = "Free hardware falls asleep after 48 hours without a visitor, whatever is asked, and a run in it stops there."


def _read(path: Path) -> int | None:
    """The seconds in a file; `None` if it is missing or damaged."""
    try:
        seconds = json.loads(path.read_text(encoding="utf-8"))["before_seconds"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return seconds if isinstance(seconds, int) and 0 < seconds < _MAX_SECONDS else None
