"""The log: its two forms, and what it may hold of what a client sends: never its words."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference.common.logs import event, frames
from inference.engine.engine import Engine
from tests import ROOT
from tests.support.serving import WAIT_SECONDS, Server, serve

MARK = "SECRET-of-a-client"
"""In every malformed request."""


@pytest.fixture(scope="module")
def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(engine, tmp_path_factory.mktemp("guard") / "home", None) as running:
        yield running


def _file(path: Any = f"/tmp/{MARK}.png", **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


MALFORMED: dict[str, list[Any]] = {
    "too few values": [None, MARK],
    "no values but one": [MARK],
    "words for a picture": [MARK, "q", None, None, 4, 0, 0],
    "a list for a picture": [[MARK], "q", None, None, 4, 0, 0],
    "a picture without a path": [{"meta": {"_type": "gradio.FileData"}, "orig_name": MARK}, "q", None, None, 4, 0, 0],
    "a path that is a list": [_file([MARK]), "q", None, None, 4, 0, 0],
    "a path outside the uploads": [_file(), "q", None, None, 4, 0, 0],
    "a path without a file mark": [{"path": f"/tmp/{MARK}.png"}, "q", None, None, 4, 0, 0],
    "an address": [_file(url=f"http://127.0.0.1:9/{MARK}.png"), "q", None, None, 4, 0, 0],
    "an object for a question": [None, {"q": MARK}, None, None, 4, 0, 0],
    "words for numbers": [None, "q", None, None, MARK, MARK, MARK],
    "a file for a question": [None, _file(), None, None, 4, 0, 0],
    "too many values": [None, "q", None, None, 4, 0, 0, MARK],
}


def _post_everywhere(url: str, data: list[Any], endpoints: dict[str, int]) -> None:
    """Send `data` to every door that takes values, and wait until each has been dealt with."""
    alone = httpx.Limits(max_keepalive_connections=0)  # the server hangs up where a request broke it
    with httpx.Client(base_url=f"{url}/gradio_api", timeout=WAIT_SECONDS, limits=alone) as http:
        for name, index in endpoints.items():
            answer = http.post(f"/call/{name}", json={"data": data})
            if answer.status_code == 200:
                http.get(f"/call/{name}/{answer.json()['event_id']}")
            session = uuid.uuid4().hex
            body = {"data": data, "fn_index": index, "session_hash": session}
            if http.post("/queue/join", json=body).status_code == 200:
                http.get("/queue/data", params={"session_hash": session})
            http.post(f"/run/{name}", json={"data": data})
            http.post(f"/call/v2/{name}", json={"image": data[0], "question": MARK, "unknown": data})


@pytest.fixture(scope="module")
def endpoints(server: Server) -> dict[str, int]:
    """The endpoints by name, with the index that the queue knows them by."""
    found = {str(fn.api_name): index for index, fn in server.blocks.fns.items()}
    return {name: found[name] for name in ("ask", "compare")}


@pytest.mark.parametrize("shape", MALFORMED)
def test_no_word_of_a_malformed_request_is_logged(
    server: Server,
    endpoints: dict[str, int],
    shape: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    _post_everywhere(server.url, MALFORMED[shape], endpoints)
    output = "".join(capfd.readouterr()) + caplog.text
    assert MARK not in output


def test_what_gradio_fails_with_is_logged_without_its_words(
    server: Server, endpoints: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    _post_everywhere(server.url, [None, MARK], endpoints)
    output = caplog.text
    assert "TypeError" in output and "construct_args" in output


@pytest.mark.parametrize("body", [f'{{"data": ["{MARK}"', json.dumps({"data": MARK}), json.dumps([MARK]), MARK, ""])
def test_no_word_of_a_body_that_is_no_request_is_logged(
    server: Server, body: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("call/ask", "call/v2/ask", "queue/join", "run/ask", f"call/{MARK}"):
        httpx.post(
            f"{server.url}/gradio_api/{path}",
            content=body,
            headers={"content-type": "application/json"},
            timeout=WAIT_SECONDS,
        )
    output = "".join(capfd.readouterr())
    assert MARK not in output + "".join(r.getMessage() for r in caplog.records if r.name != "httpx")


@pytest.mark.parametrize("logger", ["uvicorn.error", "asyncio"])
def test_an_error_that_a_server_logs_keeps_its_type_and_frames(
    server: Server, logger: str, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        raise KeyError(MARK)
    except KeyError:
        logging.getLogger(logger).error("Exception in ASGI application", exc_info=True)
    assert "KeyError" in caplog.text and "test_logs.py" in caplog.text
    assert MARK not in caplog.text


def test_frames_name_the_error_and_what_caused_it() -> None:
    try:
        try:
            raise KeyError(MARK)
        except KeyError as cause:
            raise ValueError(MARK) from cause
    except ValueError as error:
        text = frames(error)
    assert text.index("KeyError") < text.index("ValueError")
    assert "test_frames_name_the_error" in text and MARK not in text


PROGRAM = f"""
import logging, sys
from inference.common.logs import event, set_up
set_up(as_json=sys.argv[1] == "json", stream=sys.stdout)
event("question_ended", seconds=1.23456, state="done", visitor="a b", is_new=True, note=None)
logging.getLogger("elsewhere").warning("left out: %s", "it")
try:
    raise KeyError("{MARK}")
