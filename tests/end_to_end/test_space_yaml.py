"""Every key of space.yaml, and what is seen to change with it: a key without a case fails the first test."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import yaml
from PIL import Image

from inference.adapters.live import LiveAdapters
from inference.common.errors import UserError
from inference.common.logs import event, log_visitors
from inference.common.settings import Limits, Settings, load_settings
from inference.common.space_file import SpaceFile, read_space_file
from inference.model.request import Request
from inference.prompt.image import load_image, load_images
from inference.server.lifecycle import picture_seconds
from inference.server.middleware import Streams, middleware
from inference.server.queue import RequestQueue
from inference.server.service import Service, clean_question
from inference.server.shares import Shares
from inference.server.visitors import Visitor
from tests.inference.server.test_middleware import Caller
from tests.support.hub.repos import Hub
from tests.support.job_world import JobWorld
from tests.support.shared_answers import answer_about, noise, shared
from training.__main__ import main
from training.cli.deploy import deployment_of
from training.config.run_config import load_config
from training.hub.space import readme_block
from training.hub.space.plan import Checkout
from training.launch.jobs.launcher import launcher_for
from training.launch.jobs.spec import target_of
from training.runs.store import RunStore
from training.ui.sections.form_fields import Fields, all_names

OWN: dict[str, Any] = {"model": {"base": "me/base"}, "training": {"publish_to": "me/adapters", "bucket": "me/runs"}}
"""The file of every case, but for the case's key."""
REFUSED = "refused"


@dataclass(frozen=True)
class Deployed:
    """A deployment by one space.yaml."""

    file: SpaceFile
    settings: Settings

    @property
    def limits(self) -> Limits:
        return self.settings.limits

    @property
    def run(self) -> Any:
        """What a run of this base begins with, from page and command line."""
        return load_config("a100", deployment=self.settings)

    def card(self, name: str) -> object:
        """A value in README.md's block, by which the Hub configures the Space."""
        return readme_block.front_matter(self.file, "gradio[oauth]==6.0.0\n").get(name)

    def service(self) -> Service:
        """The service, whose engine never comes."""
        return Service(
            self.settings, threading.Event().wait, LiveAdapters(self.settings), None, None, []  # type: ignore[arg-type]
        )  # fmt: skip


def card(name: str) -> Callable[[Deployed], object]:
    return lambda deployed: deployed.card(name)


def refused(call: Callable[[], object]) -> object:
    """The value, or that it was refused."""
    try:
        return call()
    except UserError:
        return REFUSED


def png(width: int, height: int) -> bytes:
    """A picture of noise, about three bytes a pixel."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def picture(width: int, height: int) -> Callable[[Deployed], object]:
    """The size that an uploaded picture of this size is read with."""
    return lambda deployed: refused(lambda: load_image(png(width, height), deployed.limits).size)


def asked(**values: object) -> Callable[[Deployed], object]:
    """The length limit of a question that was sent with these values."""
    image = Image.new("RGB", (60, 60))
    return lambda deployed: refused(
        lambda: deployed.service().read_question(image, "How many?", None, None, **values).max_new_tokens
    )


def accepted(num: int, submit: Callable[[RequestQueue, int], object]) -> Callable[[Deployed], object]:
    """How many of so many questions the queue accepts while the model is loaded."""

    def count(deployed: Deployed) -> int:
        queue = RequestQueue(threading.Event().wait, deployed.limits)  # type: ignore[arg-type]
        return sum(refused(lambda i=i: submit(queue, i)) is not REFUSED for i in range(num))

    return count


def read(queue: RequestQueue) -> None:
    """A question that is read and not submitted."""
    with queue.admit(ONE):
        pass


def request() -> Request:
    return Request(Image.new("RGB", (60, 60)), "How many?")


def passed(num: int, at_once: bool = False, **options: Any) -> Callable[[Deployed], object]:
    """How many of so many requests come through the server's middleware; `at_once`: while none is answered."""

    async def send_all(limits: Limits) -> list[int]:
        open_door, num_inside = asyncio.Event(), 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal num_inside
            while (await receive()).get("more_body"):
                pass
            num_inside += 1
            if at_once:
                await open_door.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        whole: Any = app
        for layer in reversed(middleware(limits, False, lambda session: None, Streams())):
            whole = layer.cls(whole, *layer.args, **layer.kwargs)
        callers = [Caller(**({"peer": f"192.0.2.{i}"} | options)) for i in range(num)]
        if not at_once:
            return [(await caller.call(whole)).status for caller in callers]
        tasks = [asyncio.create_task(caller.call(whole)) for caller in callers]
        while sum(bool(caller.sent) for caller in callers) + num_inside < num:
            await asyncio.sleep(0)
        open_door.set()
        await asyncio.gather(*tasks)
        return [caller.status for caller in callers]

    return lambda deployed: asyncio.run(send_all(deployed.limits)).count(200)


