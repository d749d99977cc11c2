"""`TrainSide`: everything behind the Train tab of one app, put together once.

side = TrainSide(settings, access)
build_page(blocks, service, lambda tab: side.build(tab, refresh_served))     # inside the app's blocks
side.watcher.start()                                                         # runs are looked after from here on
"""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr
from starlette.routing import Route

from inference.common.settings import Settings
from inference.server.queue import RequestQueue
from training.admin.access import Access
from training.admin.routes import access_routes
from training.hub.backup.keeper import StateKeeper
from training.hub.publish.retry import PublishKeeper
from training.hub.space.setup import Setup
from training.hub.space.sleep_timer import SleepTimer
from training.launch.gpu_sharing import GivingWay
from training.launch.jobs.launcher import launcher_for
from training.launch.watcher import Watcher
from training.runs.store import RunStore
from training.ui.base.context import Desk
from training.ui.base.download import Archive
from training.ui.base.guard import Guard
from training.ui.setup_notice import owner_html, public_html
from training.ui.tab import CSS_PATHS, Train, build_train


class TrainSide:
    """Records, launcher and watcher of one home folder, and who may use them."""

    css_paths = CSS_PATHS

    def __init__(self, settings: Settings, access: Access) -> None:
        self.access = access
        self._settings, self._archive = settings, Archive()
        self.store = RunStore(settings.home)
        self.launcher = launcher_for(settings, self.store, in_background=True)
        self.setup, self.sleep_timer = Setup(settings), SleepTimer(settings)
        self.watcher = Watcher(self.launcher, also=[self._tend_sleep_timer, PublishKeeper(self.store.folder).look])
        self.keeper = StateKeeper(settings, self.store)

    @property
    def routes(self) -> list[Route]:
        """For the app's server: log-in and log-out, and the download of run folders."""
        return [*access_routes(self.access), *self._archive.routes()]

    def is_run_active(self) -> bool:
        """True while a run trains here. To ask makes no file."""
        return self.store.exists() and self.store.active() is not None

    def _tend_sleep_timer(self) -> None:
        """A Job trains on a machine of its own, whether the Space sleeps or not."""
        if not self.sleep_timer.space:
            return
        here = self._settings.training.trainer == "space"
        records = self.store.list() if self.store.exists() else []
        self.sleep_timer.tend(
            any(r.is_active and r.launcher == "local" or r.status == "queued" and here for r in records)
        )

    def missing_html(self) -> str:
        """What is not set up yet, for everybody who opens the page."""
        return public_html(self.setup)

    def share_card(self, line: RequestQueue) -> None:
        """Let the app's model give way to runs that need its card."""
        self.watcher.also = [GivingWay(self.store, line).look, *self.watcher.also]

    def build(self, tab: gr.Tab, refresh_served: Callable[[], object]) -> Train:
        """The tab's contents, inside its context."""
        guard = Guard(self.access)
        desk = Desk(self._settings, guard, self.store, self.launcher, self.watcher, refresh_served, self.keeper)
        desk.setup_html = lambda: owner_html(self.setup, [self.sleep_timer.note])
        return build_train(desk, self._archive, tab)
