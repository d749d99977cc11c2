"""Lines on what a run needs around the model: versions, disk, clock, the Hub's token and repositories, bucket, port.

None of them depends on the model, and each is looked at anew every time.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import math
import os
import re
import secrets
import shutil
import time
from importlib import metadata
from pathlib import Path

import torch

from inference.common.errors import UserError
from inference.common.hub_errors import HubUnreachable, hub_exceptions, read_error, reason
from inference.common.settings import REPORTS
from inference.engine.fast_paths import machine_key
from inference.server.lifecycle import Address, listening_address
from inference.server.visitors import is_on_space
from training.data.hub_source import resolve_commit
from training.doctor.model_checks import Finding
from training.doctor.report import Status
from training.doctor.subject import Subject
from training.hub.backup.copies import write_stream
from training.hub.space.setup import token_here, token_trouble
from training.pipeline.preflight import check_train_rows
from training.runs.estimate.memory import GB
from training.runs.estimate.rows import count_rows
from training.runs.estimate.shapes import sizes_of
from training.runs.provenance import versions_here

ROOT = Path(__file__).parents[2]
CLOCK_WARNS, CLOCK_FAILS = 30.0, 300.0
"""Seconds that the clock may be off: logins and signed addresses of the Hub last for minutes."""
RECORDS_BYTES = 1.0 * GB
"""Room for a run's rollouts, pictures and logs."""
CHECKPOINT_BYTES = 12
"""Bytes of a LoRA parameter in a checkpoint: itself and AdamW's two moments, in fp32."""
ASSUMED_STEPS = 300
READ_ONLY = "it may only read"
"""The words of `token_trouble` for such a token."""
_MAKE_A_TOKEN = "make a token that may write, at the Hub under Access Tokens, and set HF_TOKEN to it"
_PINNED = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==(\S+)$", re.MULTILINE)
_HEALTH_SECONDS = 3.0


def versions(subject: Subject) -> Finding:
    """Card, driver and libraries, and those that differ from requirements.txt."""
    key, here = machine_key(), versions_here()
    card = key.card
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        card += f", driver {key.driver}, CUDA {torch.version.cuda}, {free / GB:.1f} of {total / GB:.1f} GB free"
    else:
        card += ", no card"
    commit = (here["code_commit"] or "unknown")[:12] + (" with changes" if here["code_dirty"] else "")
    names = ("python", "torch", "transformers", "trl", "peft", "huggingface-hub")
    evidence = f"{card}; {', '.join(f'{name} {here[name]}' for name in names)}; commit {commit}, code {key.code}"
    others = []
    for name, pinned in _PINNED.findall((ROOT / "requirements.txt").read_text(encoding="utf-8")):
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found.partition("+")[0] != pinned:
            others.append(f"{name} {found} instead of {pinned}")
    if others:
        return Finding("warn", f"{evidence}; {', '.join(others)}", "pip install -r requirements.txt")
    return Finding("pass", evidence)


def disk(subject: Subject) -> Finding:
    """Free bytes where runs, and a base that is not here yet, are written."""
    config = subject.config
    sizes = sizes_of(config.base, config.base_revision)
    kept = config.keep_checkpoints or math.ceil((config.max_steps or ASSUMED_STEPS) / config.save_steps)
    lora = sizes.lora_parameters(config.lora_rank, config.lora_modules)
    needs = {subject.settings.home: RECORDS_BYTES + (kept + 1) * lora * CHECKPOINT_BYTES}
    if not _is_here(subject):
        from huggingface_hub import constants

        needs[Path(constants.HF_HUB_CACHE)] = 2.0 * sizes.parameters
    words: list[str] = []
    status: Status = "pass"
    for folder, need in needs.items():
        free = free_bytes(folder)
        what = "runs" if folder == subject.settings.home else "the base"
        words.append(f"{free / GB:.1f} GB free for {what}, which need about {need / GB:.1f}")
        if free < need:
            status = "fail"
        elif free < 2 * need and status == "pass":
            status = "warn"
    remedy = "make room, lower keep_checkpoints, or set LOOKTHINK_HOME (runs) and HF_HOME (bases) to another disk"
    return Finding(status, "; ".join(words), "" if status == "pass" else remedy)


def free_bytes(folder: Path) -> int:
    """Bytes that are free on a folder's disk; the folder need not be there."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(nearest).free


def clock(subject: Subject) -> Finding:
    """This machine's clock beside the Hub's."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        answer = get_session().head(constants.ENDPOINT, timeout=_HEALTH_SECONDS)
        stamp = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except hub_exceptions() as error:
        return Finding("skip", f"the Hub's time is not known: {reason(error)}")
    off = time.time() - stamp
    side = "ahead of" if off > 0 else "behind"
    evidence = f"{abs(off):.0f} s {side} the Hub's" if abs(off) >= 2 else "within 2 s of the Hub's"
    remedy = "set the clock, for example by NTP: the Hub refuses logins and uploads of another time"
    if abs(off) > CLOCK_FAILS:
        return Finding("fail", evidence, remedy)
    return Finding("warn", evidence, remedy) if abs(off) > CLOCK_WARNS else Finding("pass", evidence)


