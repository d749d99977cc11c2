"""An adapter at another strength: its low-rank term multiplied, so that 0 is the base and 1 the adapter as trained.

    write_scaled(adapter, 0.75, target)       # a folder that is served as any adapter
    read_scaled(target).strength              # 0.75

The term of LoRA is `alpha / r * B A` (Hu et al. 2021); a strength multiplies B, so no setting changes its meaning.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import Field, ValidationError
from safetensors import safe_open
from safetensors.torch import save_file

from inference.adapters.record import LEARN_FOLDER, SCALED_FILE, adapter_digest, adapter_name, scaled_from
from inference.common.errors import UserError
from inference.common.files import write_json
from inference.common.validation import Strict
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE
from inference.prompt.system_prompt import PROMPT_FILE

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
STRENGTHS_FILE = "strengths.json"
"""In the record of an adapter: accuracy and format at each strength (`training.learn.record.Strengths`)."""


class Scaled(Strict):
    """The content of `SCALED_FILE`."""

    of: str = Field(min_length=1, max_length=200)
    """The name of the adapter as trained."""
    of_digest: str = Field(pattern="^[0-9a-f]{64}$")
    strength: float = Field(gt=0, le=STRENGTHS[-1])
    digest: str
    """Of the adapter at the strength."""


def write_scaled(adapter: Path, strength: float, target: Path) -> None:
    """Writes the adapter at a strength to a new folder, with its settings and its system prompt.

    Its origin and the record of the strengths go along; the rest of the record is of the adapter as trained. Raises
    `UserError` for a strength that is not above 0 and at most the greatest of `STRENGTHS`, and for an adapter that is
    at another strength itself.
    """
    if (before := read_scaled(adapter)) is not None:
        raise UserError(
            f"{adapter_name(adapter)} is {before.of} at {100 * before.strength:g} % of its strength. Choose "
            f"{before.of}, of which all strengths are made."
        )
    if not 0 < strength <= STRENGTHS[-1]:
        raise UserError(f"The strength is {strength:g}; give more than 0 and at most {STRENGTHS[-1]:g}.")
    target.mkdir(parents=True)
    for name in (CONFIG_FILE, PROMPT_FILE):
        if (adapter / name).is_file():
            shutil.copyfile(adapter / name, target / name)
    with safe_open(adapter / WEIGHTS_FILE, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    for name, tensor in tensors.items():
        if ".lora_B." in name:
            tensors[name] = (tensor.float() * strength).to(tensor.dtype)
    save_file(tensors, target / WEIGHTS_FILE)
    about = Scaled(
        of=adapter_name(adapter), of_digest=adapter_digest(adapter), strength=strength, digest=adapter_digest(target)
    )
    write_json(target / SCALED_FILE, about.model_dump())
    measured = part_of(adapter, STRENGTHS_FILE)
    if measured is not None:
        (target / LEARN_FOLDER).mkdir()
        shutil.copyfile(measured, target / LEARN_FOLDER / STRENGTHS_FILE)


def read_scaled(adapter: Path) -> Scaled | None:
    """The origin of an adapter at another strength; `None` for one as trained, and for a damaged file."""
    try:
        return Scaled.model_validate(scaled_from(adapter))
    except ValidationError:
        return None


def part_of(adapter: Path, name: str) -> Path | None:
    """A file of the record beside an adapter; `None` if there is none.

    Neither the folder nor the file may be a link, which could lead anywhere, and a pipe would be waited for.
    """
    folder = adapter / LEARN_FOLDER
    path = folder / name
    return path if not folder.is_symlink() and not path.is_symlink() and path.is_file() else None
