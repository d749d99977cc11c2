"""What ends a run early is said with its remedy and its exit status."""

import errno
import resource
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from inference.common.errors import UserError
from inference.common.files import write_whole
from training.config.run_config import RunConfig, load_config
from training.runs.failures import DISK_FULL, NOT_A_NUMBER, OUT_OF_MEMORY, NotANumber, explain_failure


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory(error: BaseException, tmp_path) -> None:
    failure = explain_failure(error, RunConfig(), tmp_path)
    assert failure and failure.status == OUT_OF_MEMORY
    for said in ("micro_batch_size (now auto)", "gradient_checkpointing", "max_completion_length (now 96)"):
        assert said in str(failure)


def test_out_of_memory_does_not_advise_what_is_done_already(tmp_path) -> None:
    config = load_config(None, {"micro_batch_size": 1, "gradient_checkpointing": True})
    failure = explain_failure(MemoryError(), config, tmp_path)
    assert failure and "micro_batch_size" not in str(failure) and "gradient_checkpointing" not in str(failure)


def test_a_full_disk_below_another_error(tmp_path) -> None:
    error = RuntimeError("could not save")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    failure = explain_failure(error, RunConfig(), tmp_path / "not" / "there")
    assert failure and failure.status == DISK_FULL and "MB free" in str(failure) and "keep_checkpoints" in str(failure)


@pytest.fixture
def full_disk(tmp_path):
    """A real disk of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def by_picture(path: Path) -> None:
    Image.effect_noise((2000, 2000), 90).save(path, "PNG")


WRITERS = {
    "safetensors": lambda path: save_file({"a": torch.ones(10**6)}, path),
    "torch": lambda path: torch.save({"a": torch.ones(10**6)}, path),
    "torch, by little": lambda path: [torch.save({"a": torch.ones(1000)}, path / str(i)) for i in range(999)],
    "text": lambda path: write_whole(path, "x" * 10**7),
    "arrow": lambda path: pa.OSFile(str(path), "wb").write(b"x" * 10**7),
    "picture": by_picture,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_known_whoever_wrote(name: str, full_disk) -> None:
    """The real writers on a real disk that is full: each says it in another way."""
    target = full_disk / "file"
    if name == "torch, by little":
        target.mkdir()
    with pytest.raises(Exception) as caught:
        WRITERS[name](target)
    failure = explain_failure(caught.value, RunConfig(), full_disk)
    assert failure and failure.status == DISK_FULL and f"at {full_disk}" in str(failure)


def test_a_write_that_fails_on_a_disk_with_room_is_no_full_disk(tmp_path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(RuntimeError) as caught:
            torch.save({"a": torch.ones(10**6)}, tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert explain_failure(caught.value, RunConfig(), tmp_path) is None


def test_wrong_input_keeps_its_words_and_gets_the_status_of_its_cause(tmp_path) -> None:
    full, wrong = UserError("no room for the rows"), UserError("no such column")
    full.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    failure = explain_failure(full, RunConfig(), tmp_path)
    assert failure and (str(failure), failure.status) == ("no room for the rows", DISK_FULL)
    assert explain_failure(wrong, RunConfig(), tmp_path) is None


def test_a_loss_that_is_not_a_number(tmp_path) -> None:
    failure = explain_failure(NotANumber("loss is nan at step 7"), RunConfig(), tmp_path)
    assert failure and failure.status == NOT_A_NUMBER
    assert "step 7" in str(failure) and "learning_rate (now 0.001)" in str(failure)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("y"), OSError(errno.ENOENT, "no such file")])
def test_a_bug_stays_a_bug(error: BaseException, tmp_path) -> None:
    assert explain_failure(error, RunConfig(), tmp_path) is None
