"""Who may train: the token and its sessions off a Space, the owner's login on one."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inference.common.errors import UserError
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from training.admin.access import (
    ALL_ATTEMPTS_PER_MINUTE,
    ATTEMPTS_PER_MINUTE,
    MAX_SESSIONS,
    MIN_TOKEN_CHARS,
    SESSION_SECONDS,
    SESSIONS_FILE,
    Access,
    NotAllowed,
    Sessions,
)
from training.admin.hub_identity import KEPT_SECONDS

TOKEN = "a-token-for-the-tests"
HERE = {"Host": "127.0.0.1:7860", "Origin": "http://127.0.0.1:7860"}
SPACE = {
    "SPACE_ID": "club/space",
    "SPACE_AUTHOR_NAME": "club",
    "SPACE_HOST": "club-space.hf.space, look.example.org",
    "OAUTH_CLIENT_SECRET": "oauth-secret",
}
ON_SPACE = {"Host": "club-space.hf.space", "Origin": "https://club-space.hf.space"}


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Profile:
    """As `gr.OAuthProfile`."""

    username: str


@dataclass
class Token:
    """As `gr.OAuthToken`."""

    token: str


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(home: Path, clock: Clock) -> Access:
    return Access(home, {"LOOKTHINK_ADMIN_TOKEN": TOKEN}, clock)


def logged_in(access: Access) -> dict[str, str]:
    return {access.cookie_name: access.log_in(HERE, "192.0.2.1", TOKEN)}


def test_whoever_has_the_token_may(access: Access) -> None:
    assert access.check(HERE, logged_in(access)).name == "admin"


def test_a_session_outlives_a_restart_and_not_another_token(access: Access, home: Path) -> None:
    cookies = logged_in(access)
    assert Access(home, {"LOOKTHINK_ADMIN_TOKEN": TOKEN}).check(HERE, cookies).name == "admin"
    with pytest.raises(NotAllowed, match="no longer"):
        Access(home, {"LOOKTHINK_ADMIN_TOKEN": TOKEN + "!"}).check(HERE, cookies)
    with pytest.raises(NotAllowed, match="no longer"):
        Access(home, {}).check(HERE, cookies)


def test_a_log_out_ends_that_session_for_good(access: Access, home: Path) -> None:
    first, second = logged_in(access), logged_in(access)
    access.log_out(HERE, first)
    for one in (access, Access(home, {"LOOKTHINK_ADMIN_TOKEN": TOKEN})):
        assert one.check(HERE, second)
        with pytest.raises(NotAllowed):
            one.check(HERE, first)


FORGED: dict[str, Any] = {
    "none": {},
    "empty": "",
    "made up": "x" * 43,
    "the token itself": TOKEN,
    "not text at all": "\udcff\x00",
    "a hash from the file": None,
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_session_is_refused(access: Access, home: Path, kind: str) -> None:
    logged_in(access)
    value = (
        FORGED[kind] if kind != "a hash from the file" else next(iter(json.loads((home / SESSIONS_FILE).read_text())))
    )
    cookies = value if isinstance(value, dict) else {access.cookie_name: value}
    with pytest.raises(NotAllowed) as refusal:
        access.check(HERE, cookies)
    assert refusal.value.status == 401


ORIGINS = {
    "missing": {"Origin": None},
    "empty": {"Origin": ""},
    "null": {"Origin": "null"},
    "another host": {"Origin": "http://evil.example"},
    "another port": {"Origin": "http://127.0.0.1:7861"},
    "another name of the host": {"Origin": "http://localhost:7860"},
    "with a path": {"Origin": "http://127.0.0.1:7860/evil"},
    "a user in front": {"Origin": "http://127.0.0.1:7860@evil.example"},
    "no address": {"Origin": "http://[::1"},
    "another scheme": {"Origin": "file://127.0.0.1:7860"},
    "no host to compare with": {"Host": None},
}


@pytest.mark.parametrize("kind", ORIGINS)
def test_a_foreign_origin_is_refused_even_with_the_token(access: Access, kind: str) -> None:
    cookies = logged_in(access)
    headers = {name: value for name, value in (HERE | ORIGINS[kind]).items() if value is not None}
    for call in (
        lambda: access.check(headers, cookies),
        lambda: access.log_in(headers, "192.0.2.1", TOKEN),
        lambda: access.log_out(headers, cookies),
    ):
        with pytest.raises(NotAllowed) as refusal:
            call()
        assert refusal.value.status == 403
    assert access.check(HERE, cookies)


def test_header_names_and_hosts_are_read_in_any_case(access: Access) -> None:
    assert access.check({"host": "LOCALHOST:1", "ORIGIN": "https://localhost:1"}, logged_in(access))


def test_a_made_token_is_printed_once_and_to_the_terminal_only(
    home: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    access, terminal = Access(home, {}), io.StringIO()
    access.announce(terminal)
    access.announce(terminal)
    token = terminal.getvalue().split()[-1]
    assert terminal.getvalue().count(token) == 1 and len(token) >= 32
    assert access.log_in(HERE, "192.0.2.1", token)
    assert token not in caplog.text + "".join(capfd.readouterr()) + repr(vars(access))
    assert token not in "".join(path.read_text() for path in home.iterdir())
    assert Access(home, {})._unannounced != token  # another one each time


def test_a_given_token_is_never_printed(access: Access, capfd: pytest.CaptureFixture[str]) -> None:
    access.announce()
    assert "".join(capfd.readouterr()) == "" and TOKEN not in repr(vars(access))


def test_a_short_token_is_refused_in_words_that_do_not_hold_it(home: Path) -> None:
    with pytest.raises(UserError, match=f"8 characters; give at least {MIN_TOKEN_CHARS}") as refusal:
        Access(home, {"LOOKTHINK_ADMIN_TOKEN": "hunter42"})
    assert "hunter42" not in str(refusal.value)


WRONG = ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\udcff", "ä" * 10_000]


@pytest.mark.parametrize("token", WRONG)
def test_a_wrong_token_is_refused(access: Access, token: str) -> None:
    with pytest.raises(NotAllowed, match="not the admin token") as refusal:
        access.log_in(HERE, "192.0.2.1", token)
    assert TOKEN not in str(refusal.value)


def _fail(access: Access, visitor: str) -> NotAllowed:
    with pytest.raises(NotAllowed) as refusal:
        access.log_in(HERE, visitor, "a wrong token, again")
    return refusal.value


def test_attempts_are_limited_for_each_visitor(access: Access, clock: Clock) -> None:
    assert [_fail(access, "one").status for _ in range(ATTEMPTS_PER_MINUTE + 1)] == [403] * ATTEMPTS_PER_MINUTE + [429]
    assert access.log_in(HERE, "one", TOKEN), "others' wrong tokens keep the owner out"
    refusal = _fail(access, "one")
    assert refusal.status == 429 and "Try again in 12 seconds" in str(refusal)
    assert _fail(access, "another").status == 403
    clock.now += refusal.wait_seconds
    assert _fail(access, "one").status == 403


def test_attempts_are_limited_over_all_visitors(access: Access, clock: Clock) -> None:
    for i in range(ALL_ATTEMPTS_PER_MINUTE):
        assert _fail(access, f"visitor {i}").status == 403
    assert _fail(access, "one more").status == 429
    assert access.log_in(HERE, "one more", TOKEN), "others' wrong tokens keep the owner out"
    clock.now += 61
    assert _fail(access, "one more").status == 403


def test_right_tokens_do_not_use_the_attempts_up(access: Access) -> None:
    assert len({access.log_in(HERE, "one", TOKEN) for _ in range(4 * ATTEMPTS_PER_MINUTE)}) == 4 * ATTEMPTS_PER_MINUTE


def test_limits_know_a_browser_that_is_logged_in(access: Access) -> None:
    session = access.log_in(HERE, "one", TOKEN)
    cookies = {access.cookie_name: session}
    assert access.is_known(cookies)
    assert not any(map(access.is_known, ({}, {access.cookie_name: ""}, {access.cookie_name: session + "x"})))
    access.log_out(HERE, cookies)
    assert not access.is_known(cookies)


def test_attempts_at_the_same_moment_are_all_counted(access: Access) -> None:
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(_fail(access, "one").status)) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(403) == ATTEMPTS_PER_MINUTE and statuses.count(429) == 32 - ATTEMPTS_PER_MINUTE


def test_sessions_end_and_their_number_is_bounded(home: Path, clock: Clock) -> None:
    sessions = Sessions(home, b"key", clock)
    ids = [sessions.begin() for _ in range(MAX_SESSIONS + 3)]
    assert [sessions.is_open(one) for one in ids] == [False] * 3 + [True] * MAX_SESSIONS
    clock.now += SESSION_SECONDS
    assert not any(map(sessions.is_open, ids))
    clock.now -= 10 * SESSION_SECONDS  # a clock that was put back makes no session longer
    assert not any(map(sessions.is_open, ids))


def test_the_file_of_sessions_is_the_owners_and_holds_no_session(access: Access, home: Path) -> None:
    [session] = logged_in(access).values()
    assert (home / SESSIONS_FILE).stat().st_mode & 0o777 == 0o600
    assert session not in (home / SESSIONS_FILE).read_text() and TOKEN not in (home / SESSIONS_FILE).read_text()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": "b"}', "\x00", "[" * 50_000])
def test_a_broken_file_of_sessions_asks_for_a_new_log_in(home: Path, content: str, caplog: Any) -> None:
    home.mkdir()
    (home / SESSIONS_FILE).write_text(content)
    access = Access(home, {"LOOKTHINK_ADMIN_TOKEN": TOKEN})
    assert "log in again" in caplog.text
    assert access.check(HERE, logged_in(access))


def test_where_nothing_can_be_written_a_session_lasts_as_long_as_the_app(home: Path, caplog: Any) -> None:
    home.write_text("a file where the folder should be")
    access = Access(home, {"LOOKTHINK_ADMIN_TOKEN": TOKEN})
    assert access.check(HERE, logged_in(access)) and "a restart ends this log-in" in caplog.text


@pytest.fixture
def space(home: Path, hub: Hub, hub_client: Client, clock: Clock) -> Access:
    """On the Space of the organisation `club`; the Hub knows its people."""
    hub.tokens |= {f"hf_{name}": name for name in ("club", "ann", "wendy", "carl", "rita", "eve")}
    hub.roles |= {"ann": {"club": "admin"}, "wendy": {"club": "write"}, "eve": {"eves-own": "admin"}}
    hub.roles |= {"carl": {"club": "contributor"}, "rita": {"club": "read"}}
    return Access(home, SPACE, clock)


def of(name: str) -> tuple[Profile, Token]:
    return Profile(name), Token(f"hf_{name}")


@pytest.mark.parametrize("name", ["club", "ann", "wendy"])
def test_the_owner_and_writing_members_may(space: Access, name: str) -> None:
    assert space.check(ON_SPACE, {}, *of(name)).name == name
    custom = {"Host": "x", "Origin": "https://look.example.org"}
    assert space.check(custom, {}, *of(name)).name == name


def test_limits_know_whoever_was_let_in_before(space: Access) -> None:
    """By what the signed cookie holds, which is signed anew with each answer."""
    cookies = {"session": "what-it-holds.Zk1.signature"}
    assert not space.is_known(cookies)
    space.check(ON_SPACE, {}, *of("ann"))
    assert not space.is_known({}) and not space.is_known({"session": ""})
    space.check(ON_SPACE, cookies, *of("ann"))
    assert space.is_known(cookies | {"session": "what-it-holds.Zk2.another"})
    with pytest.raises(NotAllowed):
        space.check(ON_SPACE, {"session": "of-another.Zk1.signature"}, *of("eve"))
    assert not space.is_known({"session": "of-another.Zk1.signature"})


@pytest.mark.parametrize("name", ["carl", "rita", "eve"])
def test_others_may_not(space: Access, name: str) -> None:
    with pytest.raises(NotAllowed, match="Only club may train here") as refusal:
        space.check(ON_SPACE, {}, *of(name))
    assert refusal.value.status == 403


HALVES: dict[str, tuple[Profile | None, Token | None]] = {
    "nobody": (None, None),
    "a token in the body, no session": (None, Token("hf_ann")),
    "a profile without a token": (Profile("ann"), None),
    "another's token": (Profile("eve"), Token("hf_ann")),
    "another's profile": (Profile("ann"), Token("hf_eve")),
    "a token that the Hub does not know": (Profile("ann"), Token("hf_nobody")),
    "an odd token": (Profile("ann"), Token("hf_ann\r\nX-Evil: 1")),
    "an empty token": (Profile("ann"), Token(" ")),
}


@pytest.mark.parametrize("kind", HALVES)
def test_profile_and_token_must_both_be_there_and_agree(space: Access, kind: str) -> None:
    profile, token = HALVES[kind]
    with pytest.raises(NotAllowed) as refusal:
        space.check(ON_SPACE, {}, profile, token)
    assert refusal.value.status == 401
    assert "hf_" not in str(refusal.value)


@pytest.mark.parametrize(
    "origin", [None, "null", "https://evil.hf.space", "http://club-space.hf.space", HERE["Origin"]]
)
def test_on_a_space_only_its_own_pages_may_call(space: Access, origin: str | None) -> None:
    headers = {"Host": "club-space.hf.space"} | ({"Origin": origin} if origin else {})
    with pytest.raises(NotAllowed) as refusal:
        space.check(headers, {}, *of("ann"))
    assert refusal.value.status == 403


@pytest.mark.parametrize("missing", ["SPACE_AUTHOR_NAME", "OAUTH_CLIENT_SECRET"])
def test_a_space_without_a_login_admits_nobody(home: Path, missing: str, hub: Hub, hub_client: Client) -> None:
    hub.tokens["hf_ann"] = "ann"
    access = Access(home, {name: value for name, value in SPACE.items() if name != missing})
    with pytest.raises(NotAllowed, match="hf_oauth: true"):
        access.check(ON_SPACE, {}, *of("ann"))


def test_on_a_space_a_token_of_the_other_kind_is_worth_nothing(home: Path, hub: Hub, hub_client: Client) -> None:
    access, terminal = Access(home, SPACE | {"LOOKTHINK_ADMIN_TOKEN": TOKEN}), io.StringIO()
    access.announce(terminal)
    assert terminal.getvalue() == ""
    with pytest.raises(NotAllowed, match="signs in with Hugging Face"):
        access.log_in(ON_SPACE, "192.0.2.1", TOKEN)
    with pytest.raises(NotAllowed):
        access.check(ON_SPACE, {access.cookie_name: Sessions(home, b"").begin()})


def test_the_hub_is_asked_once_a_minute_at_most(space: Access, hub: Hub, clock: Clock) -> None:
    for _ in range(3):
        space.check(ON_SPACE, {}, *of("ann"))
    assert len(hub.requests) == 1
    hub.roles["ann"] = {"club": "read"}
    clock.now += KEPT_SECONDS
    with pytest.raises(NotAllowed):
        space.check(ON_SPACE, {}, *of("ann"))


def test_a_hub_that_does_not_answer_admits_nobody_and_is_asked_again(space: Access, hub: Hub) -> None:
    hub.failure = 500
    with pytest.raises(NotAllowed, match="status 500") as refusal:
        space.check(ON_SPACE, {}, *of("ann"))
    assert refusal.value.status == 503
    hub.failure = None
    assert space.check(ON_SPACE, {}, *of("ann"))


def test_a_hub_that_is_away_admits_nobody(space: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NotAllowed, match="did not tell who you are"):
        space.check(ON_SPACE, {}, *of("ann"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NotAllowed, match="did not tell who you are"):
        space.check(ON_SPACE, {}, *of("wendy"))


def test_no_token_is_logged(space: Access, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    space.check(ON_SPACE, {}, *of("ann"))
    with pytest.raises(NotAllowed):
        space.check(ON_SPACE, {}, Profile("ann"), Token("hf_nobody"))
    assert "hf_ann" not in caplog.text and "hf_nobody" not in caplog.text


def test_the_environment_is_the_processes_own_by_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKTHINK_ADMIN_TOKEN", TOKEN)
    assert Access(home).log_in(HERE, "192.0.2.1", TOKEN)
    assert not Access(home).is_on_space
    monkeypatch.setenv("SPACE_ID", "club/space")
    assert Access(home).is_on_space and os.environ["LOOKTHINK_ADMIN_TOKEN"] == TOKEN
