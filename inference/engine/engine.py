"""One base model, many adapters: rows, each with its own adapter, decoded together in slots and streamed.

engine = Engine.load("inference/starter")
engine.add_adapter("tuned", Path("inference/starter/adapter"))
rows = [Row(image, "How many circles?"), Row(image, "How many circles?", adapter="tuned")]
for updates in engine.stream(rows):
    for index, text in updates:
        print(index, text)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from inference.common.errors import UserError
from inference.engine.batch import Slots
from inference.engine.generation import Decode
from inference.engine.prefill import Prompt
from inference.engine.scheduler import Pool
from inference.engine.tickets import Ticket
from inference.model.families import ImageEncoding, make_family
from inference.model.image_encoder import ImageEncoder
from inference.model.loading import load_base
from inference.model.lora_file import read_adapter
from inference.model.lora_layers import Adapter, route_linears
from inference.model.request import Completion, Row, check_row
from inference.model.tokenizer import Tokens
from inference.prompt.system_prompt import read_system_prompt

__all__ = ["Completion", "Decode", "Engine", "Row"]

NUM_SLOTS = 64
"""Rows that decode together unless another number is asked for; memory is taken as they come."""


class Engine:
    """A base model on a device, with the adapters it can serve. Safe to use from several threads."""

    def __init__(
        self, model: Any, processor: Any, base_name: str, num_slots: int = NUM_SLOTS, static_steps: bool = False
    ) -> None:
        """Takes the model over: its linear layers are replaced by ones that know adapters.

        At most `num_slots` rows decode together; further ones wait for a slot. `static_steps` have tensors of fixed
        shape, and CUDA graphs hold them (`inference.engine.cuda_graph`); without CUDA they are only slower.
        """
        self.num_slots = num_slots
        self.base_name = base_name
        self.num_parameters = model.num_parameters()
        self.device: torch.device = model.device
        self.lock = threading.Lock()
        """Held for one step of a decode, or to encode pictures."""
        self.tokens = Tokens(processor, model.config, model.generation_config)
        self._model = model.eval().requires_grad_(False)
        self.family = make_family(model, processor)
        """How this make of model takes pictures and counts positions."""
        slots = Slots(self._model, self.family, route_linears(model), self.tokens.vocabulary, static_steps)
        text = model.config.get_text_config()
        is_apart = self.device.type == "cuda"  # a CPU has nothing to do while the host does something else
        self._pool = Pool(slots, num_slots, self.tokens.vocabulary.ends, text.hidden_size, is_apart)
        self._encoder = ImageEncoder(self.family, self.lock)
        self._adapters: dict[str, Adapter] = {}
        self._system_prompts: dict[str, str | None] = {}
        self.max_length: int = text.max_position_embeddings
        """Tokens that a prompt and its completion may have together."""

    @classmethod
    def load(
        cls,
        base: str | Path,
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        num_slots: int = NUM_SLOTS,
        cuda_graphs: bool = False,
    ) -> Engine:
        """The base at a local path or of a Hub id; on the GPU in bf16 if there is one, else on the CPU in fp32.

        `revision` is a branch, a tag or a commit of a base on the Hub. `cuda_graphs` hold the decode step where the
        device is CUDA; they have never been run. Raises `UserError` if there is no such base or it is of a family that
        the engine does not know.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype or (torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16)
        model, processor = load_base(base, revision, dtype)
        has_graphs = cuda_graphs and torch.device(device).type == "cuda"
        return cls(model.to(device), processor, str(base), num_slots, has_graphs)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters held, in the order they came."""
        return tuple(self._adapters)

    @property
    def num_image_preparations(self) -> int:
        """Pictures that went through the processor so far."""
        return self._encoder.num_preparations

    @property
    def num_image_encodings(self) -> int:
        """Pictures that went through the vision tower so far."""
        return self._encoder.num_encodings

    def leave_card(self) -> None:
        """Make room on the card: the model waits in the machine's memory, and no row may be in a slot
        until `come_back`.

        Adapters stay where they are: they are small beside it.
        """
        self._move(torch.device("cpu"))

    def come_back(self) -> None:
        """Onto the card again. Raises torch's error where there is not room."""
        self._move(self.device)

    def release(self) -> None:
        """Give back the memory that rows stood in, until the next ones come. No row may be in a slot."""
        with self.lock:
            self._pool.tidy()
            self._pool.release()

    def _move(self, device: torch.device) -> None:
        with self.lock:
            self._encoder.forget()
            self._pool.tidy()
            self._pool.release()
            self._model.to(device)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def add_adapter(self, name: str, path: str | Path) -> None:
        """Hold the LoRA at `path` under `name`, in the place of an earlier one of that name.

        Decodes that run already go on with the one they began with. Raises `UserError` if it cannot be served.
        """
        self._adapters[name] = self.read_adapter(path)
        self._system_prompts[name] = read_system_prompt(Path(path))

    def read_adapter(self, path: str | Path) -> Adapter:
        """The LoRA at `path`, ready for rows to bring along (`Row.held`); the engine does not keep it.

        Runs beside decodes. Raises `UserError` if it cannot be served.
        """
        prompt = read_system_prompt(Path(path))
        if prompt is not None:
            self.tokens.check_is_text(prompt)
        found = read_adapter(Path(path), self._model, self.base_name)
        return {name: f.on(self.device) for name, f in found.items()}  # the model may have left the card

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; decodes that use it go on."""
        self._adapter(name)
        del self._adapters[name], self._system_prompts[name]

    def system_prompt(self, name: str) -> str | None:
        """What an adapter that is held wants to be asked with; `None` if it has no system prompt of its own."""
        self._adapter(name)
        return self._system_prompts[name]

    def stream(self, rows: Sequence[Row], stop: threading.Event | None = None) -> Decode:
        """Begin to complete the rows together; iterate the result. Raises `UserError` at once for a row it refuses."""
        started = time.perf_counter()
        for row in rows:
            check_row(row)
        adapters = [self._adapter_of(row) for row in rows]
        images = self._encodings(rows)
        prompts, written = [], {}
        for row, image, adapter in zip(rows, images, adapters, strict=True):
            text = row.question, row.system_prompt, row.prefix, image.placeholder
            if text not in written:  # a group has one
                written[text] = tuple(self.tokens.prompt_ids(row, image.placeholder)), len(self.tokens.prefix_ids(row))
            ids, num_prefix_tokens = written[text]
            self._check_length(row, len(ids))
            prompts.append(Prompt(row, ids, num_prefix_tokens, image, adapter))
        decode = Decode(self, prompts, stop, started)
        with self.lock:
            self._pool.add(decode.ticket)
        return decode

    def encode(self, images: Sequence[Image.Image]) -> list[ImageEncoding]:
        """One encoding per RGB picture; each goes through processor and tower once, and equal ones share theirs."""
        with torch.inference_mode():
            return self._encoder.encode(images)

    def prepare(self, images: Sequence[Image.Image]) -> None:
        """Do what needs no turn at the engine: so much of `encode` is done before it is asked for. For any thread."""
        with torch.inference_mode():
            self._encoder.prepare(images)

    def generate(self, rows: Sequence[Row], stop: threading.Event | None = None) -> list[Completion]:
        """Complete the rows together; one completion per row, in order."""
        decode = self.stream(rows, stop)
        while not decode.is_over:
            self.step(decode.has_ended)
            decode.skip()
        return decode.completions

    def token_ids(self, rows: Sequence[Row]) -> list[list[int]]:
        """The new tokens of each row alone, as rollouts want them: no text is made of them."""
        decode = self.stream(rows)
        while not decode.has_ended():
            self.step(decode.has_ended)
        return decode.token_ids()

    def step(self, unless: Callable[[], bool] | None = None) -> None:
        """One token more for each row in a slot, whoever asked for it; rows that wait take the free slots.

        For who reads several decodes (`Decode.read`); iterating a decode makes its own steps. With `unless`, nothing is
        done if that is true once the engine is free: another thread may have made the step meanwhile.
        """
        with self.lock, torch.inference_mode():
            if unless is None or not unless():
                self._pool.step()

    def give_up(self, ticket: Ticket) -> None:
        """Nobody reads that decode any more: its rows leave now, or before the next step if one is made just now.

        Called wherever the decode is collected, so it waits for nothing.
        """
        ticket.given_up = True
        if self.lock.acquire(blocking=False):
            try:
                with torch.inference_mode():
                    self._pool.tidy()
            finally:
                self.lock.release()

    def _encodings(self, rows: Sequence[Row]) -> list[ImageEncoding]:
        missing = [row.image for row in rows if row.encoding is None]
        made = iter(self.encode(missing) if missing else ())
        return [row.encoding or next(made) for row in rows]

    def _adapter_of(self, row: Row) -> Adapter | None:
        if row.adapter is None:
            return None
        return row.held() if row.held is not None else self._adapter(row.adapter)

    def _adapter(self, name: str) -> Adapter:
        adapter = self._adapters.get(name)
        if adapter is None:
            raise UserError(f"There is no adapter {name!r}; the engine holds {', '.join(self.adapters) or 'none'}.")
        return adapter

    def _check_length(self, row: Row, num_prompt_tokens: int) -> None:
        if num_prompt_tokens + row.max_new_tokens > self.max_length:
            raise UserError(
                f"Picture and question take {num_prompt_tokens:,} tokens; with up to {row.max_new_tokens:,} for the "
                f"completion that is more than the model's {self.max_length:,}. Shorten the question or lower the "
                "length."
            )
