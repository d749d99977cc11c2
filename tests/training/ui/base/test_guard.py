"""The guard in front of the Train tab's handlers: who may not gets words, and the handler is not called."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from inference.common.errors import UserError
from training.admin.access import Access, Caller
from training.ui.base.guard import BROKE, CANNOT, NOT_ALLOWED, Guard

HOST = {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}
TOKEN = "the token of this test"


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(tmp_path, {"LOOKTHINK_ADMIN_TOKEN": TOKEN})


@pytest.fixture
def admin(access: Access) -> Any:
    return SimpleNamespace(headers=HOST, cookies={access.cookie_name: access.log_in(HOST, "here", TOKEN)})


STRANGER: Any = SimpleNamespace(headers=HOST, cookies={})


def test_an_admin_comes_through_by_name(access: Access, admin: Any) -> None:
    def handler(caller: Caller, one: int, two: int) -> Any:
        return caller.name, one + two

    assert Guard(access)(handler)(admin, 1, 2) == ("admin", 3)


def test_a_stranger_gets_words_and_nothing_is_done(access: Access) -> None:
    done: list[Any] = []
    with pytest.raises(gr.Error) as told:
        Guard(access)(done.append)(STRANGER)
    assert told.value.title == NOT_ALLOWED and "Log in" in told.value.message and done == []


@pytest.mark.parametrize("change", [{"origin": "https://elsewhere.example"}, {"origin": ""}])
def test_another_page_is_a_stranger_even_with_the_cookie(access: Access, admin: Any, change: dict[str, str]) -> None:
    admin.headers = HOST | change
    with pytest.raises(gr.Error, match="page"):
        Guard(access)(lambda caller: "done")(admin)


def test_a_view_can_answer_a_stranger_with_itself_locked(access: Access, admin: Any) -> None:
    look = Guard(access)(lambda caller: "everything", refused=lambda refusal: f"locked: {refusal.status}")
    assert (look(admin), look(STRANGER)) == ("everything", "locked: 401")


def test_what_a_user_can_put_right_is_told_as_text(access: Access, admin: Any) -> None:
    def handler(caller: Caller) -> None:
        raise UserError("max_steps is <img src=x>")

    with pytest.raises(gr.Error) as told:
        Guard(access)(handler)(admin)
    assert told.value.title == CANNOT and "&lt;img" in told.value.message and "<img" not in told.value.message


def test_of_what_broke_nothing_gets_out(access: Access, admin: Any, caplog: pytest.LogCaptureFixture) -> None:
    def handler(caller: Caller) -> None:
        raise RuntimeError("a secret of the machine")

    with pytest.raises(gr.Error) as told:
        Guard(access)(handler)(admin)
    assert told.value.title == BROKE and "secret" not in told.value.message
    assert told.value.__cause__ is None and told.value.__suppress_context__
    assert "a handler of the Train tab" in caplog.text


@pytest.mark.parametrize("with_event", [False, True])
def test_gradio_is_asked_for_a_login_on_a_space_only(tmp_path: Path, with_event: bool) -> None:
    for env, has_login in (({}, False), ({"SPACE_ID": "owner/space"}, True)):
        made = Guard(Access(tmp_path, env))(lambda caller, *values: None, with_event=with_event)
        hints = typing.get_type_hints(made)
        assert (gr.OAuthProfile | None in hints.values()) is has_login
        assert (gr.OAuthToken | None in hints.values()) is has_login
        assert (gr.EventData in hints.values()) is with_event
        assert list(inspect.signature(made).parameters)[0] == "request"
