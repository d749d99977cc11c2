"""A set of one's own on the Hub: private, without what was left out, and trained on from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.common.errors import UserError
from tests.inference.prompt.test_image import encoded, gradient
from tests.support.hub.client import Client
from tests.support.hub.repos import Hub
from training.config.data_config import read_data_config
from training.data.dataset import load_rows
from training.data.own_sets.sets import OwnSets
from training.hub.publish.own_set import keep_set

REPO = "me/bars"


@pytest.fixture
def sets(home: Path, tmp_path: Path) -> OwnSets:
    made = OwnSets(home)
    for number in range(4):
        (tmp_path / "picture").write_bytes(encoded(gradient(size=(40 + number, 30))))
        made.add("bars", tmp_path / "picture", f"How high is bar {number}?", str(number))
    made.leave_out("bars", made.rows("bars")[0].key)
    return made


def test_a_set_is_kept_and_read_back(sets: OwnSets, hub: Hub, hub_client: Client) -> None:
    from huggingface_hub import HfApi

    hub.tokens |= {"hf_me": "me"}
    hub_client.log_in("hf_me")
    api = HfApi()
    first = keep_set(api, sets, "bars", REPO)
    assert api.dataset_info(REPO).private
    rows = load_rows(read_data_config(dataset=REPO, test_rows=0)).train
    assert {row["problem"]: (row["solution"], row["image"].size) for row in rows} == {
        f"How high is bar {number}?": (str(number), (40 + number, 30)) for number in (1, 2, 3)
    }
    gone = sets.rows("bars")[0]
    sets.leave_out("bars", gone.key)
    assert keep_set(api, sets, "bars", REPO) != first
    files = api.list_repo_files(REPO, repo_type="dataset")
    assert gone.file_name not in files and len([name for name in files if name.startswith("images/")]) == 2


def test_a_public_repository_is_left_alone(sets: OwnSets, hub: Hub, hub_client: Client) -> None:
    from huggingface_hub import HfApi

    hub.tokens |= {"hf_me": "me"}
    hub_client.log_in("hf_me")
    HfApi().create_repo(REPO, repo_type="dataset", private=False)
    with pytest.raises(UserError, match="there already and public"):
        keep_set(HfApi(), sets, "bars", REPO)
    assert not [n for n in HfApi().list_repo_files(REPO, repo_type="dataset") if n.startswith("images/")]
    for name, repo, words in (("bars", "no repository", "write owner/name"), ("none", REPO, "no rows yet")):
        with pytest.raises(UserError, match=words):
            keep_set(HfApi(), sets, name, repo)


def test_without_a_token_nothing_is_sent(sets: OwnSets, hub: Hub, hub_client: Client) -> None:
    from huggingface_hub import HfApi

    with pytest.raises(UserError, match="there is no token"):
        keep_set(HfApi(), sets, "bars", REPO)
    assert hub.requests == []
