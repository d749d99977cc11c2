"""Who has the machine: a run in the background alone, or those begun by hand; whoever dies gives it up."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from inference.common.errors import UserError
from tests import ROOT
from training.__main__ import main
from training.config.run_config import load_config
from training.launch.local import LocalLauncher
from training.launch.machine_lock import LOCK, alone, by_hand, is_taken
from training.pipeline.signals import Stop, StopRequested
from training.runs.store import RunStore
from training.runs.upkeep import delete_run

HOLD = "import sys, time; from pathlib import Path; from training.launch.machine_lock import by_hand\n\
with by_hand(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


@pytest.fixture
def somebody(tmp_path: Path):
    """A process that trains by hand in the home `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_those_begun_by_hand_share_it_and_one_in_the_background_does_not(tmp_path: Path, somebody) -> None:
    assert is_taken(tmp_path)
    with by_hand(tmp_path):
        assert is_taken(tmp_path)
    waited = threading.Event()
    stop = Stop()

    def ask_to_stop() -> None:
        waited.set()
        stop.is_requested = True

    with pytest.raises(StopRequested), alone(tmp_path, stop, ask_to_stop):
        raise AssertionError("somebody has it")
    assert waited.is_set()
    somebody.kill()
    somebody.wait()
    assert not is_taken(tmp_path)
    with alone(tmp_path, Stop()):
        with pytest.raises(UserError, match="a run in the background is at work .*wait for it.*cancel.*start"):
            with by_hand(tmp_path):
                pass
    with by_hand(tmp_path):
        pass


def test_a_home_that_cannot_be_written_to_has_no_other_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with by_hand(tmp_path / "file" / "home"):
        assert not is_taken(tmp_path / "file" / "home")


def test_a_queued_run_waits_for_it_and_says_so(tmp_path: Path, somebody) -> None:
    store = RunStore(tmp_path)
    record = store.submit(load_config("starter", {"max_steps": 20}), "me")
    launcher = LocalLauncher(store)
    assert launcher.start_next() is None
    assert store.get(record.id).status == "queued" and "started by hand" in store.get(record.id).reason
    delete_run(store, record.id)
    assert (tmp_path / LOCK).exists()


def test_train_by_hand_is_refused_before_it_has_a_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir(exist_ok=True)
    with alone(home, Stop()):
        assert main(["train", "--max-steps", "20"]) == 2
    assert "a run in the background is at work" in capsys.readouterr().err
    assert not (home / "runs").exists()
