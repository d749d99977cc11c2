"""`space.yaml`, the one file that a deployer edits: its sections and their checks.

>>> read_space_file(SPACE_YAML).training.trainer
'space'

A mistake is a `UserError` that names the line, the value and the remedy:

    space.yaml, line 9: space.hardware is 'a100': not hardware of a Space; did you mean a100-large? …

The Hub does not read this file: the block on top of README.md is made from it (`make space`). Text that YAML reads
otherwise than people do is refused: aliases (`*name`), and numbers that are not written in plain figures (`030` means
24 there, and `1:30` means 90).
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from inference.common.errors import UserError
from inference.common.hub_names import MAX_CHARS, is_hub_name
from inference.common.validation import Contradiction, Section, Strict, explain

SPACE_YAML = Path(__file__).parents[2] / "space.yaml"
STARTER_NAME = "starter"
"""The embedded model's name in a configuration."""
_GPUS = "t4-small t4-medium l4x1 l4x4 l40sx1 l40sx4 l40sx8 a10g-small a10g-large a10g-largex2 a10g-largex4 a100-large "
_GPUS += "a100x4 a100x8 rtx-pro-6000 rtx-pro-6000x2 rtx-pro-6000x4 rtx-pro-6000x8"
FREE_CPU = "cpu-basic"
ZERO_GPU = "zero-a10g"
"""Lends a GPU for the seconds that an answer takes. An experiment: nobody has reported a Space that runs on it."""
FREE_HARDWARE = (FREE_CPU, ZERO_GPU)
"""Hardware that costs its owner nothing; the Hub alone decides when it sleeps."""
SPACE_HARDWARE = (*FREE_HARDWARE, "cpu-upgrade", *_GPUS.split())
"""Hardware of a Space; a test compares it with the Hub's client."""
JOB_HARDWARE = (
    FREE_CPU,
    "cpu-upgrade",
    *_GPUS.split(),
    "cpu-performance",
    "cpu-xl",
    "h200",
    "h200x2",
    "h200x4",
    "h200x8",
)
"""Hardware of a Job."""
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
MAX_DEPTH = 20
"""The deepest nesting of settings."""
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_PLAIN_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})")
_PLAIN_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def has_gpu(hardware: str) -> bool:
    """True if hardware of that name has a GPU."""
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


def _hub_id(value: str) -> str:
    if not is_hub_name(value):
        raise ValueError(f"not a name on the Hub; write owner/name: letters, digits, -, _ and ., at most {MAX_CHARS}")
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
OneLine = Annotated[str, AfterValidator(_one_line)]


class Limits(Section):
    """Limits of what a visitor may send and ask for."""

    max_upload_mb: float = Field(20, gt=0, le=200)
    """Largest picture file, in megabytes of 10^6 bytes."""
    max_pixels: int = Field(50_000_000, ge=1, le=150_000_000)
    """Most pixels of an uploaded picture, before it is scaled down."""
    max_decoding_mb: float = Field(300, ge=32, le=100_000)
    """Most memory that reading a picture may take, and that all pictures read at the same time share, in megabytes."""
    max_pictures: int = Field(8, ge=1, le=64)
    """Most pictures of one question; together they have at most `max_pixels` before they are scaled down."""
    max_side: int = Field(16_384, ge=28, le=1_000_000)
    """Longest side of an uploaded picture, in pixels."""
    max_aspect: float = Field(50, ge=1, le=190)
    """Longest side over shortest side; the processors of the family refuse 200 and more."""
    max_model_pixels: int = Field(1_003_520, ge=784, le=150_000_000)
    """Pictures are scaled down to at most this many pixels; 784 (28 x 28) make one image token."""
    max_question_chars: int = Field(4_000, ge=1, le=1_000_000)
    """Longest question, in characters."""
    default_new_tokens: int = Field(512, ge=1, le=1_000_000)
    """Length limit of a completion unless the visitor sets one, in tokens."""
    max_new_tokens: int = Field(1_024, ge=1, le=1_000_000)
    """Highest length limit a visitor may set, in tokens."""
    max_waiting: int = Field(100, ge=1, le=500)
    """Questions of all visitors that may wait or be answered beside a first one; each takes a thread of the server."""
    questions_at_once: int = Field(8, ge=1, le=1_000_000)
    """Questions of one visitor that may wait or be answered at a time."""
    questions_per_minute: int = Field(120, ge=1, le=1_000_000)
    """Questions of one visitor in a minute, refused ones included."""
    max_request_kb: float = Field(1_000, ge=16, le=100_000)
    """Largest body of a request that uploads no file, in kilobytes of 10^3 bytes."""
    calls_per_minute: int = Field(600, ge=10, le=1_000_000)
    """Requests with a body (questions, uploads, whatever a click sends) of one visitor in a minute."""
    uploads_mb_per_hour: float = Field(500, gt=0, le=1_000_000)
    """Uploads of one visitor in an hour, in megabytes."""
    all_uploads_mb_per_hour: float = Field(5_000, gt=0, le=10_000_000)
    """Uploads of all visitors in an hour, in megabytes; kept for an hour, they take at most twice this on the disk."""
    connections: int = Field(100, ge=4, le=1_000_000)
    """Requests of one visitor that may be open at a time; an open page keeps one or two."""
    all_connections: int = Field(600, ge=8, le=1_000_000)
    """Requests of all visitors that may be open at a time; fewer where the process may have few descriptors."""

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Self:
        if self.default_new_tokens > self.max_new_tokens:
            raise Contradiction(
                f"default_new_tokens {self.default_new_tokens} is above max_new_tokens {self.max_new_tokens}",
                "default_new_tokens",
                "max_new_tokens",
            )
        return self


