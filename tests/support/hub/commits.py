"""The test Hub's routes to make repositories and write to them: create, preupload, LFS, commit, tag, settings."""

from __future__ import annotations

import base64
import json
from typing import Any

import yaml

from tests.support.hub.http import API, ID, REVISION, Answer, Refused, Request, as_json, routes
from tests.support.hub.reading import find
from tests.support.hub.repos import Hub, Repo, blob_id, is_large, sha256

_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


def writable(hub: Hub, request: Request) -> tuple[Repo, str]:
    """The repository and commit of a request, if its user may write there."""
    repo, sha = find(hub, request, files=True)
    if not hub.may_write(request.user, repo.id):
        raise Refused(403 if request.user else 401, "", f"You have no write access to {repo.id}")
    return repo, sha


def create(hub: Hub, request: Request) -> Answer:
    """A new repository with one commit; 409 where it exists."""
    asked = json.loads(request.body)
    kind, owner = asked.get("type") or "model", asked.get("organization") or request.user
    id = f"{owner}/{asked['name']}"
    if not hub.may_write(request.user, id):
        raise Refused(403 if request.user else 401, "", f"You have no right to create a repository under {owner}")
    address = f"{request.host}/{'' if kind == 'model' else kind + 's/'}{id}"
    with hub.lock:
        if (kind, id) in hub.repos:
            conflict = Refused(409, "", f"You already created this {kind} repo").answer
            return Answer(409, json.dumps({"error": "exists", "url": address}).encode(), conflict.headers)
        repo = hub.repo(kind, id, private=asked.get("visibility") == "private")
        repo.commit({".gitattributes": _ATTRIBUTES}, message="initial commit")
        for listener in hub.more.get("on_create", ()):
            listener(hub, repo, asked)
    return as_json({"url": address, "name": id})


def delete(hub: Hub, request: Request) -> Answer:
    """Take a repository away."""
    asked = json.loads(request.body)
    id = f"{asked.get('organization') or request.user}/{asked['name']}"
    if not hub.may_write(request.user, id) or hub.repos.pop((asked.get("type") or "model", id), None) is None:
        raise Refused(404, "RepoNotFound", "Repository not found")
    return as_json({})


def settings(hub: Hub, request: Request) -> Answer:
    """Private or public, gated or not."""
    repo, _ = writable(hub, request)
    asked = json.loads(request.body)
    visibility = asked.get("visibility") or ("private" if asked.get("private") else "public")
    repo.private = visibility == "private"
    return as_json({"private": repo.private})


def preupload(hub: Hub, request: Request) -> Answer:
    """Which files go up apart, and what is there already."""
    repo, sha = writable(hub, request)
    tree, answer = repo.commits[sha], []
    for file in json.loads(request.body)["files"]:
        path = file["path"]
        large = is_large(path, b"") or file["size"] > 10_000_000
        there = tree.get(path)
        oid = None if there is None else sha256(there) if large else blob_id(there)
        answer.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid})
    return as_json({"files": answer})


def lfs_batch(hub: Hub, request: Request) -> Answer:
    """Where to send each large file; nothing for those that were uploaded before."""
    writable(hub, request)
    objects: list[dict[str, Any]] = []
    for wanted in json.loads(request.body)["objects"]:
        there = wanted["oid"] in hub.uploads
        href = f"{request.host}/lfs/{wanted['oid']}"
        verify = f"{request.host}/lfs-verify/{request.parts['id']}"
        actions = {"upload": {"href": href}, "verify": {"href": verify}}
        objects.append({**wanted} if there else {**wanted, "actions": actions})
    return as_json({"transfer": "basic", "objects": objects})


def lfs_put(hub: Hub, request: Request) -> Answer:
    """One large file; its name must be its digest."""
    if sha256(request.body) != request.parts["oid"]:
        raise Refused(400, "", "the content does not have this digest")
    hub.uploads[request.parts["oid"]] = request.body
    return Answer(200)


def lfs_verify(hub: Hub, request: Request) -> Answer:
    """Whether it came whole."""
    asked = json.loads(request.body)
    data = hub.uploads.get(asked["oid"])
    if data is None or len(data) != asked["size"]:
        raise Refused(404, "", "not uploaded")
    return as_json({})


