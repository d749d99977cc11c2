"""The one error a user may read: it names the value, the limit and the remedy.

The tabs show it in the panel it belongs to, endpoints answer with `gr.Error`, the command line ends with an exit code;
nothing else catches it.
"""

from __future__ import annotations


class UserError(ValueError):
    """Something a user or a deployer can put right; the message says what it is and how."""


class Busy(UserError):
    """Nothing is wrong but the moment: the same question can be asked again later."""