class SpaceSection(Section):
    """The Space's card on the Hub and its hardware."""

    title: OneLine = Field("LookThink", min_length=1, max_length=100)
    short_description: OneLine = Field("A vision-language model that looks, thinks, answers", max_length=60)
    """One line for its card on the Hub, of the Hub's own length limit."""
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
    """The model that is served if there is a GPU."""

    base: OneLine
    """`starter`, a folder or a Hub id."""
    adapter: OneLine | None = None
    """A folder, `owner/name` or `owner/name@revision`; `None` for the base alone."""


class TrainingSection(Section):
    """Training of adapters, and where they are published."""

    trainer: Literal["space", "job"] = "space"
    """`space` trains on the Space's own GPU, `job` as a Hugging Face Job."""
    dataset: OneLine = Field("lmms-lab/multimodal-open-r1-8k-verified", min_length=1)
    job_hardware: Annotated[str, _one_of(JOB_HARDWARE, "hardware of a Job")] = "a100-large"
    bucket: HubId | None = None
    """The Storage Bucket for runs; with `None` one is made when the Space is deployed."""
    publish_to: HubId | None = None
    """The repository that adapters are published to; `None` publishes nothing automatically."""
    publish_every_minutes: float = Field(30, ge=1, le=1_440)
    """Minutes between two publications of a run's newest checkpoint."""
    publish_public: bool = False
    """True if a new repository is to be public."""

    @model_validator(mode="after")
    def _public_needs_a_repository(self) -> Self:
        if self.publish_public and self.publish_to is None:
            raise Contradiction(
                "publish_public is true and publish_to is null, so nothing is published; name a repository in "
                "publish_to, or set publish_public to false",
                "publish_public",
                "publish_to",
            )
        return self


class PrivacySection(Section):
    """Settings of what is kept of visitors, besides what the limits need while the app runs."""

    keep_pictures_minutes: int = Field(60, ge=5, le=1_440)
    """Minutes after which a visitor's picture is deleted: its file on the disk, and what the model has read from it."""
    log_questions: bool = True
    """True if the log has a line for each question and each refusal, under a name that is random for each start."""


class SharingSection(Section):
    """Settings of answers that visitors share: kept on the disk, for whoever has the address."""

    allowed: bool = False
    """True if visitors may share answers."""
    megabytes: int = Field(200, ge=1, le=100_000)
    """Most room that all shared answers take, in megabytes of 10^6 bytes; more are refused."""
    days: int = Field(30, ge=1, le=365)
    """Days after which a shared answer is deleted."""


class AdminSection(Section):
    """Access to training."""

    oauth: bool = True
    """On a Space: its owner signs in with Hugging Face; without it, nobody trains from the page."""


DEFAULT_LIMITS = Limits.model_validate({})
"""The limits of a deployment that sets none."""
DEFAULT_SPACE = SpaceSection.model_validate({})
DEFAULT_TRAINING = TrainingSection.model_validate({})
DEFAULT_PRIVACY = PrivacySection.model_validate({})
DEFAULT_SHARING = SharingSection.model_validate({})


class SpaceFile(Strict):
    """The whole file."""

    model: ModelSection
    space: SpaceSection = DEFAULT_SPACE
    training: TrainingSection = DEFAULT_TRAINING
    limits: Limits = DEFAULT_LIMITS
    privacy: PrivacySection = DEFAULT_PRIVACY
    sharing: SharingSection = DEFAULT_SHARING
    admin: AdminSection = AdminSection()

    @model_validator(mode="after")
    def _trainer_has_a_gpu(self) -> Self:
        """Only the starter trains without one, and no run lasts on one that is lent for seconds."""
        if self.space.hardware == ZERO_GPU and self.training.trainer == "space":
            raise Contradiction(
                f"space.hardware is {ZERO_GPU}, which lends a GPU for seconds, and training.trainer is space, which "
                "would train there for hours; set training.trainer to job, or choose other hardware",
                "space.hardware",
                "training.trainer",
            )
        if self.model.base == STARTER_NAME:
            return self
        hardware, key = (
            (self.space.hardware, "space.hardware")
            if self.training.trainer == "space"
            else (self.training.job_hardware, "training.job_hardware")
        )
        if not has_gpu(hardware):
            raise Contradiction(
                f"{key} is {hardware}, which has no GPU, and training.trainer is {self.training.trainer}, which would "
                f"train {self.model.base} there; choose hardware with a GPU, the other trainer, or the base starter",
                key,
                "training.trainer",
            )
        return self