def deployed_sleep(deployed: Deployed) -> object:
    """The sleep time that `python -m training deploy` sets."""
    return deployment_of("me/look", deployed.file, Checkout(readme_block.ROOT, (), "0" * 12, ())).sleep_seconds


def logged(deployed: Deployed) -> object:
    """The number of log lines about a visitor's question."""
    lines: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = lines.append  # type: ignore[method-assign]
    logger = logging.getLogger("lookthink")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        log_visitors(deployed.settings.privacy.log_questions)
        event("question_ended", visitor="a1b2c3d4", num_tokens=3)
        event("serving", port=1)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        log_visitors(True)
    return [record.getMessage().split()[0] for record in lines]


def shares_of(deployed: Deployed, **values: bool) -> Shares:
    return Shares(deployed.settings.home, deployed.settings.sharing.model_copy(update=values))


def shared_answer(side: int = 60, days_ago: float = 0.0) -> Callable[[Deployed], object]:
    """The question of an answer about a picture of that size which was shared some days ago, where sharing is on."""

    def read(deployed: Deployed) -> object:
        shares = shares_of(deployed, allowed=True)
        return refused(lambda: shares.read(shared(shares, noise(side), days_ago=days_ago)[0]).answer.question)

    return read


ONE = Visitor("one", "one")
ONE_PEER, UPLOAD = {"peer": "192.0.2.1"}, {"path": "/gradio_api/upload", "chunks": (b"x" * 700_000,)}
OWNER = {"SPACE_ID": "me/look", "HF_TOKEN": "hf_x"}
CASES: list[tuple[str, object, Callable[[Deployed], object], object]] = [
    # key, value -> what is seen, and what it is then
    ("space.title", "Charts", card("title"), "Charts"),
    ("space.short_description", "It reads charts", card("short_description"), "It reads charts"),
    ("space.emoji", "📈", card("emoji"), "📈"),
    ("space.color_from", "red", card("colorFrom"), "red"),
    ("space.color_to", "green", card("colorTo"), "green"),
    ("space.hardware", "l4x1", card("suggested_hardware"), "l4x1"),
    ("space.sleep_minutes", 0, deployed_sleep, -1),
    ("space.license", "mit", card("license"), "mit"),
    ("model.base", "a/b", lambda d: (d.settings.base, d.card("models"), d.run.base), ("a/b", ["a/b"], "a/b")),
    ("model.adapter", "a/b@c", lambda d: (d.settings.adapter, d.card("models")), ("a/b@c", ["me/base", "a/b"])),
    ("training.trainer", "job", lambda d: launcher_for(d.settings, RunStore(d.settings.home)).starts_jobs, True),
    ("training.dataset", "me/charts", lambda d: (d.run.data.dataset, d.card("datasets")), ("me/charts", ["me/charts"])),
    ("training.job_hardware", "h200", lambda d: target_of(d.settings, OWNER).flavor, "h200"),
    ("training.bucket", "me/others", lambda d: target_of(d.settings, OWNER).bucket, "me/others"),
    ("training.publish_to", "me/mine", lambda d: d.run.publish_to, "me/mine"),
    ("training.publish_every_minutes", 5, lambda d: d.run.publish_every_minutes, 5),
    ("training.publish_public", True, lambda d: d.run.publish_public, True),
    ("limits.max_upload_mb", 0.005, picture(60, 60), REFUSED),
    ("limits.max_pixels", 1000, picture(60, 60), REFUSED),
    ("limits.max_decoding_mb", 32, picture(2300, 2000), REFUSED),
    ("limits.max_side", 50, picture(60, 60), REFUSED),
    ("limits.max_pictures", 2, lambda d: refused(lambda: len(load_images([png(60, 60)] * 3, d.limits))), REFUSED),
    ("limits.max_aspect", 2, picture(120, 40), REFUSED),
    ("limits.max_model_pixels", 784, picture(60, 60), (28, 28)),
    ("limits.max_question_chars", 5, lambda d: refused(lambda: clean_question("How many?", d.limits)), REFUSED),
    ("limits.default_new_tokens", 40, asked(), 40),
    ("limits.max_new_tokens", 600, asked(max_new_tokens=1000), REFUSED),
    ("limits.max_waiting", 3, accepted(30, lambda queue, i: queue.submit([request()], Visitor(str(i), str(i)))), 4),
    ("limits.questions_at_once", 2, accepted(10, lambda queue, i: queue.submit([request()], ONE)), 2),
    ("limits.questions_per_minute", 5, accepted(130, lambda queue, i: read(queue)), 5),
    ("limits.max_request_kb", 16, passed(1, chunks=(b'"' + b"x" * 17_000 + b'"',)), 0),
    ("limits.calls_per_minute", 10, passed(12, **ONE_PEER), 10),
    ("limits.uploads_mb_per_hour", 1, passed(4, **ONE_PEER, **UPLOAD), 2),
    ("limits.all_uploads_mb_per_hour", 1, passed(4, **UPLOAD), 2),
    ("limits.connections", 4, passed(6, at_once=True, **ONE_PEER), 4),
    ("limits.all_connections", 8, passed(10, at_once=True), 8),
    ("privacy.keep_pictures_minutes", 5, lambda d: picture_seconds(d.settings), 300),
    ("privacy.log_questions", False, logged, ["serving"]),
    ("sharing.allowed", True, lambda d: refused(lambda: bool(shares_of(d).sign(answer_about([])))), True),
    ("sharing.megabytes", 1, shared_answer(side=1_100), REFUSED),
    ("sharing.days", 2, shared_answer(days_ago=3), REFUSED),
    ("admin.oauth", False, lambda d: (d.card("hf_oauth"), d.card("hf_oauth_scopes")), (False, None)),
]  # fmt: skip


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Deployed]:
    """A deployment on a machine with a GPU, by a space.yaml with these sections."""
    monkeypatch.setattr(readme_block, "expected_readme", lambda folder: (folder / "README.md").read_text("utf-8"))

    def deploy(content: dict[str, Any]) -> Deployed:
        path = tmp_path / "space.yaml"
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        settings = load_settings(path, {"LOOKTHINK_HOME": str(tmp_path / "home")}, has_gpu=True)
        return Deployed(read_space_file(path), settings)

    return deploy


