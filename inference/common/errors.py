"""The one error a user may read: it names the value, the limit and the remedy.

The tabs show it in the panel it belongs to, endpoints answer with `gr.Error`, the command line ends with an exit code.
"""

from __future__ import annotations


class UserError(ValueError):
    """An error that a user or a deployer can correct; the message says how."""


class Busy(UserError):
    """A temporary refusal: the same question can be asked again later."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters; the name of its type where it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
