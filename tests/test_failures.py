"""What ends a run early is said with its remedy and its exit status."""

import errno

import pytest

from training.config import RunConfig, load_config
from training.failures import DISK_FULL, NOT_A_NUMBER, OUT_OF_MEMORY, NotANumber, explain_failure


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
    for said in ("micro_batch_size (now 64)", "gradient_checkpointing", "max_completion_length (now 96)"):
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


def test_a_loss_that_is_not_a_number(tmp_path) -> None:
    failure = explain_failure(NotANumber("loss is nan at step 7"), RunConfig(), tmp_path)
    assert failure and failure.status == NOT_A_NUMBER
    assert "step 7" in str(failure) and "learning_rate (now 0.001)" in str(failure)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("y"), OSError(errno.ENOENT, "no such file")])
def test_a_bug_stays_a_bug(error: BaseException, tmp_path) -> None:
    assert explain_failure(error, RunConfig(), tmp_path) is None
