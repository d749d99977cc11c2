"""One commit with everything in it, found again where its answer was lost, and never over another hand's work."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from inference.common.errors import UserError
from inference.common.files import append_line
from inference.common.hub_errors import HubError, HubUnreachable
from inference.prompt.format import THINK_PROMPT
from tests.support.hub.client import Client
from tests.support.hub.faults import Fault
from tests.support.hub.repos import Hub, Repo
from tests.support.run_folders import add_checkpoint, begun_run, finished_run
from training.hub.publish.queue import PublishQueue, State, queue_run
from training.hub.publish.upload import Published, entry_of, send
from training.runs.folder import RunFolder

REPO = "ann/tuned"


@pytest.fixture
def api(hub: Hub, hub_client: Client) -> huggingface_hub.HfApi:
    """The real client with Ann's token; the Hub knows Bob too, who may write for her."""
    hub.tokens |= {"hf_ann_token": "ann", "hf_bob_token": "bob"}
    hub.roles["bob"] = {"ann": "write"}
    hub_client.log_in("hf_ann_token")
    return huggingface_hub.HfApi()


def publish(api: Any, run: RunFolder, **about: Any) -> Published:
    """What the command does, without its patience."""
    queue = PublishQueue(run.path)
    queue_run(run.path, REPO, **about)
    item = queue.waiting()[-1]
    published = send(api, queue, item)
    queue.take_out(item)
    return published


def repo_of(hub: Hub) -> Repo:
    return hub.repos["model", REPO]


