"""Answers on ZeroGPU, which lends a GPU for the seconds of one call. An experiment: nobody has reported a Space on it.

    engine = ZeroGpuEngine(Engine.load(base))     # on the main thread, before the page is served
    queue = RequestQueue(lambda: engine)

For each question, both sides of Compare together, the package `spaces` (of the Hub's builder) forks a worker, which
alone has a GPU. The engine here is the copy that workers are forked from: it checks adapters and makes no step.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import spaces
from PIL import Image

from inference.common.errors import Busy, UserError
from inference.engine.engine import Engine
from inference.engine.generation import Generation
from inference.model.lora_layers import Factors
from inference.model.request import Completion, Request

LOADING_SECONDS, TOKEN_SECONDS, MAX_SECONDS = 20, 0.05, 120
"""Seconds that a call asks for: to move the model, for each token, and at most."""
BETWEEN_SECONDS = 0.05


class CheckedAdapter(dict[str, Factors]):
    """An adapter on the CPU, checked, and the folder that a worker reads it from."""

    def __init__(self, adapter: dict[str, Factors], folder: Path) -> None:
        super().__init__(adapter)
        self.folder = folder


@dataclass(frozen=True)
class Snapshot:
    """One completion as far as a worker has come; the queue reads it like a `SequenceReader`."""

    text: str
    num_tokens: int = 0
    num_prompt_tokens: int = 0
    seconds: float = 0.0
    picture_distance: float | None = None
    is_over: bool = False
    so_far: Completion | None = None

    def completion(self) -> Completion | None:
        return self.so_far


class WorkerGeneration:
    """A generation in a worker, which the queue reads like a `Generation`."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.readers = self.newest = [Snapshot(request.prefix) for request in requests]
        self.has_ended = self._is_over = False
        self.error: Exception | None = None

    def read(self) -> None:
        """Takes over what the worker has sent."""
        self._is_over = self.has_ended  # before the rest, which comes no later
        self.readers = self.newest

    @property
    def is_over(self) -> bool:
        """True once everything has been read. Raises the error that ended it."""
        if self._is_over and self.error is not None:
            raise self.error
        return self._is_over


class ZeroGpuEngine:
    """The parts of an engine that the queue and the adapters use, with each generation in a worker of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.num_parameters, self.is_plain = engine, engine.num_parameters, engine.is_plain
        self.repetition_penalty = engine.repetition_penalty
        self.num_free_seqs = 8  # in as many workers at most; ZeroGPU may let fewer run
        self._answer = spaces.GPU(duration=_seconds)(self._generate)

    def prepare(self, images: Collection[Image.Image]) -> None:
        """Does nothing: a worker prepares its own pictures, and would wait for ever for one begun before the fork."""

    encode = prepare

    def read_adapter(self, path: str | Path) -> CheckedAdapter:
        """The LoRA at `path` for `Request.get_adapter`. Raises `UserError` if it cannot be served."""
        return CheckedAdapter(self._engine.check_adapter(path), Path(path))

    def step(self) -> None:
        """Waits a moment for news of the workers."""
        time.sleep(BETWEEN_SECONDS)

    def stream(self, requests: Sequence[Request], stop: threading.Event, priority: float = 0.0) -> WorkerGeneration:
        """Begins to complete the requests in one worker, which refuses what cannot be decoded.

        No `priority` counts, since each has a worker of its own.
        """
        adapters = [None if request.get_adapter is None else request.get_adapter() for request in requests]
        folders = [adapter.folder if isinstance(adapter, CheckedAdapter) else None for adapter in adapters]
        generation = WorkerGeneration(requests)
        answer = self._answer([replace(request, get_adapter=None) for request in requests], folders)
        context = contextvars.copy_context()  # with the visitor, whose quota is charged
        work = partial(context.run, self._follow, generation, answer, stop)
        threading.Thread(target=work, name="zero-gpu", daemon=True).start()
        return generation

    def _follow(self, generation: WorkerGeneration, answer: Generator, stop: threading.Event) -> None:
        try:
            for news in answer:
                if isinstance(news, UserError):
                    raise news
                generation.newest = news
                if stop.is_set():
                    break
            answer.close()
        except Exception as error:  # raised again where the page waits
            words = getattr(error, "message", None)  # of `spaces`, for the visitor
            generation.error = Busy(f"ZeroGPU: {words}") if isinstance(words, str) else error
        generation.has_ended = True

    def _generate(self, requests: list[Request], folders: list[Path | None]) -> Generator[list[Snapshot] | UserError]:
        """Runs in the worker, on its GPU; what it yields is sent to this process."""
        sent_at = 0.0
        readers = [None if folder is None else partial(self._engine.read_adapter, folder) for folder in folders]
        try:
            generation = self._engine.stream([replace(r, get_adapter=read) for r, read in zip(requests, readers)])
            for _ in generation:
                if time.monotonic() - sent_at >= BETWEEN_SECONDS:
                    yield _snapshots(generation)
                    sent_at = time.monotonic()
            yield _snapshots(generation)
        except UserError as error:
            yield error


def _snapshots(generation: Generation) -> list[Snapshot]:
    return [
        Snapshot(
            text=r.text,
            num_tokens=r.num_tokens,
            num_prompt_tokens=r.num_prompt_tokens,
            seconds=r.seconds,
            picture_distance=r.picture_distance,
            is_over=r.is_over,
            so_far=r.completion(),
        )
        for r in generation.readers
    ]


def _seconds(requests: list[Request], folders: list[Path | None]) -> int:
    """The seconds that a call asks for; a visitor's quota is charged with those that it took."""
    return min(MAX_SECONDS, round(LOADING_SECONDS + TOKEN_SECONDS * max(one.max_new_tokens for one in requests)))
