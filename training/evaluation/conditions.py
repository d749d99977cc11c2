"""The conditions of an evaluation: prompts, sampling and pictures with which the held-out questions are asked.

    >>> [condition.name for condition in choose_conditions(["main"])]
    ['base-direct', 'base-thinking', 'base-forced', 'base-careful', 'adapter-thinking']

`main` are the columns of an evaluation; the others explain them. All conditions have the same rows, so that their
differences are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from inference.common.errors import UserError
from inference.prompt.format import DIRECT_PROMPT, THINK_PROMPT
from training.starter.templates import WAYS

CAREFUL = "<think>\nLet me look carefully at each part of the picture, one after the other, and check the result."
"""The beginning of base-careful's completions, where the base is not the starter and the caller gives none."""
STARTER_CAREFUL = f"<think>{WAYS['careful']}"


@dataclass(frozen=True)
class Condition:
    """One way to ask the held-out questions."""

    name: str
    tuned: bool = False
    """True with the adapter, false with the base alone."""
    system_prompt: str = THINK_PROMPT
    prefix: str = ""
    """The text that the completion is forced to begin with."""
    temperature: float = 0.0
    picture: Literal["own", "blank", "swapped"] = "own"
    """`blank`: white paper of the picture's size. `swapped`: the picture of another row of about that size."""
    thought: Literal["own", "half", "none", "other", "number"] = "own"
    """What the completion is made to think: the first `half` of the thought of `adapter-thinking`, nothing, the thought
    of another row, or its own with one `number` changed, from where it goes on itself."""
    reference: str | None = None
    """The condition to compare with, which differs from this one in one thing."""

    @property
    def is_direct(self) -> bool:
        """True if only the answer is asked for: the whole completion is graded, and strict is the same as lenient."""
        return self.system_prompt == DIRECT_PROMPT


BASE_DIRECT = Condition("base-direct", system_prompt=DIRECT_PROMPT)
BASE_THINKING = Condition("base-thinking", reference="base-direct")
ADAPTER_THINKING = Condition("adapter-thinking", tuned=True, reference="base-thinking")

CONDITIONS = (
    BASE_DIRECT,
    BASE_THINKING,
    Condition("base-sampled", temperature=1.0, reference="base-thinking"),
    Condition("base-forced", prefix="<think>", reference="base-thinking"),
    Condition("base-careful", prefix=CAREFUL, reference="base-forced"),
    Condition("base-forced-sampled", prefix="<think>", temperature=1.0, reference="base-forced"),
    Condition("base-blank", picture="blank", reference="base-thinking"),
    Condition("base-swapped", picture="swapped", reference="base-thinking"),
    ADAPTER_THINKING,
    Condition("adapter-sampled", tuned=True, temperature=1.0, reference="adapter-thinking"),
    Condition("adapter-forced", tuned=True, prefix="<think>", reference="adapter-thinking"),
    Condition("adapter-blank", tuned=True, picture="blank", reference="adapter-thinking"),
    Condition("adapter-swapped", tuned=True, picture="swapped", reference="adapter-thinking"),
    Condition("adapter-half", tuned=True, thought="half", reference="adapter-thinking"),
    Condition("adapter-unthought", tuned=True, thought="none", reference="adapter-thinking"),
    Condition("adapter-other", tuned=True, thought="other", reference="adapter-thinking"),
    Condition("adapter-number", tuned=True, thought="number", reference="adapter-thinking"),
)
"""`thinking` is greedy, with the thinking prompt; `sampled` has a temperature; `forced` begins with `<think>`;
`careful` begins as the base's most careful way to think does."""

GROUPS = {
    "main": ("base-direct", "base-thinking", "base-forced", "base-careful", "adapter-thinking"),
    "looks": ("base-thinking", "base-blank", "base-swapped", "adapter-thinking", "adapter-blank", "adapter-swapped"),
    "probes": ("adapter-thinking", "adapter-half", "adapter-unthought", "adapter-other", "adapter-number"),
    "sampled": ("base-sampled", "base-forced-sampled", "adapter-sampled"),
    "all": tuple(condition.name for condition in CONDITIONS),
}
"""Names for several conditions at once."""


def choose_conditions(names: Sequence[str], temperature: float = 1.0) -> list[Condition]:
    """The conditions of these names or groups, in the order of `CONDITIONS`, sampling at `temperature`.

    Raises `UserError` for an unknown name, and for a temperature that is not above 0 and at most 5.
    """
    known = GROUPS["all"]
    for name in names:
        if name not in known and name not in GROUPS:
            raise UserError(
                f"there is no condition {name!r}; choose from {', '.join(known)}, or a group: {', '.join(GROUPS)}"
            )
    if not 0 < temperature <= 5:
        raise UserError(f"the temperature of sampling is {temperature}; give more than 0 and at most 5")
    chosen = {each for name in names for each in GROUPS.get(name, (name,))}
    return [replace(c, temperature=temperature) if c.temperature else c for c in CONDITIONS if c.name in chosen]


def with_careful_beginning(conditions: Sequence[Condition], prefix: str) -> list[Condition]:
    """The conditions, with `prefix` as the beginning of base-careful's completions."""
    return [replace(c, prefix=prefix) if c.name == "base-careful" else c for c in conditions]


def with_thoughts(conditions: Sequence[Condition]) -> list[Condition]:
    """The conditions, those that change a thought last, after `adapter-thinking`, which has the thoughts."""
    probes = [c for c in conditions if c.thought != "own"]
    others = [c for c in conditions if c.thought == "own"]
    if probes and ADAPTER_THINKING.name not in {c.name for c in others}:
        others.append(ADAPTER_THINKING)
    return others + probes
