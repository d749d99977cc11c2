"""`TrainingApp`: everything behind the Train tab of one app, put together once.

training = TrainingApp(settings, access)
build_page(blocks, service, lambda tab: training.build(tab, refresh_served, queue))     # inside the app's blocks
training.start(service.queue)                                                    # runs are watched from here on
"""

from __future__ import annotations

import html
import random
import re
from collections.abc import Callable
from dataclasses import replace

import gradio as gr
from starlette.routing import Route

from inference.common.settings import STARTER_NAME, Settings
from inference.server.queue import RequestQueue
from inference.server.service import Example, Service, Verdict
from training.admin.access import Access, access_routes
from training.doctor.background import Examination, FirstLook
from training.grading.grader import grade_lenient
from training.hub.backup.backup import Backup
from training.hub.publish.licence import licence_words
from training.hub.publish.offer import PublishOffer
from training.hub.publish.retry import PublishRetry
from training.hub.space.setup import Setup, SetupStep
from training.hub.space.sleep_timer import SleepTimer
from training.launch.gpu_sharing import CardSharing
from training.launch.jobs.launcher import launcher_for
from training.launch.watcher import Watcher
from training.learn.asking import PromotionAsker
from training.runs.store import RunStore
from training.starter.everyday import EVERYDAY_KINDS, EverydayProblem, everyday_problem
from training.starter.problems import Problem, make_problem
from training.starter.templates import KINDS, TEMPLATES
from training.ui.answers.pinned import PinAnswer
from training.ui.base.context import Context
from training.ui.base.download import Downloads
from training.ui.base.guard import Guard
from training.ui.learn.tab import CSS_PATH as LEARN_CSS
from training.ui.learn.tab import LearnTab
from training.ui.learn.votes_html import vote_words
from training.ui.tab import CSS_PATHS, TrainTab

_TYPED = re.compile(r"`([^`]+)`")
_EXAMPLE_SEED = 11


