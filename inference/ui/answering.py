"""A question on its way from a tab to the engine and back: who runs what, Stop, and the panels as they fill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from inference.server.queue import Submission
from inference.server.service import Service
from inference.ui.panel import Panel
from inference.ui.stream import failed, watch
from inference.ui.view import State, View

FOLDING_FRAMES = 8
"""Updates in which a thought that began or ended is opened or folded; after them it is the user's."""
Start = Callable[[], tuple[Submission, str]]
"""Reads the inputs and takes a place in the line; gives the job and the expected answer. May raise `UserError`."""


class _Run:
    """One press of a button, from the reading of the inputs to the last update."""

    def __init__(self) -> None:
        self._job: Submission | None = None
        """`None` while the inputs are read."""
        self._is_stopped = False
        self.is_dismissed = False
        """True if its picture has gone, so that nothing of it is to stay on the page."""

    def stop(self) -> None:
        """Stop the job, or the one that is about to come."""
        self._is_stopped = True
        if self._job is not None:
            self._job.stop()

    def take(self, job: Submission) -> None:
        """The inputs are read and this is the job; whichever of this and `stop` is later sees the other."""
        self._job = job
        if self._is_stopped:
            job.stop()


class Exchange:
    """The running jobs of one tab, by browser session, and the buttons that belong to them."""

    def __init__(self, service: Service, panels: Sequence[Panel], run: gr.Button, stop: gr.Button) -> None:
        self._service, self._panels = service, tuple(panels)
        self._runs: dict[str, _Run] = {}
        self.outputs = [component for panel in panels for component in panel.components] + [run, stop]

    def is_running(self, request: gr.Request) -> bool:
        """True if this browser session waits for an answer in this tab."""
        return _key(request) in self._runs

    def stop(self, request: gr.Request) -> None:
        """Stop what this browser session runs, if anything."""
        run = self._runs.get(_key(request))
        if run is not None:
            run.stop()

    def dismiss(self, request: gr.Request) -> bool:
        """Stop it and let the panels end up empty; False if nothing runs."""
        run = self._runs.get(_key(request))
        if run is not None:
            run.is_dismissed = True
            run.stop()
        return run is not None

    def clear(self) -> list[Any]:
        """Updates for `outputs` that empty the panels."""
        return self._updates([View()] * len(self._panels), fold=True)

    def run(
        self, start: Start, request: gr.Request, earlier: View | None = None
    ) -> Iterator[tuple[list[View], list[Any]]]:
        """Views and updates for `outputs`, as often as a page can show them; a failure is the last view."""
        key = _key(request)
        self.stop(request)
        self._runs[key] = run = _Run()
        try:
            waiting = [View(State.WAITING, text=earlier.text if earlier else "")] * len(self._panels)
            yield waiting, self._updates(waiting, fold=True)
            job, expected = start()
            run.take(job)
            shape, frames = "", 0
            for views in watch(job, expected, self._service.grade, earlier):
                before, shape = shape, str([(bool(view.thinking), bool(view.answer)) for view in views])
                frames = 0 if shape != before else frames + 1
                if run.is_dismissed:
                    break
                yield views, self._updates(views, fold=frames < FOLDING_FRAMES)
            if run.is_dismissed:
                yield [View()] * len(self._panels), self.clear()
        except Exception as error:  # whatever it was, the page must not go on waiting
            view = failed(error, earlier)
            views = [view, *[replace(view, message="")] * (len(self._panels) - 1)]  # said once, in the first panel
            yield views, self._updates(views, fold=True)
        finally:
            if self._runs.get(key) is run:
                self._runs.pop(key, None)

    def _updates(self, views: Sequence[View], fold: bool) -> list[Any]:
        running = any(view.is_running for view in views)
        panels = [update for panel, view in zip(self._panels, views) for update in panel.updates(view, fold)]
        return [*panels, gr.update(interactive=not running), gr.update(interactive=running)]


def _key(request: gr.Request) -> str:
    return request.session_hash or ""
