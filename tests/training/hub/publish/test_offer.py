"""The offered repository: a name that the Hub takes, a choice that is kept, and nothing that leaves by itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.common.hub_names import is_hub_name
from inference.common.settings import Settings, load_settings
from training.config.run_config import load_config
from training.hub.publish.offer import FILE, PublishOffer, offered_name


@pytest.fixture
def settings(home: Path, tmp_path: Path) -> Settings:
    (tmp_path / "bucket").mkdir()
    env = {"LOOKTHINK_HOME": str(home), "LOOKTHINK_STATE": str(tmp_path / "bucket"), "LOOKTHINK_BASE": "me/tiny"}
    return load_settings(env=env, has_gpu=False)


@given(st.from_regex("[A-Za-z0-9]{1,42}", fullmatch=True), st.text(max_size=120), st.text(max_size=120))
def test_any_base_and_dataset_give_a_name_that_the_hub_takes(owner: str, base: str, dataset: str) -> None:
    name = offered_name(owner, base, dataset)
    assert name is not None and is_hub_name(name), name
    assert name.startswith(f"{owner}/") and name.endswith("lookthink")


@pytest.mark.parametrize(
    ("base", "dataset", "name"),
    [
        ("Qwen/Qwen3-VL-2B-Instruct", "you/charts", "me/Qwen3-VL-2B-Instruct-charts-lookthink"),
        ("starter", "starter", "me/starter-starter-lookthink"),
        ("/data/my base", "./pictures/", "me/my-base-pictures-lookthink"),
        ("a/" + "b" * 90, "c/d", f"me/{'b' * 81}-d-lookthink"),
        ("a/" + "b" * 90, "c/" + "d" * 90, f"me/{'b' * 41}-{'d' * 41}-lookthink"),
    ],
)
def test_the_name_has_base_and_dataset(base: str, dataset: str, name: str) -> None:
    assert offered_name("me", base, dataset) == name
    assert len(name) <= 96


def test_the_choice_is_kept_and_outlives_the_disk(settings: Settings) -> None:
    offer = PublishOffer(settings, lambda: "me")
    config = load_config(deployment=settings)
    assert not offer.is_chosen and offer.applied(config, False).publish_to is None
    offer.choose(True)
    assert PublishOffer(settings, lambda: "me").is_chosen
    shutil.rmtree(settings.home)
    again = PublishOffer(settings, lambda: "me")
    assert again.is_chosen
    published = again.applied(config, True)
    assert published.publish_to == "me/tiny-multimodal-open-r1-8k-verified-lookthink" and not published.publish_public
    again.choose(False)
    assert not PublishOffer(settings, lambda: "me").is_chosen
    assert load_config(deployment=settings).publish_to is None, "command line and Jobs know nothing of a tick"


def test_a_run_or_space_yaml_that_names_a_repository_has_no_offer(settings: Settings) -> None:
    offer = PublishOffer(settings, lambda: "me")
    own = load_config(values={"publish_to": "you/mine"}, deployment=settings)
    assert offer.repository(own) is None and offer.applied(own, True).publish_to == "you/mine"
    section = settings.training.model_copy(update={"publish_to": "me/fixed"})
    fixed = PublishOffer(settings.model_copy(update={"training": section}), lambda: "me")
    assert not fixed.is_made and fixed.problem == ""


def test_without_a_token_that_may_write_there_is_no_offer_and_a_lost_one_is_told(settings: Settings) -> None:
    offer, config = PublishOffer(settings, lambda: ""), load_config(deployment=settings)
    assert not offer.is_made and offer.applied(config, True) == config and offer.problem == ""
    offer.choose(True)
    assert "HF_TOKEN may not write" in offer.problem


@pytest.mark.parametrize("text", ["", "[]", '{"publish": 1}', "{" * 5000])
def test_a_damaged_file_is_no_choice(settings: Settings, text: str) -> None:
    offer = PublishOffer(settings, lambda: "me")
    offer.choose(True)
    for folder in (settings.home, settings.state):
        (folder / FILE).write_text(text)
    assert not offer.is_chosen
