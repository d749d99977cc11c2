"""The test Hub's routes for what a Space is besides its files: secrets, variables, hardware, sleep time, volumes.

`hub.more["spaces"][id]` is its `Space`. A change of secrets, variables, hardware or volumes restarts it, as on the Hub:
`restarts` counts them. Prices of hardware are here too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.hub.commits import writable
from tests.support.hub.http import ID, Answer, Refused, Request, as_json, routes
from tests.support.hub.reading import find
from tests.support.hub.repos import Hub, Repo

FREE = "cpu-basic"
PRICES: dict[str, tuple[str, str, str | None, int, str | None, float]] = {
    FREE: ("2 vCPU", "16 GB", None, 0, None, 0.0),
    "cpu-upgrade": ("8 vCPU", "32 GB", None, 0, None, 0.03),
    "t4-small": ("4 vCPU", "15 GB", "T4", 1, "16 GB", 0.40),
    "l4x1": ("8 vCPU", "30 GB", "L4", 1, "24 GB", 0.80),
    "l40sx1": ("8 vCPU", "62 GB", "L40S", 1, "48 GB", 1.80),
    "a100-large": ("12 vCPU", "142 GB", "A100", 1, "80 GB", 2.50),
    "l4x4": ("48 vCPU", "186 GB", "L4", 4, "96 GB", 3.80),
}
"""Processor, memory, card, cards, memory of all cards, dollars an hour."""


@dataclass
class Space:
    """How one Space stands."""

    hardware: str = FREE
    sleep_seconds: int | None = None
    """`None` and -1: never."""
    secrets: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    stage: str = "RUNNING"
    restarts: int = 0


def space_of(hub: Hub, id: str) -> Space:
    """The state of a Space, kept from its first use."""
    return hub.more.setdefault("spaces", {}).setdefault(id, Space())


def created(hub: Hub, repo: Repo, asked: dict[str, Any]) -> None:
    """What was asked for with a new repository; 402 where its owner cannot pay."""
    if repo.kind != "space":
        return
    space = space_of(hub, repo.id)
    hardware = asked.get("hardware", FREE)
    _check_hardware(hub, repo.id, hardware, "create")
    space.hardware = hardware
    space.sleep_seconds = asked.get("sleepTimeSeconds")
    space.secrets |= {one["key"]: one["value"] for one in asked.get("secrets", ())}
    space.variables |= {one["key"]: one["value"] for one in asked.get("variables", ())}
    space.volumes = list(asked.get("volumes", ()))
    _check_volumes(hub, space.volumes)
    card = f"---\ntitle: {repo.id.split('/')[1]}\nsdk: {asked['sdk']}\n---\n"
    repo.commit({"README.md": card.encode()}, message="initial commit")


def hardware_list(hub: Hub, request: Request) -> Answer:
    """What is on offer, with live prices by the minute."""
    return as_json([_priced(name) for name in hub.more.get("hardware", PRICES)])


def _priced(name: str) -> dict[str, Any]:
    cpu, ram, model, count, vram, cost = PRICES[name]
    card = {"type": "gpu", "model": model, "quantity": str(count), "vram": vram, "manufacturer": "Nvidia"}
    price = {"unitCostMicroUSD": round(cost / 60 * 1e6), "unitCostUSD": cost / 60, "unitLabel": "minute"}
    about = {"name": name, "prettyName": name.title(), "cpu": cpu, "ram": ram, "ephemeralStorage": "50 GB"}
    return about | {"accelerator": card if count else None} | price


def runtime(hub: Hub, request: Request) -> Answer:
    """How it stands."""
    repo, _ = find(hub, request, files=False)
    return as_json(_runtime(space_of(hub, repo.id)))


def _runtime(space: Space) -> dict[str, Any]:
    sleep = 172_800 if space.hardware == FREE else space.sleep_seconds
    hardware = {"current": space.hardware, "requested": space.hardware}
    return {"stage": space.stage, "hardware": hardware, "gcTimeout": sleep, "volumes": space.volumes, "storage": None}


def secrets(hub: Hub, request: Request) -> Answer:
    """Their names, never their values; set one; take one away."""
    space = _own(hub, request)
    if request.method != "GET":
        _change(space, space.secrets, request)
    return as_json({name: {"updatedAt": "2025-01-01T00:00:00.000Z"} for name in space.secrets})


def variables(hub: Hub, request: Request) -> Answer:
    """Names and values; set one; take one away."""
    space = _own(hub, request)
    if request.method != "GET":
        _change(space, space.variables, request)
    return as_json({name: {"value": value} for name, value in space.variables.items()})


def _change(space: Space, kept: dict[str, str], request: Request) -> None:
    asked = json.loads(request.body)
    if request.method == "DELETE":
        kept.pop(asked["key"], None)
    else:
        kept[asked["key"]] = asked["value"]
    space.restarts += 1


def hardware(hub: Hub, request: Request) -> Answer:
    """Other hardware, and a sleep time with it."""
    space, asked = _own(hub, request), json.loads(request.body)
    _check_hardware(hub, request.parts["id"], asked["flavor"], "upgrade")
    space.hardware = asked["flavor"]
    space.sleep_seconds = asked.get("sleepTimeSeconds", space.sleep_seconds)
    space.restarts += 1
    return as_json(_runtime(space))


def sleeptime(hub: Hub, request: Request) -> Answer:
    """Seconds without a visitor after which it sleeps; -1 never. The Space runs on."""
    space = _own(hub, request)
    space.sleep_seconds = json.loads(request.body)["seconds"]
    return as_json(_runtime(space))


def volumes(hub: Hub, request: Request) -> Answer:
    """All that is mounted."""
    space, asked = _own(hub, request), json.loads(request.body)["volumes"]
    _check_volumes(hub, asked)
    space.volumes = asked
    space.restarts += 1
    return Answer(200)


def _own(hub: Hub, request: Request) -> Space:
    repo, _ = writable(hub, request)
    return space_of(hub, repo.id)


def _check_hardware(hub: Hub, id: str, name: str, what: str) -> None:
    """`hub.more["cannot_pay"]` has the owners without a payment method, who may neither have hardware nor a new one."""
    if name not in PRICES:
        raise Refused(400, "", f"Unknown flavor {name}")
    if id.split("/")[0] in hub.more.get("cannot_pay", ()) and (name != FREE or what == "create"):
        hub.repos.pop(("space", id), None) if what == "create" else None
        raise Refused(402, "", "A payment method is required for this hardware")


def _check_volumes(hub: Hub, asked: list[dict[str, Any]]) -> None:
    for volume in asked:
        if volume["type"] == "bucket" and volume["source"] not in hub.more.get("buckets", {}):
            raise Refused(400, "", f"Bucket {volume['source']} not found")


SPACE = rf"/api/(?P<kind>spaces)/{ID}"
ROUTES = routes(
    ("GET", r"/api/spaces/hardware", hardware_list),
    ("GET", rf"{SPACE}/runtime", runtime),
    ("GET POST DELETE", rf"{SPACE}/secrets", secrets),
    ("GET POST DELETE", rf"{SPACE}/variables", variables),
    ("POST", rf"{SPACE}/hardware", hardware),
    ("POST", rf"{SPACE}/sleeptime", sleeptime),
    ("PUT", rf"{SPACE}/volumes", volumes),
)
