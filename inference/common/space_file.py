"""`space.yaml`, the one place a deployer edits: its sections, and what is wrong with it by line.

>>> read_space_file(SPACE_YAML).training.trainer
'space'

A mistake is a `UserError` that names the line, the value and the remedy:

    space.yaml, line 9: space.hardware is 'a100': not hardware of a Space; did you mean a100-large? …

The Hub does not read this file: the block on top of README.md is made from it (`make space`).
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from inference.common.errors import UserError
from inference.common.limits import DEFAULT_LIMITS, Limits
from inference.common.validation import Contradiction, Section, Strict, explain
from inference.common.yaml_file import LinedYaml

SPACE_YAML = Path(__file__).parents[2] / "space.yaml"
STARTER_NAME = "starter"
"""What a configuration calls the embedded model."""
HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
ADAPTER_ID = re.compile(rf"{HUB_ID.pattern}(@[A-Za-z0-9_][\w./-]*)?", re.ASCII)
"""`owner/name`, or `owner/name@revision`."""
_GPUS = "t4-small t4-medium l4x1 l4x4 l40sx1 l40sx4 l40sx8 a10g-small a10g-large a10g-largex2 a10g-largex4 a100-large "
_GPUS += "a100x4 a100x8 rtx-pro-6000 rtx-pro-6000x2 rtx-pro-6000x4 rtx-pro-6000x8"
SPACE_HARDWARE = ("cpu-basic", "cpu-upgrade", *_GPUS.split())
"""What a Space can run on, but ZeroGPU, which lends a card for seconds; a test compares it with the Hub's client."""
JOB_HARDWARE = (*SPACE_HARDWARE, "cpu-performance", "cpu-xl", "h200", "h200x2", "h200x4", "h200x8")
"""What a Job can run on."""
MAX_HUB_CHARS = 96
"""Of `owner/name`, by the Hub's own rule."""
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
MAX_SHORT_CHARS = 60
"""The Hub's limit for `short_description`."""


def has_gpu(hardware: str) -> bool:
    """Whether hardware of that name has a GPU."""
    return not hardware.startswith("cpu-")