def read_space_file(path: Path = SPACE_YAML) -> SpaceFile:
    """The file, checked; a `UserError` names the line, the value and the remedy."""
    try:
        yaml = LinedYaml.read(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; it names the model to serve. Take the one of the repository.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Take the one of the repository.") from error
    try:
        return SpaceFile.model_validate(yaml.content)
    except ValidationError as error:
        raise UserError(f"{path.name}{_lines(error, yaml)}: {explain(error, SpaceFile)}. Correct it there.") from error


@dataclass(frozen=True)
class LinedYaml:
    """A file's content and its lines."""

    content: Any
    lines: dict[tuple[str, ...], int]
    """The path of a setting to its line, from 1."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `UserError` for invalid YAML and for a setting that is there twice."""
        try:
            return cls.parse(path.read_text(encoding="utf-8"), path.name)
        except UnicodeDecodeError as error:
            raise UserError(f"{path.name} is not YAML: {error}. Save it as UTF-8.") from error

    @classmethod
    def parse(cls, text: str, name: str) -> Self:
        """As `read`, from a text; messages call the file `name`."""
        try:
            _check_shape(text, name)
            loader = yaml.SafeLoader(text)
            try:
                root = loader.get_single_node()
                lines: dict[tuple[str, ...], int] = {}
                if root is not None:
                    _walk(root, (), lines, name)
                return cls(loader.construct_document(root) if root is not None else None, lines)
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f", line {mark.line + 1}" if mark else ""
            raise UserError(f"{name}{line}: it is not YAML: {_words(error)}. Correct it there.") from error
        except UserError:
            raise
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"{name} is not YAML: {' '.join(str(error).split())}. Correct it there.") from error

    def line(self, path: Sequence[str]) -> int | None:
        """The line of the setting at `path`; `None` if the file does not have it."""
        return self.lines.get(tuple(path))


def _lines(error: ValidationError, yaml: LinedYaml) -> str:
    """`, line 9`, or `, lines 9 and 14` for two settings that contradict each other."""
    first = error.errors()[0]
    path = tuple(str(part) for part in first["loc"])
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, Contradiction):
        numbers = [yaml.line((*path, *name.split("."))) for name in cause.fields]
        lines = sorted({line for line in numbers if line})
    else:
        lines = [line] if (line := yaml.line(path) or yaml.line(path[:-1])) else []
    return f", line{'s' * (len(lines) > 1)} {' and '.join(map(str, lines))}" if lines else ""


def _words(error: yaml.MarkedYAMLError) -> str:
    """The error on one line."""
    words = " ".join(" ".join(filter(None, (error.context, error.problem))).split())
    return f"{words}; indent with spaces, not with tabs" if "'\\t'" in words else words


def _check_shape(text: str, name: str) -> None:
    """Refuse aliases and deep nesting."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"{name}, line {line}: *{event.anchor} stands for another part of the file. Write it out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise UserError(f"{name}, line {line}: it is nested more than {MAX_DEPTH} deep; no setting is.")


def _walk(node: yaml.Node, path: tuple[str, ...], lines: dict[tuple[str, ...], int], name: str) -> None:
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, path, name)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        here = (*path, str(key.value))
        line = key.start_mark.line + 1
        if here in lines:
            raise UserError(
                f"{name}, line {line}: {'.'.join(here)} is there twice, on line {lines[here]} too. Delete one of them."
            )
        lines[here] = line
        _walk(value, here, lines, name)


def _check_scalar(node: yaml.ScalarNode, path: tuple[str, ...], name: str) -> None:
    """Refuse numbers that are not in plain figures, and values that YAML cannot construct."""
    where = f"{name}, line {node.start_mark.line + 1}: {'.'.join(path)} is {node.value[:80]}"
    plain = {_INT: _PLAIN_INT, _FLOAT: _PLAIN_FLOAT}.get(node.tag)
    if plain is not None and not plain.fullmatch(node.value):
        raise UserError(f"{where}, which YAML reads as another number than it looks like. Write it in plain figures.")
    try:
        yaml.constructor.SafeConstructor().construct_object(node)
    except (ValueError, KeyError, yaml.YAMLError) as error:  # an impossible date, for example
        raise UserError(f"{where}, which YAML cannot read ({error}). Put it in quotes, or correct it.") from error
