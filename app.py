"""The app: `python app.py` serves the page on port 7860 (`GRADIO_SERVER_PORT`, `LOOKTHINK_HOME` are honoured).

It composes: settings, engine and adapters from `inference`, the grader, the problems and who may train from
`training`, and the tabs. `LOOKTHINK_LOG=json` makes its log JSON lines. Nothing imports it but tests.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from inference.common.errors import UserError
from inference.common.settings import Settings, load_settings
from inference.prompt.image import limit_decoding

UPLOAD_SECONDS = 3600
"""Uploads are deleted when they are older than this."""
RESTORE_SECONDS = 60.0
"""How long the app waits for what is brought back before it serves what there is."""
LAST_COPY_SECONDS = 4.0
"""How long the last copy may take when the app ends; the next start's first copy makes up for it."""
_CLEANING_SECONDS = 300
_EXAMPLE_SEED = 11


def prepare(settings: Settings) -> None:
    """Before Gradio is imported: no analytics, and uploads in the home folder, where none grows old.

    Raises `UserError` where the home folder cannot be written to.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Gradio sums all past events up after each one, for a page of figures that is turned off here.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**12)
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "100"
    # The server would believe X-Forwarded-For from any caller on this machine; who runs a proxy there may set this.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    uploads = settings.home / "uploads"
    try:
        uploads.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{uploads} cannot be made ({error.strerror}). Make the folder writable for this user, or set "
            "LOOKTHINK_HOME to one that is."
        ) from error
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    threading.Thread(target=_keep_deleting_old_files, args=(uploads,), name="uploads", daemon=True).start()
    limit_decoding(settings.limits)


def build_app(settings: Settings, side: Any, engine: Any = None) -> tuple[Any, Any]:
    """The page as a `gr.Blocks`, and its service, which loads the engine (unless given) in the background.

    `side` is what stands behind the tab Train (`training.ui.training_app`).
    """
    import gradio as gr

    from inference.ui.page import build_page

    service = _make_service(settings, engine)
    with gr.Blocks(
        title="LookThink", analytics_enabled=False, delete_cache=(_CLEANING_SECONDS, UPLOAD_SECONDS)
    ) as blocks:
        build_page(blocks, service, lambda tab: side.build(tab, service.adapters.look), side.missing_html)
    return blocks.queue(max_size=64), service


def launch(blocks: Any, service: Any, side: Any, **options: Any) -> Any:
    """Serve the page; `options` go to Gradio. Gives what counts the streams that are open."""
    from inference.common.logs import adopt_the_server, keep_words_out_of_the_log
    from inference.server.streams import Streams
    from inference.ui import theme

    streams = Streams()
    keep_words_out_of_the_log()
    blocks.launch(
        theme=theme.theme(),
        css_paths=[*theme.CSS_PATHS, *side.css_paths],
        head=theme.head(),
        max_file_size=int(service.settings.limits.max_upload_mb * 1e6),
        enable_monitoring=False,
        run_history=False,
        show_error=False,
        strict_cors=True,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        share=False,
        footer_links=[],
        state_session_capacity=256,
        app_kwargs=_server_parts(service, side, streams),
        **options,
    )
    adopt_the_server()
    return streams


def _server_parts(service: Any, side: Any, streams: Any) -> dict[str, Any]:
    """What stands around Gradio's own routes: middleware, outermost first, and routes of ours."""
    from starlette.middleware import Middleware

    from inference.server.health import health_route
    from inference.server.middleware import BodyLimit, SecurityHeaders, VisitorLimits
    from inference.server.streams import DisconnectWatcher

    limits = service.settings.limits
    return {
        "middleware": [
            Middleware(SecurityHeaders),
            Middleware(VisitorLimits, limits=limits, on_space=side.access.is_on_space),
            Middleware(BodyLimit, int(limits.max_upload_mb * 1e6), int(limits.max_request_kb * 1e3)),
            Middleware(DisconnectWatcher, on_disconnect=service.queue.disconnect, streams=streams),
        ],
        "routes": [
            health_route(service.queue, lambda: side.store.exists() and side.store.active() is not None),
            *side.routes,
        ],
    }