def _one_of(known: tuple[str, ...], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in known:
            begun = [name for name in known if value and name.startswith(value)]
            close = begun or difflib.get_close_matches(value, known, 1, 0.5)
            hint = f"; did you mean {close[0]}?" if close else "."
            raise ValueError(f"not {what}{hint} There are {', '.join(known)}")
        return value

    return AfterValidator(check)


def is_hub_name(name: str) -> bool:
    """Whether the Hub would take it for something new: its form, its length, and what git keeps for itself.

    >>> is_hub_name("me/adapter"), is_hub_name("me/adapter.git"), is_hub_name("me/a--b")
    (True, False, False)
    """
    is_whole = HUB_ID.fullmatch(name) is not None and len(name) <= MAX_HUB_CHARS
    return is_whole and "--" not in name and ".." not in name and not name.endswith((".", "-", ".git", ".ipynb"))


def _hub_id(value: str) -> str:
    if not is_hub_name(value):
        raise ValueError(
            f"not a name on the Hub; write owner/name, of letters, digits, -, _ and ., at most {MAX_HUB_CHARS} in all"
        )
    return value


def _one_line(value: str) -> str:
    if not value.strip() or not all(c.isprintable() for c in value):
        raise ValueError("not a line of text; write one, without control characters")
    return value


def _emoji(value: str) -> str:
    if any(unicodedata.category(c)[0] in "LNZC" and c not in "\u200d\ufe0f" for c in value):
        raise ValueError("not an emoji; write one, such as 👁️")
    return value


HubId = Annotated[str, AfterValidator(_hub_id)]
Line = Annotated[str, AfterValidator(_one_line)]


class SpaceSection(Section):
    """How the Space looks, and what it runs on."""

    title: Line = Field("LookThink", min_length=1, max_length=100)
    short_description: Line = Field("A vision-language model that looks, thinks, answers", max_length=MAX_SHORT_CHARS)
    """One line for its card on the Hub."""
    emoji: Annotated[str, AfterValidator(_emoji)] = Field("👁️", pattern=r"^[^\x00-\x7f]{1,8}$")
    color_from: Annotated[str, _one_of(COLORS, "a colour of the Hub")] = "indigo"
    color_to: Annotated[str, _one_of(COLORS, "a colour of the Hub")] = "blue"
    """The two ends of its card's colours."""
    hardware: Annotated[str, _one_of(SPACE_HARDWARE, "hardware of a Space")] = "a100-large"
    sleep_minutes: int = Field(30, ge=0, le=43_200)
    """Minutes without a visitor after which it sleeps, which costs nothing; 0 never."""
    license: str = Field("apache-2.0", pattern=r"^[a-z0-9][a-z0-9.-]*$")
    """Of this code, as the Hub names licences."""


class ModelSection(Section):
    """What is served where there is a GPU."""

    base: Line
    """`starter`, a folder or a Hub id."""
    adapter: Line | None = None
    """A folder, `owner/name` or `owner/name@revision`; `None` for the base alone."""


class TrainingSection(Section):
    """How adapters are made and where they go."""

    trainer: Literal["space", "job"] = "space"
    """`space` trains on the Space's own GPU, `job` as a Hugging Face Job."""
    dataset: Line = Field("lmms-lab/multimodal-open-r1-8k-verified", min_length=1)
    job_hardware: Annotated[str, _one_of(JOB_HARDWARE, "hardware of a Job")] = "a100-large"
    bucket: HubId | None = None
    """The Storage Bucket for runs; with `None` one is made when the Space is deployed."""
    publish_to: HubId | None = None
    """The repository that adapters are published to; `None` publishes nothing by itself."""
    publish_every_minutes: float = Field(30, ge=1, le=1_440)
    """How often a run's newest checkpoint is published while it trains."""
    publish_public: bool = False
    """Whether a new repository is public."""

    @model_validator(mode="after")
    def _public_needs_a_place(self) -> Self:
        if self.publish_public and self.publish_to is None:
            raise Contradiction(
                "publish_public is true and publish_to is null, so nothing is published; name a repository in "
                "publish_to, or set publish_public to false",
                "publish_public",
                "publish_to",
            )
        return self


class AdminSection(Section):
    """Who may train."""

    oauth: bool = True
    """On a Space: whether its owner signs in with Hugging Face; without, nobody trains from the page."""


DEFAULT_SPACE = SpaceSection.model_validate({})
DEFAULT_TRAINING = TrainingSection.model_validate({})


class SpaceFile(Strict):
    """The whole file."""

    model: ModelSection
    space: SpaceSection = DEFAULT_SPACE
    training: TrainingSection = DEFAULT_TRAINING
    limits: Limits = DEFAULT_LIMITS
    admin: AdminSection = AdminSection()

    @model_validator(mode="after")
    def _trainer_has_a_gpu(self) -> Self:
        """Only the starter trains without one."""
        if self.model.base == STARTER_NAME:
            return self
        place, key = (
            (self.space.hardware, "space.hardware")
            if self.training.trainer == "space"
            else (self.training.job_hardware, "training.job_hardware")
        )
        if not has_gpu(place):
            raise Contradiction(
                f"{key} is {place}, which has no GPU, and training.trainer is {self.training.trainer}, which would "
                f"train {self.model.base} there; choose hardware with a GPU, the other trainer, or the base starter",
                key,
                "training.trainer",
            )
        return self


def read_space_file(path: Path = SPACE_YAML) -> SpaceFile:
    """The file, checked; a `UserError` names the line, the value and the remedy."""
    try:
        read = LinedYaml.read(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; it says what is served. Take the one of the repository.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Take the one of the repository.") from error
    try:
        return SpaceFile.model_validate(read.content)
    except ValidationError as error:
        raise UserError(f"{path.name}{_lines(error, read)}: {explain(error, SpaceFile)}. Correct it there.") from error


def _lines(error: ValidationError, read: LinedYaml) -> str:
    """`, line 9`, or `, lines 9 and 14` for two settings that contradict each other."""
    first = error.errors()[0]
    place = tuple(str(part) for part in first["loc"])
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, Contradiction):
        found = [read.line((*place, *name.split("."))) for name in cause.fields]
        lines = sorted({line for line in found if line})
    else:
        lines = [line] if (line := read.line(place) or read.line(place[:-1])) else []
    return f", line{'s' * (len(lines) > 1)} {' and '.join(map(str, lines))}" if lines else ""
