"""The page as it is delivered: compressed, cached, its files named ahead; nothing else changes."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import brotli
import httpx
import pytest

from inference.server.delivery import FOR_EVER, Start, start_types
from inference.ui.theme import BUILT_PAGE
from tests.support.browser import MARKS, browser, server
from tests.support.serving import Server

__all__ = ["browser", "server"]
ASSETS = BUILT_PAGE / "assets"
MAX_BYTES = 450_000
"""What a first visit may load."""
UNPACK = {"br": brotli.decompress, "gzip": gzip.decompress, "": bytes}


def asked(server: Server, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """The answer and its bytes as they were sent."""
    with httpx.stream("GET", f"{server.url}{path}", headers={"accept-encoding": "identity", **headers}) as answer:
        return answer, b"".join(answer.iter_raw())


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info"])
@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("gzip, deflate, br, zstd", "br"), ("gzip", "gzip"), ("br;q=0, gzip;q=0.5", "gzip"), ("identity", ""), ("", "")],
)
def test_the_page_is_compressed_as_the_client_accepts(server: Server, path: str, accepted: str, encoding: str) -> None:
    plain = asked(server, path)[1]
    answer, content = asked(server, path, **{"accept-encoding": accepted})
    assert answer.headers.get("content-encoding", "") == encoding
    assert int(answer.headers["content-length"]) == len(content)
    assert UNPACK[encoding](content) == plain and "content-security-policy" in answer.headers
    if encoding:
        assert len(content) < len(plain) / 3 and "accept-encoding" in answer.headers["vary"].lower()


def test_a_stream_of_events_is_not_compressed(server: Server) -> None:
    url, accepted = f"{server.url}/gradio_api", {"accept-encoding": "br, gzip"}
    event = httpx.post(f"{url}/call/ask", json={"data": [None, "How many?"]}).json()["event_id"]
    answer = httpx.get(f"{url}/call/ask/{event}", headers=accepted)
    assert "no picture" in answer.text and "content-encoding" not in answer.headers


def test_files_with_hashed_names_are_kept_for_ever_and_others_are_not(server: Server) -> None:
    page = asked(server, "/")[1].decode()
    hashed = re.findall(r'href="\./(assets/[^"]+)"', page)
    assert len(hashed) > 30
    for path in (*hashed[:3], f"assets/{next(ASSETS.glob('Index-?????????.js')).name}"):
        assert asked(server, f"/{path}")[0].headers["cache-control"] == FOR_EVER, path
    missing = asked(server, "/assets/none-12345678.js")[0]
    assert missing.status_code == 404 and "cache-control" not in missing.headers
    for path in ("/", "/config", "/static/js/iframeResizer.contentWindow.min.js"):
        assert "immutable" not in asked(server, path)[0].headers.get("cache-control", "")


def test_the_player_of_videos_is_left_out_with_the_same_names(server: Server) -> None:
    player = next(ASSETS.glob("hls-*.js"))
    answer, content = asked(server, f"/assets/{player.name}")
    names = re.compile(r"\bas (\w+)")
    assert set(names.findall(content.decode())) == set(names.findall(player.read_text("utf-8")[-200:])) != set()
    assert answer.headers["cache-control"] == "no-store" and len(content) < 200


def test_what_is_drawn_first_is_found_in_the_configuration() -> None:
    kinds = ("column", "html", "tabs", "tabitem", "image", "tabitem", "plot", "textbox")
    hidden = {7}
    components = [
        {"id": i, "type": kind, "props": {"visible": False} if i in hidden else {}} for i, kind in enumerate(kinds)
    ]
    tabs = {"id": 2, "children": [{"id": 3, "children": [{"id": 4}]}, {"id": 5, "children": [{"id": 6}]}]}
    layout = {"id": 99, "children": [{"id": 0, "children": [{"id": 1}, {"id": 7}]}, tabs]}
    found = start_types({"components": components, "layout": layout})
    assert found == ["column", "html", "tabs", "tabitem", "image"]


def test_a_page_that_is_built_in_another_way_comes_without_hints(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<html><head></head></html>")
    assert (Start(tmp_path, ["html"]).tags, Start(tmp_path, ["html"]).styles) == ("", "")


@MARKS[0]
@MARKS[1]
def test_a_first_visit_loads_little_and_nothing_in_vain(server: Server, browser: Any) -> None:
    """With an empty cache, until the page is quiet; each file that was named ahead is one that the page asks for."""
    context = browser.new_context()
    page = context.new_page()
    session, sizes = context.new_cdp_session(page), []
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    warnings: list[str] = []
    page.on("console", lambda line: warnings.append(line.text) if line.type in ("warning", "error") else None)
    page.goto(server.url)
    page.wait_for_selector("#ask-examples button")
    page.wait_for_timeout(4_000)  # after three seconds the browser complains of what was loaded in vain
    loaded = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    context.close()
    assert sum(sizes) < MAX_BYTES and warnings == []
    scripts = [name for name in loaded if "/assets/" in name and name.endswith(".js")]
    named = re.findall(r'modulepreload" href="\./(assets/[^"]+)"', asked(server, "/")[1].decode())
    assert len(named) > 0.8 * len(scripts), "most are named ahead"
    assert len([name for name in loaded if name.endswith(".css")]) < 10, "styles come together"
