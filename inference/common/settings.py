"""Settings of this deployment: `space.yaml` and `LOOKTHINK_*` variables, validated once.

    >>> load_settings(env={"LOOKTHINK_BASE": "starter"}).is_starter
    True

Variables: `LOOKTHINK_BASE` (`starter`, a folder or a Hub id), `LOOKTHINK_ADAPTER` (a folder, or `owner/name@revision`),
`LOOKTHINK_HOME`, `LOOKTHINK_STATE` (the folder where the bucket is mounted), `LOOKTHINK_BUCKET` (its name).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from inference.common.errors import UserError
from inference.common.hub_names import is_hub_name, split_revision
from inference.common.space_file import (
    DEFAULT_LIMITS,
    DEFAULT_PRIVACY,
    DEFAULT_SHARING,
    DEFAULT_SPACE,
    DEFAULT_TRAINING,
    SPACE_YAML,
    STARTER_NAME,
    Limits,
    ModelSection,
    PrivacySection,
    SharingSection,
    SpaceSection,
    TrainingSection,
    read_space_file,
)
from inference.common.validation import Strict

STARTER = Path(__file__).parents[1] / "starter"
"""The embedded model; its adapter, if there is one, is in the folder `adapter`."""
DEFAULT_HOME = "~/.cache/lookthink"


REPORTS = "doctor"
"""The folder of the doctor's reports, in the home and in the bucket."""


def base_source(base: str) -> str:
    """The folder or the Hub id that a configuration's base is loaded from."""
    return str(STARTER) if base == STARTER_NAME else base


class Settings(Strict):
    """One deployment."""

    base: str
    """The base model that is served: a folder or a Hub id."""
    base_reason: str
    """One sentence for the header: why this base."""
    named_base: str
    """The base that space.yaml or `LOOKTHINK_BASE` names, which runs train; another one than `base` where the machine
    cannot serve it."""
    adapter: str | None
    """The adapter served unless another was promoted (`inference.adapters.served`): a folder or a Hub id; `None` for
    the base alone."""
    adapter_is_pinned: bool = False
    """True if `LOOKTHINK_ADAPTER` names the adapter: this process then serves it, whatever was promoted."""
    home: Path
    """The folder of runs, adapters and caches."""
    state: Path | None = None
    """The folder where the bucket is mounted, which outlives a restart; `None` if there is none."""
    limits: Limits = DEFAULT_LIMITS
    space: SpaceSection = DEFAULT_SPACE
    training: TrainingSection = DEFAULT_TRAINING
    privacy: PrivacySection = DEFAULT_PRIVACY
    sharing: SharingSection = DEFAULT_SHARING

    @property
    def is_starter(self) -> bool:
        """True if the embedded model is served."""
        return Path(self.base) == STARTER


def report_folders(settings: Settings) -> list[Path]:
    """The folders of reports: the bucket's first, as it outlives the other; one that is not mounted is left out."""
    state = settings.state
    return [*([state / REPORTS] if state is not None and state.is_dir() else []), settings.home / REPORTS]


def load_settings(
    space_yaml: Path = SPACE_YAML, env: Mapping[str, str] | None = None, *, has_gpu: bool | None = None
) -> Settings:
    """Read and check everything; a `UserError` names key, value and remedy.

    By default `has_gpu` is what torch finds, and `env` the process's environment.
    """
    env = os.environ if env is None else env
    file = read_space_file(space_yaml)
    override = env.get("LOOKTHINK_BASE", "").strip()
    base, reason = _choose_base(file.model.base, override, has_gpu)
    pinned = env.get("LOOKTHINK_ADAPTER", "").strip()
    state = env.get("LOOKTHINK_STATE", "").strip()
    return Settings(
        base=base,
        base_reason=reason,
        named_base=base if override else check_base("model.base in space.yaml", file.model.base),
        adapter=_choose_adapter(base, file.model, pinned),
        adapter_is_pinned=bool(pinned),
        home=home_folder(env),
        state=_folder("LOOKTHINK_STATE", state) if state else None,
        limits=file.limits,
        space=file.space,
        privacy=file.privacy,
        sharing=file.sharing,
        training=_with_bucket(file.training, env.get("LOOKTHINK_BUCKET", "").strip()),
    )


def home_folder(env: Mapping[str, str] | None = None) -> Path:
    """`home` of the settings, without the others, for which torch is loaded. Raises `UserError`."""
    value = (os.environ if env is None else env).get("LOOKTHINK_HOME", "").strip()
    home = _folder("LOOKTHINK_HOME", value or DEFAULT_HOME)
    if home.exists() and not home.is_dir():
        raise UserError(f"LOOKTHINK_HOME is {home}, which is a file; name a folder.")
    return home


def _folder(variable: str, value: str) -> Path:
    """The folder that a variable names, where `~` is the home of this user."""
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:  # a container's user may have none
        raise UserError(
            f"{value} cannot be found: this user has no home folder and HOME is not set. Set {variable} to a folder "
            "that this user may write to, or set HOME."
        ) from error


def _with_bucket(section: TrainingSection, bucket: str) -> TrainingSection:
    """The section with `LOOKTHINK_BUCKET`, by which `python -m training deploy` names the bucket that it made."""
    if not bucket:
        return section
    if not is_hub_name(bucket):
        raise UserError(f"LOOKTHINK_BUCKET is {bucket!r}; name a bucket of the Hub as owner/name.")
    return section.model_copy(update={"bucket": bucket})


def _choose_base(of_file: str, override: str, has_gpu: bool | None) -> tuple[str, str]:
    """The base and the reason for it."""
    if override:
        base = check_base("LOOKTHINK_BASE", override)
        shown = "the starter" if base == str(STARTER) else base
        return base, f"LOOKTHINK_BASE is set to {shown}."
    base = check_base("model.base in space.yaml", of_file)
    if base == str(STARTER):
        return base, "space.yaml names the starter."
    if _has_cuda() if has_gpu is None else has_gpu:
        return base, f"space.yaml names {base}, and this machine has a GPU for it."
    return str(STARTER), f"space.yaml names {base} for a machine with a GPU; this one has none, so the starter answers."


def _choose_adapter(base: str, model: ModelSection, override: str) -> str | None:
    """The adapter that belongs to the base: one of another base would not fit."""
    if override:
        return _check_adapter("LOOKTHINK_ADAPTER", override)
    if base == check_base("model.base in space.yaml", model.base) and model.adapter:
        return _check_adapter("model.adapter in space.yaml", model.adapter)
    own = STARTER / "adapter"
    return str(own) if base == str(STARTER) and own.is_dir() else None


def check_base(key: str, value: str) -> str:
    """The path or Hub id of a base. Raises `UserError`, which calls the setting `key`, for one that cannot be."""
    if value == STARTER_NAME:
        return str(STARTER)
    folder = Path(value).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"{key} is {value}, a folder without config.json; name one that holds a model.")
        return str(STARTER) if folder.resolve() == STARTER.resolve() else str(folder)
    if is_hub_name(value):
        return value
    raise UserError(f"{key} is {value!r}, neither a folder here nor a Hub id. Use starter, a folder or owner/name.")


def _check_adapter(key: str, value: str) -> str:
    folder = Path(value).expanduser()
    if folder.is_dir():
        return str(folder)
    if split_revision(value):
        return value
    raise UserError(
        f"{key} is {value!r}, neither a folder here nor on the Hub. Name one, owner/name or owner/name@revision."
    )


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