except KeyError:
    logging.getLogger("elsewhere").exception("it failed")
"""


@pytest.fixture(scope="module", params=["json", "text"])
def written(request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    """What a process of its own writes, in each form."""
    command = [sys.executable, "-c", PROGRAM, request.param]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_SECONDS, check=True)
    return request.param, ran.stdout.splitlines()


def test_an_event_is_one_line_with_its_figures(written: tuple[str, list[str]]) -> None:
    form, lines = written
    if form == "text":
        expected = 'INFO lookthink: question_ended seconds=1.235 state=done visitor="a b" is_new=True note=None'
        assert lines[:2] == [expected, "WARNING elsewhere: left out: it"]
        return
    first, second, third = (json.loads(line) for line in lines)
    assert first.pop("time").endswith("Z") and first.pop("level") == "info"
    fields = {"seconds": 1.23456, "state": "done", "visitor": "a b", "is_new": True, "note": None}
    assert first == {"event": "question_ended", **fields}
    assert (second["logger"], second["message"], second["level"]) == ("elsewhere", "left out: it", "warning")
    assert third["message"] == "it failed" and "KeyError" in third["error"]


def test_an_exception_is_logged_without_its_message(written: tuple[str, list[str]]) -> None:
    text = "\n".join(written[1])
    assert "KeyError" in text and MARK not in text


LIBRARY = """
import asyncio, gc, logging, sys, threading, traceback, warnings
import tqdm

WORDS = sys.argv[3]

def say():
    for stream in (sys.stdout, sys.stderr):
        print(WORDS + "\\nINFO lookthink: forged", file=stream)
        stream.writelines([WORDS])
    list(tqdm.tqdm(range(3), desc=WORDS))
    warnings.warn(WORDS)
    logging.getLogger("elsewhere").warning(WORDS + " %s", WORDS)
    try:
        raise KeyError(WORDS)
    except KeyError:
        traceback.print_exc()
        logging.getLogger("elsewhere").exception(WORDS)

class Odd:
    def __del__(self):
        raise ValueError(WORDS)

def fail():
    Odd()
    raise ValueError(WORDS)

async def forgotten():
    asyncio.create_task(fails())
    await asyncio.sleep(0)

async def fails():
    raise ValueError(WORDS)

def run():
    say()
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    asyncio.run(forgotten())
    gc.collect()
"""
SERVING = """
import logging, sys
from inference.common.logs import event, keep_words_out_of_the_log, keep_words_out_of_the_output, set_up
logging.getLogger("elsewhere")
set_up(as_json=sys.argv[1] == "json")
sys.path.insert(0, sys.argv[2])
import a_library
logging.getLogger("elsewhere").warning("before visitors come")
keep_words_out_of_the_output()
keep_words_out_of_the_log()
a_library.run()
forged = "".join(f"{mark}INFO lookthink: forged" for mark in "\\n\\r\\x1b\\x85\\u2028")
logging.getLogger("inference.ours").warning("said: %s", forged)
print("ours, in plain words")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_library_is_heard_while_the_app_serves(form: str, tmp_path: Path) -> None:
    """Prints, warnings, logs, and what Python reports of threads, tasks and finalizers: the place, never the words."""
    (tmp_path / "a_library.py").write_text(LIBRARY)
    command = [sys.executable, "-c", SERVING, form, str(tmp_path), MARK]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_SECONDS, check=True)
    output = ran.stdout + ran.stderr
    assert MARK not in output and "\x1b" not in output
    assert "before visitors come" in output and ran.stdout == "ours, in plain words\n"
    assert output.count("library_output") == 5, "two prints, two lists of lines, a warning; no progress bar"
    assert "a_library" in output and "A thread failed." in output and "Something could not be ended." in output
    assert output.count("which is not kept") == 3, "of the logger twice, of asyncio once"
    lines = ran.stderr.splitlines()
    assert not any(line.startswith("INFO lookthink: forged") for line in lines)
    if form == "json":
        assert all(json.loads(line) for line in lines)


def test_an_event_holds_no_line_break(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    event("refused", visitor='a"\nINFO forged: line')
    assert caplog.messages == ['refused visitor="a\\"\\nINFO forged: line"']
