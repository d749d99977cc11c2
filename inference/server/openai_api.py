"""OpenAI's interface, as its clients call it: `/v1/chat/completions` and `/v1/models`.

    client = openai.OpenAI(base_url="http://127.0.0.1:7860/v1", api_key="none")
    client.chat.completions.create(model="base", messages=[{"role": "user", "content": [
        {"type": "text", "text": "How high is bar B?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,…"}}]}])

A model is the base or an adapter. The thought comes as `reasoning_content`, the answer as `content`. What would change
the completion and is not done here is refused, by its name. Shapes: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from inference.adapters.record import BASE_NAME
from inference.common.errors import Busy, UserError
from inference.common.logs import failure
from inference.prompt.format import parse_completion
from inference.prompt.image import read_data_uri
from inference.server.asking import Questions, last, visitor_of, watch
from inference.server.queue import EngineState
from inference.server.routes import BROKEN, CHAT_ROUTE, OPENAI, openai_error, release_body
from inference.server.service import Question, Service
from inference.server.submission import Progress, Submission

BUSY_SECONDS = 10
"""What a client is told to wait after "busy"."""
ALIVE_SECONDS = 10.0
"""The longest silence of a stream; proxies close one that is silent for long."""
_READ = ("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "seed")
_WITHOUT_EFFECT = (
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
)
_ONLY: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "stop": ("", []),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Parameters that are taken with these values alone, beside null: with them they change nothing."""


