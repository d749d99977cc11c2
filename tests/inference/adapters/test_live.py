"""A running app takes up what is promoted: with no restart, no broken stream, and memory that stays bounded."""

from __future__ import annotations

import gc
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from safetensors.torch import load_file, save_file

from inference.adapters.live import MAX_CACHED, AdapterCache, LiveAdapters
from inference.adapters.record import AdapterRecord
from inference.adapters.served import promote, roll_back
from inference.adapters.shown import change_shown
from inference.common.errors import Busy, UserError
from inference.common.settings import STARTER, Settings, load_settings
from inference.engine.engine import Engine, Request
from inference.model.lora_layers import Factors
from inference.model.request import Completion
from inference.server.service import Service
from tests.support.samples import perturbed_adapter, problems

PROBLEM = problems(1, seed=3)[0]
NOTICED_SECONDS = 60.0
"""Two where nothing else runs."""
LENGTH = 24


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three that say something else each; the noise is strong."""
    root = tmp_path_factory.mktemp("adapters")
    return [perturbed_adapter(root / f"own-{seed}", seed, strength=0.3) for seed in range(3)]


@pytest.fixture
def settings(home: Path) -> Settings:
    return load_settings(env={"LOOKTHINK_BASE": "starter", "LOOKTHINK_HOME": str(home)}, has_gpu=False)


@pytest.fixture
def live(engine: Engine, settings: Settings) -> Iterator[LiveAdapters]:
    """Following its home."""
    found = LiveAdapters(settings)
    found.start(engine)
    yield found
    found.stop()


def row(live: LiveAdapters, name: str | None, tokens: int = LENGTH) -> Request:
    held = None if name is None else live.hold(name)
    image = PROBLEM.image.convert("RGB")
    return Request(image, PROBLEM.problem, adapter=name, get_adapter=held, max_new_tokens=tokens, min_new_tokens=tokens)


def alone(engine: Engine, folder: Path, tokens: int = LENGTH) -> tuple[int, ...]:
    """What the adapter says when nothing else goes on."""
    adapter = engine.read_adapter(folder)
    image = PROBLEM.image.convert("RGB")
    asked = Request(
        image, PROBLEM.problem, adapter="it", get_adapter=lambda: adapter, max_new_tokens=tokens, min_new_tokens=tokens
    )
    return engine.generate([asked])[0].token_ids


def wait_for(live: LiveAdapters, name: str | None) -> None:
    """Until it is the served one."""
    deadline = time.monotonic() + NOTICED_SECONDS
    while live.offer.served != name:
        assert time.monotonic() < deadline, f"{live.offer.served} is served still"
        time.sleep(0.01)


def wait_until_longer(ended: list[Completion]) -> None:
    deadline, length = time.monotonic() + NOTICED_SECONDS, len(ended)
    while len(ended) == length:
        assert time.monotonic() < deadline, "no answer ends"
        time.sleep(0.01)


def test_a_promotion_is_taken_up_while_rows_end_on_what_they_began_with(
    engine: Engine, live: LiveAdapters, settings: Settings, adapters: list[Path]
) -> None:
    expected = {folder: alone(engine, folder) for folder in (STARTER / "adapter", adapters[0])}
    assert len(set(expected.values())) == 2
    assert live.offer.served == "starter-adapter"
    decode = engine.stream([row(live, live.offer.served)])
    next(iter(decode))  # under way
    waiting = row(live, live.offer.served)  # taken, and still in the line
    new = promote(settings.home, adapters[0], "alice", settings=settings)
    wait_for(live, new.name)
    assert list(live.offer.records)[0] == new.name and live.offer.serving.by == "alice"
    assert engine.generate([row(live, live.offer.served)])[0].token_ids == expected[adapters[0]]
    for _ in decode:
        pass
    assert decode.completions[0].token_ids == expected[STARTER / "adapter"]
    assert engine.generate([waiting])[0].token_ids == expected[STARTER / "adapter"]
    roll_back(settings.home, "alice", settings=settings)
    wait_for(live, "starter-adapter")
    assert new.name in live.offer.records, "it can still be chosen"


@pytest.mark.long
def test_twenty_promotions_during_a_stream_leave_memory_as_it_was(
    engine: Engine, live: LiveAdapters, settings: Settings, adapters: list[Path], tmp_path: Path
) -> None:
    gc.collect()
    before = num_factors()
    a_one = len(engine.read_adapter(adapters[0]))
    ended: list[Completion] = []
    decode = engine.stream([row(live, live.offer.served, tokens=400)])
    stop = threading.Event()

    def read() -> None:
        while not stop.wait(0.05):
            ended.extend(engine.generate([row(live, live.offer.served)]))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(20):
            next(iter(decode))
            folder = tmp_path / f"version-{number}"
            shutil.copytree(adapters[0], folder)
            weights = load_file(folder / "adapter_model.safetensors")
            save_file(
                {name: w * (1 + number / 100) for name, w in weights.items()}, folder / "adapter_model.safetensors"
            )
            name = promote(settings.home, folder, "alice", settings=settings).name
            live.look()
            wait_for(live, name)
            if number % 5 == 4:  # some answers begin with each of several versions, however slow the machine
                wait_until_longer(ended)
    finally:
        stop.set()
        reader.join(timeout=NOTICED_SECONDS)
    assert len(ended) > 3 and all(len(completion.token_ids) == LENGTH for completion in ended)
    assert decode.completions[0].num_tokens == 20 and not decode.completions[0].stopped
    assert in_the_end_at_most(before + MAX_CACHED * a_one), (
        "the first one, which the decode still uses, was there before"
    )
    del decode
    assert in_the_end_at_most(before + (MAX_CACHED - 1) * a_one), "with the last row, its adapter went"


def in_the_end_at_most(count: int) -> bool:
    """True once there are no more `Factors`: a look at the folders that goes on may hold some a moment longer."""
    deadline = time.monotonic() + NOTICED_SECONDS
    while gc.collect() >= 0 and num_factors() > count and time.monotonic() < deadline:
        time.sleep(0.05)
    return num_factors() <= count


def num_factors() -> int:
    """Layers of adapters in memory, whoever holds them."""
    return sum(type(thing) is Factors for thing in gc.get_objects())


def test_a_run_that_ends_is_offered_and_one_that_trains_is_not(
    live: LiveAdapters, settings: Settings, adapters: list[Path]
) -> None:
    run = settings.home / "runs" / "night"
    shutil.copytree(adapters[1], run / "adapter")
    (run / "status.json").write_text('{"status": "running"}')
    live.look()
    assert "night-adapter" not in live.offer.records
    (run / "status.json").write_text('{"status": "succeeded"}')
    deadline = time.monotonic() + NOTICED_SECONDS
    while "night-adapter" not in live.offer.records:
        assert time.monotonic() < deadline, "its end is not noticed"
        time.sleep(0.01)
    new = promote(settings.home, run / "adapter", "alice", settings=settings)
    live.look()
    wait_for(live, new.name)
    assert list(live.offer.records) == [new.name, "starter-adapter"], "the run's own copy is the same thing"
    shutil.rmtree(run)
    live.look()
    assert live.offer.served == new.name and live.hold(str(new.name))()


def test_what_cannot_be_served_leaves_everything_as_it_is(
    engine: Engine, live: LiveAdapters, settings: Settings, adapters: list[Path]
) -> None:
    promoted = promote(settings.home, adapters[0], "alice", settings=settings)
    live.look()
    wait_for(live, promoted.name)
    (settings.home / "served.json").write_text("{")
    live.look()
    wait_for(live, "starter-adapter")
    assert "cannot be used" in live.offer.serving.notice
    with pytest.raises(UserError, match="no longer here"):
        live.hold("nobody")


def test_before_the_engine_is_there_a_row_waits_for_its_adapter(
    engine: Engine, settings: Settings, adapters: list[Path]
) -> None:
    promoted = promote(settings.home, adapters[0], "alice", settings=settings)
    live = LiveAdapters(settings)
    assert live.offer.served == promoted.name
    early = row(live, live.offer.served)
    live.start(engine)
    try:
        assert engine.generate([early])[0].token_ids == alone(engine, adapters[0])
    finally:
        live.stop()


@pytest.fixture
def records(tmp_path: Path) -> list[AdapterRecord]:
    """Six folders that look like adapters."""
    found = []
    for number in range(6):
        folder = tmp_path / f"a{number}"
        folder.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / name).write_text(str(number))
        found.append(AdapterRecord(folder.name, folder, None))
    return found


class Reader:
    """Reads a folder as its own name, and notes that it did."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, folder: Path) -> Any:
        self.read.append(folder.name)
        return {folder.name: object()}


