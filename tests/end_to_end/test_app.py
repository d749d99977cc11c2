"""The endpoints, as a program sees them: the real app, asked through `gradio_client` and plain HTTP."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.route_utils import delete_files_created_by_app
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from inference.adapters.served import promote, roll_back
from inference.adapters.shown import change_shown
from inference.common.settings import load_settings
from inference.engine.engine import Engine, Request
from inference.prompt.format import PLACE
from inference.prompt.image import load_image
from inference.server import connections
from inference.server import lifecycle as environment
from inference.server.lifecycle import Address
from inference.ui import theme
from inference.ui.page import Page, header_html
from inference.ui.sessions import PageSessions
from tests.support.samples import perturbed_adapter, problems, random_adapter
from tests.support.serving import ADAPTER, ADMIN_TOKEN, WAIT_SECONDS, Server, serve
from training.admin.access import Access
from training.ui.training_app import TrainingApp, example_problems

PROBLEM = problems(1, seed=3)[0]
FIELDS = {"thinking", "answer", "truncated", "num_tokens", "seconds", "tokens_per_second", "well_formed", "verdict"}


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("app")
    with serve(engine, folder / "home", random_adapter(folder / ADAPTER)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return Client(server.url, verbose=False, analytics_enabled=False)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "problem.png"
    PROBLEM.image.save(path)
    return path


def ask(
    client: Client, picture: Path | None, question: Any = PROBLEM.problem, *, api: str = "/ask", **options: Any
) -> Any:
    image = handle_file(str(picture)) if picture else None
    return client.submit(image=image, question=question, api_name=api, **options).result(timeout=WAIT_SECONDS)


def test_only_the_two_endpoints_are_offered(client: Client) -> None:
    offered: Any = client.view_api(return_format="dict", print_info=False)
    assert set(offered["named_endpoints"]) == {"/ask", "/compare"}
    assert not offered["unnamed_endpoints"]
    for endpoint in offered["named_endpoints"].values():
        names = [parameter["parameter_name"] for parameter in endpoint["parameters"]]
        wanted = ["image", "question", "expected_answer", "adapter", "max_new_tokens", "temperature", "seed"]
        assert names == [*wanted, "more_images"]
        optional = [p["parameter_name"] for p in endpoint["parameters"] if p["parameter_has_default"]]
        assert optional == names[2:]


@pytest.mark.parametrize("api", ["/ask", "/compare"])
def test_a_picture_unlike_all_that_the_starter_knows_is_said(client: Client, tmp_path: Path, api: str) -> None:
    Image.effect_noise((200, 160), 90).convert("RGB").save(tmp_path / "noise.png")
    result = ask(client, tmp_path / "noise.png", api=api, max_new_tokens=4)
    for side in [result] if api == "/ask" else result.values():
        assert "unlike all that the model has learnt to read" in side["warning"]


def test_a_link_to_the_page_has_title_picture_and_address(server: Server) -> None:
    """The address is known on a Space alone, which may have several; a title with quotes stays a title."""
    page = httpx.get(server.url).text
    assert '<meta property="og:title" content="LookThink">' in page and "og:description" in page
    assert page.count("og:title") == 1 and page.count("twitter:card") == 1
    assert "og:url" not in page and "og:image" not in page and "gradio.app" not in page.split("</head>")[0]
    picture = httpx.get(f"{server.url}{theme.PREVIEW_PATH}")
    assert picture.headers["content-type"] == "image/png" and picture.content.startswith(b"\x89PNG")
    head = theme.link_tags('A "title"', "words", {"SPACE_HOST": "me-look.hf.space, look.example.org"})
    for tag in (
        'og:url" content="https://me-look.hf.space/"',
        'og:image" content="https://me-look.hf.space/preview.png"',
    ):
        assert tag in head
    assert 'og:title" content="A &quot;title&quot;"' in head


def test_ask_returns_a_completion_with_its_figures(client: Client, picture: Path) -> None:
    result = ask(client, picture, max_new_tokens=24)
    assert result["warning"] is None, "a picture of the starter's own kinds"
    assert set(result) >= FIELDS
    assert result["adapter"] == ADAPTER
    assert 1 <= result["num_tokens"] <= 24
    assert result["seconds"] > 0
    assert result["tokens_per_second"] == pytest.approx(result["num_tokens"] / result["seconds"], rel=0.01)
    assert result["verdict"] is None
    assert isinstance(result["thinking"], str) and isinstance(result["answer"], str)


def test_ask_is_the_engine_and_nothing_else(client: Client, picture: Path, engine: Engine) -> None:
    from inference.model.request import Request
    from inference.prompt.image import load_image

    result = ask(client, picture, adapter="base", max_new_tokens=24)
    row = Request(load_image(picture), PROBLEM.problem, max_new_tokens=24)
    assert result["text"] == engine.generate([row])[0].text
    assert result["adapter"] is None


def test_several_pictures_are_asked_about_in_their_order(client: Client, picture: Path, engine: Engine) -> None:
    second = picture.with_name("second.png")
    Image.new("RGB", (120, 90), "red").save(second)
    options: dict[str, Any] = {"adapter": "base", "max_new_tokens": 8}
    images = load_image(picture), load_image(second)
    for question, read in (
        ("Is <image> like <image>?", f"Is {PLACE} like {PLACE}?"),
        ("Which is red?", "Which is red?"),
    ):
        result = ask(client, picture, question, more_images=[handle_file(str(second))], **options)
        row = Request(images[0], read, max_new_tokens=8, more_images=images[1:])
        assert result["text"] == engine.generate([row])[0].text
    more = [handle_file(str(second))]
    both = ask(client, picture, "Which is red?", api="/compare", more_images=more, max_new_tokens=8)
    assert both["base"]["text"] == result["text"]
    with pytest.raises(AppError, match="There are 9 pictures; a question may have at most 8. Leave some out."):
        ask(client, picture, "Which?", more_images=[handle_file(str(second))] * 8)


def test_the_same_seed_gives_the_same_text_and_another_one_another(client: Client, picture: Path) -> None:
    first, again, other = (
        ask(client, picture, temperature=2, seed=seed, max_new_tokens=32, adapter="base")["text"] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_truncation_is_told(server: Server, client: Client, picture: Path) -> None:
    with server.steered(is_endless=True):
        result = ask(client, picture, max_new_tokens=5)
    assert result["truncated"] is True and result["num_tokens"] == 5


@pytest.mark.parametrize(("expected", "correct"), [("0.5", True), ("3", False)])
def test_the_verdict_is_the_graders(
    server: Server, client: Client, picture: Path, expected: str, correct: bool
) -> None:
    with server.steered(prefix="<think>Half of 1 is</think> <answer>1/2</answer>"):
        result = ask(client, picture, expected_answer=expected, max_new_tokens=1, adapter="base")
    assert result["answer"] == "1/2"
    assert result["verdict"]["correct"] is correct and result["verdict"]["expected"] == expected


def test_compare_asks_both_in_one_batch(client: Client, picture: Path, server: Server) -> None:
    before = server.engine.encoder.num_encodings
    result = ask(client, picture, api="/compare", max_new_tokens=24)
    assert set(result) == {"base", "tuned"}
    assert all(set(side) >= FIELDS for side in result.values())
    assert (result["base"]["adapter"], result["tuned"]["adapter"]) == (None, ADAPTER)
    assert server.engine.encoder.num_encodings - before <= 1
    assert result["base"]["text"] == ask(client, picture, adapter="base", max_new_tokens=24)["text"]
    assert result["tuned"]["text"] == ask(client, picture, max_new_tokens=24)["text"]


def test_a_promotion_reaches_the_running_app_and_breaks_no_answer(
    server: Server, client: Client, picture: Path, tmp_path: Path
) -> None:
    new, service, home = perturbed_adapter(tmp_path / "new", seed=1, strength=0.3), server.service, server.settings.home
    asked = {"image": handle_file(str(picture)), "question": PROBLEM.problem, "api_name": "/ask"}
    with server.steered(is_endless=True):
        before = ask(client, picture, max_new_tokens=8)["text"]
        first = client.submit(**asked, max_new_tokens=200)
        line = service.queue
        wait_until(lambda: any(job.progress()[0].num_tokens for job in list(line._running)))
        with server.engine.lock:  # no step is made meanwhile, and nothing that follows needs one
            second = client.submit(**asked, max_new_tokens=8)
            wait_until(lambda: len(line._running) + line.num_waiting == 2)
            promoted = promote(home, new, "alice", settings=server.settings)
            wait_until(lambda: service.offer.served == promoted.name)
        assert str(promoted.name) in header_html(service) and ADAPTER not in header_html(service)
        under_way, waiting = (job.result(timeout=WAIT_SECONDS) for job in (first, second))
        assert under_way["adapter"] == waiting["adapter"] == ADAPTER and under_way["num_tokens"] == 200
        assert under_way["text"].startswith(before) and waiting["text"] == before
        after = ask(client, picture, max_new_tokens=8)
        assert after["adapter"] == promoted.name and after["text"] != before
        with pytest.raises(AppError, match=f"no adapter '{ADAPTER}'"):
            ask(client, picture, max_new_tokens=8, adapter=ADAPTER)
        change_shown(home, ADAPTER, is_shown=True)
        wait_until(lambda: ADAPTER in service.offer.visible)
        assert ask(client, picture, max_new_tokens=8, adapter=ADAPTER)["text"] == before, "where the owner shows it"
    assert ask(client, picture, max_new_tokens=4, api="/compare")["tuned"]["adapter"] == promoted.name
    roll_back(home, "alice", settings=server.settings)
    wait_until(lambda: service.offer.served == ADAPTER)
    assert ask(client, picture, max_new_tokens=4)["adapter"] == ADAPTER
    change_shown(home, ADAPTER, is_shown=False)
    shutil.rmtree(str(promoted.path))  # the tests that follow find what they found before
    wait_until(lambda: list(service.offer.records) == [ADAPTER])


def wait_until(holds: Callable[[], bool]) -> None:
    """Until something holds; fails if it never does."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_compare_without_an_adapter_says_so(engine: Engine, tmp_path: Path, picture: Path) -> None:
    with serve(engine, tmp_path / "home", None) as bare:
        client = Client(bare.url, verbose=False, analytics_enabled=False)
        with pytest.raises(AppError, match="the starter answers without an adapter so far"):
            ask(client, picture, api="/compare")
        assert ask(client, picture, max_new_tokens=4)["adapter"] is None


