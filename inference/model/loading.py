"""A base model with its processor, from a folder or the Hub, or one sentence that says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig

from inference.common.errors import UserError
from inference.model.families import check_family


def load_base(base: str | Path, revision: str | None, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model, on the CPU, and processor. Raises `UserError` if they are not there, broken, or of an unknown family."""
    named = f"{base} at revision {revision}" if revision else str(base)
    try:
        check_family(str(base), PreTrainedConfig.get_config_dict(base, revision=revision)[0].get("model_type"))
        processor = AutoProcessor.from_pretrained(base, revision=revision)
        model = AutoModelForImageTextToText.from_pretrained(
            base, revision=revision, dtype=dtype, attn_implementation="sdpa", use_safetensors=True
        )
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"The base {named} cannot be loaded on this machine: {_reason(error)}") from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"The base {named} cannot be loaded: {_reason(error)} Name a folder that holds a model in safetensors "
            "with its processor, or a Hub id that this machine can reach."
        ) from error
    return model, processor


def _reason(error: Exception) -> str:
    """The first line of what an error says."""
    return next(filter(None, (line.strip() for line in str(error).splitlines())), type(error).__name__)
