"""Programs on the running app: OpenAI's client, an MCP client, `gradio_client`, `@gradio/client`, and About's lines."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from hypothesis import given
from hypothesis import strategies as st
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from inference.engine.engine import Engine
from inference.prompt.format import TAGS, parse_completion
from inference.server.middleware import MAX_HELD_BYTES
from inference.server.openai_api import Deltas
from inference.ui.about import ADDRESS, PROGRAMS
from tests.support.samples import problems, random_adapter
from tests.support.serving import ADAPTER, WAIT_SECONDS, Server, serve

PROBLEM = problems(1, seed=3)[0]
THOUGHT = "<think>Half of 1 is small.</think> <answer>1/2</answer>"
NPM = Path(tempfile.gettempdir()) / "lookthink-gradio-client-2.7.0"
"""The folder that @gradio/client is installed into once."""


def data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


PICTURE = data_uri(PROBLEM.image)
RED = data_uri(Image.new("RGB", (120, 90), "red"))


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("programs")
    with serve(engine, folder / "home", random_adapter(folder / ADAPTER)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=WAIT_SECONDS)


def message(*pictures: str, text: str = PROBLEM.problem) -> list[Any]:
    images = [{"type": "image_url", "image_url": {"url": one}} for one in pictures]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def streamed(client: openai.OpenAI, **options: Any) -> tuple[str, str, list[Any]]:
    """Thought and answer as they came, and all chunks."""
    chunks = list(client.chat.completions.create(stream=True, **options))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    return thought, "".join(delta.content or "" for delta in deltas), chunks


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_models_are_the_base_and_each_adapter(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["base", ADAPTER]
    assert client.models.retrieve(ADAPTER).id == ADAPTER
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'; choose base|no model 'gpt' here; choose base"):
        client.models.retrieve("gpt")


@pytest.mark.parametrize("model", ["base", ADAPTER])
def test_openais_client_gets_what_ask_gives(server: Server, client: openai.OpenAI, model: str) -> None:
    """Whole and streamed, with usage, as the endpoint `/ask` says."""
    options: dict[str, Any] = {"model": model, "messages": message(PICTURE), "max_tokens": 24, "seed": 3}
    asked = Client(server.url, verbose=False).predict(
        image=PICTURE, question=PROBLEM.problem, adapter=model, max_new_tokens=24, api_name="/ask"
    )
    whole = client.chat.completions.create(**options)
    choice, usage = whole.choices[0], whole.usage
    thought = getattr(choice.message, "reasoning_content", None) or ""
    assert (thought, choice.message.content) == (asked["thinking"], asked["answer"])
    assert choice.finish_reason == ("length" if asked["truncated"] else "stop") and whole.model == model
    assert usage and usage.completion_tokens == asked["num_tokens"] and usage.prompt_tokens > 64
    *same, chunks = streamed(client, stream_options={"include_usage": True}, **options)
    assert same == [thought, choice.message.content]
    assert chunks[-1].usage == usage and chunks[-1].choices == []
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == choice.finish_reason
    assert streamed(client, **options)[2][-1].choices, "usage comes where it is asked for alone"


def test_thought_and_answer_stream_apart(server: Server, client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "base", "messages": message(PICTURE), "max_completion_tokens": 200}
    with server.steered(prefix="<think>First", is_endless=True):
        thought, _, chunks = streamed(client, temperature=2, **options)
    assert thought.startswith("First") and chunks[-1].choices[0].finish_reason == "length"
    assert sum(bool(getattr(chunk.choices[0].delta, "reasoning_content", None)) for chunk in chunks) > 1
    with server.steered(prefix=THOUGHT):
        assert streamed(client, **options)[:2] == ("Half of 1 is small.", "1/2")


def test_every_program_is_told_that_a_picture_is_unknown(server: Server, client: openai.OpenAI) -> None:
    """In the same words: `/ask`, a whole completion, a stream, and MCP."""
    noise = Image.effect_noise((140, 140), 90).convert("RGB")
    told = []
    for picture in (data_uri(noise), PICTURE):
        ask = {"question": PROBLEM.problem, "adapter": "base", "max_new_tokens": 2}
        asked = Client(server.url, verbose=False).predict(image=picture, api_name="/ask", **ask)["warning"]
        options: dict[str, Any] = {"model": "base", "messages": message(picture), "max_tokens": 2}
        whole = getattr(client.chat.completions.create(**options).choices[0].message, "warning", None)
        last = getattr(streamed(client, **options)[2][-1].choices[0].delta, "warning", None)
        mcp = asyncio.run(_with_tool(server, lambda s, a={"image": picture, **ask}: s.call_tool("ask", a)))
        assert asked == whole == last == mcp.structuredContent["warning"]
        told.append(asked)
    assert "unlike all that the model has learnt" in told[0] and told[1] is None


def test_several_pictures_stand_where_the_message_has_them(client: openai.OpenAI, engine: Engine) -> None:
    from inference.model.request import Request
    from inference.prompt.format import PLACE
    from inference.prompt.image import load_image, read_data_uri

    first, second = (load_image(read_data_uri(uri)) for uri in (PICTURE, RED))
    content: list[Any] = [{"type": "text", "text": "Is"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    content += [{"type": "text", "text": "like"}, {"type": "image_url", "image_url": {"url": RED}}]
    asked = [(message(PICTURE, RED), PROBLEM.problem), ([{"role": "user", "content": content}], None)]
    for messages, question in asked:
        told = client.chat.completions.create(model="base", messages=messages, max_tokens=8, temperature=0)
        row = Request(first, question or f"Is\n{PLACE}\nlike\n{PLACE}", max_new_tokens=8, more_images=(second,))
        parsed = parse_completion(engine.generate([row])[0].text)
        assert told.choices[0].message.content == parsed.answer


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"model": "gpt"}, 404, "no model 'gpt' here; choose base"),
        ({"messages": message("http://127.0.0.1:1/a.png")}, 400, "is an address, and nothing is fetched"),
        ({"messages": message("HTTPS://example.org/a.png")}, 400, "is an address, and nothing is fetched"),
        ({"messages": message("//example.org/a.png")}, 400, "is an address, and nothing is fetched"),
        ({"messages": message("/etc/passwd")}, 400, "is no data URI"),
        ({"messages": message("data:image/png;base64,!")}, 400, "not base64"),
        ({"messages": message("data:image/png;base64,aGk=")}, 400, "not a picture"),
        ({"messages": message(*[PICTURE] * 9)}, 400, "9 pictures; a question may have at most 8"),
        ({"messages": message()}, 400, "no picture"),
        ({"messages": message(PICTURE, text=" ")}, 400, "no question"),
        ({"messages": [{"role": "system", "content": "Be brief."}, *message(PICTURE)]}, 400, "system message"),
        ({"messages": message(PICTURE) * 2}, 400, "roles user, user; send one"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, 400, "type 'input_audio'"),
        ({"max_tokens": 0}, 400, "from 1 to 1,024"),
        ({"max_tokens": 10**400}, 400, "from 1 to 1,024"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, 400, "Send one of them"),
        ({"temperature": 3}, 400, "from 0 to 2"),
        ({"n": 2}, 400, "n is 2; here it can be 1 alone"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools is"),
        ({"extra_body": {"minimum": 1}}, 400, "'minimum' is not known here"),
    ],
)
def test_openais_client_is_refused_in_its_own_form(
    server: Server, client: openai.OpenAI, options: dict[str, Any], status: int, words: str
) -> None:
    for is_stream in (False, True):
        asked: dict[str, Any] = {"model": "base", "messages": message(PICTURE), "max_tokens": 4, **options}
        with pytest.raises(openai.APIStatusError) as refused:
            client.chat.completions.create(stream=is_stream, **asked)
        assert refused.value.status_code == status and words in str(refused.value)
        body: Any = refused.value.body
        assert set(body) == {"message", "type", "param", "code"} and words in body["message"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"no json", 400, "not JSON"),
        (b"[]", 400, "no JSON object"),
        (b"", 400, "no JSON object"),
        (b'{"model": "base", "messages": ' + b"[" * 40 + b"]" * 40 + b"}", 400, "32 deep"),
        (b'{"model": "' + b"a" * 30_000_000 + b'"}', 413, "27.7 MB"),
    ],
)
def test_a_body_that_cannot_be_is_refused_in_openais_form(server: Server, body: bytes, status: int, words: str) -> None:
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=body, timeout=WAIT_SECONDS)
    assert answer.status_code == status and words in answer.json()["error"]["message"]


def test_a_picture_of_some_megabytes_is_taken(client: openai.OpenAI) -> None:
    noise = data_uri(Image.effect_noise((2_000, 1_500), 90).convert("RGB"))
    assert len(noise) > 4_000_000
    options: dict[str, Any] = {"model": "base", "messages": message(noise), "max_tokens": 2}
    assert client.chat.completions.create(**options).usage


def test_too_many_questions_are_told_to_wait(engine: Engine, tmp_path: Path) -> None:
    with serve(engine, tmp_path / "home", None, questions_per_minute=1) as few:
        client = openai.OpenAI(base_url=f"{few.url}/v1", api_key="none", max_retries=0)
        options: dict[str, Any] = {"model": "base", "messages": message(PICTURE), "max_tokens": 2}
        client.chat.completions.create(**options)
        with pytest.raises(openai.RateLimitError, match="may ask 1 question a minute here") as refused:
            client.chat.completions.create(**options)
        assert int(refused.value.response.headers["retry-after"]) >= 1
    with serve(engine, tmp_path / "home", None, calls_per_minute=10) as few:
        answers = [httpx.post(f"{few.url}/v1/chat/completions", content=b"") for _ in range(11)]
        assert answers[-1].status_code == 429 and answers[-1].json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_that_hangs_up_stops_its_sequence(server: Server, is_stream: bool) -> None:
    body = {"model": "base", "messages": message(PICTURE), "max_tokens": 1_000, "stream": is_stream}
    queue = server.service.queue
    with server.steered(prefix="<think>First", is_endless=True):
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        wait_until(lambda: queue.is_answering)
        running = queue._running[0]
        connection.close()
        wait_until(lambda: running.wait(0))
    assert running.num_tokens < 1_000
    wait_until(lambda: not queue.is_answering)


def test_large_bodies_share_a_bound_of_memory(server: Server) -> None:
    """While others have sent nearly all of it and are not done, one more is told to come again."""
    url = httpx.URL(server.url)
    part = 20_000_000

    def head(size: int) -> bytes:
        lines = ("POST /v1/chat/completions HTTP/1.1", f"host: {url.host}", f"content-length: {size}")
        return "\r\n".join([*lines, "content-type: application/json", "", ""]).encode()

    held = []
    try:
        for _ in range(MAX_HELD_BYTES // part):
            one = socket.create_connection((url.host, url.port or 80), timeout=WAIT_SECONDS)
            one.sendall(head(part + 1) + b" " * part)
            held.append(one)
        time.sleep(0.5)
        answer = httpx.post(f"{server.url}/v1/chat/completions", content=b" " * part, timeout=WAIT_SECONDS)
    finally:
        for one in held:
            one.close()
    assert answer.status_code == 503 and "Many pictures" in answer.json()["error"]["message"]
    wait_until(lambda: httpx.post(f"{server.url}/v1/chat/completions", content=b" " * part).status_code == 400)


@given(st.lists(st.sampled_from([*TAGS, "so ", "7", "\n", "<", "th", "<answer"]), max_size=12), st.booleans())
def test_deltas_add_up_to_the_completion(pieces: list[str], is_thinking: bool) -> None:
    """However the text grows: the thought as the parser reads it, the last answer at the end; nothing is taken back."""
    text, deltas, sent = "", Deltas(), {"reasoning_content": "", "content": ""}
    whole = "".join(["<think>"] * is_thinking + pieces)
    for end in range(len(whole) + 1):
        text = whole[:end]
        for delta in deltas.next(text, end == len(whole)):
            for name, value in delta.items():
                sent[name] += str(value)
    parsed = parse_completion(whole)
    for name, value in (("reasoning_content", parsed.thinking), ("content", parsed.answer)):
        assert sent[name] == value or sent[name].endswith(f"\n\n{value}")


@pytest.mark.parametrize("text", [THOUGHT, "So 1/2.", "So <answer>1/2</answer>", "<think>So", "So</think>1/2"])
def test_deltas_of_an_ordinary_completion_are_its_parts(text: str) -> None:
    deltas, sent = Deltas(), {"reasoning_content": "", "content": ""}
    for end in range(len(text) + 1):
        for delta in deltas.next(text[:end], end == len(text)):
            for name, value in delta.items():
                sent[name] += str(value)
    parsed = parse_completion(text)
    assert sent == {"reasoning_content": parsed.thinking, "content": parsed.answer}


async def _with_tool(server: Server, use: Callable[[ClientSession], Any]) -> Any:
    async with streamable_http_client(f"{server.url}/mcp") as (reading, writing, _):
        async with ClientSession(reading, writing) as session:
            await session.initialize()
            return await use(session)


def test_an_mcp_client_finds_one_tool_and_asks(server: Server) -> None:
    listed = asyncio.run(_with_tool(server, lambda session: session.list_tools()))
    assert [tool.name for tool in listed.tools] == ["ask"]
    schema = listed.tools[0].inputSchema
    assert schema["properties"]["image"]["type"] == "string" and schema["required"] == ["image", "question"]
    arguments = {"image": PICTURE, "question": PROBLEM.problem, "adapter": "base", "max_new_tokens": 24}
    with server.steered(prefix=THOUGHT):
        told = asyncio.run(_with_tool(server, lambda session: session.call_tool("ask", arguments)))
    assert not told.isError and told.structuredContent["answer"] == "1/2"
    assert told.structuredContent["thinking"] == "Half of 1 is small." and told.structuredContent["adapter"] is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": "https://example.org/a.png"}, "is an address, and nothing is fetched"),
        ({"image": {"path": "/etc/passwd"}}, "is no data URI"),
        ({"image": None}, "no picture"),
        ({"more_images": ["http://127.0.0.1:1/b.png"]}, "is an address, and nothing is fetched"),
        ({"question": 7}, "of type int"),
        ({"adapter": "gpt"}, "no adapter 'gpt'"),
        ({"seed": -1}, "seed is -1"),
        ({"api_name": "/compare"}, "no argument 'api_name'"),
    ],
)
def test_an_mcp_client_is_refused_in_words(server: Server, changes: dict[str, Any], words: str) -> None:
    arguments = {"image": PICTURE, "question": PROBLEM.problem, "max_new_tokens": 4, **changes}
    told = asyncio.run(_with_tool(server, lambda session: session.call_tool("ask", arguments)))
    assert told.isError and words in told.content[0].text


def test_gradio_client_streams_and_takes_a_data_uri(server: Server) -> None:
    client = Client(server.url, verbose=False, analytics_enabled=False)
    options: dict[str, Any] = {"image": PICTURE, "question": PROBLEM.problem, "max_new_tokens": 200}
    with server.steered(prefix="<think>First", is_endless=True):
        one = client.submit(**options, api_name="/ask")
        lengths = [len(result["text"]) for result in one]
        assert len(set(lengths)) > 1 and lengths == sorted(lengths)
        assert one.result()["state"] == "cut off" and one.result()["num_tokens"] == 200
        both = client.submit(**options, api_name="/compare")
        assert len(list(both)) > 1 and both.result()["tuned"]["state"] == "cut off"
        last = client.predict(**options, api_name="/ask")
    assert last["num_tokens"] == 200, "what does not stream has the last result alone"
    for picture, words in (("https://example.org/a.png", "nothing is fetched"), ("/etc/passwd", "is no data URI")):
        with pytest.raises(AppError, match=words):
            client.predict(image=picture, question="How many?", api_name="/ask")
        with pytest.raises(AppError, match=words):
            client.predict(image=PICTURE, question="How many?", more_images=[picture], api_name="/ask")
    answer = httpx.post(f"{server.url}/gradio_api/run/ask", json={"data": [PICTURE, "How many?", None, None, 2]})
    assert answer.json()["data"][0]["num_tokens"] in (1, 2), "a call without the queue has the last result, too"


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """Where @gradio/client is; skips, and says so, where it cannot be had."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("there is no node, which @gradio/client runs in")
    if not (NPM / "node_modules" / "@gradio" / "client").is_dir():
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(NPM), "@gradio/client@2.7.0"]
        made = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS)
        if made.returncode:
            pytest.skip(f"@gradio/client cannot be installed: {made.stderr.strip().splitlines()[-1:]}")
    return NPM / "node_modules"


PYTHONS = ("Python", "OpenAI's client")


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "MCP"])
def test_the_programs_of_about_run_as_they_stand(
    server: Server, tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    """Beside a picture `chart.png`; all that is changed is the page's own address, as the page does it."""
    text = PROGRAMS[name].replace(ADDRESS, server.url)
    PROBLEM.image.save(tmp_path / "chart.png")
    command = [sys.executable, "-c", text] if name in PYTHONS else ["bash", "-ec", text]
    if name == "JavaScript":
        (tmp_path / "node_modules").symlink_to(request.getfixturevalue("node_modules"))
        (tmp_path / "program.mjs").write_text(text)
        command = ["node", "program.mjs"]
    elif name == "curl" and not shutil.which("curl"):
        pytest.skip("there is no curl")
    with server.steered(prefix=THOUGHT):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert done.returncode == 0, done.stderr
    assert "1/2" in done.stdout
    if name == "curl":
        assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "1/2"
