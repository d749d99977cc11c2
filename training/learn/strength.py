"""An adapter at another strength: its low-rank term multiplied, so that 0 is the base and 1 the adapter as trained.

    write_scaled(adapter, 0.75, target)       # a folder that is served as any adapter

The term of LoRA is `alpha / r * B A` (Hu et al. 2021); a strength multiplies B, so no setting changes its meaning.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from inference.common.errors import UserError
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE
from inference.prompt.system_prompt import PROMPT_FILE

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


def write_scaled(adapter: Path, strength: float, target: Path) -> None:
    """Writes the adapter at a strength to a new folder, with its settings and its system prompt.

    Raises `UserError` for a strength that is not above 0 and at most the greatest of `STRENGTHS`.
    """
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