def test_a_result_is_one_commit_with_everything(hub: Hub, api: Any, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "home" / "runs" / "night", rewards=True)
    published = publish(api, run)
    repo = repo_of(hub)
    assert repo.private and len(repo.commits) == 2 and published.commit == repo.refs["main"]
    assert repo.tags == {"night": published.commit} and published.name == "ann/tuned@night" and published.is_new
    files = repo.commits[published.commit]
    assert sorted(files) == [
        ".gitattributes",
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "lookthink/config.json",
        "lookthink/evaluation.json",
        "lookthink/events.out.tfevents.metrics",
        "lookthink/rewards.png",
        "lookthink/run.json",
        "lookthink/versions.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert files["adapter_model.safetensors"] == (run.adapter / "adapter_model.safetensors").read_bytes()
    record = json.loads(files["lookthink/run.json"])
    assert record["system_prompt"] == THINK_PROMPT and record["step"] == 4 and record["base"] == "starter"
    assert files["lookthink/rewards.png"].startswith(b"\x89PNG")
    weights = tmp_path / "downloaded.safetensors"
    weights.write_bytes(files["adapter_model.safetensors"])
    with safe_open(weights, "np") as opened:
        assert all("lora_" in name for name in opened.keys())


def test_nothing_of_this_machine_goes_out(hub: Hub, api: Any, tmp_path: Path) -> None:
    """No path, no token, no name of a user; not even where the settings have paths."""
    (tmp_path / "pictures").mkdir()
    curriculum = str(tmp_path / "audit.json")
    run = finished_run(tmp_path / "runs" / "night", data={"dataset": str(tmp_path / "pictures")}, curriculum=curriculum)
    settings = run.adapter / "adapter_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"base_model_name_or_path": str(tmp_path)}))
    append_line(run.metrics, {"step": 4, "reward": 0.5, "note": f"{tmp_path} only here", "is_last": True})
    publish(api, run)
    files = repo_of(hub).commits[repo_of(hub).refs["main"]]
    secrets = (str(tmp_path), str(Path.home()), socket.gethostname(), "hf_ann", "only here")
    for name, data in files.items():
        assert not [secret for secret in secrets if len(secret) > 3 and secret.encode() in data], name
    config = json.loads(repo_of(hub).commits[repo_of(hub).refs["main"]]["lookthink/config.json"])
    assert config["curriculum"] == "audit.json" and config["data"]["dataset"] == "pictures"


def test_the_figures_of_each_step_go_along_for_tensorboard(hub: Hub, api: Any, tmp_path: Path) -> None:
    """Read by TensorBoard itself: the numbers of `metrics.jsonl` by step, and no text."""
    run = finished_run(tmp_path / "night", rewards=True)
    publish(api, run)
    events = tmp_path / "read" / "events.out.tfevents.metrics"
    events.parent.mkdir()
    events.write_bytes(repo_of(hub).commits[repo_of(hub).refs["main"]]["lookthink/events.out.tfevents.metrics"])
    read = EventAccumulator(str(events.parent)).Reload()
    assert read.Tags()["scalars"] == [f"train/{name}" for name in run.history()[0] if name != "step"]
    for name in ("reward", "rewards/format_reward/mean"):
        found = [(event.step, event.value) for event in read.Scalars(f"train/{name}")]
        assert found == [(row["step"], pytest.approx(row[name])) for row in run.history()]


def test_the_same_thing_is_published_once(hub: Hub, api: Any, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "night")
    first, again = publish(api, run), publish(api, run)
    assert again.commit == first.commit and not again.is_new and len(repo_of(hub).commits) == 2


def test_a_run_from_checkpoint_to_result(hub: Hub, api: Any, tmp_path: Path) -> None:
    """Each is a commit on main; only the result has a tag, and only its card calls itself a result."""
    run = begun_run(tmp_path / "night")
    for step in (1, 2):
        add_checkpoint(run, step)
        published = publish(api, run)
        assert (published.step, published.revision, published.tag) == (step, "main", None)
        assert b"This is a checkpoint" in repo_of(hub).commits[published.commit]["README.md"]
    add_checkpoint(run, 3).rename(run.adapter)
    run.set_status("succeeded", "", 3)
    published = publish(api, run)
    assert (published.revision, published.tag) == ("main", "night")
    assert b"This is a checkpoint" not in repo_of(hub).commits[published.commit]["README.md"]
    assert len(repo_of(hub).line(published.commit)) == 4


def test_another_run_takes_the_main_branch_and_the_first_keeps_its_tag(hub: Hub, api: Any, tmp_path: Path) -> None:
    first = publish(api, finished_run(tmp_path / "one"))
    other = finished_run(tmp_path / "two")
    checkpoint = other.checkpoints / "checkpoint-4"
    (checkpoint / "tokenizer.json").unlink()
    other.mark_complete(checkpoint, keep=1)
    second = publish(api, other)
    assert second.revision == "main" and not second.notice
    assert repo_of(hub).tags == {"one": first.commit, "two": second.commit}
    assert "tokenizer.json" not in repo_of(hub).commits[second.commit], "of another base"


def test_another_hand_is_told_and_neither_is_lost(hub: Hub, api: Any, tmp_path: Path) -> None:
    run = begun_run(tmp_path / "night")
    add_checkpoint(run, 1)
    publish(api, run)
    repo = repo_of(hub)
    theirs = repo.commit({"README.md": b"# Mine now"}, message="Better words")
    add_checkpoint(run, 2)
    published = publish(api, run)
    assert published.revision == "run-night" and "Better words" in published.notice and "--replace" in published.notice
    assert repo.refs == {"main": theirs, "run-night": published.commit}
    assert theirs not in repo.line(published.commit), "the branch goes on from the run's own commit"
    add_checkpoint(run, 3)
    assert publish(api, run).revision == "run-night"
    repo.commit({"adapter_model.safetensors": b"theirs"}, "run-night", message="Here, too")
    add_checkpoint(run, 4)
    assert publish(api, run).revision == "run-night.2"
    replaced = publish(api, run, replace=True)
    assert replaced.revision == "main" and repo.line(replaced.commit)[1] == theirs


def test_replacing_what_was_put_on_top_of_it(hub: Hub, api: Any, tmp_path: Path) -> None:
    """What is there already, but under somebody else's commit, is not there for whoever asks to replace that."""
    run = finished_run(tmp_path / "night")
    queue = PublishQueue(run.path)
    first = publish(api, run)
    queue.keep(State(published=[entry_of(first)]))
    repo = repo_of(hub)
    theirs = repo.commit({"README.md": b"# Mine now"}, message="Better words")
    assert publish(api, run).commit == first.commit and repo.refs["main"] == theirs
    again = publish(api, run, replace=True)
    assert again.is_new and repo.line(again.commit)[:3] == [again.commit, theirs, first.commit]
    assert repo.tags == {"night": first.commit, "night.2": again.commit}
    assert publish(api, run, replace=True).commit == again.commit, "nobody is on top of it"


def test_a_tag_that_somebody_was_quicker_with(
    hub: Hub, api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = api.create_tag

    def late(repo: str, *, tag: str, revision: str) -> None:
        if "night" not in repo_of(hub).tags:
            repo_of(hub).tags["night"] = next(iter(repo_of(hub).commits))
        real(repo, tag=tag, revision=revision)

    monkeypatch.setattr(api, "create_tag", late)
    published = publish(api, finished_run(tmp_path / "night"))
    assert published.tag == "night.2" and repo_of(hub).tags["night.2"] == published.commit


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("config.json", _truncate),
        ("publish/*-*/adapter_model.safetensors", Path.unlink),
        ("publish/*-*/adapter_config.json", Path.unlink),
        ("publish/*-*/evaluation.json", lambda path: path.write_text("[" * 100_000)),
    ],
)
def test_files_that_were_edited_by_hand_stop_nothing_but_themselves(
    name: str, spoil: Any, api: Any, tmp_path: Path
) -> None:
    """An error of another kind would end the process that sends, which then is started again, for ever."""
    run = finished_run(tmp_path / "night")
    queue_run(run.path, REPO)
    queue = PublishQueue(run.path)
    [path] = run.path.glob(name)
    spoil(path)
    with pytest.raises(UserError, match="night"):
        send(api, queue, queue.waiting()[0])