def commit(hub: Hub, request: Request) -> Answer:
    """One atomic commit; 412 where its parent is no longer the newest."""
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    with hub.lock:
        repo, head = writable(hub, request)
        parent = header.get("parentCommit")
        if parent is not None and parent != head:
            raise Refused(412, "", f"A commit has happened since. Please refresh and try again. Head is {head}")
        changes: dict[str, bytes | None] = {}
        for line in lines:
            changes |= _change(hub, repo.commits[head], line["key"], line["value"])
        branch = request.parts["revision"]
        sha = repo.commit(changes, branch, message=header["summary"])
    prefix = "" if repo.kind == "model" else f"{repo.kind}s/"
    address = f"{request.host}/{prefix}{repo.id}/commit/{sha}"
    return as_json({"success": True, "commitOid": sha, "commitUrl": address, "hookOutput": ""})


def _change(hub: Hub, tree: dict[str, bytes], key: str, value: dict[str, Any]) -> dict[str, bytes | None]:
    """What one line of a commit's body does to the files."""
    path = value.get("path", "")
    if key == "file":
        return {path: base64.b64decode(value["content"])}
    if key == "lfsFile":
        if value["oid"] not in hub.uploads:
            raise Refused(400, "", f"{path}: a large file that was not uploaded")
        return {path: hub.uploads[value["oid"]]}
    if key == "deletedFile":
        if path not in tree:
            raise Refused(404, "EntryNotFound", f"A file with this name doesn't exist: {path}")
        return {path: None}
    if key == "deletedFolder":
        return {name: None for name in tree if name.startswith(path.rstrip("/") + "/")}
    return {}


def branch(hub: Hub, request: Request) -> Answer:
    """A new branch that begins at a commit; 409 where it exists."""
    name = request.parts["revision"]
    repo, head = writable(hub, Request(**{**vars(request), "parts": {**request.parts, "revision": ""}}))
    start = json.loads(request.body).get("startingPoint")
    sha = repo.resolve(start) if start else head
    if sha is None:
        raise Refused(404, "RevisionNotFound", f"Invalid rev id: {start}")
    with hub.lock:
        if name in repo.refs:
            raise Refused(409, "", f"Branch {name} already exists")
        repo.refs[name] = sha
    return as_json({})


def tag(hub: Hub, request: Request) -> Answer:
    """A name for a commit, that never moves; 409 where it exists."""
    repo, sha = writable(hub, request)
    name = json.loads(request.body)["tag"]
    with hub.lock:
        if name in repo.tags:
            raise Refused(409, "", f"Tag {name} already exists")
        repo.tags[name] = sha
    return as_json({})


def delete_tag(hub: Hub, request: Request) -> Answer:
    """Take a tag away."""
    repo, _ = find(hub, Request(**{**vars(request), "parts": {**request.parts, "revision": ""}}), files=False)
    if repo.tags.pop(request.parts["revision"], None) is None:
        raise Refused(404, "RevisionNotFound", "no such tag")
    return as_json({})


def validate_yaml(hub: Hub, request: Request) -> Answer:
    """The block on top of a README: a mapping in YAML, and what a Space must have in it."""
    asked = json.loads(request.body)
    parts = asked["content"].split("---\n", 2)
    errors = []
    if not asked["content"].startswith("---\n") or len(parts) < 3:
        return as_json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    try:
        block = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        block, errors = {}, [{"message": str(error)}]
    if not errors and not isinstance(block, dict):
        errors = [{"message": "metadata is not a mapping"}]
    if not errors and asked["repoType"] == "space":
        errors = [{"message": f'"{key}" is required'} for key in ("sdk", "title") if key not in block]
        short = block.get("short_description", "")
        if len(short) > 60:
            errors.append({"message": '"short_description" length must be less than or equal to 60 characters long'})
    return as_json({"errors": errors, "warnings": []}, status=400 if errors else 200)


ROUTES = routes(
    ("POST", r"/api/repos/create", create),
    ("DELETE", r"/api/repos/delete", delete),
    ("PUT", rf"{API}/settings", settings),
    ("POST", rf"{API}/preupload/{REVISION}", preupload),
    ("POST", rf"{API}/commit/{REVISION}", commit),
    ("POST", rf"{API}/branch/{REVISION}", branch),
    ("POST", rf"{API}/tag/{REVISION}", tag),
    ("DELETE", rf"{API}/tag/{REVISION}", delete_tag),
    ("POST", rf"/(?P<kind>datasets|spaces)/{ID}\.git/info/lfs/objects/batch", lfs_batch),
    ("POST", rf"/{ID}\.git/info/lfs/objects/batch", lfs_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", lfs_put),
    ("POST", rf"/lfs-verify/{ID}", lfs_verify),
    ("POST", r"/api/validate-yaml", validate_yaml),
)