def token(subject: Subject) -> Finding:
    """The rights of the Hub's token, as far as the run and this deployment need them."""
    needs = _needs_of_token(subject)
    value = subject.env.get("HF_TOKEN", "").strip() or token_here() or ""
    if not value:
        if not needs:
            return Finding("skip", "there is none, and nothing that is set here needs one")
        return Finding("fail", f"there is none, and one that may write is needed {' and '.join(needs)}", _MAKE_A_TOKEN)
    trouble = token_trouble(value)
    if trouble.network:
        return Finding("warn", f"it could not be tested: {trouble.network}", "look again when the Hub answers")
    if trouble.token and not (trouble.token == READ_ONLY and not needs):
        return Finding("fail", f"{trouble.token}; it is needed {' and '.join(needs) or 'to be valid'}", _MAKE_A_TOKEN)
    if trouble.token:
        return Finding("pass", "it may read, and nothing that is set here needs more")
    repo = subject.config.publish_to
    if repo is not None and repo.partition("/")[0] not in trouble.writes_for:
        words = f"it may not write to {repo}, which publish_to names"
        return Finding("fail", words, f"{_MAKE_A_TOKEN}, for {repo.partition('/')[0]}, or set another publish_to")
    num = len(trouble.writes_for)
    return Finding("pass", f"it may write for {num} {'account' if num == 1 else 'accounts'}")


def _needs_of_token(subject: Subject) -> list[str]:
    needs = [f"to publish to {subject.config.publish_to}"] if subject.config.publish_to else []
    needs += ["to start Jobs"] if subject.settings.training.trainer == "job" else []
    return needs


def licence(subject: Subject) -> Finding:
    """The right to read a base on the Hub, which its owner may have gated."""
    if Path(subject.base).is_dir():
        return Finding("skip", "the base is a folder here")
    from huggingface_hub import HfApi

    try:
        HfApi().auth_check(subject.base)
    except Exception as error:  # the Hub's client and its HTTP library share no base class
        in_words = read_error("base", subject.base, error)
        if in_words is None:
            raise
        if isinstance(in_words, HubUnreachable) and _is_here(subject):
            return Finding("warn", f"{in_words}", "the copy on this disk is used meanwhile")
        raise in_words from error
    return Finding("pass", f"{subject.config.base} may be read")


def data(subject: Subject) -> Finding:
    """The dataset: that it is there and may be read, and has rows enough for a step."""
    config = subject.config
    where = "made here"
    if config.data.is_hub:
        where = f"at {resolve_commit(config.data.dataset, config.data.revision)[:12]} on the Hub, and may be read"
    elif not config.data.is_starter:
        where = "a path here"
    rows = count_rows(config.data)
    check_train_rows(config, rows.num)
    evidence = f"{config.data.dataset if config.data.is_hub else 'it'} is {where}: {rows.num:,} train rows"
    return Finding("warn", f"{evidence}. {rows.words}") if rows.words else Finding("pass", evidence)


def bucket(subject: Subject) -> Finding:
    """A file that is written to the bucket's mount and read again, or the bucket as the Hub knows it."""
    state, name = subject.settings.state, subject.settings.training.bucket
    if state is not None:
        if not state.is_dir():
            return Finding("fail", "LOOKTHINK_STATE names no folder here", "mount the bucket there, or unset it")
        return _tried(state / REPORTS / f"trial-{secrets.token_hex(4)}")
    if name is not None:
        from huggingface_hub import HfApi

        try:
            HfApi().bucket_info(name)
        except hub_exceptions() as error:
            remedy = "name a bucket that the token may read (training.bucket), or make it: python -m training deploy"
            return Finding("fail", f"{name}: {reason(error)}", remedy)
        return Finding("pass", f"{name} is on the Hub; it is not mounted here")
    if is_on_space(subject.env):
        remedy = "mount a bucket (docs/deploying.md); python -m training deploy does it"
        return Finding("warn", "there is none, so runs end with this Space's disk", remedy)
    return Finding("skip", "none is named (training.bucket, LOOKTHINK_STATE)")


def _tried(path: Path) -> Finding:
    content = secrets.token_bytes(4096)
    try:
        started = time.perf_counter()
        write_stream(path, [content])
        is_same = path.read_bytes() == content
        seconds = time.perf_counter() - started
        path.unlink()
    except OSError as error:
        return Finding("fail", f"it cannot be written: {error.strerror}", "mount it so that this user may write there")
    if not is_same:
        return Finding(
            "fail", "what was written to it was read otherwise", "mount it anew; copies there cannot be used"
        )
    return Finding("pass", f"mounted; a file was written and read in {1000 * seconds:.0f} ms")


def port(subject: Subject) -> Finding:
    """The port of the page: free, or answered by this app."""
    address = listening_address(subject.env)
    try:
        address.check_free()
        return Finding("pass", f"{address.port} is free")
    except UserError as error:
        trouble = str(error)
    if _answers_there(address):
        return Finding("pass", f"this app answers at {address.port}")
    return Finding("fail", f"{address.port} cannot be used", trouble)


def _answers_there(address: Address) -> bool:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_HEALTH_SECONDS)
    try:
        connection.request("GET", "/healthz")
        answer = json.loads(connection.getresponse().read(10_000))
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return isinstance(answer, dict) and "run_active" in answer


def _is_here(subject: Subject) -> bool:
    """True if the base is a folder, or in the Hub's cache."""
    if Path(subject.base).is_dir():
        return True
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(subject.base, "config.json", revision=subject.config.base_revision)
    return isinstance(found, str | os.PathLike)