def test_the_least_recently_asked_for_leaves_and_the_served_one_stays(records: list[AdapterRecord]) -> None:
    reader = Reader()
    cache = AdapterCache(reader, max_cached=3)
    cache.hold(records[0], serve=True)
    for record in records[1:]:
        cache.hold(record)
        assert len(cache) <= 3
    assert reader.read == ["a0", "a1", "a2", "a3", "a4", "a5"]
    for number in (0, 4, 5):
        cache.hold(records[number])
    assert len(reader.read) == 6, "these three are there"
    cache.hold(records[1], serve=True)
    for record in records[2:]:
        cache.hold(record)
    cache.hold(records[1])
    assert reader.read[6:] == ["a1", "a2", "a3", "a4", "a5"]


def test_many_at_once_load_it_once(records: list[AdapterRecord]) -> None:
    reader = Reader()
    cache, found = AdapterCache(reader), []
    threads = [threading.Thread(target=lambda: found.append(cache.hold(records[0])())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert reader.read == ["a0"] and len({id(adapter) for adapter in found}) == 1 and len(found) == 8


def test_changed_files_are_read_anew_and_gone_ones_are_told(records: list[AdapterRecord]) -> None:
    reader = Reader()
    cache = AdapterCache(reader)
    before = cache.hold(records[0])()
    (records[0].path / "adapter_model.safetensors").write_text("longer")
    assert cache.hold(records[0])() is not before and reader.read == ["a0", "a0"]
    shutil.rmtree(records[0].path)
    with pytest.raises(UserError, match="no longer on this machine"):
        cache.hold(records[0])


def test_what_rows_still_need_counts_and_is_not_read_twice(records: list[AdapterRecord]) -> None:
    reader = Reader()
    cache = AdapterCache(reader, max_cached=2, max_alive=4)
    rows = [cache.hold(record) for record in records[:4]]
    assert cache.hold(records[0])() is rows[0](), "it has left the cache, but not the machine"
    with pytest.raises(Busy, match="4 adapters are being answered.*Ask again"):
        cache.hold(records[4])
    rows.append(cache.hold(records[4], serve=True))
    del rows[2]
    with pytest.raises(Busy):
        cache.hold(records[5])
    del rows[:]
    cache.hold(records[5])
    assert reader.read == ["a0", "a1", "a2", "a3", "a4", "a5"] and len(cache) == 2


def test_visitors_see_the_served_adapter_and_those_that_the_owner_shows(
    engine: Engine, live: LiveAdapters, settings: Settings, adapters: list[Path]
) -> None:
    shutil.copytree(adapters[0], settings.home / "adapters" / "mine")
    service = Service(settings, lambda: engine, live, cast(Any, None), cast(Any, None), [])
    live.look()
    assert live.offer.visible == ["starter-adapter"] and "mine" in live.offer.records
    asked = (problems(1)[0].image.convert("RGB"), "How many?", "", "mine")
    with pytest.raises(UserError, match="There is no adapter 'mine'; choose starter-adapter, base"):
        service.read_question(*asked)
    assert service.read_question(*asked, for_owner=True).adapter == "mine"
    change_shown(settings.home, "mine", is_shown=True, title="Mine")
    live.look()
    assert ("Mine", "mine") in service.choices() and service.read_question(*asked).adapter == "mine"
