"""The app: `python app.py` serves the page at 127.0.0.1:7860 (`GRADIO_SERVER_NAME`, `GRADIO_SERVER_PORT`).

It composes settings, engine and adapters from `inference`, and the grader, the problems and the Train tab from
`training`. `LOOKTHINK_LOG=json` makes its log JSON lines. Nothing imports it but tests.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from inference.common.background import PeriodicTask
from inference.common.errors import UserError
from inference.common.settings import Settings, load_settings
from inference.server.lifecycle import CLEANING_SECONDS, picture_seconds, prepare
from inference.server.visitors import is_on_zero_gpu

if TYPE_CHECKING:  # Gradio and torch are imported after `prepare`
    import gradio as gr

    from inference.engine.engine import Engine
    from inference.server.lifecycle import Address
    from inference.server.middleware import Streams
    from inference.server.service import Service
    from training.ui.training_app import TrainingApp

RESTORE_SECONDS = 60.0
"""How long the app waits for its restored files before it serves what there is."""
OTHER_THREADS = 40
"""Threads for everything but the questions that wait or are answered, each of which has one."""
LAST_COPY_SECONDS = 4.0
"""How long the last backup may take when the app ends; the next start's first backup makes up for it."""


def build_app(settings: Settings, training: TrainingApp, engine: Engine | None = None) -> tuple[gr.Blocks, Service]:
    """The page, and its service, which loads the engine (unless given) in the background."""
    from inference.adapters.live import LiveAdapters
    from inference.server.service import Service
    from inference.ui.page import Page, build_page
    from training.grading.contradiction import contradiction
    from training.ui import training_app

    adapters, seconds = LiveAdapters(settings), picture_seconds(settings)

    def forget_pictures(loaded: Engine) -> None:
        loaded.forget_pictures(seconds)

    def load() -> Engine:
        loaded = engine or _load_engine(settings)
        adapters.start(loaded)
        PeriodicTask(lambda: forget_pictures(loaded), CLEANING_SECONDS, "pictures").start()
        return loaded

    examples = training_app.example_problems(settings.is_starter)
    new_problem = partial(training_app.new_problem, settings.is_starter)
    service = Service(
        settings,
        load,
        adapters,
        training_app.grade_expected,
        new_problem,
        examples,
        training.access.is_known,
        contradiction,
    )
    with Page(title="LookThink", analytics_enabled=False, delete_cache=(CLEANING_SECONDS, seconds)) as blocks:
        train = partial(training.build, refresh_served=adapters.look, queue=service.queue)
        learn = partial(training.build_learn, service, refresh_served=adapters.look)
        build_page(
            blocks,
            service,
            train,
            learn,
            training.setup_html,
            training.licence_words,
            partial(training.vote_words, service),
            partial(training.build_pin, service),
        )
    return blocks.queue(max_size=None), service


