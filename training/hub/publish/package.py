"""The files of a publication, from a run's folder: adapter and card at the root, the rest of the run in `lookthink/`.

    README.md, adapter_config.json, adapter_model.safetensors, the processor's files
    lookthink/run.json           run and step, base and data at their commits, system prompt, digest of the adapter
    lookthink/config.json        every setting, without paths of this machine
    lookthink/evaluation.json    of a result: the report, without completions
    lookthink/versions.json, lookthink/rewards.png
    lookthink/events.out.tfevents.metrics    the steps' figures for TensorBoard, which the Hub shows

Weights are in safetensors and no file is a pickle; there is no path, no user name and no optimizer. TRL's own event
files stay here: they hold paths and the host's name. The one that goes along is made anew from `metrics.jsonl`.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from inference.adapters.record import MAX_JSON_BYTES, RECORD_FILE
from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.hub_names import repository_problem
from inference.model.lora_file import CONFIG_FILE, WEIGHTS_FILE, check_size
from training.config.data_config import STARTER
from training.config.run_config import RunConfig
from training.hub.publish.queue import CURVE, PROCESSOR_FILES, Item, plain_name
from training.runs.folder import RunFolder
from training.runs.metrics import MAX_FIGURE, is_number, reward_labels

RECORD_FOLDER = "lookthink"
RUN_FILE = f"{RECORD_FOLDER}/run.json"
EVENTS = "events.out.tfevents.metrics"
"""TensorBoard knows its files by `tfevents`; after it the usual name has a time and the host's name."""
OWN_FILES = {
    *PROCESSOR_FILES,
    *(f"{RECORD_FOLDER}/{name}" for name in ("run.json", "config.json", "versions.json", RECORD_FILE, CURVE, EVENTS)),
}
"""Files of an earlier publication that a new one may delete."""
FORMAT = 1
"""The format of `run.json`; readers ignore files of another one."""


@dataclass(frozen=True)
class Facts:
    """The facts that the model card states."""

    run: str
    step: int
    is_result: bool
    config: RunConfig
    evaluation: Json
    """The report as JSON; empty where there is none."""
    versions: Json
    """The versions of the newest start; empty if there are none."""
    history: list[Json]
    """The metrics up to this step, one row for each step."""
    has_processor: bool
    has_curve: bool
    lora: Json
    """The adapter's own settings, as PEFT saved them."""

    @property
    def base(self) -> str:
        """By its id on the Hub, or by the name of its folder."""
        return plain_name(self.config.base)

    @property
    def dataset(self) -> str:
        """By its id on the Hub, or by the name of its file or folder."""
        data = self.config.data
        return data.dataset if data.is_hub else plain_name(data.dataset)

    @property
    def base_on_hub(self) -> str | None:
        """The base's id, if it has one."""
        name = self.config.base
        is_id = name != STARTER and repository_problem("", name) is None and not Path(name).is_dir()
        return name if is_id else None

    @property
    def dataset_on_hub(self) -> str | None:
        """The dataset's id, if it has one."""
        return self.config.data.dataset if self.config.data.is_hub else None


@dataclass(frozen=True)
class Package:
    """The files of a publication, without the card: that needs the licences on the Hub."""

    facts: Facts
    publication: str
    """Twelve hexadecimal digits of the adapter, its run and its step, so that nothing is published twice."""
    files: dict[str, bytes | Path]
    """By their names in the repository."""


