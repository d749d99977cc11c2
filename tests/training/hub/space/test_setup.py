"""What is missing is said with its remedy and its price, and goes away once it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inference.common.settings import Settings, load_settings
from tests.support.hub.client import Client
from tests.support.hub.faults import Fault
from tests.support.hub.repos import Hub
from training.admin.access import LOGIN_VARIABLES
from training.hub.space.setup import Setup, _writes_for
from training.ui.training_app import owner_html, public_html

SPACE = {"SPACE_ID": "me/look", **{name: "x" for name in LOGIN_VARIABLES}}


def settings_with(**training: Any) -> Settings:
    settings = load_settings(env={}, has_gpu=False)
    return settings.model_copy(update={"training": settings.training.model_copy(update=training)})


def titles(setup: Setup) -> list[str]:
    return [step.title for step in setup.steps]


@pytest.fixture
def known(hub: Hub, hub_client: Client) -> Hub:
    """A Hub that knows a token."""
    hub.tokens["hf_me"] = "me"
    return hub


def test_a_space_that_was_duplicated(known: Hub) -> None:
    setup = Setup(settings_with(), SPACE, has_card=False)
    assert titles(setup) == ["A GPU", "A token", "A bucket"]
    assert "price not known" in setup.steps[0].price  # the Hub was not asked yet, and the page does not wait
    setup.ask()
    assert setup.steps[0].price == "a100-large: $2.50 an hour"
    for said in (public_html(setup), owner_html(setup, [])):
        assert "$2.50 an hour" in said and "A token." in said and "when the Space restarts" in said
    assert "HF_TOKEN" not in public_html(setup) and "HF_TOKEN" in owner_html(setup, [])
    assert 'href="https://huggingface.co/spaces/me/look/settings"' in owner_html(setup, [])
    assert "yet:</strong> a GPU (a100-large: $2.50 an hour), a token, a bucket.</summary>" in public_html(setup)
    assert "<code>python -m training deploy</code>" in owner_html(setup, [])


def test_where_nobody_can_log_in_the_page_itself_says_how(known: Hub) -> None:
    setup = Setup(settings_with(), {"SPACE_ID": "me/look"}, has_card=False)
    assert "under Train" not in public_html(setup)
    for said in ("secret HF_TOKEN", "LOOKTHINK_STATE=/state", "hf_oauth: true to the block on top of README.md"):
        assert said in public_html(setup)
    assert "<details>" in public_html(setup)
    setup.model_problem = "it is gone"
    assert "<details open>" in public_html(setup) and "it is gone" not in public_html(setup)


def test_a_space_that_is_set_up(known: Hub, tmp_path: Path) -> None:
    settings = settings_with().model_copy(update={"state": tmp_path})
    setup = Setup(settings, SPACE | {"HF_TOKEN": "hf_me"}, has_card=True)
    setup.ask()
    assert setup.steps == () and public_html(setup) == owner_html(setup, []) == ""
    assert "fall asleep" in owner_html(setup, ["It may fall asleep"])


def test_a_laptop_needs_nothing_until_something_is_asked_of_the_hub(known: Hub) -> None:
    assert Setup(settings_with(), {}).steps == ()
    assert not Setup(settings_with(), {}).needs_hub
    for training in ({"trainer": "job"}, {"publish_to": "me/adapter"}):
        setup = Setup(settings_with(**training), {})
        assert titles(setup) == ["A token"] and "hf auth login" in setup.steps[0].remedy
    setup = Setup(settings_with(publish_to="me/adapter"), {"HF_TOKEN": "hf_me"})
    setup.ask()
    assert setup.steps == ()


def test_a_token_that_does_not_do(known: Hub) -> None:
    setup = Setup(settings_with(), SPACE | {"HF_TOKEN": "hf_wrong_secret"}, has_card=True)
    setup.ask()
    assert titles(setup) == ["A token", "A bucket"]
    assert "does not accept the token" in owner_html(setup, []) and "hf_wrong_secret" not in owner_html(setup, [])
    assert "does not accept" not in public_html(setup)
    known.more["token_roles"] = {"me": "read"}
    reader = Setup(settings_with(), SPACE | {"HF_TOKEN": "hf_me"}, has_card=True)
    reader.ask()
    assert "may only read" in owner_html(reader, [])


@pytest.mark.parametrize("kind", ["html", "shape"])
def test_a_hub_that_talks_nonsense_is_no_bad_token(known: Hub, kind: str) -> None:
    known.faults.append(Fault(kind, times=-1))
    setup = Setup(settings_with(), SPACE | {"HF_TOKEN": "hf_me"}, has_card=False)
    setup.ask()
    assert titles(setup) == ["The Hub", "A GPU", "A bucket"] and "cannot be read" in owner_html(setup, [])
    odd = Setup(settings_with(), SPACE | {"HF_TOKEN": "hf_zürich"}, has_card=True)
    odd.ask()
    assert "characters that no token has" in owner_html(odd, []) and "zürich" not in owner_html(odd, [])


def test_a_hub_that_does_not_answer_is_no_bad_token(known: Hub) -> None:
    known.failure = 503
    setup = Setup(settings_with(), SPACE | {"HF_TOKEN": "hf_me"}, has_card=False)
    setup.ask()
    assert titles(setup) == ["The Hub", "A GPU", "A bucket"]
    assert "out of order" in owner_html(setup, []) and "price not known" in public_html(setup)
    known.failure = None
    known.faults.append(Fault("401", "GET /api/whoami-v2"))
    setup.ask()
    assert "A token" in titles(setup)


def test_no_network(hub_client: Client) -> None:
    hub_client.go_offline()
    setup = Setup(settings_with(), SPACE, has_card=False)
    setup.ask()
    assert titles(setup) == ["The Hub", "A GPU", "A token", "A bucket"]
    assert "HF_HUB_OFFLINE" in owner_html(setup, [])


def test_a_repository_of_adapters_is_no_bucket_and_a_mount_that_is_not_there_is_said(
    known: Hub, tmp_path: Path
) -> None:
    env = SPACE | {"HF_TOKEN": "hf_me"}
    assert "A bucket" in titles(Setup(settings_with(publish_to="me/adapter"), env, has_card=True))
    assert "A bucket" in titles(Setup(settings_with(publish_to="me/adapter"), SPACE, has_card=True))
    away = settings_with(publish_to="me/adapter").model_copy(update={"state": tmp_path / "away"})
    assert "no such folder here" in Setup(away, env, has_card=True).steps[0].problem


def test_what_was_said_elsewhere_is_text(known: Hub) -> None:
    setup = Setup(settings_with(), {"SPACE_ID": "me/<b>"} | {"HF_TOKEN": "hf_me"}, has_card=True)
    setup.model_problem = "<script>alert(1)</script> cannot be loaded"
    assert setup.address == "" and titles(setup) == ["The model", "A bucket", "A login"]
    assert "<script>" not in owner_html(setup, ["<i>"]) + public_html(setup)
    assert "&lt;script&gt;" in owner_html(setup, []) and "cannot be loaded" not in public_html(setup)


def test_it_is_asked_in_the_background(known: Hub) -> None:
    setup = Setup(settings_with(), SPACE | {"HF_TOKEN": "hf_me"}, has_card=False)
    setup.start()
    while "$" not in setup.steps[0].price:
        pass
    setup.stop()
    quiet = Setup(settings_with(), {})
    asked = len(known.requests)
    quiet.start()
    assert len(known.requests) == asked


@pytest.mark.parametrize(
    ("space", "roles", "token", "owner"),
    [
        ("me/look", {}, "write", "me"),
        ("club/look", {"me": {"club": "write"}}, "write", "club"),
        ("club/look", {"me": {"club": "read"}}, "write", ""),
        ("you/look", {}, "write", ""),
        ("me/look", {}, "read", ""),
    ],
)
def test_a_repository_is_offered_where_the_token_may_write(
    known: Hub, space: str, roles: dict[str, dict[str, str]], token: str, owner: str
) -> None:
    known.roles, known.more["token_roles"] = roles, {"me": token}
    setup = Setup(settings_with(), SPACE | {"SPACE_ID": space, "HF_TOKEN": "hf_me"}, has_card=True)
    assert setup.publish_owner() == "", "the Hub was not asked yet"
    setup.ask()
    assert setup.publish_owner() == owner
    known.failure = 503
    setup.ask()
    assert setup.publish_owner() == owner, "a Hub that does not answer takes nothing back"
    laptop = Setup(settings_with(trainer="job"), {"HF_TOKEN": "hf_me"})
    known.failure = None
    laptop.ask()
    assert laptop.publish_owner() == ""


@pytest.mark.parametrize(
    ("scoped", "accounts"),
    [
        ([{"entity": {"type": "user", "name": "me"}, "permissions": ["repo.content.read", "repo.write"]}], {"me"}),
        ([{"entity": {"type": "org", "name": "club"}, "permissions": ["repo.write"]}], {"club"}),
        ([{"entity": {"type": "user", "name": "me"}, "permissions": ["repo.content.read"]}], set()),
        ([{"entity": {"type": "model", "name": "me/x"}, "permissions": ["repo.write"]}], set()),
        ([{"entity": "me", "permissions": "repo.write"}, None, 3], set()),
        ("nonsense", set()),
    ],
)
def test_a_fine_grained_token_writes_where_it_says(scoped: object, accounts: set[str]) -> None:
    token = {"role": "fineGrained", "fineGrained": {"scoped": scoped}}
    assert _writes_for({"name": "me", "orgs": [], "auth": {"accessToken": token}}) == accounts