def launch(blocks: gr.Blocks, service: Service, training: TrainingApp, **options: Any) -> Streams:
    """Serve the page; `options` go to Gradio. Returns the count of open streams."""
    from inference.common.logs import adopt_the_server, keep_words_out_of_the_log
    from inference.server.connections import limit_connections, most_connections
    from inference.server.delivery import Start, start_types
    from inference.server.lifecycle import disk_refused, health_route
    from inference.server.mcp_tool import McpTool
    from inference.server.middleware import Streams, middleware
    from inference.server.openai_api import OpenAiApi
    from inference.ui import theme
    from inference.ui.sessions import bound_sessions

    streams, queue, limits, access = Streams(), service.queue, service.settings.limits, training.access
    most = most_connections(limits)
    limits = limits.model_copy(update={"all_connections": min(limits.all_connections, most * 3 // 4)})
    space = service.settings.space
    start = Start(theme.BUILT_PAGE, start_types(blocks.get_config_file()))
    tags = theme.FRAME + theme.icon_tag() + theme.link_tags(space.title, space.short_description)
    around = middleware(limits, access.is_on_space, queue.disconnect, streams, tags, access.is_known, start)
    tool = McpTool(service)
    programs = [*OpenAiApi(service).routes, tool.route]
    routes = [health_route(queue, training.is_run_active), theme.preview_route(), *programs, *training.routes]
    keep_words_out_of_the_log()
    blocks.space_id = None  # else Gradio's page loads the Hub's bar for Spaces, with fonts, from other hosts
    blocks.launch(
        theme=theme.theme(),
        css_paths=[*theme.CSS_PATHS, *training.css_paths],
        head=theme.head(),
        max_file_size=int(limits.max_upload_mb * 1e6),
        enable_monitoring=False,
        run_history=False,
        show_error=False,
        strict_cors=True,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        share=False,
        _frontend=False,  # else Gradio loads the page once and gives up after 3 s, which a busy machine may need
        footer_links=[],
        max_threads=service.settings.limits.max_waiting + OTHER_THREADS,
        app_kwargs={
            "middleware": around,
            "routes": routes,
            "exception_handlers": {OSError: disk_refused},
            "lifespan": lambda server: tool.run(),
        },
        **options,
    )
    limit_connections(blocks.server, most)
    bound_sessions(blocks)
    adopt_the_server()
    return streams


def main() -> int:
    """Run the app until it is told to stop; 2 if the settings, the address or files are wrong."""
    from inference.common.logs import VARIABLE, event, keep_words_out_of_the_output, replace_odd_characters, set_up
    from inference.server.lifecycle import leave, listening_address, shut_down, stop_signal
    from training.admin.access import Access

    is_json = os.environ.get(VARIABLE, "").strip() == "json"
    set_up(is_json)
    replace_odd_characters()
    try:
        is_lent = is_on_zero_gpu()
        settings = load_settings(has_gpu=True if is_lent else None)
        access = Access(settings.home)
        stop = stop_signal()
        prepare(settings)
        address = listening_address()
        address.check_free()
        # Gradio takes no address of IPv6 from its environment, and no port that is no number.
        os.environ |= {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(address.port)}
        engine = _zero_gpu_engine(settings) if is_lent else None  # `spaces` comes before whatever looks for a GPU
        from training.ui.training_app import TrainingApp  # imports Gradio

        training = TrainingApp(settings, access)
        training.backup.start()
        training.backup.wait(RESTORE_SECONDS)  # so that the adapter served before a restart is served at once
        blocks, service = build_app(settings, training, engine)
        keep_words_out_of_the_output()
        streams = _launch_at(address, blocks, service, training)
        event("serving", address=f"http://{address.name}:{address.port}")
        access.announce()
        training.start(service.queue)
        _wait_for_model(service, training, stop)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    stop.wait()
    shut_down(blocks, service.queue, streams)
    training.backup.stop(LAST_COPY_SECONDS)
    leave(0)
    return 0


def _launch_at(address: Address, blocks: gr.Blocks, service: Service, training: TrainingApp) -> Streams:
    """`launch` at that address; raises `UserError` if another program has taken it since it was looked at."""
    where = {"server_name": address.name, "server_port": address.port}
    try:
        return launch(blocks, service, training, prevent_thread_lock=True, quiet=True, **where)
    except OSError as error:
        address.check_free()
        raise UserError(f"The page cannot be served at {address.name}:{address.port}: {error}") from error


def _wait_for_model(service: Service, training: TrainingApp, stop: threading.Event) -> None:
    """Raises the error that keeps the model from loading; on a Space the page stays up instead and shows it."""
    try:
        while service.queue.wait_loaded(0.2) is None and not stop.is_set():
            pass
    except (UserError, RuntimeError, OSError) as error:  # the last two: no memory, no disk
        if not training.access.is_on_space:
            raise
        print(error, file=sys.stderr)
        training.setup.model_problem = str(error)


def _load_engine(settings: Settings) -> Engine:
    from inference.engine.engine import Engine

    return Engine.load(settings.base)


def _zero_gpu_engine(settings: Settings) -> Engine:
    from inference.server.zero_gpu import ZeroGpuEngine

    return cast("Engine", ZeroGpuEngine(_load_engine(settings)))  # it has what queue and adapters use


if __name__ == "__main__":
    sys.exit(main())
