"""Loading of a base model with its processor, from a folder or the Hub, and of its layers without weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig

from inference.common.errors import UserError
from inference.model.families import check_family

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin


def load_base(base: str | Path, revision: str | None, dtype: torch.dtype) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Model, on the CPU, and processor. Raises `UserError` if they are missing, broken, or of an unknown family."""
    shown = f"{base} at revision {revision}" if revision else str(base)
    try:
        check_family(str(base), PreTrainedConfig.get_config_dict(base, revision=revision)[0].get("model_type"))
        processor = AutoProcessor.from_pretrained(base, revision=revision)
        model = AutoModelForImageTextToText.from_pretrained(
            base, revision=revision, dtype=dtype, attn_implementation="sdpa", use_safetensors=True
        )
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"The base {shown} cannot be loaded on this machine: {first_line(error)}") from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"The base {shown} cannot be loaded: {first_line(error)} Name a folder that holds a model in safetensors "
            "with its processor, or a Hub id that this machine can reach."
        ) from error
    return model, processor


def base_without_weights(base: str, revision: str | None = None) -> PreTrainedModel:
    """The base's layers with their shapes on the meta device, in fp32; they take no memory.

    Raises `UserError` if the base's configuration cannot be read.
    """
    try:
        config = AutoConfig.from_pretrained(base, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(f"The configuration of the base {base} cannot be read: {first_line(error)}") from error
    return model_without_weights(config)


def model_without_weights(config: PreTrainedConfig) -> PreTrainedModel:
    """The layers that a configuration describes, as `base_without_weights` gives them."""
    with torch.device("meta"):  # fp32 is torch's default: another dtype would be set for all threads meanwhile
        return AutoModelForImageTextToText.from_config(config, dtype=torch.float32)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type's name if it has none."""
    return next(filter(None, (line.strip() for line in str(error).splitlines())), type(error).__name__)
