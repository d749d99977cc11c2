"""Environments of child processes: which variables are secrets, and who may see them."""

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
"""Names of environment variables, by their words, that hold secrets."""


_LOGIN_IN_URL = re.compile(r"\w://[^/\s@]*:[^/\s@]+@")
"""As in `postgres://user:password@host`."""


_HUB = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def _is_secret(name: str, value: str) -> bool:
    """By its name, or for the login in it; that of a proxy is needed to reach the Hub."""
    if name.lower().endswith("_proxy"):
        return False
    return bool(_SECRET.search(name) or _LOGIN_IN_URL.search(value))


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
