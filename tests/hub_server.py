"""A Hub on loopback: the routes that the real clients need to load a dataset or a model, behind `HF_ENDPOINT`.

    hub = Hub()
    hub.repo("dataset", "owner/name").commit({"train.jsonl": b"..."})
    with serve(hub) as url: ...

Its repositories are in memory (`tests.hub_repos`). Errors have the statuses and headers of the Hub, for the clients
decide by them. `tests.hub_client` points the clients of this process here.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_repos import Files, Hub, Repo, blob_id


@dataclass(frozen=True)
class Request:
    """What a client asks."""

    method: str
    parts: Mapping[str, str]
    """What the route's pattern caught, unquoted."""
    query: Mapping[str, list[str]]
    body: bytes
    user: str | None
    range: str | None


@dataclass(frozen=True)
class Answer:
    """What it gets."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An error in the Hub's form: its status and its code in `X-Error-Code`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        headers = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
        self.answer = Answer(status, json.dumps({"error": message}).encode(), headers)


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


def find(hub: Hub, request: Request, *, files: bool) -> tuple[Repo, str]:
    """The repository and commit of a request, if its user may see it; `files`: and read its files."""
    kind = {"dataset": "dataset", "datasets": "dataset"}.get(request.parts.get("kind") or "", "model")
    repo = hub.repos.get((kind, request.parts["id"]))
    may_read = repo is not None and request.user in repo.readers
    if repo is None or (repo.private and not may_read):
        raise Refused(404 if request.user else 401, "RepoNotFound", "Repository not found")
    if repo.gated and files and not may_read:
        raise Refused(403 if request.user else 401, "GatedRepo", f"Access to {kind} {repo.id} is restricted.")
    revision = request.parts.get("revision") or "main"
    sha = repo.resolve(revision)
    if sha is None:
        raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return repo, sha


def info(hub: Hub, request: Request) -> Answer:
    """What is known of a repository at a revision."""
    repo, sha = find(hub, request, files=False)
    siblings = [{"rfilename": path} for path in sorted(repo.commits[sha])]
    about = {"id": repo.id, "_id": blob_id(repo.id.encode())[:24], "sha": sha, "siblings": siblings, "tags": []}
    about |= {"private": repo.private, "gated": "auto" if repo.gated else False, "disabled": False}
    about |= {"downloads": 0, "likes": 0, "lastModified": "2025-01-01T00:00:00.000Z"}
    return as_json(about | {"createdAt": "2025-01-01T00:00:00.000Z"})


def refs(hub: Hub, request: Request) -> Answer:
    """The branches; all names but those of tags, which nobody asks for here."""
    repo, _ = find(hub, request, files=False)
    branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": sha} for n, sha in repo.refs.items()]
    return as_json({"branches": branches, "converts": [], "tags": []})


def auth_check(hub: Hub, request: Request) -> Answer:
    """Whether the user may read the files."""
    find(hub, request, files=True)
    return as_json({})


def entries(files: Files, folder: str, recursive: bool) -> list[dict[str, Any]]:
    """The files under a folder, and the folders among them, as the Hub lists them."""
    prefix = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for path, data in sorted(files.items()):
        if not path.startswith(prefix):
            continue
        above = path[len(prefix) :].split("/")[:-1]
        for depth in range(1, len(above) + 1 if recursive else min(len(above), 1) + 1):
            name = prefix + "/".join(above[:depth])
            found[name] = {"type": "directory", "path": name, "oid": blob_id(name.encode()), "size": 0}
        if recursive or not above:
            found[path] = {"type": "file", "path": path, "oid": blob_id(data), "size": len(data)}
    return list(found.values())


def tree(hub: Hub, request: Request) -> Answer:
    """The files of a folder."""
    repo, sha = find(hub, request, files=True)
    folder = (request.parts.get("path") or "").strip("/")
    recursive = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    found = entries(repo.commits[sha], folder, recursive)
    if folder and not found:
        raise Refused(404, "EntryNotFound", f"{folder} does not exist")
    return as_json(found)


def paths_info(hub: Hub, request: Request) -> Answer:
    """What is known of certain paths; of those that are not there, nothing."""
    repo, sha = find(hub, request, files=True)
    wanted = {path.strip("/") for path in parse_qs(request.body.decode()).get("paths", [])}
    return as_json([entry for entry in entries(repo.commits[sha], "", True) if entry["path"] in wanted])


def resolve(hub: Hub, request: Request) -> Answer:
    """A file, or the part of it that a `Range` asks for."""
    repo, sha = find(hub, request, files=True)
    data = repo.commits[sha].get(request.parts["path"])
    if data is None:
        refused = Refused(404, "EntryNotFound", "Entry not found").answer
        return Answer(404, refused.body, {**refused.headers, "X-Repo-Commit": sha})
    headers = {"ETag": f'"{blob_id(data)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
    headers["Content-Type"] = "application/octet-stream"
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.range or "")
    if asked is None:
        return Answer(200, data, headers)
    first = int(asked[1])
    last = min(int(asked[2] or len(data)), len(data) - 1)
    if first > last:
        return Answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
    return Answer(206, data[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"})


def whoami(hub: Hub, request: Request) -> Answer:
    """The user of a token, with the organisations that the token lets one see."""
    if request.user is None:
        raise Refused(401, "", "Invalid credentials in Authorization header")
    orgs = [{"type": "org", "name": org, "roleInOrg": role} for org, role in hub.roles.get(request.user, {}).items()]
    return as_json({"type": "user", "name": request.user, "fullname": request.user, "orgs": orgs})


_ID = r"(?P<id>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>datasets|models)/{_ID}"
_REVISION = r"(?P<revision>[^/]+)"
ROUTES: tuple[tuple[str, re.Pattern[str], Callable[[Hub, Request], Answer]], ...] = tuple(
    (methods, re.compile(pattern), handler)
    for methods, pattern, handler in (
        ("GET", r"/api/whoami-v2", whoami),
        ("GET", rf"{_API}/refs", refs),
        ("GET", rf"{_API}/auth-check", auth_check),
        ("GET", rf"{_API}/tree/{_REVISION}(?P<path>/.*)?", tree),
        ("POST", rf"{_API}/paths-info/{_REVISION}", paths_info),
        ("GET", rf"{_API}/revision/{_REVISION}", info),
        ("GET", _API, info),
        ("GET HEAD", rf"/(?P<kind>datasets)/{_ID}/resolve/{_REVISION}/(?P<path>.+)", resolve),
        ("GET HEAD", rf"/{_ID}/resolve/{_REVISION}/(?P<path>.+)", resolve),
    )
)
"""Methods, the path's pattern (of the path as it is quoted), and what answers. All else is answered with 404."""


def answer(hub: Hub, method: str, target: str, body: bytes, user: str | None, range: str | None) -> Answer:
    """What the Hub says to one request."""
    address = urlsplit(target)
    if hub.failure is not None:
        return Answer(hub.failure, b"the Hub is out of order")
    for methods, pattern, handler in ROUTES:
        match = pattern.fullmatch(address.path)
        if match and method in methods.split():
            parts = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
            try:
                return handler(hub, Request(method, parts, parse_qs(address.query), body, user, range))
            except Refused as refused:
                return refused.answer
    return Answer(404, b"no such route")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        hub = self.hub
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()
        hub.requests.append((self.command, self.path))
        if token and token not in hub.tokens:
            found = Refused(401, "", "Invalid credentials in Authorization header").answer
        else:
            found = answer(hub, self.command, self.path, body, hub.tokens.get(token), self.headers.get("Range"))
        self.send_response(found.status)
        for name, value in found.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.body)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: `hub.requests` keeps them."""


@contextlib.contextmanager
def serve(hub: Hub) -> Iterator[str]:
    """Serve on a free port of the loopback interface; gives the address for `HF_ENDPOINT`."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