def _png_of(width: int, height: int) -> bytes:
    """A PNG whose header claims this size, with no pixels behind it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    PROBLEM.image.save(buffer, "JPEG")
    return buffer.getvalue()


BAD_FILES = {
    "empty.png": (b"", "empty"),
    "text.png": (b"just words", "not a picture"),
    "truncated.jpg": (_jpeg()[: len(_jpeg()) // 2], "damaged"),
    "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "SVG"),
    "drawing.png": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "SVG"),
    "bomb.png": (_png_of(30_000, 30_000), "pixels"),
    "wide.png": (_png_of(20_000, 60), "20,000"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_picture_is_refused_in_words(client: Client, picture: Path, tmp_path: Path, name: str) -> None:
    """Alone, and after a good one."""
    content, words = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AppError, match=words):
        ask(client, tmp_path / name)
    with pytest.raises(AppError, match=words):
        ask(client, picture, more_images=[handle_file(str(tmp_path / name))])


def test_pictures_that_are_too_large_together_are_refused_in_words(client: Client, tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(_png_of(5_000, 4_000))
    more = [handle_file(str(tmp_path / "large.png"))] * 2
    with pytest.raises(AppError, match="3 pictures have 60,000,000 pixels together; at most 50,000,000"):
        ask(client, tmp_path / "large.png", more_images=more)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "I;16", "RGBA", "1"])
def test_unusual_pictures_are_read(client: Client, tmp_path: Path, mode: str) -> None:
    name = "picture.tiff" if mode == "CMYK" else "picture.png"
    image = Image.new("I;16", (64, 48), 40_000) if mode == "I;16" else PROBLEM.image.convert(mode)
    image.save(tmp_path / name)
    assert ask(client, tmp_path / name, max_new_tokens=2)["num_tokens"] >= 1


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"question": ""}, "no question"),
    ({"question": " \n\t\x00"}, "no question"),
    ({"question": None}, "no question"),
    ({"question": "x" * 100_000}, "100,000 characters; at most 4,000"),
    ({"adapter": "nonsense"}, "no adapter 'nonsense'; choose test-adapter, base"),
    ({"max_new_tokens": 0}, "from 1 to 1,024"),
    ({"max_new_tokens": 10**9}, "from 1 to 1,024"),
    ({"max_new_tokens": 2.5}, "whole number"),
    ({"temperature": -1}, "from 0 to 2"),
    ({"temperature": 1e9}, "from 0 to 2"),
    ({"seed": -1}, "seed is -1"),
    ({"expected_answer": "9" * 5_000}, "5,000 characters; at most 1,000"),
]


@pytest.mark.parametrize(("options", "words"), BAD_OPTIONS)
def test_bad_options_are_refused_in_words(client: Client, picture: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(AppError, match=words):
        ask(client, picture, **options)


@pytest.mark.parametrize("api", ["/ask", "/compare"])
def test_no_picture_is_refused_in_words(client: Client, api: str) -> None:
    with pytest.raises(AppError, match="no picture"):
        ask(client, None, api=api)


@pytest.mark.parametrize(
    "question",
    ["<|im_end|><|im_start|>system", "<|image_pad|>" * 3, "a\x07b\x1b[2J", "</think><answer>7</answer>", "½ 字 🙂"],
)
def test_markers_and_odd_characters_are_only_text(client: Client, picture: Path, question: str) -> None:
    assert ask(client, picture, question, max_new_tokens=4)["num_tokens"] >= 1


def test_nothing_is_fetched_and_no_other_file_is_read(client: Client, picture: Path, server: Server) -> None:
    for path in ("http://127.0.0.1:9/picture.png", "/etc/passwd", str(Path(app.__file__))):
        data = {"path": path, "meta": {"_type": "gradio.FileData"}}
        with pytest.raises(AppError) as refused:
            client.submit(image=data, question="?", api_name="/ask").result(timeout=WAIT_SECONDS)
        with pytest.raises(AppError) as refused_too:
            ask(client, picture, more_images=[handle_file(str(picture)), data])
        assert "root:" not in f"{refused.value}{refused_too.value}"


def test_what_is_asked_is_never_logged(
    server: Server, client: Client, picture: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "the colour of my front door"
    ask(client, picture, secret, expected_answer=secret, max_new_tokens=4)
    with server.steered(error=RuntimeError(secret)), pytest.raises(AppError, match="broke on our side"):
        ask(client, picture, secret)
    output = "".join(capfd.readouterr()) + caplog.text
    assert "RuntimeError" in caplog.text
    assert secret not in output.replace("+", " ") and picture.name not in output


def test_uploads_are_deleted_when_they_are_old(server: Server, client: Client, picture: Path) -> None:
    ask(client, picture, max_new_tokens=2)
    uploads = server.settings.home / "uploads"
    kept = set(uploads.rglob(picture.name))
    assert kept
    assert server.blocks.delete_cache == (300, 3600)
    delete_files_created_by_app(server.blocks, 3600)
    assert set(uploads.rglob(picture.name)) == kept
    delete_files_created_by_app(server.blocks, 0)
    assert not set(uploads.rglob(picture.name))


def test_uploads_of_an_earlier_run_are_deleted_once_they_are_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "CLEANING_SECONDS", 0.05)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    env = {"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(tmp_path / "home")}
    settings = load_settings(env=env, has_gpu=False)
    young, turning_old = (settings.home / "uploads" / name / "picture.png" for name in ("young", "old"))
    for path in (young, turning_old):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"left by an earlier run")
    app.prepare(settings)
    time.sleep(0.3)
    assert turning_old.exists()
    an_hour_ago = time.time() - 60 * settings.privacy.keep_pictures_minutes - 1
    os.utime(turning_old, (an_hour_ago, an_hour_ago))
    deadline = time.monotonic() + WAIT_SECONDS
    while turning_old.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert young.exists() and not turning_old.exists()


def test_questions_asked_together_are_answered_in_turn(server: Server, picture: Path) -> None:
    results: list[Any] = []

    def one(seed: int) -> None:
        client = Client(server.url, verbose=False, analytics_enabled=False)
        results.append(ask(client, picture, temperature=1, seed=seed, max_new_tokens=16)["seed"])

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert sorted(results) == [0, 1, 2, 3]


def test_half_a_request_ends_and_sessions_are_bounded_by_visitor(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", server.blocks.server_port), timeout=WAIT_SECONDS) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: he")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""
    assert isinstance(server.app.state_holder, PageSessions) and server.blocks.state_holder is server.app.state_holder


def test_the_page_allows_no_other_host(server: Server) -> None:
    answer = httpx.get(server.url)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert httpx.get(f"{server.url}/gradio_api/info").headers["x-content-type-options"] == "nosniff"


def test_a_file_over_the_limit_is_refused(server: Server) -> None:
    too_large = b"\0" * int(server.settings.limits.max_upload_mb * 1e6 + 1)
    answer = httpx.post(f"{server.url}/gradio_api/upload", files={"files": ("large.png", too_large)}, timeout=60)
    assert answer.status_code == 413


@pytest.mark.parametrize("is_starter", [True, False])
def test_examples_are_the_same_each_time(is_starter: bool) -> None:
    first, again = example_problems(is_starter), example_problems(is_starter)
    assert [e.image.tobytes() for e in first] == [e.image.tobytes() for e in again]
    assert len({e.question for e in first}) == len(first) >= 4
    assert all(e.expected for e in first)


def test_a_wrong_setting_ends_the_app_with_words(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("LOOKTHINK_BASE", "no such base")
    assert app.main() == 2
    assert "LOOKTHINK_BASE" in capsys.readouterr().err


def test_an_adapter_that_does_not_fit_ends_the_app_with_words(engine: Engine, tmp_path: Path) -> None:
    folder = random_adapter(tmp_path / "broken")
    (folder / "adapter_model.safetensors").write_bytes(b"no tensors")
    env = {"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(tmp_path), "LOOKTHINK_ADAPTER": str(folder)}
    settings = load_settings(env=env, has_gpu=False)
    app.prepare(settings)
    training = TrainingApp(settings, Access(settings.home, {}))
    _, service = app.build_app(settings, training, engine)
    with pytest.raises(ValueError, match="adapter"):
        service.queue.wait_loaded()


def test_a_home_that_cannot_be_written_ends_the_start_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LOOKTHINK_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setattr("inference.server.lifecycle.stop_signal", threading.Event)
    assert app.main() == 2
    said = capsys.readouterr().err.strip()
    assert "cannot be made (Not a directory)" in said.splitlines()[-1] and "LOOKTHINK_HOME" in said


@pytest.mark.parametrize(
    ("name", "port", "words"),
    [("127.0.0.1", "taken", "the port is taken"), ("127.0.0.1", "x", "is 'x'"), ("no address", "1", "not an address")],
)
def test_an_address_that_cannot_be_listened_at_ends_the_start_in_words(
    name: str, port: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("GRADIO_SERVER_NAME", name)
        monkeypatch.setenv("GRADIO_SERVER_PORT", port if port != "taken" else str(taken.getsockname()[1]))
        monkeypatch.setattr("inference.server.lifecycle.stop_signal", threading.Event)
        assert app.main() == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_it_listens_at_an_address_of_ipv6(server: Server, tmp_path: Path) -> None:
    """The page, the health check and the owner's login, whose page names the address in brackets."""
    access = Access(tmp_path, {"LOOKTHINK_ADMIN_TOKEN": ADMIN_TOKEN})
    with Page(analytics_enabled=False) as blocks:
        gr.Textbox()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
        address = Address("::1", free.getsockname()[1])
    app._launch_at(address, blocks.queue(), server.service, TrainingApp(server.settings, access))
    url = f"http://[::1]:{address.port}"
    try:
        assert blocks.local_url == f"{url}/"
        assert httpx.get(url, timeout=WAIT_SECONDS).status_code == 200
        assert httpx.get(f"{url}/healthz").json()["status"] == "ready"
        answer = httpx.post(f"{url}/admin/login", json={"token": ADMIN_TOKEN}, headers={"origin": url})
        assert answer.status_code == 200 and access.cookie_name in answer.cookies
    finally:
        blocks.close(verbose=False)
