"""ZeroGPU with the real package `spaces`: forked workers, its scheduler's protocol, and answers through the queue."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import ROOT
from tests.support.samples import random_adapter

needs_spaces = pytest.mark.skipif(
    importlib.util.find_spec("spaces") is None or torch.version.cuda is None,
    reason="the package spaces is not installed, or torch is a build that it cannot patch",
)


@pytest.mark.long
@needs_spaces
def test_answers_come_from_forked_workers(tmp_path: Path) -> None:
    """The same tokens as in this process; one call for both sides of Compare; Stop; the words of refusals."""
    adapter = random_adapter(tmp_path / "tuned")
    command = [sys.executable, "-m", "tests.support.zero_gpu_probe", str(adapter), str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["tokens"] == said["tokens_here"] and len(set(map(tuple, said["tokens"]))) == 2
    assert said["calls_of_compare"] == 1 and said["worker_is_another_process"] and said["num_updates"] >= 1
    assert said["distance"] is not None
    assert said["stopped_after"] < 400
    assert "more than the model's" in said["refusal"]
    assert said["quota"].startswith("ZeroGPU: Space app has reached its GPU limit")
