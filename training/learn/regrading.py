"""Grades of recorded rollouts by other settings: what must be made, what is kept, and a process that makes it.

    needs = needed(recorded, config, other, GradeStore(home))
    needs.num_missing, needs.seconds            # 0: `scored(recorded, other, needs.rewards)` needs no grading
    Regrading(home).start(folder, other)        # `python -m training rewards FOLDER …`, which fills the store

A grade is kept by gold, problem, completion, function and settings (and the content of a user's own file), so that a
second look makes none again. A process of its own, since a reward function may be anybody's, and can then be stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import inspect
import json
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from inference.common.errors import UserError, first_line
from inference.common.files import Json, write_json
from inference.common.settings import base_source
from training.config.run_config import RunConfig, change_config
from training.grading.advantages import Floats
from training.grading.reward_loading import check_name, load_reward, reward_settings
from training.grading.rewards import REWARDS, Reward
from training.learn.reward_lab import Bools, Recorded, identity, recorded_groups, short_name, tokens_of
from training.runs.processes import log_tail, progress_words, start_command

MAX_GRADES = 500_000
"""Grades that are kept, about 40 MB; the oldest go first."""
FOLDER = ".rewards"
"""Of what the process is asked and says, in the home."""
_FIND_AT_ONCE = 500


@dataclass(frozen=True)
class Needs:
    """The rewards of a configuration as far as they are known, and what is missing."""

    rewards: Mapping[str, Floats]
    """(N,) by the function's short name; NaN also where a grade is missing."""
    missing: Mapping[str, Bools]
    """(N,) by the function's name, of those that lack a grade."""
    num_cut: int
    """Completions that have more tokens than the configuration allows."""
    seconds: float | None
    """The time of the missing grades by the last ones; `None` where a function was never measured."""

    @property
    def num_missing(self) -> int:
        return sum(int(each.sum()) for each in self.missing.values())


def lab_config(
    config: RunConfig, rewards: Mapping[str, float], tolerance: float, max_completion_length: int
) -> RunConfig:
    """A run's configuration with the settings that the lab changes; raises `UserError` for one that cannot be."""
    for name in rewards:
        check_name(name)
    names = [short_name(name) for name in rewards]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"two rewards are called {', '.join(twice)}; the records know them by that name: leave one out")
    values = {"rewards": dict(rewards), "max_completion_length": max_completion_length}
    return change_config(config, values | {"data": {"tolerance": tolerance}})


def needed(recorded: Recorded, config: RunConfig, other: RunConfig, store: GradeStore) -> Needs:
    """The rewards that `other` asks of a run with `config`: from the record, from the store, or still to be graded.

    Raises `UserError` where the record lacks the solutions that grading needs, or a reward's file is not there.
    """
    cut = recorded.num_tokens > other.max_completion_length
    known: dict[str, Floats] = {}
    missing: dict[str, Bools] = {}
    seconds: float | None = 0.0
    for name in other.rewards:
        short, is_new = short_name(name), _settings(name, config) != _settings(name, other)
        on_record = name in config.rewards and short in recorded.rewards
        wanted = cut if on_record and not is_new else np.ones_like(cut)
        values = recorded.rewards[short].copy() if on_record else np.full(recorded.num_completions, np.nan)
        if wanted.any():
            if recorded.num_without_solution:
                raise UserError(
                    f"{recorded.num_without_solution:,} of {recorded.num_completions:,} completions have no solution "
                    "on record, as older runs wrote them: only the weights of the recorded rewards can be changed"
                )
            at, keys = np.flatnonzero(wanted), Keys(name, other)
            wanted_keys = [keys(recorded.identities[i], bool(cut[i])) for i in at]
            found = store.find(wanted_keys)
            values[at] = [np.nan if (grade := found.get(key)) is None else grade for key in wanted_keys]
            lacking = np.zeros_like(wanted)
            lacking[at] = [key not in found for key in wanted_keys]
            if lacking.any():
                missing[name] = lacking
                each = store.seconds_each(name)
                seconds = None if seconds is None or each is None else seconds + each * int(lacking.sum())
        known[short] = values
    return Needs(known, missing, int(cut.sum()), seconds if missing else 0.0)


def _settings(name: str, config: RunConfig) -> dict[str, object]:
    """The settings that a run gives to one reward function."""
    return reward_settings(config.max_completion_length, config.data.tolerance).get(name, {})


class Keys:
    """The keys of one function's grades under one configuration."""

    def __init__(self, name: str, config: RunConfig) -> None:
        about = json.dumps([name, _code_digest(name), _settings(name, config)], sort_keys=True).encode()
        whole, cut = (
            hashlib.blake2b(about + end, digest_size=16) for end in (b"", b"%d" % config.max_completion_length)
        )
        self._whole, self._cut = whole, cut

    def __call__(self, of: bytes, is_cut: bool) -> bytes:
        """The key of the completion with that identity."""
        digest = (self._cut if is_cut else self._whole).copy()
        digest.update(of)
        return digest.digest()


