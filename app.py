"""The app: `python app.py` serves the page on port 7860 (`GRADIO_SERVER_PORT`, `LOOKTHINK_HOME` are honoured).

It composes: settings, engine and adapters from `inference`, the grader and the problems from `training`, and the
tabs. Nothing imports it but tests.
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

from inference.errors import UserError
from inference.images import limit_decoding
from inference.settings import Settings, load_settings

UPLOAD_SECONDS = 3600
"""Uploads are deleted when they are older than this."""
_CLEANING_SECONDS = 300
_EXAMPLE_SEED = 11


def prepare(settings: Settings) -> None:
    """Before Gradio is imported: no analytics, and uploads in the home folder, where none grows old."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    uploads = settings.home / "uploads"
    uploads.mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    threading.Thread(target=_keep_deleting_old_files, args=(uploads,), name="uploads", daemon=True).start()
    limit_decoding(settings.limits)


def build_app(settings: Settings, engine: Any = None, side: Any = None) -> tuple[Any, Any]:
    """The page as a `gr.Blocks`, and its service, which loads the engine (unless given) in the background.

    `side` is what stands behind the tab Train (`training.ui.side`); without it there is no such tab.
    """
    import gradio as gr

    from inference.ui.page import build_page

    service = _make_service(settings, engine)
    with gr.Blocks(
        title="LookThink", analytics_enabled=False, delete_cache=(_CLEANING_SECONDS, UPLOAD_SECONDS)
    ) as blocks:
        build_page(blocks, service, side and (lambda tab: side.build(tab, service.adapters.look)))
    return blocks.queue(max_size=64), service


def launch(blocks: Any, settings: Settings, side: Any = None, **options: Any) -> Any:
    """Serve the page; `options` go to Gradio."""
    from starlette.middleware import Middleware

    from inference.guard import SecurityHeaders
    from inference.logs import keep_words_out_of_the_log
    from inference.ui import theme

    keep_words_out_of_the_log()
    return blocks.launch(
        theme=theme.theme(),
        css_paths=[*theme.CSS_PATHS, *(side.css_paths if side else [])],
        head=theme.head(),
        max_file_size=int(settings.limits.max_upload_mb * 1e6),
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
        app_kwargs={"middleware": [Middleware(SecurityHeaders)], "routes": side.routes if side else []},
        **options,
    )


def main() -> int:
    """Run the app until it is interrupted; 1 if the settings or files are wrong."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "httpx2", "huggingface_hub"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        settings = load_settings()
        prepare(settings)
        from training.access import Access
        from training.ui.side import TrainSide  # it imports Gradio, which `prepare` goes before

        access = Access(settings.home)
        side = TrainSide(settings, access)
        blocks, service = build_app(settings, side=side)
        launch(blocks, settings, side, prevent_thread_lock=True)
        access.announce()
        side.watcher.start()
        service.line.wait_loaded()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    blocks.block_thread()
    return 0


def _make_service(settings: Settings, engine: Any) -> Any:
    """The adapters on offer, and what comes from the training side as plain callables."""
    from inference.live import LiveAdapters
    from inference.ui.service import Service

    adapters = LiveAdapters(settings)

    def load() -> Any:
        loaded = engine or _load_engine(settings)
        adapters.start(loaded)
        return loaded

    return Service(settings, load, adapters, _grade, _new_problem, _examples())


def _load_engine(settings: Settings) -> Any:
    from inference.engine import Engine

    return Engine.load(settings.base)


def _grade(expected: str, completion: str) -> Any:
    """The grader that training uses, for the last answer a completion states; the format is judged apart."""
    from training.grading import grade_lenient

    return grade_lenient(f"<answer>{expected}</answer>", completion)


def _new_problem() -> Any:
    """A problem from the test side, never seen in training."""
    from inference.ui.service import Example
    from training.problems import make_problem

    problem = make_problem(random.Random(), "test")
    return Example(problem.image, problem.problem, problem.answer)


def _examples() -> list[Any]:
    """One problem of each kind from the train side, always the same ones."""
    from inference.ui.service import Example
    from training.problems import make_problem
    from training.templates import KINDS, TEMPLATES

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
