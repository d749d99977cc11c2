"""What this deployment serves and allows: `space.yaml` and `LOOKTHINK_*` variables, validated once.

    >>> load_settings(env={"LOOKTHINK_BASE": "starter"}).is_starter
    True

Variables: `LOOKTHINK_BASE` (`starter`, a folder or a Hub id), `LOOKTHINK_ADAPTER` (a folder), `LOOKTHINK_HOME`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.errors import UserError
from inference.validation import explain

STARTER = Path(__file__).parent / "starter"
"""The embedded model; its adapter, if there is one, is in the folder `adapter`."""
SPACE_YAML = Path(__file__).parents[1] / "space.yaml"
STARTER_NAME = "starter"
"""What a configuration calls the embedded model."""
DEFAULT_HOME = "~/.cache/lookthink"
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def base_source(base: str) -> str:
    """Where the base that a configuration names is loaded from: a folder here, or its Hub id."""
    return str(STARTER) if base == STARTER_NAME else base


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Strict):
    """What a visitor may send and ask for."""

    max_upload_mb: float = Field(20, gt=0, le=200)
    """Largest picture file, in megabytes of 10^6 bytes."""
    max_pixels: int = Field(50_000_000, ge=1, le=150_000_000)
    """Most pixels of an uploaded picture, before it is scaled down."""
    max_side: int = Field(16_384, ge=28)
    """Longest side of an uploaded picture, in pixels."""
    max_aspect: float = Field(50, ge=1, le=190)
    """Longest side over shortest side; the processors of the family refuse 200 and more."""
    max_model_pixels: int = Field(1_003_520, ge=784)
    """Pictures are scaled down to at most this many pixels; 784 (28 x 28) make one image token."""
    max_question_chars: int = Field(4_000, ge=1)
    """Longest question, in characters."""
    default_new_tokens: int = Field(512, ge=1)
    """Length limit of a completion unless the visitor sets one, in tokens."""
    max_new_tokens: int = Field(1_024, ge=1)
    """Highest length limit a visitor may set, in tokens."""
    max_waiting: int = Field(24, ge=1, le=32)
    """Questions that may wait in line, of all visitors; each keeps one of the server's 40 threads."""
    questions_at_once: int = Field(8, ge=1)
    """Questions of one visitor that may wait or be answered at a time."""
    questions_per_minute: int = Field(120, ge=1)
    """Questions of one visitor in a minute, refused ones included."""
    max_request_kb: float = Field(1_000, ge=16, le=100_000)
    """Largest body of a request that uploads no file, in kilobytes of 10^3 bytes."""
    calls_per_minute: int = Field(600, ge=10)
    """Requests with a body (questions, uploads, whatever a click sends) of one visitor in a minute."""
    uploads_mb_per_hour: float = Field(500, gt=0)
    """What one visitor may upload in an hour, in megabytes; uploads are deleted after an hour."""
    all_uploads_mb_per_hour: float = Field(5_000, gt=0)
    """What all visitors may upload in an hour, in megabytes: twice this bounds the disk they take."""
    connections: int = Field(100, ge=4)
    """Requests of one visitor that may be open at a time; an open page keeps one or two."""
    all_connections: int = Field(600, ge=8)
    """Requests of all visitors that may be open at a time."""

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Self:
        if self.default_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"default_new_tokens {self.default_new_tokens} is above max_new_tokens {self.max_new_tokens}"
            )
        return self


DEFAULT_LIMITS = Limits.model_validate({})
"""The limits of a deployment that sets none."""


class Settings(_Strict):
    """One deployment."""

    base: str
    """The base model that is served: a folder or a Hub id."""
    base_reason: str
    """One sentence for the header: why this base."""
    adapter: str | None
    """The adapter that is served beside it unless another was promoted (`inference.served`): a folder or a Hub id;
    `None` for the base alone."""
    adapter_is_pinned: bool = False
    """True if `LOOKTHINK_ADAPTER` names the adapter: this process then serves it, whatever was promoted."""
    home: Path
    """Where runs, adapters and caches are kept."""
    limits: Limits = DEFAULT_LIMITS

    @property
    def is_starter(self) -> bool:
        """True if the embedded model is served."""
        return Path(self.base) == STARTER