@pytest.mark.parametrize("spoil", [_truncate, lambda path: path.write_text('{"a": 1}')])
def test_damaged_versions_cost_the_card_its_versions(spoil: Any, hub: Hub, api: Any, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "night")
    spoil(run.path / "versions.json")
    published = publish(api, run)
    assert b"transformers" in repo_of(hub).commits[published.commit]["README.md"]


@pytest.mark.parametrize(
    ("files", "revision"),
    [
        ({"README.md": b"---\nlicense: mit\n---\n"}, "main"),
        ({"adapter_model.safetensors": b"theirs", "adapter_config.json": b"{}"}, "run-night"),
        ({"model-00001-of-00002.safetensors": b"a whole model"}, "run-night"),
    ],
)
def test_a_repository_that_was_there(files: dict, revision: str, hub: Hub, api: Any, tmp_path: Path) -> None:
    repo = hub.repo("model", REPO)
    repo.commit({".gitattributes": b""}, message="initial commit")
    head = repo.commit(files, message="by hand")
    published = publish(api, finished_run(tmp_path / "night"))
    assert published.revision == revision and "is public" in published.notice
    if revision != "main":
        assert repo.refs["main"] == head and not set(files) - set(repo.commits[head])
        assert "model-00001-of-00002.safetensors" not in repo.commits[published.commit]


def test_two_runs_at_once_leave_each_other_alone(hub: Hub, api: Any, tmp_path: Path) -> None:
    one, two = begun_run(tmp_path / "a" / "same"), begun_run(tmp_path / "b" / "same")
    for run in (one, two):
        add_checkpoint(run, 1)
        publish(api, run)
    add_checkpoint(one, 2)
    assert publish(api, one).revision == "run-same"
    add_checkpoint(two, 2)
    assert publish(api, two).revision == "main"
    add_checkpoint(one, 3)
    assert publish(api, one).revision == "run-same"
    assert len(repo_of(hub).commits) == 1 + 5


