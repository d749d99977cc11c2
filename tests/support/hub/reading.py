"""The test Hub's routes to look at repositories and read their files."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

from tests.support.hub.http import API, ID, REVISION, Answer, Refused, Request, as_json, routes
from tests.support.hub.repos import Files, Hub, Repo, blob_id, is_large, sha256


def find(hub: Hub, request: Request, *, files: bool) -> tuple[Repo, str]:
    """The repository and commit of a request, if its user may see it; `files`: and read its files."""
    kind = (request.parts.get("kind") or "models").removesuffix("s")
    repo = hub.repos.get((kind, request.parts["id"]))
    may_read = repo is not None and (request.user in repo.readers or hub.may_write(request.user, repo.id))
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
    wants_sizes = request.query.get("blobs", ["false"])[0].lower() in ("true", "1")
    siblings = [_sibling(path, data, wants_sizes) for path, data in sorted(repo.commits[sha].items())]
    about = {"id": repo.id, "_id": blob_id(repo.id.encode())[:24], "sha": sha, "siblings": siblings, "tags": []}
    about |= {"private": repo.private, "gated": "auto" if repo.gated else False, "disabled": False}
    about |= {"downloads": 0, "likes": 0, "lastModified": "2025-01-01T00:00:00.000Z"}
    about |= repo.about
    return as_json(about | {"createdAt": "2025-01-01T00:00:00.000Z"})


def _sibling(path: str, data: bytes, wants_sizes: bool) -> dict[str, Any]:
    """A file as a repository's description lists it."""
    if not wants_sizes:
        return {"rfilename": path}
    about: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": blob_id(data)}
    if is_large(path, data):
        about["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
    return about


def refs(hub: Hub, request: Request) -> Answer:
    """The branches and the tags."""
    repo, _ = find(hub, request, files=False)
    branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": sha} for n, sha in repo.refs.items()]
    tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": sha} for n, sha in repo.tags.items()]
    return as_json({"branches": branches, "converts": [], "tags": tags})


def history(hub: Hub, request: Request) -> Answer:
    """The commits of a branch, newest first."""
    repo, sha = find(hub, request, files=False)
    about = {"date": "2025-01-01T00:00:00.000Z", "authors": []}
    return as_json([{"id": s, "title": repo.messages.get(s, ""), "message": "", **about} for s in repo.line(sha)])


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
            if is_large(path, data):
                found[path]["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
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
    if is_large(request.parts["path"], data):
        headers |= {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
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
    about = {"type": "user", "name": request.user, "fullname": request.user, "orgs": orgs}
    role = hub.more.get("token_roles", {}).get(request.user, "write")
    return as_json(about | {"auth": {"type": "access_token", "accessToken": {"displayName": "a", "role": role}}})


ROUTES = routes(
    ("GET", r"/api/whoami-v2", whoami),
    ("GET", rf"{API}/refs", refs),
    ("GET", rf"{API}/commits/{REVISION}", history),
    ("GET", rf"{API}/auth-check", auth_check),
    ("GET", rf"{API}/tree/{REVISION}(?P<path>/.*)?", tree),
    ("POST", rf"{API}/paths-info/{REVISION}", paths_info),
    ("GET", rf"{API}/revision/{REVISION}", info),
    ("GET", API, info),
    ("GET HEAD", rf"/(?P<kind>datasets|spaces)/{ID}/resolve/{REVISION}/(?P<path>.+)", resolve),
    ("GET HEAD", rf"/{ID}/resolve/{REVISION}/(?P<path>.+)", resolve),
)
