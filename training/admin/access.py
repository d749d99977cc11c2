"""Access to the Train tab: by the admin token, or on a Space by the owner's Hugging Face login.

    access = Access(settings.home)
    access.announce()                                       # a token made for this start, to the terminal
    session = access.log_in(headers, visitor, typed_token)  # off a Space; the browser keeps it in a cookie
    caller = access.check(headers, cookies, profile, oauth_token)   # first in every admin handler

`check` refuses a call whose `Origin` is not this page's own. A browser sends one with every POST, so a call without one
comes from a program; programs are refused here and use the command line (`python -m training`). Gradio passes `profile`
and `oauth_token` to a handler with parameters of the types `gr.OAuthProfile | None` and `gr.OAuthToken | None`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO
from urllib.parse import urlsplit

from inference.common.errors import UserError
from inference.common.files import write_whole
from inference.server.rate_limit import RateLimit, whole_seconds
from inference.server.visitors import is_on_space
from training.admin.hub_identity import HubIdentity

TOKEN_VARIABLE = "LOOKTHINK_ADMIN_TOKEN"
LOGIN_VARIABLES = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")
"""Set by the Hub in a Space with `hf_oauth: true`."""
MIN_TOKEN_CHARS = 16
ATTEMPTS_PER_MINUTE = 5
"""Wrong tokens from one visitor."""
ALL_ATTEMPTS_PER_MINUTE = 60
"""Wrong tokens from all visitors together."""
ADMIN = "admin"
"""The name in a run's record of a user with the admin token."""
SESSIONS_FILE = "admin_sessions.json"
SESSION_SECONDS = 7 * 24 * 3600
"""The time from a log-in to its end."""
MAX_SESSIONS = 32
"""Browsers logged in at once; the oldest log-in ends first."""
log = logging.getLogger(__name__)


class NotAllowed(UserError):
    """The caller has no right to do this; the message has the remedy."""

    def __init__(self, message: str, status: int, wait_seconds: float = 0.0) -> None:
        """`status` is the HTTP one: 401 to log in, 403 for no right, 429 to wait, 503 if the Hub did not answer."""
        super().__init__(message)
        self.status, self.wait_seconds = status, wait_seconds


@dataclass(frozen=True)
class Caller:
    """A user with the right to train."""

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
    """The access rules of one app. Thread-safe."""

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
        own_token = self._env.pop(TOKEN_VARIABLE, "").strip()
        if own_token and len(own_token) < MIN_TOKEN_CHARS:
            raise UserError(
                f"{TOKEN_VARIABLE} has {len(own_token)} characters; give at least {MIN_TOKEN_CHARS}, better "
                "random ones, or leave it out and take the token that is made at each start."
            )
        token = own_token or secrets.token_urlsafe(24)
        self._unannounced = None if own_token or self.is_on_space else token
        self._digest = hashlib.sha256(token.encode()).digest()
        self._sessions = Sessions(home, self._digest)
        self.cookie_name = "lookthink_admin_" + hashlib.sha256(str(home.absolute()).encode()).hexdigest()[:8]
        """Browsers share cookies between the ports of a host, hence one name for each home folder."""

    def announce(self, terminal: TextIO | None = None) -> None:
        """Prints a token that was made for this start to the terminal (default: standard error), once."""
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
        """The caller of a request; raises `NotAllowed` for one without the right to train."""
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
        values = {name.lower(): value.strip().lower() for name, value in headers.items()}
        origin = values.get("origin", "")
        if not origin:
            raise NotAllowed(
                "This call names no page that it comes from (it has no Origin header). Use the Train tab, or "
                "python -m training on the machine itself.",
                403,
            )
        if not self._is_own(origin, values.get("host", "")):
            raise NotAllowed(
                "This call comes from another page. Use the Train tab of this one; a proxy before the app must pass "
                "on the Host header.",
                403,
            )

    def log_in(self, headers: Mapping[str, str], visitor: str, token: str) -> str:
        """The id of a new session; raises `NotAllowed` for a wrong token, and on a Space."""
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
        """Ends the session of the cookie, if there is one. Raises `NotAllowed` for a call from another page."""
        self.check_origin(headers)
        self._sessions.end(cookies.get(self.cookie_name) or "")

    def _spend_attempt(self, visitor: str) -> None:
        """Counts an attempt before the token is read, so that attempts at the same moment count too."""
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
        """The caller, if it is the owner of the Space or may write in the organisation that owns it.

        The token alone is not enough: a caller can put one into the body of a call, such as one that the owner gave
        to another Space. The profile comes only from the session, which is signed with this Space's OAuth secret.
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
            raise NotAllowed("The Hub no longer accepts your login. Sign in again.", 401)
        if identity.error:
            raise NotAllowed(identity.error, 503)
        if identity.name != profile.username:
            raise NotAllowed("The parts of your login name different users. Sign in again.", 401)
        if owner != identity.name and owner not in identity.writes_in:
            raise NotAllowed(
                f"Only {owner} may train here, or, of an organisation, members with the role admin or write. You are "
                f"signed in as {identity.name}; if you are one, sign in again and let the Space see your memberships.",
                403,
            )
        return Caller(identity.name)


class Sessions:
    """The log-ins of one home folder: random ids, of which a file keeps only keyed hashes.

    A session survives a reload and a restart. It ends at a log-out, after `SESSION_SECONDS`, or with another admin
    token, which is the key of the hashes.
    """

    def __init__(self, home: Path, key: bytes, clock: Callable[[], float] = time.time) -> None:
        """`key` is the digest of the admin token."""
        self._path, self._key, self._clock = home / SESSIONS_FILE, key, clock
        self._lock = threading.Lock()
        self._ends: dict[str, float] = self._read()
        """Hash of a session id to the time it ends, oldest first."""

    def begin(self) -> str:
        """A new session's id: 256 random bits, as text."""
        session = secrets.token_urlsafe(32)
        with self._lock:
            self._ends[self._hash(session)] = self._clock() + SESSION_SECONDS
            self._tidy()
            self._write()
        return session

    def is_open(self, session: str) -> bool:
        """True for the id of a session that has not ended."""
        ends = self._ends.get(self._hash(session))
        # a later end than possible: the clock was put back since the log-in
        return ends is not None and 0 < ends - self._clock() <= SESSION_SECONDS

    def end(self, session: str) -> None:
        """Logs out; an unknown id is ignored."""
        with self._lock:
            if self._ends.pop(self._hash(session), None) is not None:
                self._write()

    def _hash(self, session: str) -> str:
        return hmac.new(self._key, session.encode(errors="replace"), hashlib.sha256).hexdigest()

    def _tidy(self) -> None:
        now = self._clock()
        alive = [(key, ends) for key, ends in self._ends.items() if ends > now]
        self._ends = dict(alive[-MAX_SESSIONS:])

    def _read(self) -> dict[str, float]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(key): float(ends) for key, ends in content.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            log.warning("%s cannot be read (%s); log in again.", self._path, type(error).__name__)
            return {}

    def _write(self) -> None:
        """Writes the file; where it cannot be written, sessions last as long as the process."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(self._ends), mode=0o600)
        except OSError as error:
            log.warning("%s cannot be written (%s); a restart ends this log-in.", self._path, type(error).__name__)
