"""Publishing during a run: checkpoints are queued, and a separate process sends them.

    with Publishing(config, folder) as publishing:
        publishing.checkpoint(path)     # links a few files, and returns
        publishing.result()

An error here does not end or slow the run: it is logged, and the queue stays on disk.
"""

from __future__ import annotations

import logging
import subprocess
import time
from pathlib import Path

from transformers import TrainerCallback

from inference.common.errors import UserError
from training.config.run_config import RunConfig
from training.grpo.distributed import any_process
from training.hub.publish.queue import RECORD, PublishQueue, plain_name, result_step
from training.hub.publish.retry import start_publisher
from training.runs.folder import RunFolder, step_of

log = logging.getLogger(__name__)


class Publishing:
    """The queue of one run and the process that sends it; does nothing where `publish_to` is not set."""

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self.config, self.folder = config, folder
        self.queue = PublishQueue(folder.path)
        self._process: subprocess.Popen[bytes] | None = None
        self._shown: tuple[int, str] = (0, "")
        """The time of the queue's record when it was last read, and the notice that was printed last."""
        times = [item.queued_at for item in self.queue.waiting()] if self.is_on else []
        times += [entry["time"] for entry in self.queue.state().published if isinstance(entry.get("time"), float)]
        self._since = min(max(times, default=time.time()), time.time())
        self._has_queued = bool(times)

    def __enter__(self) -> Publishing:
        """Goes on with the queue of an earlier start of the run."""
        if self.is_on and self.queue.waiting():
            self._start()
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the input of the process: it tries to send the rest once, and ends by itself."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    @property
    def is_on(self) -> bool:
        return self.config.publish_to is not None

    @property
    def is_due(self) -> bool:
        """True if a checkpoint made now must be published."""
        return time.time() - self._since >= 60 * self.config.publish_every_minutes

    @property
    def is_overdue(self) -> bool:
        """True if a checkpoint must be made now to be published."""
        return self.config.publish_every_minutes > 0 and self.is_due

    def checkpoint(self, checkpoint: Path, *, is_last: bool = False) -> None:
        """Queues a complete checkpoint if it is due, the first, or the last before the run ends early."""
        if self.is_on and (self.is_due or is_last or not self._has_queued):
            self._put(checkpoint, checkpoint, step_of(checkpoint), is_result=False)

    def result(self) -> None:
        """Queues the run's adapter."""
        if self.is_on:
            newest = self.folder.newest_checkpoint()
            self._put(self.folder.adapter, newest, result_step(self.folder), is_result=True)

    def print_notice(self) -> None:
        """Prints a new notice of the sending process above the progress bar."""
        try:
            changed = (self.queue.path / RECORD).stat().st_mtime_ns
        except OSError:
            return
        if changed != self._shown[0]:
            notice = self.queue.state().notice
            if notice and notice != self._shown[1]:
                print(f"publishing: {notice}", flush=True)
            self._shown = (changed, notice)

    def _put(self, source: Path, processor: Path | None, step: int, *, is_result: bool) -> None:
        config = self.config
        try:
            self.queue.put(
                source,
                processor,
                plain_name(config.base),
                step=step,
                is_result=is_result,
                is_kept=not is_result and config.publish_every_minutes == 0,  # then each is published
                repo=str(config.publish_to),
                public=config.publish_public,
            )
            self._since, self._has_queued = time.time(), True
            self._start()
        except (OSError, UserError) as error:  # such as a full disk: the run goes on
            log.warning("step %d is not queued for publishing: %s", step, error)

    def _start(self) -> None:
        """Starts the process unless it is running."""
        if self._process is not None and self._process.poll() is None:
            return
        self._process = start_publisher(self.folder.path.absolute(), "--follow", stdin=subprocess.PIPE)


class PublishCallback(TrainerCallback):
    """Queues checkpoints, and requests one if the last queued one is too old."""

    def __init__(self, publishing: Publishing | None) -> None:
        self.publishing = publishing
        """`None` in all processes of a run but the first."""

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Called in every process of the run, so that all of them or none make a checkpoint."""
        publishing = self.publishing
        if any_process(publishing is not None and publishing.is_overdue)[0]:
            control.should_save = True
        if publishing is not None:
            publishing.print_notice()

    def on_save(self, args, state, control, **kwargs) -> None:
        """Called after the recorder, which has marked the checkpoint as complete."""
        if self.publishing is not None:
            newest = self.publishing.folder.newest_checkpoint()
            is_last = control.should_training_stop and state.global_step < state.max_steps
            if newest is not None and step_of(newest) == state.global_step:
                self.publishing.checkpoint(newest, is_last=is_last)
