"""On a Space: while a run trains in it, it does not fall asleep for want of visitors; afterwards it may again.

    timer = SleepTimer(settings)
    timer.tend(is_training=True)      # from the watcher, every few seconds; returns at once
    timer.note                        # in words, where it cannot be kept awake

What the sleep time was before is kept in `sleep.json`, in the home and in the bucket (or, with the next copy of what is
served, in the repository that stands for one), so that it is set again however the run and the app end, by whichever
app starts next. Where all are lost, the Space itself tells: its timer is off though space.yaml has a sleep time, and no
run trains; then that of space.yaml is set. Secrets and variables of the Space would outlive anything, but a change of
one restarts it.
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

from inference.common.background import backoff_seconds
from inference.common.hub_errors import hub_exceptions, limit_waiting, reason
from inference.common.logs import event
from inference.common.settings import Settings

NEVER = -1
FILE = "sleep.json"
FREE_HARDWARE = "cpu-basic"
FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 300.0
RECHECK_SECONDS = 600.0
"""While a run trains, how often it is looked whether somebody has switched the timer on again."""
_MAX_SECONDS = 10**8
log = logging.getLogger(__name__)


class SleepTimer:
    """The Space's own sleep time; does nothing off a Space."""

    def __init__(
        self,
        settings: Settings,
        env: Mapping[str, str] | None = None,
        *,
        first_wait: float = FIRST_WAIT_SECONDS,
        recheck: float = RECHECK_SECONDS,
    ) -> None:
        """`env` is the process's environment unless given; both waits are in seconds."""
        env = os.environ if env is None else env
        self.space = env.get("SPACE_ID", "").strip()
        self._token = env.get("HF_TOKEN", "").strip()
        self._home, self._state = settings.home, settings.state
        self._minutes = settings.space.sleep_minutes
        self._first_wait, self._recheck = first_wait, recheck
        self.note = ""
        """Why it may fall asleep while a run trains; empty where all is well."""
        self._is_training: bool | None = None
        self._changed, self._over = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def tend(self, is_training: bool) -> None:
        """Say whether a run trains in this Space. The Hub is asked in a thread of its own: it may be slow."""
        if not self.space:
            return
        if not self._token:
            self.note = _NO_TOKEN if is_training else ""
            return
        if is_training == self._is_training:
            return
        self._is_training = is_training
        self._changed.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="sleep-timer", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; the timer stays as it is."""
        self._over.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()

    def _keep(self) -> None:
        limit_waiting()
        failures = 0
        while not self._over.is_set():
            self._changed.clear()
            is_training = bool(self._is_training)
            try:
                self._settle(is_training)
                failures = 0
            except hub_exceptions() as error:
                failures += 1
                self._fail(is_training, reason(error))
            except OSError as error:  # the disk, or the bucket's mount; the run is more than this
                failures += 1
                self._fail(is_training, f"{FILE} cannot be kept ({error.strerror})")
            wait = backoff_seconds(failures, self._first_wait, LONGEST_WAIT_SECONDS) if failures else self._recheck
            self._changed.wait(wait if failures or is_training else None)

    def _settle(self, is_training: bool) -> None:
        """Bring the Space's sleep time to what it should be now."""
        from huggingface_hub import HfApi

        api = HfApi(token=self._token)
        runtime = api.get_space_runtime(self.space)
        if (runtime.requested_hardware or runtime.hardware) == FREE_HARDWARE:
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
        """Before the timer is switched off, so that a kill in between loses nothing. One place is enough."""
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
            with contextlib.suppress(OSError):  # it is asked only where the timer is off, and no run trains
                path.unlink(missing_ok=True)

    @property
    def _files(self) -> list[Path]:
        """A bucket's mount that is missing must not become a folder of this machine."""
        state = [self._state / FILE] if self._state is not None and self._state.is_dir() else []
        return [self._home / FILE, *state]


_NO_TOKEN = (
    "The Space may fall asleep while the run trains: it has no secret HF_TOKEN to switch its sleep timer off with. Add "
    "one on its page under Settings."
)
_FREE = "Free hardware falls asleep after 48 hours without a visitor, whatever is asked, and a run in it stops there."


def _read(path: Path) -> int | None:
    """What a file remembers; `None` for one that is missing, or half written."""
    try:
        seconds = json.loads(path.read_text(encoding="utf-8"))["before_seconds"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return seconds if isinstance(seconds, int) and 0 < seconds < _MAX_SECONDS else None
