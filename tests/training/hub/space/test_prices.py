"""Prices are the Hub's, by the hour; where there are none, that is said, and nothing hangs on it."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.hub.client import Client
from tests.support.hub.faults import KINDS, Fault
from tests.support.hub.repos import Hub
from training.hub.space.prices import KEPT_SECONDS, RETRY_SECONDS, PriceList, Prices, dollars


def test_live_prices_by_the_hour(hub: Hub, hub_client: Client) -> None:
    now = [0.0]
    prices = Prices(clock=lambda: now[0])
    spaces = prices.of_spaces()
    assert (spaces.problem, spaces.words("a100-large"), spaces.words("cpu-basic")) == ("", "$2.50 an hour", "free")
    a100 = spaces.get("a100-large")
    assert a100 is not None and a100.words == "a100-large: 1 x A100, 80 GB, $2.50 an hour"
    assert (a100.num_gpus, a100.gpu_gb) == (1, 80)
    assert prices.of_jobs().words("a100-large") == "$2.50 an hour"
    assert "does not list it" in spaces.words("a100x8")
    asked = len(hub.requests)
    now[0] = KEPT_SECONDS - 1
    assert prices.of_spaces() == spaces and len(hub.requests) == asked
    now[0] = KEPT_SECONDS + 1
    assert prices.of_spaces() == spaces and len(hub.requests) == asked + 1


def test_other_hardware_that_fits_cheapest_first(hub_client: Client) -> None:
    spaces = Prices().of_spaces()
    assert [h.name for h in spaces.that_fit(40)] == ["l40sx1", "a100-large"]
    assert [h.name for h in spaces.that_fit(20, num_gpus=4)] == ["l4x4"]
    assert spaces.that_fit(81) == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("412", "slow")])
def test_a_hub_that_does_not_say(hub: Hub, hub_client: Client, kind: str) -> None:
    now = [0.0]
    prices = Prices(clock=lambda: now[0])
    hub.faults.append(Fault(kind, "GET /api/spaces/hardware"))
    found = prices.of_spaces()
    assert found.hardware == () and found.problem
    assert found.words("a100-large") == f"price not known, {found.problem}"
    now[0] = RETRY_SECONDS + 1
    assert prices.of_spaces().words("a100-large") == "$2.50 an hour"


def test_a_silent_hub_holds_nobody_up(hub: Hub, hub_client: Client) -> None:
    hub.faults.append(Fault("slow", "GET /api/jobs/hardware", seconds=1.0))
    prices = Prices(wait_seconds=0.05)
    assert "has not answered" in prices.of_jobs().problem
    until = time.monotonic() + 240
    while not prices.of_jobs().hardware:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert len(hub.requests) == 1


def test_offline(hub_client: Client) -> None:
    hub_client.go_offline()
    assert "HF_HUB_OFFLINE" in Prices().of_jobs().problem


CARD = {"type": "gpu", "model": "A100", "quantity": "1", "vram": "80 GB", "manufacturer": "Nvidia"}
GOOD = {"name": "x", "prettyName": "X", "cpu": "2 vCPU", "ram": "16 GB", "accelerator": CARD, "unitLabel": "minute"}
GOOD |= {"unitCostMicroUSD": 1, "unitCostUSD": 0.01}


@pytest.mark.parametrize(
    "told",
    [
        {},
        None,
        [None],
        [{"name": "x"}],
        [GOOD | {"unitLabel": "fortnight"}],
        [GOOD | {"unitCostUSD": "much"}],
        [GOOD | {"accelerator": CARD | {"vram": "<b>16 GB</b>"}}],
        [GOOD | {"name": "x\n<script>"}],
        [GOOD | {"accelerator": CARD | {"quantity": "some"}}],
        [GOOD | {"unitCostUSD": float("nan")}],
        [GOOD | {"unitCostUSD": -1.0}],
        [GOOD | {"accelerator": CARD | {"quantity": "0"}}],
    ],
)
def test_nonsense_is_no_price(hub_client: Client, monkeypatch: pytest.MonkeyPatch, told: object) -> None:
    from tests.support.hub import server as hub_server
    from tests.support.hub import spaces as hub_spaces
    from tests.support.hub.http import Answer, routes

    nonsense = routes(("GET", r"/api/spaces/hardware", lambda hub, request: Answer(200, json.dumps(told).encode())))
    monkeypatch.setattr(hub_server, "ROUTES", (*nonsense, *hub_spaces.ROUTES))
    found = Prices().of_spaces()
    if told != {}:  # an empty mapping is an empty list
        assert found == PriceList(problem=found.problem) and "cannot be read" in found.problem
    assert found.hardware == ()


def test_sums_of_money() -> None:
    assert [dollars(x) for x in (0, 0.0301, 0.4, 2.5, 23.456)] == ["$0.00", "$0.030", "$0.40", "$2.50", "$23.46"]
    assert (dollars(1234.5), dollars(None)) == ("$1,234.50", None)
