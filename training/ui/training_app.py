"""`TrainingApp`: everything behind the Train tab of one app, put together once.

training = TrainingApp(settings, access)
build_page(blocks, service, lambda tab: training.build(tab, refresh_served))     # inside the app's blocks
training.start(service.queue)                                                    # runs are watched from here on
"""

from __future__ import annotations

import random
from collections.abc import Callable

import gradio as gr
from starlette.routing import Route

from inference.common.settings import Settings
from inference.server.queue import RequestQueue
from inference.server.service import Example, Verdict
from training.admin.access import Access
from training.admin.routes import access_routes
from training.grading.grader import grade_lenient
from training.hub.backup.backup import Backup
from training.hub.publish.retry import PublishKeeper
from training.hub.space.setup import Setup
from training.hub.space.sleep_timer import SleepTimer
from training.launch.gpu_sharing import CardSharing
from training.launch.jobs.launcher import launcher_for
from training.launch.watcher import Watcher
from training.runs.store import RunStore
from training.starter.problems import Problem, make_problem
from training.starter.templates import KINDS, TEMPLATES
from training.ui.base.context import Context
from training.ui.base.download import Downloads
from training.ui.base.guard import Guard
from training.ui.setup_notice import owner_html, public_html
from training.ui.tab import CSS_PATHS, TrainTab

_EXAMPLE_SEED = 11


class TrainingApp:
    """Records, launcher and watcher of one home folder, and the access to them."""

    css_paths = CSS_PATHS

    def __init__(self, settings: Settings, access: Access) -> None:
        self.access = access
        self._settings, self._downloads = settings, Downloads()
        self.store = RunStore(settings.home)
        self.launcher = launcher_for(settings, self.store, in_background=True)
        self.setup, self.sleep_timer = Setup(settings), SleepTimer(settings)
        self.watcher = Watcher(self.launcher, also=[self._update_sleep_timer, PublishKeeper(self.store.folder).look])
        self.backup = Backup(settings, self.store)

    @property
    def routes(self) -> list[Route]:
        """For the app's server: log-in and log-out, and the download of run folders."""
        return [*access_routes(self.access), *self._downloads.routes()]

    def start(self, queue: RequestQueue) -> None:
        """Watch the runs and the deployment from now on; the app's model leaves the GPU to runs that need it."""
        self.watcher.also = [CardSharing(self.store, queue).look, *self.watcher.also]
        self.watcher.start()
        self.setup.start()

    def is_run_active(self) -> bool:
        """True while a run trains here; creates no file."""
        return self.store.exists() and self.store.active() is not None

    def setup_html(self) -> str:
        """The notice of what is not set up yet, for everybody who opens the page."""
        return public_html(self.setup)

    def build(self, tab: gr.Tab, refresh_served: Callable[[], object]) -> TrainTab:
        """Build the tab, inside its context."""
        return TrainTab(self.context(refresh_served), self._downloads, tab)

    def context(self, refresh_served: Callable[[], object]) -> Context:
        """The context of the tab's sections."""
        return Context(
            self._settings,
            Guard(self.access),
            self.store,
            self.launcher,
            self.watcher,
            refresh_served,
            self.backup,
            lambda: owner_html(self.setup, [self.sleep_timer.note]),
        )

    def _update_sleep_timer(self) -> None:
        """Keep the Space awake while it trains; a Job trains on a machine of its own."""
        if not self.sleep_timer.space:
            return
        here = self._settings.training.trainer == "space"
        records = self.store.list() if self.store.exists() else []
        self.sleep_timer.set_training(
            any(r.is_active and r.launcher == "local" or r.status == "queued" and here for r in records)
        )


def grade_expected(expected: str, completion: str) -> Verdict:
    """The verdict of training's grader on the last answer that a completion states; its format is judged apart."""
    return grade_lenient(f"<answer>{expected}</answer>", completion)


def new_problem() -> Example:
    """A new problem from the starter's test split, which training never sees."""
    return _example(make_problem(random.Random(), "test"))


def example_problems() -> list[Example]:
    """One problem of each kind from the starter's train split, always the same ones."""
    rng = random.Random(_EXAMPLE_SEED)
    kinds = ([template for template in TEMPLATES if template.kind == kind] for kind in KINDS)
    return [_example(make_problem(rng, "train", rng.choice(templates))) for templates in kinds]


def _example(problem: Problem) -> Example:
    return Example(problem.image, problem.problem, problem.answer)