def make_package(item: Item, key: str) -> Package:
    """Reads the folders of the item and its run. Raises `UserError` for files that are not an adapter."""
    folder, config = RunFolder.open(item.folder.parents[1])
    weights = item.folder / WEIGHTS_FILE
    _check_weights(weights)
    evaluation = _read(item.folder / RECORD_FILE)
    evaluation.pop("completions", None)
    starts = folder.starts()
    facts = Facts(
        run=folder.path.name,
        step=item.step,
        is_result=item.is_result,
        config=config,
        evaluation=evaluation,
        versions=starts[-1] if starts else {},
        history=[row for row in folder.history() if row["step"] <= item.step],
        has_processor=(item.folder / "tokenizer_config.json").is_file(),
        has_curve=any(_is_rewarded(row) for row in folder.history()),
        lora=_read(item.folder / CONFIG_FILE),
    )
    digest = _digest(weights)
    files: dict[str, bytes | Path] = {WEIGHTS_FILE: weights, CONFIG_FILE: item.folder / CONFIG_FILE}
    files |= {name: path for name in PROCESSOR_FILES if (path := item.folder / name).is_file()}
    publication = _publication(key, item, digest, evaluation)
    files[RUN_FILE] = as_json(_run_record(facts, key, publication, digest))
    files[f"{RECORD_FOLDER}/config.json"] = as_json(public_config(config))
    files[f"{RECORD_FOLDER}/versions.json"] = as_json(starts)
    if evaluation:
        files[f"{RECORD_FOLDER}/{RECORD_FILE}"] = as_json(evaluation)
    if facts.has_curve:
        files[f"{RECORD_FOLDER}/{CURVE}"] = _curve(facts)
    if facts.history:
        files[f"{RECORD_FOLDER}/{EVENTS}"] = events(facts.history)
    return Package(facts, publication, files)


def public_config(config: RunConfig) -> Json:
    """The settings as plain data; of each path only the last part, since paths of this machine are private."""
    settings = config.model_dump(mode="json", exclude={"publish_to", "publish_every_minutes", "publish_public"})
    settings["trl"] = {name: value for name, value in config.trl.items() if not name.startswith("vllm_server")}
    for name in ("base", "start_adapter", "curriculum"):
        if settings[name]:
            settings[name] = plain_name(settings[name])
    if not config.data.is_hub:
        settings["data"]["dataset"] = plain_name(settings["data"]["dataset"])
    return settings


def as_json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def events(history: list[Json]) -> bytes:
    """The figures of each step as an event file of TensorBoard: scalars only, without text and without times."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    content = io.BytesIO()
    writer = RecordWriter(content)
    writer.write(Event(file_version="brain.Event:2").SerializeToString())
    for row in history:
        values = [
            Summary.Value(tag=f"train/{name}", simple_value=value)
            for name, value in row.items()
            if name != "step" and is_number(value, MAX_FIGURE)
        ]
        writer.write(Event(step=row.get("step", 0), summary=Summary(value=values)).SerializeToString())
    return content.getvalue()


def _run_record(facts: Facts, key: str, publication: str, digest: str) -> Json:
    config, last = facts.config, facts.history[-1] if facts.history else {}
    return {
        "format": FORMAT,
        "run": facts.run,
        "key": key,
        "publication": publication,
        "step": facts.step,
        "max_steps": config.max_steps or None,
        "is_result": facts.is_result,
        "base": facts.base,
        "base_revision": config.base_revision,
        "dataset": facts.dataset,
        "dataset_revision": config.data.revision,
        "system_prompt": config.system_prompt_text,
        "adapter_sha256": digest,
        "reward": last.get("reward"),
    }


def _publication(key: str, item: Item, digest: str, evaluation: Json) -> str:
    parts = [key, item.step, item.is_result, digest, _digest(item.folder / CONFIG_FILE), evaluation]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _curve(facts: Facts) -> bytes:
    from training.evaluation.plots import draw_rewards

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / CURVE
        draw_rewards(facts.history, picture)
        return picture.read_bytes()


def _is_rewarded(row: Json) -> bool:
    return bool(reward_labels([row]))


def _check_weights(weights: Path) -> None:
    from safetensors import SafetensorError, safe_open

    check_size(weights)
    try:
        with safe_open(weights, "np") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{weights} is not a safetensors file ({error}); let the run save its adapter again") from None
    if not any("lora_" in name for name in names):
        raise UserError(f"{weights} holds no LoRA weights; only adapters are published")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() and path.stat().st_size <= MAX_JSON_BYTES else ""


def _read(path: Path) -> Json:
    try:
        value = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); evaluate the run again, or delete the file") from None
    return value if isinstance(value, dict) else {}
