"""Whether a token of the Hub will do: asked of the Hub itself, and told apart from a Hub that does not answer.

>>> token_trouble("hf_with a space").token
'it holds characters that no token has'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inference.common.hub_errors import hub_exceptions, reason, status_of


@dataclass(frozen=True)
class TokenTrouble:
    """What stands in the way; both are empty where nothing does. No token is ever in the words."""

    token: str = ""
    """What is wrong with the token."""
    network: str = ""
    """Why the Hub could not be asked."""


def token_trouble(token: str) -> TokenTrouble:
    """Ask the Hub about a token; takes as long as it takes."""
    from huggingface_hub import whoami

    if not token.isascii() or not token.isprintable() or " " in token:
        return TokenTrouble("it holds characters that no token has")
    try:
        about = whoami(token)
    except hub_exceptions() as error:
        return TokenTrouble(reason(error)) if status_of(error) in (401, 403) else TokenTrouble(network=reason(error))
    if not isinstance(about, dict):
        return TokenTrouble(network="the Hub's answer cannot be read")
    return TokenTrouble("it may only read" if _role(about) == "read" else "")


def token_here() -> str | None:
    """The Hub's token of this machine: the environment's, or that of the login."""
    from huggingface_hub import get_token

    return get_token()


def address_of(space: str) -> str:
    """The address of a Space's page."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/spaces/{space}"


def _role(about: Any) -> Any:
    """Of the token, by the Hub's answer, which may hold anything."""
    for name in ("auth", "accessToken", "role"):
        about = about.get(name) if isinstance(about, dict) else None
    return about
