"""Two processes share a step: given the same rollouts as one, they come to one gradient, rewards and advantages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def probe(folder: Path, processes: int) -> tuple[torch.Tensor, dict]:
    folder.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes == 2 else []
    command = [sys.executable, *launcher, "-m", "tests.gradient_probe", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return torch.load(folder / "gradient.pt"), json.loads((folder / "records.json").read_text())


@pytest.mark.slow
def test_two_processes_come_to_what_one_comes_to(tmp_path) -> None:
    alone, of_one = probe(tmp_path / "one", 1)
    shared, of_two = probe(tmp_path / "two", 2)
    assert alone.norm() > 0
    assert ((alone - shared).norm() / alone.norm()).item() < 1e-5
    assert of_one == of_two
    assert len(of_one["advantages"]) == 32 and len(set(of_one["advantages"])) > 2
