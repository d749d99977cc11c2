"""The repository that the Start form offers to publish to, and the owner's choice, which is kept.

    offer = PublishOffer(settings, setup.publish_owner)
    offer.repository(config)        # 'me/Qwen2.5-VL-3B-Instruct-my-pictures-lookthink', or None
    offer.choose(True)              # for this run and the next ones, after a restart too
    config = offer.applied(config)  # what the page starts

Only the page makes use of it: `publish_to: null` in space.yaml means that nothing leaves by itself, and a tick is a
person's decision. Command line and Jobs publish what their configuration names.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

from inference.common.files import write_whole
from inference.common.hub_names import MAX_CHARS, is_hub_name
from inference.common.settings import Settings
from training.config.run_config import RunConfig, change_config
from training.hub.publish.queue import plain_name

FILE = "publish.json"
SUFFIX = "lookthink"
log = logging.getLogger(__name__)


class PublishOffer:
    """The offer of one app; its file lies in the home and in the bucket."""

    def __init__(self, settings: Settings, owner: Callable[[], str]) -> None:
        """`owner` returns the account that the token may write for; empty where there is none."""
        self._settings, self._owner = settings, owner

    @property
    def owner(self) -> str:
        """The account that the token may write for; empty where there is none."""
        return self._owner()

    @property
    def is_made(self) -> bool:
        """True if a repository is offered: the token may write, and space.yaml names none."""
        return self._settings.training.publish_to is None and bool(self._owner())

    @property
    def problem(self) -> str:
        """A sentence where the owner has chosen to publish and cannot now; empty otherwise."""
        if self.is_made or self._settings.training.publish_to is not None or not self.is_chosen:
            return ""
        return "It is not published, though that was ticked: HF_TOKEN may not write for this Space's owner now."

    @property
    def is_chosen(self) -> bool:
        """True if the owner has ticked it; False until they have."""
        return next((chosen for path in self._files if (chosen := _read(path)) is not None), False)

    def choose(self, is_chosen: bool) -> None:
        """Keeps the choice. A folder that cannot be written is logged."""
        for path in self._files:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, json.dumps({"publish": is_chosen}))
            except OSError as error:
                log.warning("%s cannot be written (%s); the choice to publish may be lost", path, error.strerror)

    def repository(self, config: RunConfig) -> str | None:
        """The repository offered for a run; `None` where there is no offer, or the run names one itself."""
        if not self.is_made or config.publish_to is not None:
            return None
        return offered_name(self._owner(), config.base, config.data.dataset)

    def applied(self, config: RunConfig, is_ticked: bool) -> RunConfig:
        """The configuration that publishes to the offered repository, private, if that is ticked."""
        repo = self.repository(config) if is_ticked else None
        return config if repo is None else change_config(config, {"publish_to": repo, "publish_public": False})

    @property
    def _files(self) -> list[Path]:
        """The bucket's first, since it outlives the other; a mount that is missing must not become a folder here."""
        state = self._settings.state
        return [*([state / FILE] if state is not None and state.is_dir() else []), self._settings.home / FILE]


def offered_name(owner: str, base: str, dataset: str) -> str | None:
    """`OWNER/<base>-<dataset>-lookthink`, shortened to the Hub's limit; `None` if the owner's name leaves no room.

    >>> offered_name("me", "Qwen/Qwen2.5-VL-3B-Instruct", "lmms-lab/multimodal-open-r1-8k-verified")
    'me/Qwen2.5-VL-3B-Instruct-multimodal-open-r1-8k-verified-lookthink'
    """
    parts = [_part(name) for name in (base, dataset)]
    room = MAX_CHARS - len(f"{owner}/--{SUFFIX}")
    longest = max(room // 2, room - min(map(len, parts)))
    cut = [part[:longest].rstrip("-.") for part in parts]
    name = f"{owner}/{'-'.join(filter(None, [*cut, SUFFIX]))}"
    return name if is_hub_name(name) else None


def _part(name: str) -> str:
    """The last part of a name or path, in the characters of a repository's name."""
    last = plain_name(name).rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"-{2,}", "-", re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._-]+", "-", last))).strip("-.")


def _read(path: Path) -> bool | None:
    """`None` for a file that is missing or damaged."""
    try:
        chosen = json.loads(path.read_text(encoding="utf-8"))["publish"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return chosen if isinstance(chosen, bool) else None