def _code_digest(name: str) -> str:
    """The digest of a user's own file, which is found but not run; "" for ours."""
    if name in REWARDS:
        return ""
    module = name.partition(":")[0]
    try:
        importlib.invalidate_caches()
        spec = importlib.util.find_spec(module)
        return hashlib.sha256(Path(str(spec.origin)).read_bytes()).hexdigest() if spec else _no_file(name)
    except (ImportError, OSError, ValueError) as error:
        return _no_file(name, error)


def _no_file(name: str, error: Exception | None = None) -> str:
    raise UserError(
        f"there is no file of the reward {name!r} on this machine; its module must be installed, or lie in the folder "
        "from which runs start"
    ) from error


class GradeStore:
    """`<home>/grades.sqlite3`: rewards by key, bounded, for any thread and process; a broken file is made anew."""

    def __init__(self, home: Path) -> None:
        self._path = home / "grades.sqlite3"

    def find(self, keys: Sequence[bytes]) -> dict[bytes, float | None]:
        """The kept grades among these; `None` is the grade of a completion that the function gives none."""
        found: dict[bytes, float | None] = {}
        with closing(self._open()) as connection:
            for first in range(0, len(keys), _FIND_AT_ONCE):
                part = keys[first : first + _FIND_AT_ONCE]
                marks = ",".join("?" * len(part))
                found.update(connection.execute(f"SELECT key, reward FROM grades WHERE key IN ({marks})", part))
        return found

    def add(self, name: str, grades: Iterable[tuple[bytes, float | None]], seconds: float) -> None:
        """Keeps the grades of one function, and what they took."""
        rows = list(grades)
        with closing(self._open()) as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO grades (key, reward) VALUES (?, ?)", rows)
            connection.execute("DELETE FROM grades WHERE number <= (SELECT max(number) FROM grades) - ?", (MAX_GRADES,))
            connection.execute("INSERT OR REPLACE INTO costs VALUES (?, ?)", (name, seconds / max(1, len(rows))))

    def seconds_each(self, name: str) -> float | None:
        """The time of a grade of a function at last; `None` where none was made here."""
        with closing(self._open()) as connection:
            row = connection.execute("SELECT seconds FROM costs WHERE name = ?", (name,)).fetchone()
        return None if row is None else float(row[0])

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # a full disk, or one that cannot be written
                raise UserError(f"grades cannot be kept ({error}); make room for {self._path}") from error
            self._path.unlink(missing_ok=True)  # what it held can be graded again
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=15)
        connection.executescript(
            "CREATE TABLE IF NOT EXISTS grades (number INTEGER PRIMARY KEY, key BLOB UNIQUE, reward REAL);"
            "CREATE TABLE IF NOT EXISTS costs (name TEXT PRIMARY KEY, seconds REAL);"
        )
        return connection


def grade_missing(
    folder: Path, needs: Needs, other: RunConfig, store: GradeStore, progress: Callable[[int], object]
) -> None:
    """Makes the missing grades, step by step, and keeps those of each step at once; `progress` gets their number.

    A function of ours gets the completions without a grade; a user's own gets the whole step, as in the run.
    """
    functions = {name: load_reward(name, **_settings(name, other)) for name in needs.missing}
    keys = {name: Keys(name, other) for name in functions}
    texts = Texts(other)
    for first, rows in _steps(folder):
        for name, function in functions.items():
            lacking = needs.missing[name][first : first + len(rows)].tolist()
            if not any(lacking) or len(lacking) < len(rows):
                continue
            asked = [i for i, lacks in enumerate(lacking) if lacks] if name in REWARDS else list(range(len(rows)))
            began = time.perf_counter()
            rewards = _rewards(function, [rows[i] for i in asked], texts, is_own=name not in REWARDS)
            named = [
                (keys[name](identity(*rows[i]), texts.is_cut(rows[i][1])), reward) for i, reward in zip(asked, rewards)
            ]
            store.add(name, named, time.perf_counter() - began)
            progress(sum(lacking))


def _steps(folder: Path) -> Iterator[tuple[int, list[tuple[Json, Json]]]]:
    """The completions of each step with their groups, and the number of the first one."""
    first = 0
    for _, groups in groupby((row for _, row in recorded_groups(folder)), key=lambda row: row["step"]):
        rows = [(row, one) for row in groups for one in row["completions"]]
        yield first, rows
        first += len(rows)


