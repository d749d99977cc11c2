"""The page on its way to a browser: compressed, its modules named ahead, its files cached.

    start = Start(folder, start_types(config))      # the folder of Gradio's built page, this app's configuration
    Delivery(app, start)                            # start.tags go into the head of the page

Gradio compresses files alone. The page itself holds the whole configuration, five times as much as compressed.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import brotli
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.server.routes import API, route_of

COMPRESSED = ("/", "/config", f"{API}/info")
"""Routes whose answers are compressed here: whole texts, and never a stream of events."""
BROTLI_QUALITY = 9
MAX_KEPT = 8
"""Compressed answers that are kept; each is about 50 kB."""
FOR_EVER = "public, max-age=31536000, immutable"
_HASHED = re.compile(r"/assets/[\w.+-]+-[\w-]{8,10}\.(?:js|css|woff2?|ttf|svg|png|wasm)")
"""A file whose name changes with its content."""
_PLAYER = re.compile(r"/assets/hls-[\w-]{8,10}\.js")
_DEPENDENCIES = re.compile(r"m\.f\|\|\(m\.f=\[([^\]]*)\]")
_COMPONENT = r"[{{,]{}:\{{(?:\w+:\(\)=>[^{{}}]*?,)*?component:\(\)=>\w+\([^{{}}]*?__vite__mapDeps\(\[([\d,]*)\]\)"
"""A type of component with the numbers of the files that it needs, of those that `_DEPENDENCIES` lists."""
_FRAME = re.compile(
    r"import\(`\./((?:Index|core|Blocks)-[\w-]{8,10}\.js)`\)(?:;return\{default:\w+\}\},|,)"
    r"__vite__mapDeps\(\[([\d,]*)\]\)"
)
"""A part of the page itself, loaded by the part before, with the numbers of the files that it needs."""
_EXPORTS = re.compile(r"export\s*\{([^}]*)\}")


class Start:
    """The files that a first visit loads of Gradio's built page."""

    def __init__(self, folder: Path, types: Iterable[str]) -> None:
        """`folder` has its `index.html` and `assets`; `types` are those of the components that are drawn first."""
        self.assets = folder / "assets"
        page = (folder / "index.html").read_text("utf-8")
        files = _start_files(self.assets, page, types)
        self._modules = [name for name in files if name.endswith(".js")]
        self._styles = [name for name in files if name.endswith(".css") and f"/{name}" not in page]
        self.css = b"\n".join((self.assets / name).read_bytes() for name in self._styles)
        """All styles in one: thirty files of a few hundred bytes take longer than what is in them."""
        self.css_route = f"/assets/start-{hashlib.sha256(self.css).hexdigest()[:8]}.css"

    @property
    def tags(self) -> str:
        """For the beginning of the page's head, by which a browser loads all at once."""
        preloads = "".join(f'<link rel="modulepreload" href="./assets/{name}">' for name in self._modules)
        return f'{preloads}<link rel="preload" as="style" href=".{self.css_route}">' if self._styles else preloads

    @property
    def styles(self) -> str:
        """For the end of the page's head, after the styles that the page itself names, which components change.

        Gradio's page does not load a style for which there is a link, disabled or not.
        """
        links = "".join(f'<link rel="stylesheet" href="./assets/{name}" disabled>' for name in self._styles)
        return f'<link rel="stylesheet" href=".{self.css_route}">{links}' if self._styles else ""


