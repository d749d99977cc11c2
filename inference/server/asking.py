"""A program's question on its way to the queue and back, on the server's loop: no thread waits for its answer.

questions = Questions(service)
submission = await questions.submit(read, visitor)     # `read` runs on a thread; it decodes the pictures
async for progress in watch(submission):               # whoever leaves the loop stops it
    ...                                                # or: progress = await last(submission, request)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from starlette.requests import Request as HttpRequest

from inference.common.errors import UserError
from inference.server.service import Question, Service
from inference.server.submission import Progress, Submission
from inference.server.visitors import Visitor, is_on_space, visitor_id_of

POLL_SECONDS = 0.05
"""Between two looks at a submission."""
READERS = 4
"""Questions that are read at a time; the others wait, so that few bodies are unpacked in memory at once."""


class Questions:
    """Puts questions of programs into the queue."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="question")

    async def submit(self, read: Callable[[], Question], visitor: Visitor) -> Submission:
        """The submission of what `read` returns. Raises `Busy`, and what `read` raises: `UserError`."""
        queue = self.service.queue
        with queue.admit(visitor):

            def submit() -> Submission:
                question = read()
                return queue.submit([question.request(question.adapter)], visitor)

            return await asyncio.get_running_loop().run_in_executor(self._readers, submit)


def visitor_of(request: HttpRequest) -> Visitor:
    """The visitor who sent a request, as of now."""
    peer = request.client.host if request.client else None
    return Visitor(visitor_id_of(peer, request.headers.get("x-forwarded-for"), is_on_space()))


async def watch(submission: Submission) -> AsyncIterator[Progress]:
    """Its progress after each change; the last one has the completion. Raises the error that ended it.

    Whoever stops iterating stops the submission.
    """
    shown: Progress | None = None
    try:
        while True:
            has_ended = submission.wait(0)
            progress = submission.progress()[0]
            if submission.error is not None:
                raise submission.error
            if progress is not shown:
                shown = progress
                yield progress
            if has_ended:
                return
            await asyncio.sleep(POLL_SECONDS)
    finally:
        submission.stop()


async def last(submission: Submission, request: HttpRequest) -> Progress:
    """Its progress at the end. Raises the error that ended it; a client that hangs up ends it, too."""
    try:
        while not submission.wait(0):
            if await request.is_disconnected():
                submission.stop()
            await asyncio.sleep(POLL_SECONDS)
    finally:
        submission.stop()
    progress = submission.progress()[0]
    if submission.error is not None or progress.completion is None:
        raise submission.error or UserError("The client hung up before its question was answered.")
    return progress
