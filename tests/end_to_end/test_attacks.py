"""Attacks at full size on an app in a process of its own, with 1,024 descriptors: `make torture` runs them."""

from __future__ import annotations

import contextlib
import io
import re
import resource
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from inference.ui.sessions import MAX_SESSIONS
from tests.support.app_process import Process
from tests.support.crowd import Visitor
from tests.support.samples import problems
from tests.support.serving import WAIT_SECONDS

SIDE = 7_071
"""Just under fifty million pixels, the most that are read."""
DESCRIPTORS, HALF_OPEN, WELL_SECONDS = 1_024, 1_300, 30.0
ABOVE_IDLE_MB = 400.0
HALVES = (b"", b"GET / HTTP/1.1\r\nHost: here\r\nX: ", b"POST /gradio_api/upload HTTP")


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Warm: a question was answered."""
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, own[1]))  # the app has as many as this process
    try:
        running = Process(tmp_path_factory.mktemp("attacked") / "home")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(own[1], 8_192), own[1]))
    running.wait_for("Admin token")
    running.wait_ready()
    assert polite(running, 2) == "answered"
    yield running
    running.popen.kill()
    running.popen.wait()
    resource.setrlimit(resource.RLIMIT_NOFILE, own)


def polite(process: Process, number: int) -> str:
    """What becomes of one ordinary question."""
    visitor = Visitor(process.url, number)
    return visitor.ask(visitor.upload(problems(1, seed=3)[0].image)).outcome


def flat_png(bits: int, colour: int, bytes_per_pixel: int) -> bytes:
    """A picture of one colour, about 100 kB, made row by row."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    packer, row = zlib.compressobj(9), bytes(1 + SIDE * bytes_per_pixel)
    body = b"".join(packer.compress(row) for _ in range(SIDE)) + packer.flush()
    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def worst_files() -> list[bytes]:
    """Ten files, each as large as it may be decoded: 16-bit, with alpha, progressive, turned, in one strip."""
    grey, deep, alpha = flat_png(16, 0, 2), flat_png(16, 6, 8), flat_png(8, 4, 2)
    files = []
    image, exif = Image.new("RGB", (SIDE, SIDE)), Image.Exif()
    exif[0x0112] = 6
    for format, options in (
        ("JPEG", {"progressive": True, "subsampling": 0}),
        ("PNG", {"exif": exif, "compress_level": 1}),
        ("TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: SIDE}}),
        ("WEBP", {"method": 0}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        files.append(buffer.getvalue())
    return [grey, grey, grey, deep, deep, alpha, *files]


@pytest.mark.slow
@pytest.mark.torture
def test_ten_of_the_worst_pictures_at_once(process: Process, figure: Callable[[str], None]) -> None:
    files = worst_files()
    peer = Visitor(process.url, 9)
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in uploaded(peer, files)]
    idle = process.resident_mb()
    Path(f"/proc/{process.popen.pid}/clear_refs").write_text("5")  # the peak counts from here
    begun, outcomes = time.monotonic(), []

    def ask(number: int) -> None:
        http = Visitor(process.url, 10 + number).http
        body = {"data": [data[number], "How many circles are there?", None, None, 4, 0, 0]}
        event = http.post("/call/ask", json=body).raise_for_status().json()["event_id"]
        outcomes.append(http.get(f"/call/ask/{event}").text)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(data))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert process.health()["status"] == "ready"
        time.sleep(0.2)
    peak, seconds = peak_mb(process) - idle, time.monotonic() - begun
    answered = sum("event: complete" in outcome for outcome in outcomes)
    told = sum("would take" in outcome or "Many large pictures" in outcome for outcome in outcomes)
    figure(
        f"ten pictures of {SIDE} x {SIDE} at once: {peak:+.0f} MB at the peak, {answered} answered and {told} refused "
        f"for their memory in {seconds:.0f} s"
    )
    assert answered + told == len(files) and answered >= 5, outcomes
    assert peak < ABOVE_IDLE_MB


def uploaded(visitor: Visitor, files: list[bytes]) -> list[str]:
    paths = []
    for file in files:
        sent = visitor.http.post("/upload", files={"files": ("picture.png", file)}).raise_for_status()
        paths += sent.json()
    return paths


def peak_mb(process: Process) -> float:
    """Its highest memory since `clear_refs`, in megabytes."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.popen.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


@pytest.mark.slow
@pytest.mark.torture
def test_half_open_connections_with_few_descriptors(process: Process, figure: Callable[[str], None]) -> None:
    """Whoever is answered goes on being answered, newcomers are, and afterwards the app is as it was."""
    token = process.wait_for(r"Admin token, for the Train tab: (\S+)")[1]
    answered: list[str] = []
    talker = threading.Thread(target=lambda: answered.extend(polite(process, 3) for _ in range(5)))
    talker.start()
    with contextlib.ExitStack() as held:
        begun = time.monotonic()
        for number in range(HALF_OPEN):
            client = socket.create_connection(("127.0.0.1", process.port), timeout=WAIT_SECONDS)
            held.callback(client.close)
            with contextlib.suppress(ConnectionError):  # closed already, in favour of a later one
                client.sendall(HALVES[number % len(HALVES)])
        until = time.monotonic() + WELL_SECONDS
        while (state := health(process)) != "ready":
            assert time.monotonic() < until, state
        well = time.monotonic() - begun
        log_in = httpx.post(
            f"{process.url}/admin/login", json={"token": token}, headers={"origin": process.url}, timeout=WELL_SECONDS
        )
        assert log_in.status_code == 200
        assert polite(process, 4) == "answered"
        talker.join(WAIT_SECONDS)
        while len(sockets_of(process)) > 20:  # all of them end, also without being pushed out
            assert time.monotonic() - begun < WELL_SECONDS
            time.sleep(0.2)
        ended = time.monotonic() - begun
    figure(
        f"{HALF_OPEN} half-open connections on {DESCRIPTORS} descriptors: ready {well:.1f} s after the first, all "
        f"closed after {ended:.1f} s, {answered.count('answered')} of 5 questions answered meanwhile"
    )
    assert answered == ["answered"] * 5
    assert not [line for line in process.lines if "Too many open files" in line or "EMFILE" in line]


def health(process: Process) -> object:
    try:
        return httpx.get(f"{process.url}/healthz", timeout=5).json()["status"]
    except httpx.HTTPError as error:
        return type(error).__name__


def sockets_of(process: Process) -> list[str]:
    links = []
    for link in Path(f"/proc/{process.popen.pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed in between
            links.append(str(link.readlink()))
    return [link for link in links if link.startswith("socket:")]


@pytest.mark.slow
@pytest.mark.torture
def test_many_sessions_of_one_visitor_push_out_nobody_elses(process: Process, figure: Callable[[str], None]) -> None:
    """260 pages of one visitor; another's page, opened before, still has the state of its cut-off answer."""
    mine = Visitor(process.url, 5)
    picture = mine.upload(problems(1, seed=3)[0].image)
    assert mine.ask(picture, tokens=2).outcome == "answered"
    refused = 0
    for _ in range(MAX_SESSIONS + 4):
        greedy = Visitor(process.url, 6)
        refused += greedy.ask(picture, tokens=1).outcome != "answered"
        greedy.http.close()
    said = goes_on(mine)
    figure(f"{MAX_SESSIONS + 4} sessions of one visitor, {refused} of their questions refused; another's page goes on")
    assert "process_completed" in said and "no longer stored" not in said


def goes_on(visitor: Visitor) -> str:
    """What comes of Continue, which needs what the session keeps."""
    events = httpx.get(f"{visitor.http.base_url}".removesuffix("/gradio_api/") + "/config", timeout=WAIT_SECONDS).json()
    index = next(event["id"] for event in events["dependencies"] if event["api_name"] == "go_on")
    body = {"data": [None], "fn_index": index, "session_hash": visitor.session}
    visitor.http.post("/queue/join", json=body).raise_for_status()
    with visitor.stream() as lines:
        return "".join(lines)
