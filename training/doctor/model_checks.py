"""Lines on the model: the base, its prompts, the engine beside transformers, attention, and each fast path.

Two greedy completions agree if they have the same tokens up to a tie: where they part, the logits of both tokens lie
within `TIE` of each other, and what follows is another text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from inference.common.errors import UserError, first_line
from inference.engine.engine import Engine, Request
from inference.engine.fast_paths import TITLES, FastPaths
from inference.model.families import join_encodings
from training.doctor.report import Status
from training.doctor.subject import Reference, Subject
from training.runs.estimate.run_estimate import SMALL_PARAMETERS
from training.runs.estimate.shapes import sizes_of

TIE = {torch.float32: 1e-3, torch.bfloat16: 0.5}
"""Logits this near are a tie: bf16 has steps of 0.125 from 16 to 32, and each side rounds in every layer."""
ATTENTION_ERROR = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Largest difference from attention in fp64, of outputs about 1."""
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
}
NOT_HERE = "not here: "
"""The beginning of the evidence of a line that this machine cannot have."""
TIMED_ROWS, TIMED_TOKENS = 16, 32
FASTER = 0.98
"""A path that takes more than this share of the plain path's time is not used."""
_TO_US = "attach this report to a bug report"


@dataclass(frozen=True)
class Finding:
    """The result of one look."""

    status: Status
    evidence: str
    remedy: str = ""


def too_large(subject: Subject) -> Finding | None:
    """The finding where a processor would take hours for the base; `None` elsewhere."""
    config = subject.config
    if torch.cuda.is_available():
        return None
    try:
        parameters = sizes_of(config.base, config.base_revision).parameters
    except (UserError, ValueError):  # loading says what is wrong with it
        return None
    if parameters <= SMALL_PARAMETERS:
        return None
    words = f"{NOT_HERE}this machine has no card, and {config.base} has {parameters / 1e9:.1f} billion parameters"
    return Finding("skip", f"{words}; a Job has one")


def base_loads(subject: Subject) -> Finding:
    """Loading of model and processor, and of the engine on them. Raises `UserError`."""
    if (obstacle := too_large(subject)) is not None:
        return obstacle
    started = time.perf_counter()
    model, _ = subject.loaded
    seconds = time.perf_counter() - started
    way = "the plain way" if subject.engine.is_plain else "by the engine"
    kind = f"{model.config.model_type}, {model.num_parameters() / 1e6:,.1f} M parameters in {model.dtype}"
    return Finding("pass", f"{kind.replace('torch.', '')}, loaded in {seconds:.1f} s; it answers {way}")


def prompts_agree(subject: Subject) -> Finding:
    """The tokens of each prompt: the processor's own template beside the project's prompt."""
    lengths = []
    for request in subject.requests:
        pictures = join_encodings(subject.engine.encode(request.images))
        ours = subject.engine.tokenizer.prompt_ids(request, pictures.placeholders)
        theirs = subject.processor_inputs(request)["input_ids"][0].tolist()
        if ours != theirs:
            at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
            words = " and ".join(repr(_token(subject.engine, ids[at : at + 1])) for ids in (theirs, ours))
            return Finding(
                "fail",
                f"the processor writes {len(theirs)} tokens, the project {len(ours)}; they part at token {at}: {words}",
                "check that tokenizer.json, chat_template.jinja and the processor's settings of the base belong "
                "together, or choose another base",
            )
        lengths.append(len(ours))
    return Finding("pass", f"{len(lengths)} prompts of {min(lengths)} to {max(lengths)} tokens are the processor's own")


def tokens_agree(subject: Subject) -> Finding:
    """Greedy tokens of the engine, rows together, beside transformers' `generate`, each row alone."""
    completions = [list(c.token_ids) for c in subject.engine.generate(subject.requests)]
    return _compared(completions, subject.references, _dtype(subject), "the engine", "choose another base")


def attention_agrees(subject: Subject) -> Finding:
    """torch's attention kernels beside plain arithmetic in fp64, in the shapes of the model's decoder."""
    model, _ = subject.loaded
    text, dtype = model.config.get_text_config(), model.dtype
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, heads, 96, width, generator=generator).to(subject.device, dtype) for _ in range(3)
    )
    exact = F.scaled_dot_product_attention(query.double(), key.double(), value.double(), is_causal=True)
    found, missing = {}, []
    for name, backend in {"torch's choice": None, **BACKENDS}.items():
        try:
            if backend is None:
                made = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            else:
                with sdpa_kernel(backend):
                    made = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        except RuntimeError:  # torch's words for a kernel that this device, dtype or shape does not have
            missing.append(name)
        else:
            found[name] = float((made.double() - exact).abs().max())
    limit = ATTENTION_ERROR[dtype]
    figures = ", ".join(f"{name} {error:.1e}" for name, error in found.items())
    evidence = f"largest difference from exact arithmetic, at most {limit:g} allowed: {figures}"
    evidence += f"; not here: {', '.join(missing)}" if missing else ""
    if not max(found.values()) <= limit:
        return Finding("fail", evidence, f"another torch or driver may have a sound kernel; {_TO_US}")
    return Finding("pass", evidence)


