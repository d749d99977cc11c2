"""The setup steps that a deployment still lacks, each with its remedy and its price, for the owner of a new Space.

    setup = Setup(settings)
    setup.start()                       # asks the Hub in the background for prices, and tests the token
    [step.title for step in setup.steps]

Nothing here stops the app: it serves what it can, and the page says what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from inference.common.background import PeriodicTask
from inference.common.hub_errors import hub_exceptions, limit_waiting, reason, status_of
from inference.common.hub_names import is_hub_name
from inference.common.settings import Settings
from inference.common.space_file import has_gpu
from inference.server.visitors import is_on_space
from training.admin.access import LOGIN_VARIABLES
from training.admin.hub_identity import WRITING_ROLES
from training.hub.space.prices import PriceList, Prices

FRESH_SECONDS = 3600.0
RETRY_SECONDS = 60.0
"""While the Hub does not answer, or refuses the token."""


@dataclass(frozen=True)
class SetupStep:
    """A step that is missing."""

    title: str
    """`A token`."""
    effect: str
    """The effect of its lack, for all readers of the page."""
    remedy: str
    """The remedy, for the owner."""
    price: str = ""
    """Its price; empty if it costs nothing."""
    problem: str = ""
    """The error, shown to the owner alone."""


@dataclass(frozen=True)
class HubAnswers:
    """The Hub's newest answers."""

    prices: PriceList = PriceList(problem="the Hub was not asked yet")
    token_problem: str = ""
    """The fault of the token; empty if it is good, or there is none."""
    network_problem: str = ""
    """The reason why the Hub could not be asked."""
    writes_for: frozenset[str] = frozenset()
    """The accounts that the token may write for."""


@dataclass(frozen=True)
class TokenTrouble:
    """The result of a test of a token; both texts are empty if it is good. They never hold the token."""

    token: str = ""
    """The fault of the token."""
    network: str = ""
    """The reason why the Hub could not be asked."""
    writes_for: frozenset[str] = frozenset()
    """The accounts that it may write for: its user, and organisations."""


class Setup:
    """The setup of one deployment; thread-safe, and its properties never wait."""

    def __init__(
        self,
        settings: Settings,
        env: Mapping[str, str] | None = None,
        *,
        has_card: bool | None = None,
        prices: Prices | None = None,
    ) -> None:
        """`env` is the process's environment by default; `has_card` overrides torch's answer on a GPU."""
        self._settings, self._env = settings, dict(os.environ if env is None else env)
        self.is_on_space = is_on_space(self._env)
        self._token = self._env.get("HF_TOKEN", "").strip()
        self._has_card = (_card_is_there() if self.is_on_space else False) if has_card is None else has_card
        self._prices = prices or Prices()
        self.answers = HubAnswers()
        self.model_problem = ""
        """The reason why the base could not be loaded; set by the app."""
        self._task = PeriodicTask(self._look, FRESH_SECONDS, "setup")

    @property
    def address(self) -> str:
        """The page with the Space's settings; empty off a Space."""
        space = self._env.get("SPACE_ID", "").strip()
        return f"https://huggingface.co/spaces/{space}/settings" if is_hub_name(space) else ""

    def publish_owner(self) -> str:
        """The account of this Space, if the token may write for it; empty otherwise, and off a Space."""
        owner = self._env.get("SPACE_ID", "").strip().partition("/")[0]
        return owner if owner in self.answers.writes_for else ""

    @property
    def offers_login(self) -> bool:
        """True if the owner can log in: outside a Space with the admin token."""
        return not self.is_on_space or all(self._env.get(name, "").strip() for name in LOGIN_VARIABLES)

    @property
    def steps(self) -> tuple[SetupStep, ...]:
        """The steps that are missing now."""
        steps = [self._model(), self._network(), self._card(), self._hub_token(), self._bucket(), self._login()]
        return tuple(step for step in steps if step is not None)

    @property
    def needs_hub(self) -> bool:
        """True if a setting needs a token."""
        training = self._settings.training
        return self.is_on_space or training.publish_to is not None or training.trainer == "job"

    def start(self) -> None:
        """Asks the Hub periodically in a daemon thread, if a setting needs it."""
        if self.needs_hub:
            self._task.start()

    def stop(self) -> None:
        """Stops asking."""
        self._task.stop()

    def ask(self) -> None:
        """Asks the Hub once; blocks."""
        trouble = self._try_token()
        prices = self._prices.of_spaces()
        writes_for = self.answers.writes_for if trouble.network else trouble.writes_for  # the newest that is known
        self.answers = HubAnswers(prices, trouble.token, trouble.network or prices.problem, writes_for)

    def _look(self) -> float:
        limit_waiting()
        self.ask()
        return RETRY_SECONDS if self.answers.token_problem or self.answers.network_problem else FRESH_SECONDS

    def _try_token(self) -> TokenTrouble:
        """Tests the token at the Hub."""
        from huggingface_hub import get_token

        self._token = token = self._token or ("" if self.is_on_space else get_token() or "")
        return token_trouble(token) if token else TokenTrouble()

    def _model(self) -> SetupStep | None:
        if not self.model_problem:
            return None
        return SetupStep(
            "The model",
            "It could not be loaded, so nothing is answered.",
            "Correct the error that is shown here, then restart the Space; its log has the same words.",
            problem=self.model_problem,
        )

    def _network(self) -> SetupStep | None:
        if not self.answers.network_problem:
            return None
        return SetupStep(
            "The Hub",
            "It does not answer, so nothing is published and no Job starts; everything else works.",
            "Wait: it is tried again every minute.",
            problem=self.answers.network_problem,
        )

    def _card(self) -> SetupStep | None:
        hardware, prices = self._settings.space.hardware, self.answers.prices
        if not self.is_on_space or self._has_card or not has_gpu(hardware):
            return None
        minutes = self._settings.space.sleep_minutes
        sleep = f" Set a sleep time of {minutes} minutes there; asleep it costs nothing." if minutes else ""
        return SetupStep(
            "A GPU",
            "The model that space.yaml names needs one, to answer and to be trained.",
            f"Choose {hardware}, or other hardware with a GPU, under Hardware.{sleep} For training alone, trainer: job "
            "in space.yaml takes a GPU while a run lasts.",
            f"{hardware}: {'price not known now' if prices.problem else prices.words(hardware)}",
        )

    def _hub_token(self) -> SetupStep | None:
        if not self.needs_hub or (self._token and not self.answers.token_problem):
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
            problem=f"HF_TOKEN is there: {self.answers.token_problem}" if self._token else "",
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
            f"LOOKTHINK_STATE is {state}, but there is no such folder here" if state is not None else "",
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


