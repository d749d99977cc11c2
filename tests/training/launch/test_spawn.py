"""What the trainer's process is given: no secret that it has no need of."""

from pathlib import Path

import pytest

from inference.common.environment import MARK, hide_secrets
from training.config.run_config import load_config
from training.launch.spawn import environment
from training.runs.record import RunRecord

SECRETS = {
    "LOOKTHINK_ADMIN_TOKEN": "a",
    "OAUTH_CLIENT_SECRET": "b",
    "HF_TOKEN": "c",
    "HUGGING_FACE_HUB_TOKEN": "d",
    "WANDB_API_KEY": "e",
    "AWS_SECRET_ACCESS_KEY": "f",
    "DB_PASSWORD": "g",
    "openai_api_key": "h",
    "GITHUB_PAT": "i",
    "SESSION_COOKIE": "j",
    "PGPASSWORD": "k",
    "MYSQL_PWD": "l",
    "SENTRY_DSN": "m",
    "DATABASE_URL": "postgres://somebody:n@db/x",
}
PLAIN = {"PATH": "/bin", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "KEYBOARD": "gb", "HF_HOME": "/h"}
PLAIN |= {"PWD": "/", "HF_ENDPOINT": "http://127.0.0.1:1", "HTTPS_PROXY": "http://me:pw@proxy:1"}


def given(**values) -> set[str]:
    config = load_config("starter", values)
    record = RunRecord(id="run", folder=Path("/home/runs/run"), config=config.model_dump_json(), launch="one")
    found = environment(record, SECRETS | PLAIN)
    assert found.items() >= PLAIN.items() and (found[MARK], found["LOOKTHINK_HOME"]) == ("one", "/home")
    return set(found) & set(SECRETS)


@pytest.mark.parametrize(
    ("values", "needed"),
    [
        ({}, set()),
        ({"data": {"dataset": "owner/name"}}, {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}),
        ({"base": "owner/model"}, {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}),
        ({"report_to": ["trackio"]}, {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}),
        ({"report_to": ["wandb"]}, {"WANDB_API_KEY"}),
    ],
)
def test_only_needed_secrets_reach_the_trainer(values: dict, needed: set[str]) -> None:
    assert given(**values) == needed


def test_files_of_this_machine_need_no_token(tmp_path) -> None:
    (tmp_path / "data.jsonl").write_text("")
    assert given(base=str(tmp_path), data={"dataset": str(tmp_path / "data.jsonl")}) == set()


def test_secrets_are_hidden_where_something_printed_them(monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setenv("LOOKTHINK_ADMIN_TOKEN", "hf_abcdefghijkl")
    monkeypatch.setenv("SHORT_KEY", "the")
    assert hide_secrets("the tokens hf_abcdefgh and hf_abcdefghijkl") == "the tokens [secret] and [secret]"


def test_a_configuration_that_cannot_be_read_gets_no_secret() -> None:
    record = RunRecord(id="run", folder=Path("/home/runs/run"), config='{"gone": 1}', launch="one")
    assert set(environment(record, SECRETS)) & set(SECRETS) == set()
