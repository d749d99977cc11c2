"""The licence of a base before publishing: by its card on the Hub, else by the shipped table."""

from __future__ import annotations

import pytest

from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from training.config.run_config import PROFILES
from training.hub.publish.licence import LICENCES, LIMITS, OPEN, licence_words


def test_the_table_knows_the_base_of_every_profile_and_every_limit() -> None:
    bases = {str(values["base"]) for values in PROFILES.values() if "base" in values}
    assert bases <= set(LICENCES)
    names = {licence.name or licence.id for licence in LICENCES.values()}
    assert names <= {*OPEN, *LIMITS}


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("starter", ["the starter, is under apache-2.0"]),
        ("/data/base", ["a folder of this machine", "check that its licence"]),
        ("Qwen/Qwen2.5-VL-3B-Instruct", ["qwen-research, for research, not for", "LookThink ships", "/LICENSE"]),
        ("Qwen/Qwen3-VL-2B-Instruct", ["apache-2.0 (by the list"]),
        ("nobody/knows-it", ["not known here", "read its card"]),
    ],
)
def test_without_the_hub_the_table_says_it(base: str, words: list[str]) -> None:
    said = licence_words(base)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "qwen-research",
            "not for commercial use (by its card on the Hub). The adapter is bound by it too: read it at",
        ),
        ("their-own", "is under their-own (by its card on the Hub). The adapter is bound by it too: read it at https"),
    ],
)
def test_the_card_on_the_hub_counts(hub: Hub, hub_client: Client, name: str, words: str) -> None:
    base = f"maker/{name}-base"
    card = {"license": "other", "license_name": name, "license_link": "https://example.org/licence"}
    hub.repo("model", base, about={"cardData": card}).commit({"config.json": b"{}"})
    assert words in licence_words(base)
