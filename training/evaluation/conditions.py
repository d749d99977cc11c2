"""The conditions of an evaluation: how the held-out questions are asked.

    >>> [condition.name for condition in choose_conditions(["main"])]
    ['base-direct', 'base-thinking', 'adapter-thinking']

`main` is the three columns of an evaluation; the others tell how these come about. All conditions answer the same rows,
so that their differences are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from inference.common.errors import UserError
from inference.prompt.format import DIRECT_PROMPT, THINK_PROMPT


@dataclass(frozen=True)
class Condition:
    """One way to ask the held-out questions."""

    name: str
    tuned: bool = False
    """With the adapter."""
    system_prompt: str = THINK_PROMPT
    prefix: str = ""
    """The first text of the completion, forced."""
    temperature: float = 0.0
    picture: Literal["own", "blank", "swapped"] = "own"
    """`blank`: white paper of the picture's size. `swapped`: the picture of another row of about that size."""
    reference: str | None = None
    """The condition that this one changes in one thing, to compare with."""

    @property
    def is_direct(self) -> bool:
        """Asked for the answer alone: the whole completion is the answer, and strict and lenient are the same."""
        return self.system_prompt == DIRECT_PROMPT


BASE_DIRECT = Condition("base-direct", system_prompt=DIRECT_PROMPT)
BASE_THINKING = Condition("base-thinking", reference="base-direct")
ADAPTER_THINKING = Condition("adapter-thinking", tuned=True, reference="base-thinking")

CONDITIONS = (
    BASE_DIRECT,
    BASE_THINKING,
    Condition("base-sampled", temperature=1.0, reference="base-thinking"),
    Condition("base-forced", prefix="<think>", reference="base-thinking"),
    Condition("base-blank", picture="blank", reference="base-thinking"),
    Condition("base-swapped", picture="swapped", reference="base-thinking"),
    ADAPTER_THINKING,
    Condition("adapter-sampled", tuned=True, temperature=1.0, reference="adapter-thinking"),
    Condition("adapter-forced", tuned=True, prefix="<think>", reference="adapter-thinking"),
    Condition("adapter-blank", tuned=True, picture="blank", reference="adapter-thinking"),
    Condition("adapter-swapped", tuned=True, picture="swapped", reference="adapter-thinking"),
)
"""`thinking` is greedy, with the thinking prompt; `sampled` has a temperature; `forced` begins with `<think>`."""

GROUPS = {
    "main": ("base-direct", "base-thinking", "adapter-thinking"),
    "looks": ("base-thinking", "base-blank", "base-swapped", "adapter-thinking", "adapter-blank", "adapter-swapped"),
    "sampled": ("base-sampled", "adapter-sampled"),
    "all": tuple(condition.name for condition in CONDITIONS),
}
"""Names for several conditions at once."""


def choose_conditions(names: Sequence[str], temperature: float = 1.0) -> list[Condition]:
    """The named conditions or groups of them, in the order of `CONDITIONS`, sampling at `temperature`.

    Raises `UserError` for a name that is neither, and for a temperature at which nothing is sampled.
    """
    known = GROUPS["all"]
    for name in names:
        if name not in known and name not in GROUPS:
            raise UserError(
                f"there is no condition {name!r}; choose from {', '.join(known)}, or a group: {', '.join(GROUPS)}"
            )
    if not 0 < temperature <= 5:
        raise UserError(f"the temperature of sampling is {temperature}; give more than 0 and at most 5")
    chosen_names = {each for name in names for each in GROUPS.get(name, (name,))}
    chosen = [condition for condition in CONDITIONS if condition.name in chosen_names]
    return [replace(c, temperature=temperature) if c.temperature else c for c in chosen]