class Refused(UserError):
    """A request that is refused with a status other than 400, or for one parameter."""

    def __init__(self, message: str, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.status, self.code = param, status, code


@dataclass(frozen=True)
class _Asked:
    """A request, as far as it can be checked without its pictures."""

    model: str
    text: str
    uris: list[str]
    max_tokens: object
    temperature: object
    seed: object
    is_stream: bool
    with_usage: bool


class OpenAiApi:
    """The routes."""

    def __init__(self, service: Service) -> None:
        self._service, self._questions, self._created = service, Questions(service), int(time.time())

    @property
    def routes(self) -> list[Route]:
        """For the app's server."""
        return [
            Route(f"{OPENAI}/models", self._models, methods=["GET"]),
            Route(f"{OPENAI}/models/{{name:path}}", self._model, methods=["GET"]),
            Route(CHAT_ROUTE, self._complete, methods=["POST"]),
        ]

    @property
    def _names(self) -> list[str]:
        return [BASE_NAME, *self._service.offer.visible]

    def _described(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "lookthink"}

    async def _models(self, request: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": [self._described(name) for name in self._names]})

    async def _model(self, request: HttpRequest) -> Response:
        name = request.path_params["name"]
        try:
            self._check_model(name)
        except Refused as error:
            return self._refusal(error)
        return JSONResponse(self._described(name))

    async def _complete(self, request: HttpRequest) -> Response:
        try:
            asked = _read(b"".join([part async for part in request.stream()]))
            self._check_model(asked.model)
            submission = await self._questions.submit(lambda: self._question(asked), visitor_of(request))
        except Exception as error:
            return self._refusal(error)
        finally:
            release_body(request.scope)
        if asked.is_stream:
            events = _events(self._chunks(submission, asked))
            return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
        try:
            progress = await last(submission, request)
        except Exception as error:
            return self._refusal(error)
        parsed = parse_completion(progress.text)
        message = {"role": "assistant", "content": parsed.answer, "reasoning_content": parsed.thinking or None}
        message |= {"warning": progress.warning} if progress.warning else {}
        choice = {"index": 0, "message": message | {"refusal": None}, "logprobs": None}
        whole = self._head("chat.completion", asked.model)
        choice["finish_reason"] = _finish_reason(progress)
        return JSONResponse(whole | {"choices": [choice], "usage": _usage(progress)})

    def _question(self, asked: _Asked) -> Question:
        """The checked question; decodes the pictures."""
        images = [read_data_uri(uri) for uri in asked.uris]
        return self._service.read_question(
            images[0] if images else None,
            asked.text,
            adapter=asked.model,
            temperature=asked.temperature,
            max_new_tokens=asked.max_tokens,
            seed=asked.seed,
            more_images=images[1:],
        )

    def _check_model(self, name: str) -> None:
        if name not in self._names:
            words = f"There is no model {name[:80]!r} here; choose {', '.join(self._names)}."
            raise Refused(words, "model", 404, "model_not_found")

    def _head(self, kind: str, model: str) -> dict[str, object]:
        number = f"chatcmpl-{secrets.token_hex(12)}"
        return {"id": number, "object": kind, "created": int(time.time()), "model": model, "system_fingerprint": None}

    async def _chunks(self, submission: Submission, asked: _Asked) -> AsyncIterator[dict[str, object]]:
        """The objects of a stream; the last one may be an error, since the status has been sent."""
        head, deltas = self._head("chat.completion.chunk", asked.model), Deltas()

        def chunk(delta: dict[str, str | None], finish_reason: str | None = None) -> dict[str, object]:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
            return head | {"choices": [choice]} | ({"usage": None} if asked.with_usage else {})

        yield chunk({"role": "assistant", "content": ""})
        try:
            progress = Progress("")
            async for progress in watch(submission):
                for delta in deltas.next(progress.text, progress.completion is not None):
                    yield chunk(delta)
        except Exception as error:
            yield json.loads(bytes(self._refusal(error).body))
            return
        yield chunk({"warning": progress.warning} if progress.warning else {}, _finish_reason(progress))
        if asked.with_usage:
            yield head | {"choices": [], "usage": _usage(progress)}

    def _refusal(self, error: Exception) -> JSONResponse:
        """The error in OpenAI's form; of anything but a `UserError` the client learns only that it broke."""
        headers = {}
        if isinstance(error, Busy):
            is_well = self._service.queue.state in (EngineState.READY, EngineState.LOADING)
            status, headers = 429 if is_well else 503, {"retry-after": str(BUSY_SECONDS)}
        elif isinstance(error, UserError):
            status = error.status if isinstance(error, Refused) else 400
        else:
            failure("A completion failed.", error)
            error, status = UserError(BROKEN), 500
        param, code = (error.param, error.code) if isinstance(error, Refused) else (None, None)
        return JSONResponse({"error": openai_error(str(error), status, param, code)}, status, headers)


class Deltas:
    """The new part of thought and answer while a completion grows.

    What was sent cannot be taken back. So text that may turn out to be thought or answer waits for the tag that tells;
    without any tag, for the end.
    """

    def __init__(self) -> None:
        self._sent = {"reasoning_content": "", "content": ""}

    def next(self, text: str, is_final: bool) -> list[dict[str, str | None]]:
        """The deltas up to `text`; none if nothing is new."""
        parsed = parse_completion(text, final=is_final)
        has_thought = is_final or text.lstrip().startswith("<think>") or "</think>" in text or "<answer>" in text
        has_answer = is_final or "<answer>" in text
        now = {"reasoning_content": parsed.thinking if has_thought else "", "content": parsed.answer * has_answer}
        return [{name: new} for name, value in now.items() if (new := self._new(name, value, is_final))]

    def _new(self, name: str, value: str, is_final: bool) -> str:
        sent = self._sent[name]
        if value.startswith(sent):
            new = value[len(sent) :]
        else:  # the completion has stated another answer since, which counts
            new = f"\n\n{value}" if is_final else ""
        if new:
            self._sent[name] = value
        return new


def _read(body: bytes) -> _Asked:
    """Check a body, which is JSON; its pictures stay text. Raises `Refused`."""
    asked = json.loads(body.decode("utf-8-sig")) if body else None
    if not isinstance(asked, dict):
        raise Refused("The body is no JSON object. Send one with model and messages.")
    for name, value in asked.items():
        if value is None or name in _READ or name in _WITHOUT_EFFECT:
            continue
        if name not in _ONLY:
            raise Refused(f"The parameter {name[:80]!r} is not known here. Leave it out.", name[:80])
        if value not in _ONLY[name]:
            allowed = " or ".join(json.dumps(one) for one in _ONLY[name])
            raise Refused(f"{name} is {json.dumps(value)[:80]}; here it can be {allowed} alone. Leave it out.", name)
    if not isinstance(asked.get("model"), str):
        raise Refused("There is no model. Name one of /v1/models.", "model")
    options = asked.get("stream_options") or {}
    text, uris = _read_messages(asked.get("messages"))
    return _Asked(
        model=asked["model"],
        text=text,
        uris=uris,
        max_tokens=_read_length(asked),
        temperature=asked.get("temperature"),
        seed=asked.get("seed"),
        is_stream=asked.get("stream") is True,
        with_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _read_length(asked: dict[str, Any]) -> object:
    old, new = asked.get("max_tokens"), asked.get("max_completion_tokens")
    if old is not None and new is not None and old != new:
        words = f"max_tokens is {str(old)[:40]} and max_completion_tokens is {str(new)[:40]}. Send one of them."
        raise Refused(words, "max_tokens")
    return old if new is None else new


def _read_messages(messages: object) -> tuple[str, list[str]]:
    """The question, and its pictures as they were sent. Raises `Refused`."""
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise Refused("There are no messages. Send a list with one message of the role user.", "messages")
    roles = [str(one.get("role"))[:20] for one in messages]
    if set(roles) & {"system", "developer"}:
        raise Refused(
            "A system message is refused: base and adapters answer under the one that they were trained with. Leave it "
            "out, and put what it says into the question.",
            "messages",
        )
    if roles != ["user"]:
        words = f"The messages are of the roles {', '.join(roles[:8]) or 'none'}; send one message of the role user."
        raise Refused(f"{words} Nothing is kept of earlier ones.", "messages")
    content = messages[0].get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise Refused("The message has no content. Send a text, or a list of parts.", "messages")
    texts, uris = [""], []
    for part in parts:
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            texts[-1] = f"{texts[-1]}\n{part['text']}" if texts[-1] else part["text"]
        elif part.get("type") == "image_url":
            address = part.get("image_url")
            uris.append(str(address.get("url") if isinstance(address, dict) else address))
            texts.append("")
        else:
            words = f"A part of the message is of the type {str(part.get('type'))[:40]!r}; send text and image_url."
            raise Refused(words, "messages")
    has_own_marks = len(uris) < 2 or any("<image" in text for text in texts)
    return ("\n" if has_own_marks else "\n<image>\n").join(texts).strip(), uris


def _finish_reason(progress: Progress) -> str:
    assert progress.completion is not None, "it has ended"
    return "length" if progress.completion.truncated else "stop"


def _usage(progress: Progress) -> dict[str, object]:
    parsed = parse_completion(progress.text)
    thought = progress.num_tokens if parsed.thinking and not parsed.answer else progress.thought_tokens
    return {
        "prompt_tokens": progress.num_prompt_tokens,
        "completion_tokens": progress.num_tokens,
        "total_tokens": progress.num_prompt_tokens + progress.num_tokens,
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


async def _events(chunks: AsyncIterator[dict[str, object]]) -> AsyncIterator[bytes]:
    """Server-sent events, with a comment where nothing comes for `ALIVE_SECONDS`."""
    waiting: asyncio.Future[dict[str, object]] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(chunks))  # type: ignore[arg-type]
            if not (await asyncio.wait([waiting], timeout=ALIVE_SECONDS))[0]:
                yield b": waiting\n\n"
                continue
            try:
                chunk = waiting.result()
            except StopAsyncIteration:
                break
            waiting = None
            yield b"data: " + json.dumps(chunk, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"
        yield b"data: [DONE]\n\n"
    finally:
        if waiting is not None:
            waiting.cancel()
        else:
            await chunks.aclose()  # type: ignore[attr-defined]
