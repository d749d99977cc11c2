"""From training to the Hub and back: published, served by another process on an empty disk, with every run."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from gradio_client import Client as Asker
from gradio_client import handle_file

from inference.engine import Engine, Row
from inference.format import parse_completion
from inference.settings import load_settings
from tests.app_process import Process
from tests.hub_client import Client, client_env
from tests.hub_repos import Hub
from tests.samples import problems
from training.__main__ import main
from training.runs import RunStore
from training.state.keeper import StateKeeper

REPO = "me/counting"
TOKEN = "hf_token_of_me"
TRAIN = (
    "--max-steps 2 --save-steps 1 --warmup-steps 0 --report-to [] --prompts-per-step 2 --num-generations 4 "
    "--micro-batch-size 8 --max-completion-length 24 --eval-rows 4 --train-rows 24 --test-rows 4 --validation-rows 4"
)


@pytest.mark.slow
def test_trained_published_and_served_on_an_empty_disk(
    hub: Hub, hub_client: Client, engine: Engine, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.tokens[TOKEN] = "me"
    hub_client.log_in(TOKEN)
    monkeypatch.setenv("LOOKTHINK_BASE", "starter")
    run, state = home / "runs" / "counting", tmp_path / "bucket"
    state.mkdir()
    assert main(["train", *TRAIN.split(), "--folder", str(run)]) == 0
    assert main(["publish", "counting", "--to", REPO]) == 0
    repo = hub.repos["model", REPO]
    [(tag, commit)] = repo.tags.items()
    settings = load_settings(env={"LOOKTHINK_HOME": str(home), "LOOKTHINK_STATE": str(state)}, has_gpu=False)
    StateKeeper(settings, RunStore(home)).look()

    problem, picture, empty = problems(1, seed=5)[0], tmp_path / "picture.png", tmp_path / "empty"
    problem.image.save(picture)
    for name, value in client_env(hub_client.url, tmp_path / "another-cache", TOKEN).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOOKTHINK_STATE", str(state))
    monkeypatch.setenv("LOOKTHINK_ADAPTER", f"{REPO}@{tag}")
    served = f"me--counting-{commit[:12]}"
    process = Process(empty)
    try:
        process.wait_for(rf"served now: {served}")
        process.wait_for("Brought back after the restart: 1 run")
        process.wait_ready()
        said = Asker(process.url, verbose=False).predict(
            handle_file(picture), problem.problem, max_new_tokens=40, api_name="/ask"
        )
    finally:
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(60) == 0
    with_it = Row(problem.image.convert("RGB"), problem.problem, adapter="trained", max_new_tokens=40)
    engine.add_adapter("trained", run / "adapter")
    expected = parse_completion(engine.generate([with_it])[0].text)
    engine.remove_adapter("trained")
    assert (said["thinking"], said["answer"]) == (expected.thinking, expected.answer), "what it was trained to say"
    [record] = RunStore(empty).list()
    assert (record.id, record.status) == ("counting", "succeeded")
    assert (record.folder / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert not any(TOKEN in line for line in process.lines)
    written = (path for path in [*empty.rglob("*"), *state.rglob("*")] if path.is_file())
    assert not any(TOKEN.encode() in path.read_bytes() for path in written)