class _Model(_Strict):
    base: str
    adapter: str | None = None


class _SpaceFile(_Strict):
    """`space.yaml`: the sections read here, and those that other modules read."""

    model: _Model
    limits: Limits = DEFAULT_LIMITS
    space: dict[str, Any] = {}
    training: dict[str, Any] = {}
    admin: dict[str, Any] = {}


def load_settings(
    space_yaml: Path = SPACE_YAML, env: Mapping[str, str] | None = None, *, has_gpu: bool | None = None
) -> Settings:
    """Read and check everything; a `UserError` names key, value and remedy.

    `has_gpu` is found out from torch unless given. `env` is the process's environment unless given.
    """
    env = os.environ if env is None else env
    file = _read(space_yaml)
    base, reason = _choose_base(file.model.base, env.get("LOOKTHINK_BASE", "").strip(), has_gpu)
    home = Path(env.get("LOOKTHINK_HOME", "").strip() or DEFAULT_HOME).expanduser().absolute()
    if home.exists() and not home.is_dir():
        raise UserError(f"LOOKTHINK_HOME is {home}, which is a file; name a folder.")
    pinned = env.get("LOOKTHINK_ADAPTER", "").strip()
    return Settings(
        base=base,
        base_reason=reason,
        adapter=_choose_adapter(base, file.model, pinned),
        adapter_is_pinned=bool(pinned),
        home=home,
        limits=file.limits,
    )


def _choose_base(named: str, override: str, has_gpu: bool | None) -> tuple[str, str]:
    """The base and the reason for it."""
    if override:
        base = _check_base("LOOKTHINK_BASE", override)
        shown = "the starter" if base == str(STARTER) else base
        return base, f"LOOKTHINK_BASE asks for {shown}."
    base = _check_base("model.base in space.yaml", named)
    if base == str(STARTER):
        return base, "space.yaml names the starter."
    if _gpu_is_there() if has_gpu is None else has_gpu:
        return base, f"space.yaml names {base}, and this machine has a GPU for it."
    return str(STARTER), f"space.yaml names {base} for a machine with a GPU; this one has none, so the starter answers."


def _choose_adapter(base: str, named: _Model, override: str) -> str | None:
    """The adapter that belongs to the base: one of another base would not fit."""
    if override:
        return _check_adapter("LOOKTHINK_ADAPTER", override)
    if base == _check_base("model.base in space.yaml", named.base) and named.adapter:
        return _check_adapter("model.adapter in space.yaml", named.adapter)
    own = STARTER / "adapter"
    return str(own) if base == str(STARTER) and own.is_dir() else None


def _check_base(key: str, value: str) -> str:
    if value == STARTER_NAME:
        return str(STARTER)
    folder = Path(value).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"{key} is {value}, a folder without config.json; name one that holds a model.")
        return str(STARTER) if folder.resolve() == STARTER.resolve() else str(folder)
    if _HUB_ID.fullmatch(value):
        return value
    raise UserError(f"{key} is {value!r}, neither a folder here nor a Hub id. Use starter, a folder or owner/name.")


def _check_adapter(key: str, value: str) -> str:
    folder = Path(value).expanduser()
    if folder.is_dir():
        return str(folder)
    if _HUB_ID.fullmatch(value):
        return value
    raise UserError(f"{key} is {value!r}, neither a folder here nor a Hub id. Name the folder of an adapter.")


def _read(path: Path) -> _SpaceFile:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; it says what is served. Take the one of the repository.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name} is not YAML: {error}. Correct it there.") from error
    try:
        return _SpaceFile.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path.name}: {explain(error, _SpaceFile)}. Correct it there.") from error


def _gpu_is_there() -> bool:
    import torch

    return torch.cuda.is_available()