def test_somebody_who_was_quicker_than_the_commit(
    hub: Hub, api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the commit: the Hub refuses the stale parent, and the second look sees who it was."""
    run = begun_run(tmp_path / "night")
    add_checkpoint(run, 1)
    publish(api, run)
    real, theirs = api.create_commit, []

    def late(*args: Any, **options: Any) -> Any:
        if not theirs:
            theirs.append(repo_of(hub).commit({"adapter_model.safetensors": b"quick"}, message="Quick"))
        return real(*args, **options)

    monkeypatch.setattr(api, "create_commit", late)
    add_checkpoint(run, 2)
    published = publish(api, run)
    assert published.revision == "run-night" and repo_of(hub).refs["main"] == theirs[0]


def test_public_only_where_asked(hub: Hub, api: Any, tmp_path: Path) -> None:
    published = publish(api, finished_run(tmp_path / "night"), public=True)
    assert not repo_of(hub).private and not published.notice


def test_a_run_evaluated_anew_gets_another_tag(hub: Hub, api: Any, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "night")
    publish(api, run)
    (run.adapter / "evaluation.json").write_text(json.dumps({"about": {"num_rows": 3}}))
    again = publish(api, run)
    assert again.tag == "night.2" and b"@night.2" in repo_of(hub).commits[again.commit]["README.md"]
    assert set(repo_of(hub).tags) == {"night", "night.2"}


@pytest.mark.parametrize("kind", ["lost", "reset", "500"])
def test_a_commit_whose_answer_was_lost_is_not_made_again(kind: str, hub: Hub, api: Any, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "night")
    hub.faults.append(Fault(kind, "POST .*/commit/main"))
    queue_run(run.path, REPO)
    queue = PublishQueue(run.path)
    with pytest.raises(HubUnreachable):
        send(api, queue, queue.waiting()[0])
    assert len(repo_of(hub).commits) == (1 if kind == "500" else 2)
    published = send(api, queue, queue.waiting()[0])
    assert len(repo_of(hub).commits) == 2 and repo_of(hub).tags == {"night": published.commit}


def test_refusals_say_what_to_do(hub: Hub, hub_client: Client, tmp_path: Path) -> None:
    queue_run(finished_run(tmp_path / "night").path, REPO)
    queue = PublishQueue(tmp_path / "night")
    with pytest.raises(HubError, match="there is no token; set HF_TOKEN"):
        send(huggingface_hub.HfApi(), queue, queue.waiting()[0])
    hub.tokens["hf_eve_token"] = "eve"
    for token in ("hf_eve_token", "hf_unknown"):
        hub_client.log_in(token)
        with pytest.raises(HubError, match="does not let this token write to ann/tuned") as trouble:
            send(huggingface_hub.HfApi(), queue, queue.waiting()[0])
        assert not isinstance(trouble.value, HubUnreachable) and token not in str(trouble.value)
    assert not hub.repos


def test_what_is_no_adapter_stays_here(api: Any, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "night")
    (run.adapter / "adapter_model.safetensors").write_bytes(b"\x80\x04pickle")
    queue_run(run.path, REPO)
    queue = PublishQueue(run.path)
    with pytest.raises(UserError, match="not a safetensors file"):
        send(api, queue, queue.waiting()[0])


@settings(max_examples=30)
@given(st.text(max_size=60), st.integers(0, 10**6))
def test_a_title_is_found_again(run: str, step: int) -> None:
    from training.hub.publish.branch import _Entry, title

    entry = _Entry("0" * 40, title(step, run, "3fa9c1d2", "0badc0de1234"))
    assert entry.mark == ("3fa9c1d2", "0badc0de1234") and "\n" not in entry.title
