"""An adapter merged into its base: a whole model that needs no PEFT.

    write_merged("starter", Path("adapters/starter-adapter"), Path("merged"))
    vllm_line("Qwen/Qwen2.5-VL-3B-Instruct", "charts", Path("adapters/charts"))

The weights are bound by the base's licence (`training.hub.publish.licence`).
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from inference.common.errors import UserError
from inference.common.files import read_json
from inference.model.lora_file import CONFIG_FILE

MAX_DOWNLOAD_BYTES = 1_000_000_000
"""Of a base whose merged weights the page makes; for a larger one it shows the command."""


def write_merged(base: str, adapter: Path, target: Path, revision: str | None = None) -> None:
    """Writes base and adapter as one model, with its processor, into the folder `target`.

    The weights are in the precision of the base's files. Raises `UserError` where the folder is not empty, or base and
    adapter cannot be loaded.
    """
    from peft import PeftModel
    from transformers import AutoConfig

    from inference.common.settings import base_source
    from inference.model.loading import load_base

    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target} is not empty. Name a folder that does not exist yet.")
    source = base_source(base)
    dtype = AutoConfig.from_pretrained(source, revision=revision).dtype
    model, processor = load_base(source, revision, dtype)
    try:
        merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
        merged.save_pretrained(target)
        processor.save_pretrained(target)
    except (OSError, ValueError, RuntimeError) as error:
        shutil.rmtree(target, ignore_errors=True)
        raise UserError(f"{adapter.name} cannot be merged into {base}: {error}") from error


def merge_command(adapter: str, target: str = "merged") -> str:
    """The command that merges an adapter of this machine."""
    return shlex.join(["python", "-m", "training", "merge", adapter, target])


def vllm_line(base: str, name: str, adapter: Path) -> str:
    """The command that serves base and adapter with vLLM. `--max-lora-rank` is the adapter's own rank."""
    rank = (read_json(adapter / CONFIG_FILE) or {}).get("r")
    of_rank = ["--max-lora-rank", str(rank)] if type(rank) is int else []
    return shlex.join(["vllm", "serve", base, "--enable-lora", *of_rank, "--lora-modules", f"{name}={adapter}"])


def base_bytes(base: str) -> int | None:
    """Bytes of the weights of a base that is a folder here; `None` for one of the Hub."""
    from inference.common.settings import base_source

    folder = Path(base_source(base))
    if not folder.is_dir():
        return None
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