@dataclass(frozen=True)
class FastPathCheck:
    """A fast path beside the plain one: the same tokens, then the time of both. It is proven if right and faster."""

    name: str

    def __call__(self, subject: Subject) -> Finding:
        if subject.engine.is_plain:
            return Finding("skip", "this base goes the plain way, which has no fast paths")
        title = TITLES[self.name]
        try:
            finding = self._compare(subject)
        except Exception as error:  # a capture, a driver or a downloaded kernel may raise anything: it is not used then
            words = f"{type(error).__name__}: {first_line(error)}"
            return Finding("warn", f"{title} fail here: {words}", f"nothing: the plain path is used; {_TO_US}")
        return finding

    def _compare(self, subject: Subject) -> Finding:
        fast = subject.engine_with(FastPaths(**{self.name: True}))
        missing = self.missing(fast)
        completions = [list(c.token_ids) for c in fast.generate(subject.requests)]
        again = [list(c.token_ids) for c in fast.generate(subject.requests)]  # with the graphs that are there
        missing = missing or self.missing_after(fast)
        if missing:
            return Finding("warn", missing, "nothing: the plain path is used")
        for made in (completions, again):
            found = _compared(made, subject.references, _dtype(subject), "it", f"{_TO_US}; the plain path is used")
            if found.status != "pass":
                return replace(found, status="warn")
        plain_ms, fast_ms = (_milliseconds(engine, subject.requests) for engine in (subject.engine, fast))
        times = f"{fast_ms:.3g} ms a step of {TIMED_ROWS} rows, {plain_ms:.3g} on the plain path"
        if fast_ms > FASTER * plain_ms:
            return Finding("pass", f"{found.evidence}; {times}: not faster, so the plain path is used")
        subject.proven.add(self.name)
        return Finding("pass", f"{found.evidence}; {times}; it is used from the next start on")

    def missing(self, engine: Engine) -> str:
        """A sentence if the path cannot be taken, before anything runs."""
        if self.name == "flash_attention" and not engine.family.use_flash_attention():
            return "no FlashAttention for this base here: `pip install kernels` brings it"
        return ""

    def missing_after(self, engine: Engine) -> str:
        """A sentence if the path was not taken."""
        return "no graph was captured" if self.name == "cuda_graphs" and not engine.num_graphs else ""


def _compared(
    completions: Sequence[list[int]], references: Sequence[Reference], dtype: torch.dtype, who: str, remedy: str
) -> Finding:
    """Completions beside the references of the same requests."""
    tie, num_same, ties = TIE[dtype], 0, 0
    for number, (made, reference) in enumerate(zip(completions, references, strict=True), 1):
        at = next((i for i, (a, b) in enumerate(zip(made, reference.tokens)) if a != b), None)
        if at is None:
            if len(made) != len(reference.tokens):
                words = f"row {number} has {len(made)} tokens by {who}, {len(reference.tokens)} by generate"
                return Finding("fail", words, remedy)
            num_same += len(made)
            continue
        gap = float(reference.logits[at, reference.tokens[at]] - reference.logits[at, made[at]])
        if not gap <= tie:
            words = f"row {number} parts from generate at token {at}: the logits there are {gap:.3g} apart"
            return Finding("fail", f"{words}, and at most {tie:g} is a tie", remedy)
        num_same += at
        ties += 1
    parted = f"; {ties} of {len(references)} rows part at a tie (logits within {tie:g})" if ties else ""
    return Finding("pass", f"{num_same} greedy tokens in {len(references)} rows are those of generate{parted}")


def _milliseconds(engine: Engine, requests: Sequence[Request]) -> float:
    """Milliseconds of a decode step of `TIMED_ROWS` rows, the faster of two rounds after one to warm up."""
    rows = [
        replace(requests[i % len(requests)], max_new_tokens=TIMED_TOKENS, min_new_tokens=TIMED_TOKENS)
        for i in range(TIMED_ROWS)
    ]
    seconds = []
    for _ in range(3):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        started = time.perf_counter()
        engine.token_ids(rows)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 1000 * min(seconds[1:]) / TIMED_TOKENS


def _dtype(subject: Subject) -> torch.dtype:
    return subject.loaded[0].dtype


def _token(engine: Engine, ids: list[int]) -> str:
    return str(engine.tokenizer.hf_tokenizer.decode(ids)) if ids else "its end"
