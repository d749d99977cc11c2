"""Who may train here: off a Space whoever has the admin token, on a Space its owner by Hugging Face login.

    access = Access(settings.home)
    access.announce()                                       # a token made for this start, to the terminal
    session = access.log_in(headers, visitor, typed_token)  # off a Space; the browser keeps it in a cookie
    caller = access.check(headers, cookies, profile, oauth_token)   # first in every admin handler

`check` refuses a call whose `Origin` is not this page's own. A browser sends one with every POST, so a call without
one comes from a program; these have the command line (`python -m training`), and are refused here. Knows neither
Gradio nor torch: `profile` and `oauth_token` are what Gradio hands a handler that asks for `gr.OAuthProfile | None`
and `gr.OAuthToken | None`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO
from urllib.parse import urlsplit

from inference.common.errors import UserError
from inference.server.rate_limit import RateLimit, whole_seconds
from inference.server.visitors import is_on_space
from training.admin.hub_identity import HubIdentity
from training.admin.sessions import Sessions

TOKEN_VARIABLE = "LOOKTHINK_ADMIN_TOKEN"
LOGIN_VARIABLES = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
"""What the Hub sets in a Space with `hf_oauth: true`."""
MIN_TOKEN_CHARS = 16
ATTEMPTS_PER_MINUTE = 5
"""Wrong tokens from one visitor."""
ALL_ATTEMPTS_PER_MINUTE = 60
"""Wrong tokens from all visitors together."""
ADMIN = "admin"
"""The name of whoever has the token, for the record of a run."""


class NotAllowed(UserError):
    """This caller may not do that; the message says what to do instead."""

    def __init__(self, message: str, status: int, wait_seconds: float = 0.0) -> None:
        """`status` is the HTTP one: 401 to log in, 403 for no right, 429 to wait, 503 if the Hub did not answer."""
        super().__init__(message)
        self.status, self.wait_seconds = status, wait_seconds


@dataclass(frozen=True)
class Caller:
    """Somebody who may."""

    name: str
    """Their name on the Hub; `admin` off a Space."""


class Profile(Protocol):
    """`gr.OAuthProfile`, as far as it is read."""

    @property
    def username(self) -> str: ...


class Token(Protocol):
    """`gr.OAuthToken`, as far as it is read."""

    @property
    def token(self) -> str: ...


class Access:
    """Decides for one app; safe to use from several threads."""

    def __init__(
        self, home: Path, env: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`env` is the process's environment unless given. Raises `UserError` for a token that is too short."""
        self._env = dict(os.environ if env is None else env)
        self.is_on_space = is_on_space(self._env)
        self.offers_login = self.is_on_space and all(self._env.get(name, "").strip() for name in LOGIN_VARIABLES)
        """False on a Space whose README.md does not say `hf_oauth: true`."""
        self._attempts = RateLimit(ATTEMPTS_PER_MINUTE, 60, clock=clock)
        self._all_attempts = RateLimit(ALL_ATTEMPTS_PER_MINUTE, 60, clock=clock)
        self._hub = HubIdentity(clock)
        given = self._env.pop(TOKEN_VARIABLE, "").strip()
        if given and len(given) < MIN_TOKEN_CHARS:
            raise UserError(
                f"{TOKEN_VARIABLE} has {len(given)} characters; give at least {MIN_TOKEN_CHARS}, better random ones, "
                "or leave it out and take the token that is made at each start."
            )
        token = given or secrets.token_urlsafe(24)
        self._unannounced = None if given or self.is_on_space else token
        self._digest = hashlib.sha256(token.encode()).digest()
        self._sessions = Sessions(home, self._digest)
        self.cookie_name = "lookthink_admin_" + hashlib.sha256(str(home.absolute()).encode()).hexdigest()[:8]
        """Browsers share cookies between the ports of a host, hence one name for each home folder."""

    def announce(self, terminal: TextIO | None = None) -> None:
        """Print a token that was made for this start to the terminal (standard error unless given), once."""
        if self._unannounced is not None:
            print(f"Admin token, for the Train tab: {self._unannounced}", file=terminal or sys.stderr, flush=True)
            self._unannounced = None

    def check(
        self,
        headers: Mapping[str, str],
        cookies: Mapping[str, str],
        profile: Profile | None = None,
        oauth_token: Token | None = None,
    ) -> Caller:
        """The caller of a request, if they may; else raises `NotAllowed`."""
        self.check_origin(headers)
        if self.is_on_space:
            return self._member(profile, oauth_token)
        session = cookies.get(self.cookie_name) or ""
        if not session:
            raise NotAllowed("Log in with the admin token, which was printed where the app was started.", 401)
        if not self._sessions.is_open(session):
            raise NotAllowed("You are no longer logged in. Log in again with the admin token.", 401)
        return Caller(ADMIN)

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raises `NotAllowed` unless the request comes from this app's own page."""
        found = {name.lower(): value for name, value in headers.items() if name.lower() in ("origin", "host")}
        origin = found.get("origin", "").strip().lower()
        if not origin:
            raise NotAllowed(
                "This call says of no page that it comes from it (no Origin header). Use the Train tab, or "
                "python -m training on the machine itself.",
                403,
            )
        if not self._is_own(origin, found.get("host", "").strip().lower()):
            raise NotAllowed(
                "This call comes from another page. Use the Train tab of this one; a proxy before the app must pass "
                "on the Host header.",
                403,
            )

    def log_in(self, headers: Mapping[str, str], visitor: str, token: str) -> str:
        """The id of a new session for whoever has the token; else raises `NotAllowed`. Not for a Space."""
        self.check_origin(headers)
        if self.is_on_space:
            raise NotAllowed("Here the owner signs in with Hugging Face; there is no admin token.", 403)
        self._spend_attempt(visitor)
        if not hmac.compare_digest(hashlib.sha256(token.strip().encode(errors="replace")).digest(), self._digest):
            raise NotAllowed(
                "That is not the admin token. It was printed where the app was started, or set by "
                f"{TOKEN_VARIABLE} there.",
                403,
            )
        self._attempts.give_back(visitor)
        self._all_attempts.give_back("")
        return self._sessions.begin()

    def log_out(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> None:
        """End the session of the cookie, if there is one. Raises `NotAllowed` for another page's call."""
        self.check_origin(headers)
        self._sessions.end(cookies.get(self.cookie_name) or "")

    def _spend_attempt(self, visitor: str) -> None:
        """Taken before the token is looked at, so that attempts made at the same moment count too."""
        wait = self._attempts.take(visitor)
        if not wait:
            wait = self._all_attempts.take("")
            if wait:
                self._attempts.give_back(visitor)
        if wait:
            raise NotAllowed(f"Too many wrong tokens. Try again in {whole_seconds(wait)}.", 429, wait)

    def _is_own(self, origin: str, host: str) -> bool:
        if self.is_on_space:
            hosts = self._env.get("SPACE_HOST", "").lower().split(",")
            return origin in {f"https://{name.strip()}" for name in hosts if name.strip()}
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and bool(host) and origin == f"{parts.scheme}://{host}"

    def _member(self, profile: Profile | None, oauth_token: Token | None) -> Caller:
        """The owner of the Space, or who may write in the organisation that owns it.

        The token alone does not do: a caller can put one into the body of a call, such as one that the owner gave
        another Space. The profile comes from the session only, which is signed with this Space's OAuth secret.
        """
        owner = self._env.get("SPACE_AUTHOR_NAME", "").strip()
        if not owner or not self._env.get("OAUTH_CLIENT_SECRET", "").strip():
            raise NotAllowed(
                "This Space offers no login: its README.md lacks hf_oauth: true. Its owner can add it there.", 403
            )
        if profile is None or oauth_token is None:
            raise NotAllowed(f"Sign in with Hugging Face as {owner}, or as a member who may write there.", 401)
        identity = self._hub.of(oauth_token.token)
        if identity is None:
            raise NotAllowed("The Hub does not know your login any more. Sign in again.", 401)
        if identity.error:
            raise NotAllowed(identity.error, 503)
        if identity.name != profile.username:
            raise NotAllowed("Your login is not whole: its parts name different users. Sign in again.", 401)
        if owner != identity.name and owner not in identity.writes_in:
            raise NotAllowed(
                f"Only {owner} may train here, or, of an organisation, members with the role admin or write. You are "
                f"signed in as {identity.name}; if you are one, sign in again and let the Space see your memberships.",
                403,
            )
        return Caller(identity.name)