class Texts:
    """The texts of completions as they would be under a length limit, by the base's own tokenizer."""

    def __init__(self, config: RunConfig) -> None:
        self.config, self.limit = config, config.max_completion_length
        self._tokenizer: Any = None

    def is_cut(self, completion: Json) -> bool:
        return tokens_of(completion) > self.limit

    def text(self, completion: Json) -> str:
        """The text up to the limit, which the tokenizer may place a little otherwise than sampling did."""
        text: str = completion["text"]
        if not self.is_cut(completion):
            return text
        ends = [end for _, end in self._encoded(text)["offset_mapping"]]
        return text[: ends[self.limit - 1]] if len(ends) >= self.limit else text

    def ids(self, completion: Json) -> list[int]:
        """The token ids of the text as it would be."""
        return list(self._encoded(self.text(completion))["input_ids"])

    def _encoded(self, text: str) -> Any:
        if self._tokenizer is None:
            from transformers import AutoTokenizer  # takes seconds, and only a shorter limit needs it

            base, revision = base_source(self.config.base), self.config.base_revision
            try:
                self._tokenizer = AutoTokenizer.from_pretrained(base, revision=revision, local_files_only=True)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"the tokenizer of {self.config.base} is not on this machine ({first_line(error)}), and cutting "
                    "completions needs it; leave max_completion_length as the run had it"
                ) from error
        return self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)


def _rewards(function: Reward, rows: Sequence[tuple[Json, Json]], texts: Texts, is_own: bool) -> list[float | None]:
    """The rewards of completions in the form in which the trainer hands them over, as far as they are on record."""
    system = [{"role": "system", "content": texts.config.system_prompt_text}]
    columns: dict[str, Any] = {
        "completions": [[{"role": "assistant", "content": texts.text(one)}] for _, one in rows],
        "prompts": [[*system, {"role": "user", "content": row["prompt"]}] for row, _ in rows],
        "solution": [row.get("solution") for row, _ in rows],
        "problem": [row["prompt"] for row, _ in rows],
    }
    if not is_own:  # ours only count the tokens
        columns["completion_ids"] = [range(min(tokens_of(one), texts.limit)) for _, one in rows]
    elif "completion_ids" in inspect.signature(function).parameters:
        columns["completion_ids"] = [texts.ids(one) for _, one in rows]
    returned = asyncio.run(function(**columns)) if inspect.iscoroutinefunction(function) else function(**columns)
    return list(returned)


class Regrading:
    """The process that grades or samples, one at a time in a home. Thread-safe."""

    def __init__(self, home: Path) -> None:
        self._home, self._lock = home, threading.Lock()
        self._log, self._asked = home / FOLDER / "rewards.log", home / FOLDER / "asked.json"
        self._process: subprocess.Popen[bytes] | None = None
        self.folder: Path | None = None
        """The folder whose rollouts it worked on last."""

    @property
    def is_running(self) -> bool:
        """True while it works."""
        return self._process is not None and self._process.poll() is None

    def start(self, folder: Path, other: RunConfig) -> None:
        """Starts to grade; returns at once. Raises `UserError` while it works already."""
        values: Json = {"rewards": other.rewards, "max_completion_length": other.max_completion_length}
        values["data"] = {"tolerance": other.data.tolerance}
        self._start(folder, ["--config", str(self._asked)], values)

    def start_sample(self, folder: Path, dataset: str, num_problems: int) -> None:
        """Starts to sample a dataset into a new folder (`training.learn.fresh_sample`); otherwise as `start`."""
        self._start(folder, ["--sample", str(num_problems), f"--dataset={dataset}"], {})

    def _start(self, folder: Path, options: Sequence[str], asked: Json) -> None:
        with self._lock:
            if self.is_running:
                raise UserError("Rollouts are being graded or sampled already; wait for the end, or press Stop.")
            try:
                self._asked.parent.mkdir(parents=True, exist_ok=True)
                write_json(self._asked, asked)
                command = ["rewards", str(folder), *options]
                self._process, self.folder = start_command(command, self._home, self._log), folder
            except OSError as error:
                raise UserError(f"It cannot be started ({error.strerror}); check {self._asked.parent}") from error

    def stop(self) -> None:
        """Ends it at once; the grades of the steps that it has finished are kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def progress(self) -> str:
        """Its work in words, as in `grading: 400 of 9,600, 0:05 left`."""
        return progress_words(log_tail(self._log))

    @property
    def error(self) -> str:
        """The reason why the last one broke off, in words; "" if it did not, or was stopped."""
        if self._process is None or self.is_running or self._process.returncode in (0, -9):
            return ""
        lines = [line for line in log_tail(self._log).splitlines() if line.startswith("error: ")]
        return lines[-1].removeprefix("error: ") if lines else "It broke off. Start it again."
