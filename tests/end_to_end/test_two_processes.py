"""Two processes share a step: given the same rollouts as one, they come to one gradient, rewards and advantages."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import ROOT
from tests.support.gradient_probe import main

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def read(folder: Path) -> tuple[torch.Tensor, dict]:
    return torch.load(folder / "gradient.pt"), json.loads((folder / "records.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[torch.Tensor, dict]:
    folder = tmp_path_factory.mktemp("one")
    main(folder)
    return read(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "weights", [pytest.param([], id="whole", marks=pytest.mark.long), pytest.param(["sharded"], id="sharded")]
)
def test_two_processes_come_to_what_one_comes_to(weights: list[str], tmp_path, alone) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = [*TORCHRUN, "-m", "tests.support.gradient_probe", str(tmp_path), *weights]
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as both:
        try:
            said, _ = both.communicate(timeout=500)
        finally:
            both.terminate()  # which ends its workers too; nothing where it has ended
    assert both.returncode == 0, said[-6000:]
    alone_gradient, of_one = alone
    shared, of_two = read(tmp_path)
    assert alone_gradient.norm() > 0
    assert ((alone_gradient - shared).norm() / alone_gradient.norm()).item() < 1e-5
    assert of_one["entropy"] == pytest.approx(of_two.pop("entropy"), rel=1e-4)
    assert {name: value for name, value in of_one.items() if name != "entropy"} == of_two
    assert len(of_one["advantages"]) == 32 and len(set(of_one["advantages"])) > 2 and 0.0 not in of_one["advantages"]
