"""transformers' own generate on the starter, with an adapter by PEFT: what the engine is measured against."""

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
    """The base and an adapter on it, called `tuned`."""

    def __init__(self, adapter: Path) -> None:
        model = AutoModelForImageTextToText.from_pretrained(STARTER, dtype=torch.float32)
        self._processor = AutoProcessor.from_pretrained(STARTER)
        self._model: Any = PeftModel.from_pretrained(model, adapter, "tuned").eval()

    def inputs(self, row: Row) -> Any:
        """The row's prompt and picture, through the processor."""
        text = self._processor.apply_chat_template(build_messages(row.question), add_generation_prompt=True)
        return self._processor(text=[text], images=[row.image], return_tensors="pt")

    def generate(self, row: Row, inputs: Any = None) -> None:
        """Complete the row greedily, `max_new_tokens` long, from its picture on, or from `inputs` made before."""
        length = {"max_new_tokens": row.max_new_tokens, "min_new_tokens": row.max_new_tokens}
        inputs = self.inputs(row) if inputs is None else inputs
        made = self._model.generate(**inputs, **length, do_sample=False, adapter_names=[row.adapter or "__base__"])
        if made.shape[1] - inputs.input_ids.shape[1] != row.max_new_tokens:
            raise RuntimeError("transformers' completion does not have the length that was asked for")