def token_trouble(token: str) -> TokenTrouble:
    """Tests a token at the Hub; blocks.

    >>> token_trouble("hf_with a space").token
    'it holds characters that no token has'
    """
    from huggingface_hub import whoami

    if not token.isascii() or not token.isprintable() or " " in token:
        return TokenTrouble("it holds characters that no token has")
    try:
        about = whoami(token)
    except hub_exceptions() as error:
        return TokenTrouble(reason(error)) if status_of(error) in (401, 403) else TokenTrouble(network=reason(error))
    if not isinstance(about, dict):
        return TokenTrouble(network="the Hub's answer cannot be read")
    if _role(about) == "read":
        return TokenTrouble("it may only read")
    return TokenTrouble(writes_for=_writes_for(about))


def token_here() -> str | None:
    """The Hub's token of this machine: the environment's, or that of the login."""
    from huggingface_hub import get_token

    return get_token()


def address_of(space: str) -> str:
    """The address of a Space's page."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/spaces/{space}"


def _role(about: object) -> object:
    """The role of the token in the Hub's answer, which is not to be relied on."""
    return _access_token(about).get("role")


def _access_token(about: object) -> dict[str, object]:
    for name in ("auth", "accessToken"):
        about = about.get(name) if isinstance(about, dict) else None
    return about if isinstance(about, dict) else {}


def _writes_for(about: dict[str, object]) -> frozenset[str]:
    """The accounts whose repositories the token may write, by the Hub's answer on it."""
    token = _access_token(about)
    if token.get("role") == "write":
        orgs = about.get("orgs")
        members = [org for org in orgs if isinstance(org, dict)] if isinstance(orgs, list) else []
        names = [about.get("name"), *(org.get("name") for org in members if org.get("roleInOrg") in WRITING_ROLES)]
        return frozenset(name for name in names if isinstance(name, str))
    fine = token.get("fineGrained")
    scoped = fine.get("scoped") if isinstance(fine, dict) else None
    found = set()
    for scope in scoped if isinstance(scoped, list) else ():
        entity, rights = (scope.get(name) if isinstance(scope, dict) else None for name in ("entity", "permissions"))
        name = entity.get("name") if isinstance(entity, dict) and entity.get("type") in ("user", "org") else None
        if isinstance(name, str) and isinstance(rights, list) and "repo.write" in rights:
            found.add(name)
    return frozenset(found)
