"""The real Hub clients of this process, pointed at a server of `tests.support.hub.server`: fixtures."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.hub.repos import Hub
from tests.support.hub.server import serve

__all__ = ["Client", "client_env", "hub", "hub_client", "hub_url", "impatient", "point"]


@pytest.fixture
def hub() -> Hub:
    """An empty Hub."""
    return Hub()


@pytest.fixture
def hub_url(hub: Hub) -> Iterator[str]:
    """The address of `hub` while it is served."""
    with serve(hub) as url:
        yield url


@dataclass(frozen=True)
class Client:
    """The Hub's clients of this process, as they stand in one test."""

    url: str
    cache: Path
    _patch: pytest.MonkeyPatch

    def go_offline(self) -> None:
        """As with HF_HUB_OFFLINE=1."""
        import datasets
        import huggingface_hub

        self._patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        self._patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def log_in(self, token: str) -> None:
        """As with HF_TOKEN."""
        self._patch.setenv("HF_TOKEN", token)


def client_env(url: str, cache: Path, token: str | None = None) -> dict[str, str]:
    """What a process of its own needs in its environment to talk to `url`, with a cache of its own."""
    env = {"HF_ENDPOINT": url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    env |= {"HF_DATASETS_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
    return env | ({"HF_TOKEN": token} if token else {})


def point(patch: pytest.MonkeyPatch, url: str, cache: Path) -> Client:
    """Point `huggingface_hub` and `datasets` at `url`, online, with an empty cache.

    Both read HF_ENDPOINT and the cache's place once, on import; these are all the names that they keep them under.
    """
    import datasets
    import huggingface_hub
    from huggingface_hub import hf_api
    from huggingface_hub.hf_file_system import HfFileSystem

    hub_names = {
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_URL_HOSTS": huggingface_hub.constants.HF_URL_HOSTS | {"127.0.0.1"},
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(cache / "hub"),
        "HF_TOKEN_PATH": str(cache / "token"),
        "HF_HUB_ETAG_TIMEOUT": 60,
        "HF_HUB_DOWNLOAD_TIMEOUT": 60,
    }
    datasets_names = {
        "HF_ENDPOINT": url,
        "HUB_DATASETS_URL": url + "/datasets/{repo_id}/resolve/{revision}/{path}",
        "HF_HUB_OFFLINE": False,
        "HF_UPDATE_DOWNLOAD_COUNTS": False,
        "HF_CACHE_HOME": str(cache),
        "HF_DATASETS_CACHE": cache / "datasets",
        "DOWNLOADED_DATASETS_PATH": cache / "datasets" / "downloads",
        "EXTRACTED_DATASETS_PATH": cache / "datasets" / "downloads" / "extracted",
    }
    for name, value in hub_names.items():
        patch.setattr(huggingface_hub.constants, name, value)
    for name, value in datasets_names.items():
        patch.setattr(datasets.config, name, value)
    patch.setattr(hf_api.api, "endpoint", url)
    if transformers_hub := sys.modules.get("transformers.utils.hub"):
        patch.setattr(transformers_hub, "_hf_api", None)  # made once, with the address of that moment
    patch.delenv("HF_TOKEN", raising=False)
    HfFileSystem.clear_instance_cache()  # it remembers what it listed at another address
    return Client(url, cache, patch)


@pytest.fixture
def hub_client(hub_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """`huggingface_hub` and `datasets` of this process, talking to `hub`."""
    from huggingface_hub.hf_file_system import HfFileSystem

    yield point(monkeypatch, hub_url, tmp_path / "huggingface")
    HfFileSystem.clear_instance_cache()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client tries again at once."""
    clock = SimpleNamespace(**{name: getattr(time, name) for name in dir(time)})
    clock.sleep = lambda seconds: None
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