def main() -> int:
    """Run the app until it is told to stop; 1 if the settings or files are wrong."""
    from inference.common.logs import VARIABLE, event, set_up
    from inference.server.shutdown import leave, shut_down, stop_signal
    from training.admin.access import Access

    is_json = os.environ.get(VARIABLE, "").strip() == "json"
    set_up(is_json)
    try:
        settings = load_settings()
        access = Access(settings.home)
        stop = stop_signal()
        prepare(settings)
        from training.ui.training_app import TrainSide  # it imports Gradio, which `prepare` goes before

        side = TrainSide(settings, access)
        side.keeper.start()
        side.keeper.wait(RESTORE_SECONDS)  # what was served before a restart is served from the first answer on
        blocks, service = build_app(settings, side)
        streams = launch(blocks, service, side, prevent_thread_lock=True, quiet=is_json)
        event("serving", port=blocks.server_port)
        access.announce()
        side.share_card(service.queue)
        side.watcher.start()
        side.setup.start()
        _wait_for_model(service, side, stop)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    stop.wait()
    shut_down(blocks, service.queue, streams)
    side.keeper.stop(LAST_COPY_SECONDS)
    leave(0)
    return 0


def _wait_for_model(service: Any, side: Any, stop: threading.Event) -> None:
    """Raises what keeps the model from loading; on a Space the page stays instead, and says it to the owner."""
    try:
        while service.queue.wait_loaded(0.2) is None and not stop.is_set():
            pass
    except (UserError, RuntimeError, OSError) as error:  # the last two: no memory, no disk
        if not side.access.is_on_space:
            raise
        print(error, file=sys.stderr)
        side.setup.model_problem = str(error)


def _make_service(settings: Settings, engine: Any) -> Any:
    """The adapters on offer, and what comes from the training side as plain callables."""
    from inference.adapters.live import LiveAdapters
    from inference.server.service import Service

    adapters = LiveAdapters(settings)

    def load() -> Any:
        loaded = engine or _load_engine(settings)
        adapters.start(loaded)
        return loaded

    return Service(settings, load, adapters, _grade, _new_problem, _examples())


def _load_engine(settings: Settings) -> Any:
    from inference.engine.engine import Engine

    return Engine.load(settings.base, cuda_graphs=settings.cuda_graphs)


def _grade(expected: str, completion: str) -> Any:
    """The grader that training uses, for the last answer a completion states; the format is judged apart."""
    from training.grading.grader import grade_lenient

    return grade_lenient(f"<answer>{expected}</answer>", completion)


def _new_problem() -> Any:
    """A problem from the test side, never seen in training."""
    from inference.server.service import Example
    from training.starter.problems import make_problem

    problem = make_problem(random.Random(), "test")
    return Example(problem.image, problem.problem, problem.answer)


def _examples() -> list[Any]:
    """One problem of each kind from the train side, always the same ones."""
    from inference.server.service import Example
    from training.starter.problems import make_problem
    from training.starter.templates import KINDS, TEMPLATES

    rng = random.Random(_EXAMPLE_SEED)
    problems = [make_problem(rng, "train", rng.choice([t for t in TEMPLATES if t.kind == kind])) for kind in KINDS]
    return [Example(problem.image, problem.problem, problem.answer) for problem in problems]


def _keep_deleting_old_files(folder: Path) -> None:
    """Look every few minutes, as Gradio forgets at its end what was uploaded to it."""
    while True:
        try:
            _delete_old_files(folder)
        except OSError as error:  # something vanished meanwhile; the next look finds the rest
            logging.getLogger(__name__).warning("cleaning the uploads: %s", type(error).__name__)
        time.sleep(_CLEANING_SECONDS)


def _delete_old_files(folder: Path) -> None:
    """Whichever run left them."""
    oldest = time.time() - UPLOAD_SECONDS
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