def test_every_key_has_a_case() -> None:
    keys = {
        f"{section}.{key}"
        for section, field in SpaceFile.model_fields.items()
        for key in field.annotation.model_fields  # type: ignore[union-attr]
    }
    assert keys == {case[0] for case in CASES} and len(CASES) == len(keys)


@pytest.mark.parametrize(("key", "value", "seen", "expected"), CASES, ids=[case[0] for case in CASES])
def test_a_key_changes_what_is_seen(
    deployed: Any, key: str, value: object, seen: Callable[[Deployed], object], expected: object
) -> None:
    section, name = key.split(".")
    before = seen(deployed(OWN))
    after = seen(deployed(OWN | {section: OWN.get(section, {}) | {name: value}}))
    assert after == expected
    assert before != after, "the key changes nothing"


def test_dataset_and_repository_hold_for_page_command_line_and_jobs(
    hub: Hub, hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deployed: Any, home: Path
) -> None:
    training = {"dataset": "me/charts", "publish_to": "me/adapters", "trainer": "job", "bucket": "me/lookthink-runs"}
    one = deployed({"model": {"base": "me/base"}, "training": training})
    with gr.Blocks(analytics_enabled=False):
        fields = Fields(one.settings)
        for name in all_names():
            fields.add(name)
    begun = [component.value for component in fields.components.values()]  # type: ignore[attr-defined]
    page = fields.config("a100", fields.values("a100", *begun))
    world = JobWorld(hub, hub_url, tmp_path, monkeypatch, code="end(0)")
    monkeypatch.setenv("LOOKTHINK_STATE", str(world.state))
    monkeypatch.setattr(load_settings, "__defaults__", (tmp_path / "space.yaml", None))
    assert main(["start", "--profile", "a100"]) == 0
    [record] = RunStore(home).list()
    world.wait(lambda: bool(world.all()))
    job = json.loads(world.all()[0].spec["environment"]["LOOKTHINK_JOB"])["record"]["config"]
    for config in (page.model_dump(mode="json"), json.loads(record.config), job):
        assert (config["data"]["dataset"], config["publish_to"], config["base"]) == (
            "me/charts",
            "me/adapters",
            "me/base",
        )