class TrainingApp:
    """Records, launcher and watcher of one home folder, and the access to them."""

    css_paths = [*CSS_PATHS, LEARN_CSS]

    def __init__(self, settings: Settings, access: Access) -> None:
        self.access = access
        self._settings, self._downloads = settings, Downloads()
        self.store = RunStore(settings.home)
        self.launcher = launcher_for(settings, self.store, in_background=True)
        self.setup, self.sleep_timer = Setup(settings), SleepTimer(settings)
        self.watcher = Watcher(self.launcher, also=[self._update_sleep_timer, PublishRetry(self.store.folder).look])
        self.backup = Backup(settings, self.store)
        self.examination = Examination(settings)
        self._asker: PromotionAsker | None = None

    @property
    def routes(self) -> list[Route]:
        """For the app's server: log-in and log-out, and the download of run folders."""
        return [*access_routes(self.access), *self._downloads.routes()]

    def start(self, queue: RequestQueue) -> None:
        """Watch the runs and the deployment from now on; the app's model leaves the GPU to runs that need it."""
        first_look = FirstLook(self._settings, queue, self.store, self.examination)
        self.watcher.also = [CardSharing(self.store, queue).look, *self.watcher.also, first_look.look]
        self.watcher.start()
        self.setup.start()
        self.asker(queue).look()

    def is_run_active(self) -> bool:
        """True while a run trains here; creates no file."""
        return self.store.exists() and self.store.active() is not None

    def setup_html(self) -> str:
        """The notice of what is not set up yet, for everybody who opens the page."""
        return public_html(self.setup)

    def licence_words(self) -> str:
        """The licence of the base that answers here; waits for the Hub some seconds at most."""
        return licence_words(STARTER_NAME if self._settings.is_starter else self._settings.base)

    def asker(self, queue: RequestQueue | None) -> PromotionAsker:
        """Asks what broke with each promotion; always the same one."""
        self._asker = self._asker or PromotionAsker(self._settings, queue)
        return self._asker

    def build(self, tab: gr.Tab, refresh_served: Callable[[], object], queue: RequestQueue) -> TrainTab:
        """Build the tab, inside its context; the owner's own questions go to `queue` too."""
        return TrainTab(self.context(refresh_served, queue), self._downloads, tab)

    def vote_words(self, service: Service, adapter: str | None, share: float) -> str:
        """`training.ui.learn.votes_html.vote_words` of an adapter, or (`None`) of the base."""
        record = service.offer.records.get(adapter or service.offer.served or "")
        return vote_words(record.path if record else None, adapter is None, share)

    def build_learn(self, service: Service, tab: gr.Tab, refresh_served: Callable[[], object]) -> LearnTab:
        """Build the Learn tab, inside its context."""
        asker = self.asker(service.queue)
        return LearnTab(service, Guard(self.access), _both(refresh_served, asker.look), asker, tab)

    def build_pin(self, service: Service) -> PinAnswer:
        """Build what pins an answered question, under the answer."""
        return PinAnswer(self.asker(service.queue).promoted.questions, Guard(self.access), service.is_owner)

    def context(self, refresh_served: Callable[[], object], queue: RequestQueue | None = None) -> Context:
        """The context of the tab's sections."""
        asker = self.asker(queue)
        return Context(
            self._settings,
            Guard(self.access),
            self.store,
            self.launcher,
            self.watcher,
            _both(refresh_served, asker.look),
            self.backup,
            PublishOffer(self._settings, self.setup.publish_owner),
            self.examination,
            asker,
            queue,
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


def _both(first: Callable[[], object], second: Callable[[], object]) -> Callable[[], None]:
    def call() -> None:
        first()
        second()

    return call


def grade_expected(expected: str, completion: str, question: str) -> Verdict:
    """The verdict of training's grader on the last answer that a completion states; its format is judged apart."""
    grade = grade_lenient(f"<answer>{expected}</answer>", completion, question)
    return replace(grade, gold=grade.gold or expected)  # what cannot be read is shown as it was typed


def new_problem(is_starter: bool) -> Example:
    """A new problem that the base is for; the starter's is of the test split, which training never sees."""
    rng = random.Random()
    if is_starter:
        return _example(make_problem(rng, "test"))
    return _example(everyday_problem(rng.choice(list(EVERYDAY_KINDS)), rng))


def example_problems(is_starter: bool) -> list[Example]:
    """One problem of each kind that the base is for, always the same ones; the starter's are of its train split."""
    rng = random.Random(_EXAMPLE_SEED)
    if not is_starter:
        return [_example(everyday_problem(kind, rng)) for kind in EVERYDAY_KINDS]
    kinds = ([template for template in TEMPLATES if template.kind == kind] for kind in KINDS)
    return [_example(make_problem(rng, "train", rng.choice(templates))) for templates in kinds]


def public_html(setup: Setup) -> str:
    """A notice for the top of the page: one line that unfolds; empty if nothing is missing.

    The remedies are under Train, and also here if nobody could log in to read them there.
    """
    steps = setup.steps
    if not steps:
        return ""
    with_remedy = not setup.offers_login
    items = "".join(_item(step, with_remedy) for step in steps)
    missing = ", ".join(_title(step) for step in steps)
    where = "" if with_remedy else " Its owner finds how under Train." if setup.is_on_space else " How is under Train."
    is_open = " open" if setup.model_problem else ""
    return (
        f'<aside class="lt-notice lt-setup" aria-label="What is not set up yet"><details{is_open}><summary>'
        f"<strong>Not everything is set up here yet:</strong> {_text(missing)}.</summary>"
        f"<p>The page works with what there is.{where}</p><ul>{items}</ul></details></aside>"
    )


def owner_html(setup: Setup, notes: list[str]) -> str:
    """For the Train tab: current notes, then each step with its remedy and the last error."""
    shown = "".join(f'<p class="lt-note lt-warn" role="status">{_text(note)}</p>' for note in notes if note)
    steps = setup.steps
    if not steps:
        return shown
    link = f' <a href="{_text(setup.address)}" target="_blank" rel="noopener">Settings of this Space</a>'
    items = "".join(_item(step, True, step.problem.rstrip(".")) for step in steps)
    head = f"<p><strong>Still to be set up.</strong>{link if setup.address else ''}</p>"
    return f'{shown}<div class="lt-note lt-setup">{head}<ul>{items}</ul></div>'


def _item(step: SetupStep, with_remedy: bool, problem: str = "") -> str:
    remedy = f" {_text(step.remedy)}" if with_remedy else ""
    price = f" <span>({_text(step.price)})</span>" if step.price else ""
    error = f" <em>{_text(problem[:1].upper() + problem[1:])}.</em>" if problem else ""
    return f"<li><strong>{_text(step.title)}.</strong> {_text(step.effect)}{remedy}{price}{error}</li>"


def _title(step: SetupStep) -> str:
    """The title within a line, with its price if that is an amount: `a GPU (a100-large: $2.50 an hour)`."""
    price = f" ({step.price})" if "$" in step.price else ""
    return f"{step.title[:1].lower()}{step.title[1:]}{price}"


def _text(words: str) -> str:
    """The words escaped; text in backticks, which is to be typed, as code."""
    return _TYPED.sub(r"<code>\1</code>", html.escape(words))


def _example(problem: Problem | EverydayProblem) -> Example:
    return Example(problem.image, problem.problem, problem.answer)
