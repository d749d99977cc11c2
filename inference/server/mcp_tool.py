"""The Model Context Protocol at `/mcp` (streamable HTTP, without sessions): one tool, `ask`.

    claude mcp add --transport http lookthink http://127.0.0.1:7860/mcp

Its pictures are data URIs, so nothing is fetched, and no other endpoint of the app is a tool.
Protocol: https://modelcontextprotocol.io/specification
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from inference.adapters.record import BASE_NAME
from inference.common.errors import UserError
from inference.common.logs import failure
from inference.prompt.format import parse_completion
from inference.prompt.image import read_data_uri
from inference.server.asking import Questions, last, visitor_of
from inference.server.routes import BROKEN, MCP_ROUTE
from inference.server.service import Question, Service

TOOL = "ask"
_DOC = (
    "Asks a small vision-language model one question about a picture, or several. Returns its thinking and its answer. "
    "A sure thought may be wrong."
)


class McpTool:
    """The server of one app; `run` is entered for as long as the app lives."""

    def __init__(self, service: Service) -> None:
        self._service, self._questions = service, Questions(service)
        self._server: Server[object, object] = Server("lookthink")
        self._server.list_tools()(self._tools)  # type: ignore[no-untyped-call]
        self._server.call_tool(validate_input=False)(self._call)  # its words would quote whole pictures
        limits = service.settings.limits
        most = int(limits.max_upload_mb * 4e6 / 3 + limits.max_request_kb * 1e3)
        self._manager = StreamableHTTPSessionManager(
            self._server, json_response=True, stateless=True, max_request_body_size=most
        )

    @property
    def route(self) -> Route:
        """For the app's server. A stream of notifications (GET) is not offered, as there are none."""
        return Route(MCP_ROUTE, _Endpoint(self._manager), methods=["POST"])

    def run(self) -> AbstractAsyncContextManager[None]:
        """Serve until the context ends."""
        return self._manager.run()

    async def _tools(self) -> list[types.Tool]:
        limits, names = self._service.settings.limits, [*self._service.offer.visible, BASE_NAME]
        uri = "A picture as a data URI: data:image/png;base64,…"
        properties = {
            "image": {"type": "string", "description": uri},
            "question": {"type": "string", "maxLength": limits.max_question_chars},
            "more_images": {
                "type": "array",
                "items": {"type": "string", "description": uri},
                "maxItems": limits.max_pictures - 1,
                "description": "Pictures after the first, in their order.",
            },
            "adapter": {"type": "string", "enum": names, "description": f"{BASE_NAME!r} is the model without one."},
            "max_new_tokens": {"type": "integer", "minimum": 1, "maximum": limits.max_new_tokens},
            "temperature": {"type": "number", "minimum": 0, "description": "0, the default, is greedy."},
            "seed": {"type": "integer", "minimum": 0},
        }
        schema = {"type": "object", "properties": properties, "required": ["image", "question"]}
        hints = types.ToolAnnotations(readOnlyHint=True, openWorldHint=False)
        return [types.Tool(name=TOOL, description=_DOC, inputSchema=schema, annotations=hints)]

    async def _call(self, name: str, arguments: dict[str, object]) -> dict[str, object]:
        """The result of a call. Raises `UserError` alone, whose words the client gets."""
        request = self._server.request_context.request
        assert isinstance(request, Request), "it comes by HTTP"
        try:
            if name != TOOL:
                raise UserError(f"There is no tool {name[:80]!r}; there is {TOOL!r}.")
            submission = await self._questions.submit(lambda: self._question(arguments), visitor_of(request))
            progress = await last(submission, request)
        except UserError:
            raise
        except Exception as error:
            failure("A completion failed.", error)
            raise UserError(BROKEN) from None
        parsed, completion = parse_completion(progress.text), progress.completion
        return {
            "thinking": parsed.thinking,
            "answer": parsed.answer,
            "warning": progress.warning,
            "truncated": completion is not None and completion.truncated,
            "num_tokens": progress.num_tokens,
            "adapter": submission.requests[0].adapter,
        }

    def _question(self, arguments: dict[str, object]) -> Question:
        """The checked question; decodes the pictures."""
        known = ("image", "question", "more_images", "adapter", "max_new_tokens", "temperature", "seed")
        if unknown := [name for name in arguments if name not in known]:
            raise UserError(f"There is no argument {unknown[0][:80]!r}; there are {', '.join(known)}.")
        more = arguments.get("more_images") or []
        pictures = [arguments.get("image"), *(more if isinstance(more, list) else [more])]
        images = [None if picture is None else read_data_uri(str(picture)) for picture in pictures]
        return self._service.read_question(
            images[0],
            arguments.get("question"),  # type: ignore[arg-type]  # it checks
            adapter=arguments.get("adapter"),
            temperature=arguments.get("temperature"),
            max_new_tokens=arguments.get("max_new_tokens"),
            seed=arguments.get("seed"),
            more_images=[image for image in images[1:] if image is not None],
        )


class _Endpoint:
    """The route's handler, as an ASGI app."""

    def __init__(self, manager: StreamableHTTPSessionManager) -> None:
        self._manager = manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._manager.handle_request(scope, receive, send)
