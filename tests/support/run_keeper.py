"""The app as far as runs go, in a process of its own to be killed: the watcher's thread, and nothing else.

python -m tests.support.run_keeper HOME
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from training.launch.local import LocalLauncher
from training.launch.watcher import Watcher
from training.runs.store import RunStore

if __name__ == "__main__":
    Watcher(LocalLauncher(RunStore(Path(sys.argv[1])))).start()
    while True:
        time.sleep(60)
