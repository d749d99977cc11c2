"""Environments of child processes, without the secrets that they do not need."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

MARK = "LOOKTHINK_LAUNCH"
"""Environment variable that every process of one start of a run inherits; its value is the record's `launch`."""
_SECRET = re.compile(
    r"(?:^|_)(?:TOKEN|TOKENS|SECRET|SECRETS|PASS|PASSPHRASE|CREDENTIAL|CREDENTIALS|KEY|APIKEY|AUTH|PAT|COOKIE|DSN)(?:_|$)"
    r"|PASSWORD|PASSWD|_PWD$",
    re.IGNORECASE,
)
"""Names of environment variables that hold secrets."""
_LOGIN_IN_URL = re.compile(r"\w://[^/\s@]*:[^/\s@]+@")
"""As in `postgres://user:password@host`."""
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def is_secret(name: str, value: str) -> bool:
    """True for a secret by its name or for a login in it; a proxy's login is needed to reach the Hub."""
    if name.lower().endswith("_proxy"):
        return False
    return bool(_SECRET.search(name) or _LOGIN_IN_URL.search(value))


def publisher_environment(env: Mapping[str, str]) -> dict[str, str]:
    """`env` for a process that publishes adapters: the Hub's token is the only secret in it.

    It is not marked as part of the run's start, so that the launcher lets it finish an upload.
    """
    allowed = {name: value for name, value in env.items() if name in HUB_TOKENS or not is_secret(name, value)}
    allowed.pop(MARK, None)
    return allowed | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONUNBUFFERED": "1"}


def plain_environment(env: Mapping[str, str]) -> dict[str, str]:
    """`env` for a helper process, without secrets and without git's own variables."""
    return {name: value for name, value in env.items() if not is_secret(name, value) and not name.startswith("GIT_")}


def hide_secrets(text: str) -> str:
    """`text` with the values of this process's secrets replaced."""
    values = (value for name, value in os.environ.items() if is_secret(name, value) and len(value) >= 8)
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "[secret]")
    return text
