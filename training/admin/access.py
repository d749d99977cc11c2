"""Access to the Train tab: by the admin token, or on a Space by the owner's Hugging Face login.

    access = Access(settings.home)
    access.announce()                                       # a token made for this start, to the terminal
    session = access.log_in(headers, visitor, typed_token)  # off a Space; the browser keeps it in a cookie
    caller = access.check(headers, cookies, profile, oauth_token)   # first in every admin handler

`check` refuses a call whose `Origin` is not this page's own. A browser sends one with every POST, so a call without one
comes from a program; programs are refused here and use the command line (`python -m training`). Gradio passes `profile`
and `oauth_token` to a handler with parameters of the types `gr.OAuthProfile | None` and `gr.OAuthToken | None`.

Off a Space the page fetches `POST /admin/login` and `POST /admin/logout` (`access_routes`). A log-in is answered with a
cookie that no script can read and no page of another site can send; a refusal with its status and `{"error": words}`.
The token is never part of an address, so that no access log holds it.
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
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inference.common.errors import UserError
from inference.common.files import json_object, write_whole
from inference.common.logs import event
from inference.server.visitors import RateLimit, is_on_space, pseudonym, visitor_id_of, whole_seconds
from training.admin.hub_identity import HubIdentity

MAX_BODY_BYTES = 4_096
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
SPACE_COOKIE = "session"
"""Gradio's on a Space: what it holds, when it was signed, and the signature, with dots between."""
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
        self._members: OrderedDict[bytes, None] = OrderedDict()
        """Digests of the log-ins that were let in on a Space, the newest last."""
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
            caller = self._member(profile, oauth_token)
            if login := _login_digest(cookies):
                self._members[login] = None
            while len(self._members) > MAX_SESSIONS:
                self._members.popitem(last=False)
            return caller
        session = cookies.get(self.cookie_name) or ""
        if not session:
            raise NotAllowed("Log in with the admin token, which was printed where the app was started.", 401)
        if not self._sessions.is_open(session):
            raise NotAllowed("You are no longer logged in. Log in again with the admin token.", 401)
        return Caller(ADMIN)

    def is_known(self, cookies: Mapping[str, str]) -> bool:
        """True for a browser that is logged in, or on a Space that was let in before: visitors' limits spare it.

        It gives no right; `check` does.
        """
        if self.is_on_space:
            return _login_digest(cookies) in self._members
        return self._sessions.is_open(cookies.get(self.cookie_name) or "")

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
        """The id of a new session; raises `NotAllowed` for a wrong token, and on a Space.

        Wrong tokens wait once there were too many. A right one is let in at any time, so that nobody's wrong ones
        lock the owner out: what keeps guesses from succeeding is the token's length.
        """
        self.check_origin(headers)
        if self.is_on_space:
            raise NotAllowed("Here the owner signs in with Hugging Face; there is no admin token.", 403)
        if not hmac.compare_digest(hashlib.sha256(token.strip().encode(errors="replace")).digest(), self._digest):
            self._spend_attempt(visitor)
            raise NotAllowed(
                "That is not the admin token. It was printed where the app was started, or set by "
                f"{TOKEN_VARIABLE} there.",
                403,
            )
        return self._sessions.begin()

    def log_out(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> None:
        """Ends the session of the cookie, if there is one. Raises `NotAllowed` for a call from another page."""
        self.check_origin(headers)
        self._sessions.end(cookies.get(self.cookie_name) or "")

    def _spend_attempt(self, visitor: str) -> None:
        """Counts a wrong token; raises `NotAllowed` if there were too many."""
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
            content = json_object(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError:
            content = None
        whole = {key: float(ends) for key, ends in (content or {}).items() if isinstance(ends, int | float)}
        if content is None or len(whole) < len(content):
            log.warning("%s cannot be read, or not all of it; log in again.", self._path)
        return whole

    def _write(self) -> None:
        """Writes the file; where it cannot be written, sessions last as long as the process."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(self._ends), mode=0o600)
        except OSError as error:
            log.warning("%s cannot be written (%s); a restart ends this log-in.", self._path, type(error).__name__)


def _login_digest(cookies: Mapping[str, str]) -> bytes:
    """A digest of what the Space's cookie holds, which includes the caller's OAuth token; empty without one."""
    content = cookies.get(SPACE_COOKIE, "").partition(".")[0]
    return hashlib.sha256(content.encode(errors="replace")).digest() if content else b""


def access_routes(access: Access) -> list[Route]:
    """The routes for the app's server. On a Space they refuse, since Gradio's login is used there."""

    async def log_in(request: Request) -> Response:
        visitor = _visitor(request, access)
        try:
            access.check_origin(request.headers)
            token = await _token(request)
            session = await run_in_threadpool(access.log_in, request.headers, visitor, token)
        except NotAllowed as refusal:
            event("admin_log_in_refused", visitor=pseudonym(visitor), status=refusal.status)
            return refused(refusal)
        event("admin_logged_in", visitor=pseudonym(visitor))
        answer = JSONResponse({"ok": True})
        is_https = _is_https(request)
        answer.set_cookie(
            access.cookie_name, session, SESSION_SECONDS, secure=is_https, httponly=True, samesite="strict"
        )
        return answer

    async def log_out(request: Request) -> Response:
        try:
            await run_in_threadpool(access.log_out, request.headers, request.cookies)
        except NotAllowed as refusal:
            return refused(refusal)
        answer = JSONResponse({"ok": True})
        answer.delete_cookie(access.cookie_name, secure=_is_https(request), httponly=True, samesite="strict")
        return answer

    return [Route("/admin/login", log_in, methods=["POST"]), Route("/admin/logout", log_out, methods=["POST"])]


def refused(refusal: NotAllowed) -> Response:
    """A refusal as an HTTP answer."""
    headers = {"retry-after": str(max(1, round(refusal.wait_seconds)))} if refusal.wait_seconds else {}
    return JSONResponse({"error": str(refusal)}, refusal.status, headers)


def _is_https(request: Request) -> bool:
    """True if the page was loaded by HTTPS: the cookie is then sent by HTTPS only."""
    return request.headers.get("origin", "").lower().startswith("https://")


def _visitor(request: Request, access: Access) -> str:
    peer = request.client.host if request.client else None
    return visitor_id_of(peer, request.headers.get("x-forwarded-for"), access.is_on_space)


async def _token(request: Request) -> str:
    """The token that the page sent; raises `NotAllowed` for anything but a short JSON object with a token."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    try:
        token = json.loads(body[:MAX_BODY_BYTES]).get("token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or len(body) > MAX_BODY_BYTES:
        raise NotAllowed('A log-in is a JSON object such as {"token": "…"}.', 400)
    return token
