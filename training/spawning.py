"""The trainer's process: its command, its own session and log, and an environment without secrets it has no need of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from inference.settings import STARTER_NAME
from training.config import RunConfig
from training.processes import MARK
from training.run_ends import OUTPUT
from training.run_record import RunRecord

_ROOT = Path(__file__).resolve().parents[1]
_SECRET = re.compile(
    r"(?:^|_)(?:TOKEN|TOKENS|SECRET|SECRETS|PASS|PASSPHRASE|CREDENTIAL|CREDENTIALS|KEY|APIKEY|AUTH|PAT|COOKIE|DSN)(?:_|$)"
    r"|PASSWORD|PASSWD|_PWD$",
    re.IGNORECASE,
)
"""Names of environment variables, by their words, that hold secrets."""
_LOGIN_IN_URL = re.compile(r"\w://[^/\s@]*:[^/\s@]+@")
"""As in `postgres://user:password@host`."""
_HUB = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_BAR_SECONDS = "2"
"""How often the progress bar is drawn into the log."""


def spawn(record: RunRecord) -> subprocess.Popen[bytes]:
    """Start the trainer for a record that is `starting`; it outlives this process. Raises `OSError`."""
    command = [sys.executable, "-m", "training.attempt", str(record.folder.parents[1]), record.id, record.launch]
    with (record.folder / OUTPUT).open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=_ROOT,
            env=environment(record, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def environment(record: RunRecord, given: Mapping[str, str]) -> dict[str, str]:
    """This process's environment for the trainer of a run.

    Of secrets only those it needs: the Hub's token where base or dataset come from the Hub, or adapters or figures
    go to it, a tracker's key where the run reports to it.
    """
    needed = _needed(record)
    kept = {name: value for name, value in given.items() if name in needed or not _is_secret(name, value)}
    home = str(record.folder.parents[1])
    return kept | {
        MARK: record.launch,
        "LOOKTHINK_HOME": home,
        "PYTHONUNBUFFERED": "1",
        "TQDM_MININTERVAL": _BAR_SECONDS,
    }


def secrets_for(record: RunRecord, given: Mapping[str, str]) -> dict[str, str]:
    """Those secrets of an environment that the trainer of a run needs, for one on another machine."""
    return {name: given[name] for name in sorted(_needed(record)) if given.get(name)}


def publisher_environment(given: Mapping[str, str]) -> dict[str, str]:
    """This process's environment for one that sends adapters to the Hub: no secret but the Hub's token.

    It is no part of a start of the trainer, so that the launcher lets it end what it is sending.
    """
    kept = {name: value for name, value in given.items() if name in _HUB or not _is_secret(name, value)}
    kept.pop(MARK, None)
    return kept | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONUNBUFFERED": "1"}


def plain_environment(given: Mapping[str, str]) -> dict[str, str]:
    """This process's environment for a helper that needs no secret, and no git repository but the one it is told."""
    return {name: value for name, value in given.items() if not _is_secret(name, value) and not name.startswith("GIT_")}


def hide_secrets(text: str) -> str:
    """A text without the values of this process's secrets, should something have printed one."""
    values = (value for name, value in os.environ.items() if _is_secret(name, value) and len(value) >= 8)
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "[secret]")
    return text


def _is_secret(name: str, value: str) -> bool:
    """By its name, or for the login in it; that of a proxy is needed to reach the Hub."""
    if name.lower().endswith("_proxy"):
        return False
    return bool(_SECRET.search(name) or _LOGIN_IN_URL.search(value))


def _needed(record: RunRecord) -> set[str]:
    try:
        config = record.run_config
    except ValueError:
        return set()  # the trainer refuses it with the reason
    needed = set(_HUB) if _uses_hub(config) else set()
    return needed | ({"WANDB_API_KEY"} if "wandb" in config.report_to else set())


def _uses_hub(config: RunConfig) -> bool:
    is_hub_base = config.base != STARTER_NAME and not Path(config.base).expanduser().exists()
    return is_hub_base or config.data.is_hub or config.publish_to is not None or "trackio" in config.report_to
