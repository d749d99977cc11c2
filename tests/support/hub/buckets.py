"""The test Hub's routes for Storage Buckets: make one, and look at it. What is in them is mounted, not asked for."""

from __future__ import annotations

import json

from tests.support.hub.http import Answer, Refused, Request, as_json, routes
from tests.support.hub.repos import Hub

BUCKET = r"/api/buckets/(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)"


def create(hub: Hub, request: Request) -> Answer:
    """A new bucket; 409 where it exists."""
    owner = request.user if request.parts["owner"] == "me" else request.parts["owner"]
    id = f"{owner}/{request.parts['name']}"
    if not hub.may_write(request.user, id):
        raise Refused(403 if request.user else 401, "", f"You have no right to create a bucket under {owner}")
    with hub.lock:
        buckets = hub.more.setdefault("buckets", {})
        if id in buckets:
            raise Refused(409, "", "You already created this bucket")
        buckets[id] = {"private": json.loads(request.body or b"{}").get("visibility") == "private"}
    return as_json({"url": f"{request.host}/buckets/{id}", "name": id})


def info(hub: Hub, request: Request) -> Answer:
    """What is known of a bucket, by those who may see it."""
    id = f"{request.parts['owner']}/{request.parts['name']}"
    bucket = hub.more.get("buckets", {}).get(id)
    if bucket is None or (bucket["private"] and not hub.may_write(request.user, id)):
        raise Refused(404 if request.user else 401, "RepoNotFound", "Bucket not found")
    about = {"id": id, "createdAt": "2025-01-01T00:00:00.000Z", "size": 0, "totalFiles": 0}
    return as_json(about | bucket)


ROUTES = routes(("POST", BUCKET, create), ("GET", BUCKET, info))
