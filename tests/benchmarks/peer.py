"""transformers' own generate on the starter: what the engine is measured against.

The base is without PEFT, and the adapter is as PEFT adds a single one, not merged: neither pays for rows of several
adapters (`adapter_names` would take a third more time), which the engine's steps can always have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from inference.engine import Row
from inference.format import build_messages
from inference.settings import STARTER


class Peer:
    """The base, and the base with an adapter called `tuned`, each a model of its own."""

    def __init__(self, adapter: Path) -> None:
        self._processor = AutoProcessor.from_pretrained(STARTER)
        self._models: dict[str | None, Any] = {
            None: _base().eval(),
            "tuned": PeftModel.from_pretrained(_base(), adapter, "tuned").eval(),
        }

    def inputs(self, row: Row) -> Any:
        """The row's prompt and picture, through the processor."""
        text = self._processor.apply_chat_template(build_messages(row.question), add_generation_prompt=True)
        return self._processor(text=[text], images=[row.image], return_tensors="pt")

    def generate(self, row: Row, inputs: Any = None) -> None:
        """Complete the row greedily, `max_new_tokens` long, from its picture on, or from `inputs` made before."""
        length = {"max_new_tokens": row.max_new_tokens, "min_new_tokens": row.max_new_tokens}
        inputs = self.inputs(row) if inputs is None else inputs
        made = self._models[row.adapter].generate(**inputs, **length, do_sample=False)
        if made.shape[1] - inputs.input_ids.shape[1] != row.max_new_tokens:
            raise RuntimeError("transformers' completion does not have the length that was asked for")


def _base() -> Any:
    return AutoModelForImageTextToText.from_pretrained(STARTER, dtype=torch.float32)
