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

from inference.common.settings import STARTER
from inference.engine.engine import Request
from inference.prompt.format import build_messages


class Peer:
    """The base, and the base with an adapter called `tuned`, each a model of its own."""

    def __init__(self, adapter: Path) -> None:
        self._processor = AutoProcessor.from_pretrained(STARTER)
        self._processor.tokenizer.padding_side = "left"
        self._models: dict[str | None, Any] = {
            None: _base().eval(),
            "tuned": PeftModel.from_pretrained(_base(), adapter, "tuned").eval(),
        }

    def generate(self, *rows: Request) -> None:
        """Complete rows of one adapter and one length greedily, as one batch, from their pictures on."""
        length = {"max_new_tokens": rows[0].max_new_tokens, "min_new_tokens": rows[0].max_new_tokens}
        template = self._processor.apply_chat_template
        texts = [template(build_messages(row.question), add_generation_prompt=True) for row in rows]
        pictures = [[row.image] for row in rows]
        inputs = self._processor(text=texts, images=pictures, padding=True, return_tensors="pt")
        made = self._models[rows[0].adapter].generate(**inputs, **length, do_sample=False)
        if made.shape[1] - inputs.input_ids.shape[1] != rows[0].max_new_tokens:
            raise RuntimeError("transformers' completions do not have the length that was asked for")


def _base() -> Any:
    return AutoModelForImageTextToText.from_pretrained(STARTER, dtype=torch.float32)
