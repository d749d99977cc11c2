"""The engine: one base model, many adapters. Requests, each with its own adapter, decode together and are streamed.

engine = Engine.load("inference/starter")
engine.add_adapter("tuned", Path("inference/starter/adapter"))
requests = [Request(image, "How many circles?"), Request(image, "How many circles?", adapter="tuned")]
for updates in engine.stream(requests):
    for index, text in updates:
        print(index, text)
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from inference.common.errors import UserError
from inference.engine.batch import Batch
from inference.engine.fast_paths import PLAIN, FastPaths, proven_here
from inference.engine.generation import Generation
from inference.engine.plain import PlainBatch
from inference.engine.scheduler import Scheduler
from inference.engine.sequence import Sequence, SequenceGroup
from inference.model.families import FAMILIES, ImageEncoding, is_known, join_encodings
from inference.model.image_encoder import ImageEncoder
from inference.model.known_pictures import KnownPictures
from inference.model.loading import load_base
from inference.model.lora_file import read_adapter
from inference.model.lora_layers import Adapter, route_linears, scaled
from inference.model.plain import PlainFamily, PlainTokenizer
from inference.model.request import Completion, Request, check_request
from inference.model.tokenizer import ChatTokenizer
from inference.prompt.system_prompt import read_system_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

__all__ = ["Completion", "Engine", "Generation", "Request"]

log = logging.getLogger(__name__)
MAX_NUM_SEQS = 64
"""Sequences that decode together unless another number is given; memory is taken as they come."""


class Engine:
    """A base model on a device, with the adapters it can serve. Thread-safe."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        base_name: str,
        max_num_seqs: int = MAX_NUM_SEQS,
        fast: FastPaths = PLAIN,
    ) -> None:
        """Takes the model over: its linear layers are replaced by ones that know adapters.

        At most `max_num_seqs` sequences decode together; further ones wait. `fast` names the fast paths to take
        (`inference.engine.fast_paths`); without CUDA they are only slower.
        """
        self.max_num_seqs = max_num_seqs
        self.base_name = base_name
        self.num_parameters = model.num_parameters()
        self.device: torch.device = model.device
        self.lock = threading.Lock()
        """Held during one decode step, or while pictures are encoded."""
        self.is_plain = not is_known(model.config.model_type)
        """True for a family that the engine does not know: every row takes its steps alone."""
        kind = PlainTokenizer if self.is_plain else ChatTokenizer
        self.tokenizer: ChatTokenizer = kind(processor, model.config, model.generation_config)
        self._model = model.eval().requires_grad_(False)
        self.family = FAMILIES.get(model.config.model_type, PlainFamily)(model, processor)
        """Takes pictures and counts positions as this family of models does."""
        text = model.config.get_text_config()
        vocabulary = self.tokenizer.vocabulary
        router = route_linears(model)
        batch: Batch | PlainBatch
        if isinstance(self.tokenizer, PlainTokenizer):
            batch = PlainBatch(self._model, self.tokenizer, router)
        else:
            batch = Batch(self._model, self.family, router, vocabulary, fast.cuda_graphs)
        self._batch = batch
        self._scheduler = Scheduler(batch, max_num_seqs, vocabulary.ends, text.hidden_size, fast.runs_ahead)
        if fast.flash_attention:
            self.family.use_flash_attention()
        self.encoder = ImageEncoder(self.family, self.lock, KnownPictures.read(base_name))
        self._adapters: dict[str, Adapter] = {}
        self._system_prompts: dict[str, str | None] = {}
        self.repetition_penalty = float(model.generation_config.repetition_penalty or 1.0)
        """The base's own, for requests that name none."""
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
        max_num_seqs: int = MAX_NUM_SEQS,
    ) -> Engine:
        """Load the base at a local path or of a Hub id; by default on the GPU in bf16, else on the CPU in fp32.

        `revision` is a branch, a tag or a commit of a base on the Hub. The fast paths are those that the doctor has
        seen right on this machine. Raises `UserError` if there is no such base or its family is unknown.
        """
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype or (torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16)
        model, processor = load_base(base, revision, dtype)
        model.to(device)  # type: ignore[arg-type]  # transformers' own annotation is of the bare function
        fast, words = proven_here(str(base), model.device)
        log.info("%s", words)
        return cls(model, processor, str(base), max_num_seqs, fast)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters held, in the order they came."""
        return tuple(self._adapters)

    @property
    def num_graphs(self) -> int:
        """CUDA graphs that are held."""
        return self._batch.num_graphs

    @property
    def num_free_seqs(self) -> int:
        """Sequences that would run in the next step if they were asked for now."""
        return self._scheduler.num_free

    def sleep(self) -> None:
        """Free the GPU: the model waits in the machine's memory until `wake_up`. Nothing may be running.

        Adapters stay where they are: they are small beside the model.
        """
        self._move(torch.device("cpu"))

    def wake_up(self) -> None:
        """Bring the model back to the GPU. Raises torch's error if there is not enough memory."""
        self._move(self.device)

    def release(self) -> None:
        """Give back the KV cache's memory until the next sequences come. Nothing may be running."""
        with self.lock:
            self._scheduler.tidy()
            self._scheduler.release()

    def _move(self, device: torch.device) -> None:
        with self.lock:
            self.encoder.forget()
            self._scheduler.tidy()
            self._scheduler.release()
            self._model.to(device)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def add_adapter(self, name: str, path: str | Path, strength: float = 1.0) -> None:
        """Hold the LoRA at `path` under `name`, in the place of an earlier one of that name.

        Its terms are multiplied by `strength`. Generations under way keep the one they began with. Raises `UserError`
        if it cannot be served.
        """
        adapter = self.read_adapter(path)
        self._adapters[name] = adapter if strength == 1 else scaled(adapter, strength)
        self._system_prompts[name] = read_system_prompt(Path(path))

    def read_adapter(self, path: str | Path) -> Adapter:
        """The LoRA at `path`, for requests to bring along (`Request.get_adapter`); the engine does not keep it.

        Runs beside decode steps. Raises `UserError` if it cannot be served.
        """
        adapter = self.check_adapter(path)
        return {name: factors.on(self.device) for name, factors in adapter.items()}  # the model may be asleep

    def check_adapter(self, path: str | Path) -> Adapter:
        """As `read_adapter`, left on the CPU."""
        prompt = read_system_prompt(Path(path))
        if prompt is not None:
            self.tokenizer.check_is_text(prompt)
        return read_adapter(Path(path), self._model, self.base_name)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; generations that use it go on."""
        self._adapter(name)
        del self._adapters[name], self._system_prompts[name]

    def system_prompt(self, name: str) -> str | None:
        """The system prompt of an adapter that is held; `None` if it has none of its own."""
        self._adapter(name)
        return self._system_prompts[name]

    def stream(
        self, requests: Collection[Request], stop: threading.Event | None = None, priority: float = 0.0
    ) -> Generation:
        """Begin to complete the requests together; iterate the result. Raises `UserError` for one that is refused.

        Of requests that wait, those of a lower `priority` are read first.
        """
        started = time.perf_counter()
        for request in requests:
            check_request(request)
            if request.prefix_logprobs and self.is_plain:
                raise UserError(
                    "The engine does not know this family of models, and gives no log-probabilities of it. Choose a "
                    "base of a family that it knows."
                )
        adapters = [self._adapter_of(request) for request in requests]
        images = self._encodings(requests)
        sequences = []
        prompts: dict[tuple[str, str | None, str, tuple[str, ...]], tuple[tuple[int, ...], int]] = {}
        for index, (request, image, adapter) in enumerate(zip(requests, images, adapters, strict=True)):
            text = request.question, request.system_prompt, request.prefix, image.placeholders
            if text not in prompts:  # a group has one
                ids = tuple(self.tokenizer.prompt_ids(request, image.placeholders))
                prompts[text] = ids, len(self.tokenizer.prefix_ids(request))
            ids, num_prefix_tokens = prompts[text]
            self._check_length(request, len(ids))
            sequence = Sequence(index, request, ids, num_prefix_tokens, image, adapter, priority, started)
            penalty = request.repetition_penalty
            sequence.repetition_penalty = self.repetition_penalty if penalty is None else penalty
            sequences.append(sequence)
        group = SequenceGroup(sequences, stop)
        generation = Generation(group, self.tokenizer, self.step, self._give_up)
        with self.lock:
            self._scheduler.add(group)
        return generation

    def encode(self, images: Collection[Image.Image]) -> list[ImageEncoding]:
        """One encoding per RGB picture; each goes through processor and tower once, and equal ones share theirs."""
        with torch.inference_mode():
            return self.encoder.encode(images)

    def prepare(self, images: Collection[Image.Image]) -> None:
        """Do the part of `encode` that does not need the model, ahead of time. For any thread."""
        with torch.inference_mode():
            self.encoder.prepare(images)

    def forget_pictures(self, seconds: float) -> int:
        """Forget what was read of pictures that came longer ago; returns how many are left. For any thread."""
        return self.encoder.drop_older(seconds)

    def generate(self, requests: Collection[Request], stop: threading.Event | None = None) -> list[Completion]:
        """Complete the requests together; one completion per request, in order."""
        generation = self.stream(requests, stop)
        while not generation.is_over:
            self.step(generation.has_ended)
            generation.skip()
        return generation.completions

    def token_ids(self, requests: Collection[Request]) -> list[list[int]]:
        """The new tokens of each request without their text, as rollouts want them."""
        generation = self.stream(requests)
        while not generation.has_ended():
            self.step(generation.has_ended)
        return generation.token_ids()

    def step(self, unless: Callable[[], bool] | None = None) -> None:
        """Make one step of all running sequences, whoever asked for them; waiting ones take the free rows.

        For callers that read several generations (`Generation.read`); iterating a generation makes its own steps.
        Nothing is done if `unless` is true once the engine is free: another thread may have made the step meanwhile.
        """
        with self.lock, torch.inference_mode():
            if unless is None or not unless():
                self._scheduler.step()

    def _give_up(self, group: SequenceGroup) -> None:
        """Remove the sequences of a generation that was collected, now or before the next step if one is under way.

        The garbage collector calls it on any thread, so it waits for nothing.
        """
        group.given_up = True
        if self.lock.acquire(blocking=False):
            try:
                with torch.inference_mode():
                    self._scheduler.tidy()
            finally:
                self.lock.release()

    def _encodings(self, requests: Collection[Request]) -> list[ImageEncoding]:
        """An encoding of each request's pictures; requests of equal pictures share theirs."""
        missing = [request.images for request in requests if request.encoding is None]
        parts = iter(self.encode(list(itertools.chain.from_iterable(missing))) if missing else ())
        joined: dict[tuple[int, ...], ImageEncoding] = {}
        encodings = []
        with torch.inference_mode():
            for images in missing:
                own = [next(parts) for _ in images]
                key = tuple(map(id, own))
                if key not in joined:
                    joined[key] = join_encodings(own)
                encodings.append(joined[key])
        found = iter(encodings)
        return [request.encoding or next(found) for request in requests]

    def _adapter_of(self, request: Request) -> Adapter | None:
        if request.adapter is None:
            return None
        return request.get_adapter() if request.get_adapter is not None else self._adapter(request.adapter)

    def _adapter(self, name: str) -> Adapter:
        adapter = self._adapters.get(name)
        if adapter is None:
            raise UserError(f"There is no adapter {name!r}; the engine holds {', '.join(self.adapters) or 'none'}.")
        return adapter

    def _check_length(self, request: Request, num_prompt_tokens: int) -> None:
        if num_prompt_tokens + request.max_new_tokens > self.max_length:
            shown = "Pictures" if request.more_images else "Picture"
            raise UserError(
                f"{shown} and question take {num_prompt_tokens:,} tokens; with up to {request.max_new_tokens:,} for "
                f"the completion that is more than the model's {self.max_length:,}. Shorten the question or lower the "
                "length."
            )
