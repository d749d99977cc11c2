"""What a deployment still lacks, for whoever duplicated the Space: each step with its remedy and its price.

    setup = Setup(settings)
    setup.start()                       # asks the Hub in the background, for prices and whether the token is good
    [step.title for step in setup.steps]

Nothing here stops the app: it serves what it can, and the page says what is missing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from inference.common.hub_errors import limit_waiting
from inference.common.hub_names import is_hub_name
from inference.common.settings import Settings
from inference.common.space_file import has_gpu
from inference.server.visitors import is_on_space
from training.admin.access import LOGIN_VARIABLES
from training.hub.space.prices import PriceList, Prices
from training.hub.space.token import TokenTrouble, token_trouble

FRESH_SECONDS = 3600.0
RETRY_SECONDS = 60.0
"""While the Hub does not answer, or refuses the token."""


@dataclass(frozen=True)
class SetupStep:
    """Something that is missing."""

    title: str
    """`A token`."""
    effect: str
    """What does not work without it, for everybody who reads the page."""
    remedy: str
    """What the owner does about it."""
    price: str = ""
    """What it costs; empty where it costs nothing."""
    problem: str = ""
    """What went wrong, for the owner alone."""


@dataclass(frozen=True)
class Told:
    """What the Hub said when it was last asked."""

    prices: PriceList = PriceList(problem="the Hub was not asked yet")
    token_problem: str = ""
    """Why the token does not do; empty where it does, or there is none."""
    network_problem: str = ""
    """Why the Hub could not be asked."""


class Setup:
    """How far one deployment is set up; safe to read from several threads, and never slow."""

    def __init__(
        self,
        settings: Settings,
        env: Mapping[str, str] | None = None,
        *,
        has_card: bool | None = None,
        prices: Prices | None = None,
    ) -> None:
        """`env` is the process's environment unless given; `has_card`, whether this machine has a GPU, is found out."""
        self._settings, self._env = settings, dict(os.environ if env is None else env)
        self.is_on_space = is_on_space(self._env)
        self._token = self._env.get("HF_TOKEN", "").strip()
        self._has_card = (_card_is_there() if self.is_on_space else False) if has_card is None else has_card
        self._prices = prices or Prices()
        self.told = Told()
        self.model_problem = ""
        """Why the base could not be loaded; set by the app."""
        self._over = threading.Event()

    @property
    def address(self) -> str:
        """The page with the Space's settings; empty off a Space."""
        space = self._env.get("SPACE_ID", "").strip()
        return f"https://huggingface.co/spaces/{space}/settings" if is_hub_name(space) else ""

    @property
    def offers_login(self) -> bool:
        """Whether its owner can get in: off a Space by the admin token."""
        return not self.is_on_space or all(self._env.get(name, "").strip() for name in LOGIN_VARIABLES)

    @property
    def steps(self) -> tuple[SetupStep, ...]:
        """What is missing now."""
        found = [self._model(), self._network(), self._card(), self._hub_token(), self._bucket(), self._login()]
        return tuple(step for step in found if step is not None)

    @property
    def needs_hub(self) -> bool:
        """True if something that is asked for needs a token."""
        training = self._settings.training
        return self.is_on_space or training.publish_to is not None or training.trainer == "job"

    def start(self) -> None:
        """Ask the Hub now and again, in a daemon thread; not where nothing needs it."""
        if self.needs_hub:
            threading.Thread(target=self._keep_asking, name="setup", daemon=True).start()

    def stop(self) -> None:
        """Ask no more."""
        self._over.set()

    def ask(self) -> None:
        """Ask the Hub once; takes as long as it takes."""
        trouble = self._try_token()
        prices = self._prices.of_spaces()
        self.told = Told(prices, trouble.token, trouble.network or prices.problem)

    def _keep_asking(self) -> None:
        limit_waiting()
        while not self._over.is_set():
            self.ask()
            is_well = not (self.told.token_problem or self.told.network_problem)
            self._over.wait(FRESH_SECONDS if is_well else RETRY_SECONDS)

    def _try_token(self) -> TokenTrouble:
        """What is wrong with the token, and what with the way to the Hub."""
        from huggingface_hub import get_token

        self._token = token = self._token or ("" if self.is_on_space else get_token() or "")
        return token_trouble(token) if token else TokenTrouble()

    def _model(self) -> SetupStep | None:
        if not self.model_problem:
            return None
        return SetupStep(
            "The model",
            "It could not be loaded, so nothing is answered.",
            "Put right what is said here, then restart the Space; its log has the same words.",
            problem=self.model_problem,
        )

    def _network(self) -> SetupStep | None:
        if not self.told.network_problem:
            return None
        return SetupStep(
            "The Hub",
            "It does not answer, so nothing is published and no Job starts; what is here goes on.",
            "Wait: it is asked again every minute.",
            problem=self.told.network_problem,
        )

    def _card(self) -> SetupStep | None:
        wanted = self._settings.space.hardware
        if not self.is_on_space or self._has_card or not has_gpu(wanted):
            return None
        minutes = self._settings.space.sleep_minutes
        sleep = f" Set a sleep time of {minutes} minutes there; asleep it costs nothing." if minutes else ""
        return SetupStep(
            "A GPU",
            "The model that space.yaml names needs one, to answer and to be trained.",
            f"Choose {wanted}, or other hardware with a GPU, under Hardware.{sleep} For training alone, trainer: job "
            "in space.yaml takes a GPU while a run lasts.",
            f"{wanted}: {'price not known now' if self.told.prices.problem else self.told.prices.words(wanted)}",
        )

    def _hub_token(self) -> SetupStep | None:
        if not self.needs_hub or (self._token and not self.told.token_problem):
            return None
        return SetupStep(
            "A token",
            "Without one nothing is published, no Job starts, and the Space may fall asleep while it trains."
            if self.is_on_space
            else "Without one nothing is published, and no Job starts.",
            "Make a token that may write, at the Hub under Access Tokens, and add it as the secret HF_TOKEN under "
            "Variables and secrets."
            if self.is_on_space
            else "Set HF_TOKEN to a token that may write, or run `hf auth login`.",
            problem=f"HF_TOKEN is there: {self.told.token_problem}" if self._token else "",
        )

    def _bucket(self) -> SetupStep | None:
        state = self._settings.state
        if not self.is_on_space or (state is not None and state.is_dir()):
            return None
        return SetupStep(
            "A bucket",
            "Without one, runs and their adapters are gone when the Space restarts.",
            "Make a private Storage Bucket, mount it at /state under Settings, and add the variables "
            "LOOKTHINK_STATE=/state and LOOKTHINK_BUCKET=<owner>/<bucket>; `python -m training deploy` does all of it.",
            "billed by what is in it, as the Hub's pricing page says",
            f"LOOKTHINK_STATE is {state}, which is no folder here" if state is not None else "",
        )

    def _login(self) -> SetupStep | None:
        if self.offers_login:
            return None
        return SetupStep(
            "A login",
            "Nobody can train from this page.",
            "Add the line hf_oauth: true to the block on top of README.md; in a clone, set oauth: true under admin in "
            "space.yaml, run make space, and deploy.",
        )


def _card_is_there() -> bool:
    import torch

    return torch.cuda.is_available()
