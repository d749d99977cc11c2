"""A process with `spaces` as on ZeroGPU, for `tests/inference/server/test_zero_gpu.py`; prints what it saw as JSON.

    python -m tests.support.zero_gpu_probe ADAPTER FOLDER

Its worker is forked, is used again, and talks to a local server with the scheduler's HTTP. Two functions of `spaces`
are replaced by ones that do nothing, since they move tensors to a GPU that is not there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

CALLS: list[tuple[str, dict[str, list[str]]]] = []
IS_USED_UP = threading.Event()


class Scheduler(BaseHTTPRequestHandler):
    """Lends its GPU to every call until `IS_USED_UP`."""

    def do_POST(self) -> None:
        url = urlparse(self.path)
        CALLS.append((url.path, parse_qs(url.query)))
        is_refused = url.path == "/schedule" and IS_USED_UP.is_set()
        lent = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": f"token-{len(CALLS)}"}
        body = json.dumps({"left": 0, "wait": 60.0} if is_refused else lent).encode()
        self.send_response(429 if is_refused else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing."""


def calls(path: str) -> int:
    return sum(found == path for found, _ in CALLS)


def main(adapter: Path, folder: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scheduler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (folder / "cgroup").write_text("0::/a-group\n")
    os.environ["SPACES_ZERO_GPU"] = "true"
    os.environ["SPACES_ZERO_DEVICE_API_URL"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["ZEROGPU_PROC_SELF_CGROUP_PATH"] = str(folder / "cgroup")
    import torch

    torch.set_num_threads(1)
    import spaces.zero.torch

    assert torch.cuda.is_available(), "as on ZeroGPU: the process believes in a GPU"
    spaces.zero.torch.init = lambda uuid: None
    spaces.zero.torch.move = lambda callback=None: None

    from inference.common.settings import STARTER
    from inference.engine.engine import Engine
    from inference.model.request import Request
    from inference.server.queue import RequestQueue
    from inference.server.zero_gpu import ZeroGpuEngine
    from tests.support.samples import problems

    here = Engine.load(STARTER, device="cpu")
    engine = ZeroGpuEngine(here)
    queue = RequestQueue(lambda: engine)  # type: ignore[arg-type,return-value]
    queue.wait_loaded()
    problem = problems(1, seed=3)[0]
    checked = engine.read_adapter(adapter)
    pair = [
        Request(problem.image, problem.problem, max_new_tokens=40, min_new_tokens=40),
        Request(
            problem.image,
            problem.problem,
            adapter="tuned",
            get_adapter=lambda: checked,
            max_new_tokens=40,
            min_new_tokens=40,
        ),
    ]
    said: dict[str, Any] = {"num_updates": 0}
    submission = queue.submit(pair)
    while not submission.wait(0.02):
        said["num_updates"] += any(progress.num_tokens for progress in submission.progress())
    if submission.error is not None:
        raise submission.error
    ended = submission.progress()
    said["tokens"] = [list(progress.completion.token_ids) for progress in ended if progress.completion is not None]
    said["distance"] = ended[0].picture_distance
    said["calls_of_compare"] = calls("/schedule")
    said["worker_is_another_process"] = all(
        query["pid"] != [str(os.getpid())] for path, query in CALLS if path == "/allow"
    ) and bool(calls("/allow"))

    endless = Request(problem.image, problem.problem, max_new_tokens=400, min_new_tokens=400)
    submission = queue.submit([endless])
    while not submission.progress()[0].num_tokens and not submission.wait(0):
        time.sleep(0.02)
    submission.stop()
    submission.wait(120)
    said["stopped_after"] = submission.progress()[0].num_tokens

    submission = queue.submit([Request(problem.image, "word " * 5_000, max_new_tokens=400)])
    submission.wait(120)
    said["refusal"] = str(submission.error)

    IS_USED_UP.set()
    submission = queue.submit(pair[:1])
    submission.wait(120)
    said["quota"] = str(submission.error)

    here.add_adapter("tuned", adapter)
    local = [pair[0], Request(problem.image, problem.problem, adapter="tuned", max_new_tokens=40, min_new_tokens=40)]
    said["tokens_here"] = [list(completion.token_ids) for completion in here.generate(local)]
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    for worker in multiprocessing.active_children():
        worker.kill()
