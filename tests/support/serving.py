"""The app on a free port with the starter behind it, for tests that talk to it from outside."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import app
from inference.common.settings import Settings, load_settings
from inference.engine.engine import Engine, Generation, Request
from training.admin.access import Access
from training.ui.training_app import TrainingApp

ADAPTER = "test-adapter"
ADMIN_TOKEN = "the admin token of the tests"
WAIT_SECONDS = 180
"""How long anything may take on a busy machine before a test gives up on it."""


class SteeredEngine:
    """The real engine; a test may begin its completions (what a model would write) or keep them from ending."""

    def __init__(self, engine: Engine, max_num_seqs: int | None = None) -> None:
        self._engine = engine
        self.prefix = ""
        self.is_endless = False
        """Completions run to their length limit."""
        self.error: Exception | None = None
        self._num_hidden = 0 if max_num_seqs is None else engine.max_num_seqs - max_num_seqs
        """Sequences that the queue is not told of: with one left, one question at a time."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    @property
    def num_free_seqs(self) -> int:
        return max(0, self._engine.num_free_seqs - self._num_hidden)

    def stream(self, rows: Sequence[Request], stop: threading.Event | None = None, priority: float = 0.0) -> Generation:
        if self.error is not None:
            raise self.error
        return self._engine.stream([self._steered(row) for row in rows], stop, priority)

    def _steered(self, row: Request) -> Request:
        return replace(
            row,
            prefix=row.prefix or self.prefix,
            min_new_tokens=row.max_new_tokens if self.is_endless else row.min_new_tokens,
        )


@dataclass
class Server:
    """A running app."""

    url: str
    engine: SteeredEngine
    settings: Settings
    blocks: Any
    service: Any
    access: Access
    admin_token: str = ADMIN_TOKEN

    @property
    def app(self) -> Any:
        """What serves the page."""
        return self.blocks.app

    @contextlib.contextmanager
    def steered(self, prefix: str = "", is_endless: bool = False, error: Exception | None = None) -> Iterator[None]:
        """Steer the engine for the length of a block."""
        self.engine.prefix, self.engine.is_endless, self.engine.error = prefix, is_endless, error
        try:
            yield
        finally:
            self.engine.prefix, self.engine.is_endless, self.engine.error = "", False, None


@contextlib.contextmanager
def serve(
    engine: Engine,
    home: Path,
    adapter: Path | None,
    max_num_seqs: int | None = None,
    *,
    sharing: bool = False,
    **limits: Any,
) -> Iterator[Server]:
    """The app with the shared engine, which keeps none of its adapters. Nobody looks after runs, unless a test does."""
    env = {"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home)}
    settings = load_settings(env=env, has_gpu=False)
    changes = {
        "adapter": str(adapter) if adapter else None,
        "limits": settings.limits.model_copy(update=limits),
        "sharing": settings.sharing.model_copy(update={"allowed": sharing}),
    }
    settings = settings.model_copy(update=changes)
    uploads_before = os.environ.get("GRADIO_TEMP_DIR")
    app.prepare(settings)
    steered = SteeredEngine(engine, max_num_seqs)
    access = Access(home, {"LOOKTHINK_ADMIN_TOKEN": ADMIN_TOKEN})
    side = TrainingApp(settings, access)
    blocks, service = app.build_app(settings, side, steered)
    service.queue.wait_loaded()
    app.launch(blocks, service, side, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        yield Server(blocks.local_url.rstrip("/"), steered, settings, blocks, service, access)
    finally:
        blocks.close(verbose=False)
        side.asker(service.queue).stop(WAIT_SECONDS)
        service.adapters.stop()
        if uploads_before is not None:  # another server of this process goes on with its own
            os.environ["GRADIO_TEMP_DIR"] = uploads_before