class Delivery:
    """Compresses `COMPRESSED`, lets files with hashed names be kept for ever, and leaves out the player of videos.

    Gradio's text field imports that player, a fifth of what a first visit loads, for previews of videos; there are
    none on this page. What stands in its place exports the same names, all undefined.
    """

    def __init__(self, app: ASGIApp, start: Start | None = None) -> None:
        self.app, self._start = app, start
        self._kept: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        route, encoding = route_of(scope), _encoding(Headers(scope=scope).get("accept-encoding", ""))
        if self._start is not None and _PLAYER.fullmatch(route):
            await self._without_player(self._start.assets / Path(route).name, scope, receive, send)
        elif self._start is not None and route == self._start.css_route:
            response = Response(self._start.css, media_type="text/css", headers={"cache-control": FOR_EVER})
            await response(scope, receive, _Compressing(self, encoding, send).send if encoding else send)
        elif route in COMPRESSED and encoding and scope["method"] == "GET":
            await self.app(scope, receive, _Compressing(self, encoding, send).send)
        elif _HASHED.fullmatch(route):
            await self.app(scope, receive, _cached(send))
        else:
            await self.app(scope, receive, send)

    async def compress(self, encoding: str, content: bytes) -> bytes:
        """The content in that encoding; what was asked for lately is kept."""
        key = encoding, hashlib.blake2b(content, digest_size=16).digest()
        if key not in self._kept:
            self._kept[key] = await asyncio.to_thread(_compressed, encoding, content)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    async def _without_player(self, file: Path, scope: Scope, receive: Receive, send: Send) -> None:
        """The names of its exports without what they name; another app at this address may want the file itself."""
        exports = _EXPORTS.findall(file.read_text("utf-8")) if file.is_file() else []
        if not exports:
            await self.app(scope, receive, send)
            return
        names = [one.split(" as ")[-1].strip() for one in exports[-1].split(",")]
        text = f"const none = undefined;\nexport {{ {', '.join(f'none as {name}' for name in names)} }};\n"
        headers = {"cache-control": "no-store"}
        await Response(text, media_type="text/javascript", headers=headers)(scope, receive, send)


class _Compressing:
    """One answer, which is sent once it is whole."""

    def __init__(self, delivery: Delivery, encoding: str, send: Send) -> None:
        self._delivery, self._encoding, self._send = delivery, encoding, send
        self._start: Message = {}
        self._content = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._content += message.get("body", b"")
        if message.get("more_body"):
            return
        headers, content = MutableHeaders(scope=self._start), bytes(self._content)
        headers.add_vary_header("Accept-Encoding")
        if "content-encoding" not in headers:
            content = await self._delivery.compress(self._encoding, content)
            headers["content-encoding"], headers["content-length"] = self._encoding, str(len(content))
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": content})


def start_types(config: Any) -> list[str]:
    """The types of the components that a browser draws first: those that are visible, of tabs the first one's alone.

    `config` is Gradio's configuration of the page.
    """
    by_id = {one["id"]: one for one in config["components"]}

    def walk(node: Any) -> Iterator[str]:
        component = by_id.get(node["id"])
        if component is not None:
            if component["props"].get("visible", True) is not True:
                return
            yield str(component["type"])
        children = node.get("children") or []
        is_tabs = component is not None and component["type"] == "tabs"
        for child in children[:1] if is_tabs else children:
            yield from walk(child)

    return list(dict.fromkeys(walk(config["layout"])))


def _start_files(assets: Path, page: str, types: Iterable[str]) -> list[str]:
    """Names of the files that a first visit loads.

    Empty where the page is built in another way than the one that is read here: they then come as they are asked for.
    """
    entry = re.search(r'src="\./assets/([\w.-]+\.js)"', page)
    names, left = [], [entry[1]] if entry else []
    while left:
        name = left.pop(0)
        text = (assets / name).read_text("utf-8")
        listed = _DEPENDENCIES.search(text)
        files = [one.strip("\"'` ").removeprefix("./") for one in listed[1].split(",")] if listed else []
        lists = [found[1] for kind in types if (found := re.search(_COMPONENT.format(kind), text))]
        frame = [] if lists or name.startswith("Blocks-") else list(_FRAME.finditer(text))
        lists += [found[2] for found in frame]
        names += [name, *(files[int(number)] for one in lists for number in one.split(",") if number)]
        left += [found[1] for found in frame]
    return [name for name in dict.fromkeys(names) if not _PLAYER.fullmatch(f"/assets/{name}")]


def _cached(send: Send) -> Send:
    async def send_cached(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            MutableHeaders(scope=message)["cache-control"] = FOR_EVER
        await send(message)

    return send_cached


def _encoding(accepted: str) -> str:
    """The best encoding that a client accepts; empty for none."""
    offers = (one.replace(" ", "").partition(";") for one in accepted.lower().split(","))
    names = {name for name, _, quality in offers if not re.fullmatch(r"q=0(?:\.0*)?", quality)}
    return next((name for name in ("br", "gzip") if name in names), "")


def _compressed(encoding: str, content: bytes) -> bytes:
    return brotli.compress(content, quality=BROTLI_QUALITY) if encoding == "br" else gzip.compress(content, 6)
