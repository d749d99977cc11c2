"""The change that the steps between two kept checkpoints made to one completion: its tokens, coloured by the change of
their log-probability.

    taught = TaughtTokens(context)
    opened = taught.open("#/train/watch/RUN/STEP/PROBLEM/ANSWER")     # asks the engine; words where that fails
    address, html = taught.found(opened)                              # for `rollouts_html`
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from inference.common.errors import UserError
from inference.common.files import Json
from inference.common.html import escape
from inference.common.settings import base_source
from inference.model.lora_file import same_base
from inference.model.lora_layers import holding
from inference.model.request import Request
from inference.prompt.image import load_images
from inference.server.visitors import OWNER, Visitor
from inference.ui.answering import failed
from training.config.run_config import RunConfig
from training.learn.record import kept_checkpoints
from training.runs.folder import RunFolder
from training.runs.record import RunRecord
from training.ui.base.context import Context

BASE = 0
"""The step of the base, before any training."""
ASK_SECONDS = 120.0
MAX_TEXT_CHARS = 40_000
"""Of a completion that is asked about."""
MAX_TOKENS = 1_000
"""Tokens that are shown."""
MAX_KEPT = 16
"""Findings in memory."""
LEAST_NATS = 0.05
"""The full colour stands for at least this change, so that noise is not coloured as much as learning."""
_ADDRESS = re.compile(r"#/train/watch/([\w-]{1,80})/(\d{1,9})/(\d{1,5})/(\d{1,5})", re.ASCII)
_SHOWS = (
    "It shows how much likelier or less likely these very tokens became between the two, each given the prompt and the "
    "tokens before it. It does not show that this answer did it: the weights were moved by all answers that were "
    "sampled in the steps between, and a token can change because of others."
)
TAUGHT_JS = """
const ask = (at, before, after) => trigger('submit', { at, before, after });
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-tokens]');
  if (button) ask(button.dataset.tokens, '', '');
});
element.addEventListener('change', (event) => {
  const panel = event.target.closest('.lt-taught');
  if (panel) ask(panel.dataset.at, ...[...panel.querySelectorAll('select')].map((one) => one.value));
});
let told = null;
const tell = (token) => {
  const panel = token?.closest('.lt-taught');
  if (!panel) return;
  told?.classList.remove('lt-told');
  (told = token).classList.add('lt-told');
  panel.querySelector('.lt-taught-now').textContent = token.dataset.words;
};
element.addEventListener('pointerover', (event) => tell(event.target.closest('.lt-taught-tokens i')));
element.addEventListener('focusin', (event) => {
  if (event.target.matches('.lt-taught-tokens') && !event.target.contains(told)) tell(event.target.firstElementChild);
});
element.addEventListener('keydown', (event) => {
  const by = { ArrowRight: 'nextElementSibling', ArrowLeft: 'previousElementSibling' }[event.key];
  if (!by || !event.target.matches('.lt-taught-tokens')) return;
  event.preventDefault();
  tell(told?.[by]);
});
let shown = '';
watch('value', () => {
  const panel = element.querySelector('.lt-taught');
  const now = panel?.dataset.at ?? '';
  if (now && now !== shown) panel.focus();
  shown = now;
});
"""
"""Buttons, dropdowns, and the figure of the token under the pointer or, with the arrow keys, in the focus."""


@dataclass(frozen=True)
class Taught:
    """The log-probabilities of a completion's tokens under two sets of weights, in nats."""

    pieces: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def changes(self) -> list[float]:
        """By token."""
        return [after - before for before, after in zip(self.before, self.after, strict=True)]


class TaughtTokens:
    """Asks the engine behind the page, and keeps the newest findings as HTML."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept: dict[str, str] = {}
        """By what `open` returned."""

    def open(self, address: str, before: str = "", after: str = "") -> str:
        """Asks about a completion, between two steps or the nearest ones; returns the key for `found`."""
        key = f"{address} {before} {after}"
        try:
            html = self._html(address, before, after)
        except Exception as error:  # whatever the engine fails with: the words stand where the tokens would
            words = f'<p class="lt-note lt-bad" role="alert">{escape(failed(error).message, 600)}</p>'
            html = _panel_html(address, words)
        self._kept.pop(key, None)
        self._kept[key] = html
        for stale in list(self._kept)[:-MAX_KEPT]:
            self._kept.pop(stale, None)
        return key

    def found(self, key: object) -> tuple[str, str]:
        """The completion's address, and the HTML that stands under it; both empty where it is not in memory."""
        html = self._kept.get(str(key), "")
        return (str(key).split(" ")[0], html) if html else ("", "")

    def _html(self, address: str, before: str, after: str) -> str:
        run_id, step, number, answer = address_parts(address)
        record = self._context.store.get(run_id)
        config = _config(record)
        self._check_base(config)
        groups = self._context.rollouts(record, step)[1]
        group, completion = _completion(groups, step, number, answer)
        checkpoints = {BASE: None, **kept_checkpoints(RunFolder(record.folder))}
        pair = _pair(list(checkpoints), step, before, after)
        pictures, notes = self._pictures(group)
        text = completion["text"]
        if not text or len(text) > MAX_TEXT_CHARS:
            raise UserError(f"The answer has {len(text):,} characters; from 1 to {MAX_TEXT_CHARS:,} are looked at.")
        request = Request(
            image=pictures[0],
            more_images=tuple(pictures[1:]),
            question=str(group["prompt"]),
            system_prompt=config.system_prompt_text,
            max_new_tokens=1,
            prefix=text,
            prefix_logprobs=True,
        )
        taught = self._taught(request, [checkpoints[one] for one in pair])
        notes += _token_notes(completion, len(taught.pieces))
        return _panel_html(address, _choice_html(list(checkpoints), pair) + taught_html(taught, pair, notes))

    def _taught(self, request: Request, folders: Sequence[Path | None]) -> Taught:
        """Both log-probabilities, in one batch of the visitors' queue."""
        queue = self._context.queue
        engine = queue.engine if queue else None
        if queue is None or engine is None:
            raise UserError("The model is not loaded yet. Ask again when it is.")
        requests = []
        for folder in folders:
            weights = engine.read_adapter(folder) if folder else {}
            requests.append(replace(request, adapter=folder.name, get_adapter=holding(weights)) if folder else request)
        one, other = queue.submit(requests, Visitor(OWNER)).completions(ASK_SECONDS)
        pieces = tuple(engine.tokenizer.prefix_pieces(request.prefix))
        return Taught(pieces, one.prefix_logprobs, other.prefix_logprobs)

    def _check_base(self, config: RunConfig) -> None:
        served = self._context.settings.base
        if not same_base(base_source(config.base), served):
            raise UserError(
                f"The run trained {config.base}, and {Path(served).name} answers here. Only the base that answers can "
                "be asked: start the app with the run's base."
            )

    def _pictures(self, group: Json) -> tuple[list[Image.Image], list[str]]:
        """The pictures of a group as the engine gets them, and what is to be said of them."""
        paths = group["images"]
        if not paths or None in paths:
            raise UserError("A picture of this problem is no longer in the run's folder, so it cannot be asked again.")
        pictures = load_images(paths, self._context.settings.limits)
        notes = ["The pictures are the recorded ones: JPEGs of those that the run trained on, in their size."]
        for path, picture in zip(paths, pictures, strict=True):
            with Image.open(path) as header:
                was = header.size
            if was != picture.size:
                is_now, before = (f"{width:,} × {height:,}" for width, height in (picture.size, was))
                notes.append(f"The page reads a picture of {before} pixels at {is_now}, so the figures are not exact.")
        return pictures, notes


def address_parts(address: str) -> tuple[str, int, int, int]:
    """The run, the step, the problem's and the completion's number of an address. Raises `UserError`."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UserError("The page did not name an answer. Load it again.")
    return match[1], int(match[2]), int(match[3]), int(match[4])


def default_pair(steps: Sequence[int], step: int) -> tuple[int, int]:
    """The last kept step before the update of `step`, and the first from it on; without one, the first and the last.

    A completion of step N was sampled before the Nth update, so checkpoint N is the first that learnt from it.

    >>> default_pair([0, 5, 10], 5), default_pair([0, 5, 10], 12)
    ((0, 5), (0, 10))
    """
    earlier, later = [one for one in steps if one < step], [one for one in steps if one >= step]
    return (earlier[-1], later[0]) if earlier and later else (steps[0], steps[-1])


def _pair(steps: Sequence[int], step: int, before: str, after: str) -> tuple[int, int]:
    if len(steps) < 2:
        raise UserError("The run has kept no checkpoint yet, so there is nothing to compare the base with.")
    chosen = [int(one) for one in (before, after) if one.isdecimal() and len(one) < 10 and int(one) in steps]
    return (chosen[0], chosen[1]) if len(chosen) == 2 else default_pair(steps, step)


def _config(record: RunRecord) -> RunConfig:
    try:
        return record.run_config
    except ValueError as error:
        raise UserError(
            "The run's configuration is of another version, so its prompts cannot be made again."
        ) from error


def _completion(groups: Sequence[Json], step: int, number: int, answer: int) -> tuple[Json, Json]:
    """A problem of a step, and one of its completions, by their numbers from 1."""
    group = groups[number - 1] if 0 < number <= len(groups) else {}
    completions = group.get("completions") or []
    if group.get("step") != step or not 0 < answer <= len(completions):
        raise UserError("That answer is no longer on record. Look at the step again.")
    return group, completions[answer - 1]


def _token_notes(completion: Mapping[str, object], count: int) -> list[str]:
    """A word where the text gives other tokens than were sampled; an end token is recorded and not in it."""
    recorded = completion.get("num_tokens")
    expected = recorded - (completion.get("truncated") is not True) if type(recorded) is int else count
    notes = [] if completion.get("truncated") is True else ["The end token is not in the text, and not shown."]
    if expected != count:
        notes.append(f"The text gives {count:,} tokens, and the run sampled {expected:,}: some were other ones.")
    return notes


def _panel_html(address: str, inside: str) -> str:
    return (
        f'<section class="lt-taught" data-at="{escape(address)}" tabindex="-1" aria-label="What the steps changed in '
        f'this answer"><p class="lt-own-acts"><b>What the steps changed here</b><button type="button" '
        f'class="lt-act lt-small-act" data-tokens="">Close</button></p>{inside}</section>'
    )


def _choice_html(steps: Sequence[int], pair: tuple[int, int]) -> str:
    """The two dropdowns."""
    fields = ""
    for label, chosen in zip(("From", "To"), pair):
        options = "".join(
            f'<option value="{one}"{" selected" if one == chosen else ""}>{_name(one)}</option>' for one in steps
        )
        fields += f"<label>{label} <select>{options}</select></label> "
    return f'<p class="lt-own-acts">{fields}</p>'


def taught_html(taught: Taught, pair: tuple[int, int], notes: Sequence[str] = ()) -> str:
    """The sum, the tokens, the legend, the sentence on what it shows, and the table."""
    changes = taught.changes
    scale = max(LEAST_NATS, max(map(abs, changes), default=0.0))
    more = f"The first {MAX_TOKENS:,} of {len(changes):,} tokens are shown." if len(changes) > MAX_TOKENS else ""
    said = "".join(f" {note}" for note in (more, *notes) if note)
    first, last = (_name(step).lower() for step in pair)
    total = round(sum(changes), 3)
    likelier = "became likelier" if total > 0 else "became less likely" if total < 0 else "stayed as likely"
    return (
        f"<p>From {first} to {last} this answer {likelier}: <b>{_nats(total)} nats</b> in all, over "
        f"{len(changes):,} token{'s' if len(changes) > 1 else ''} (from {_nats(sum(taught.before))} to "
        f"{_nats(sum(taught.after))}).</p>"
        '<div class="lt-taught-tokens" tabindex="0" role="group" aria-label="The tokens; the arrow keys go through '
        f'them, and a table is below">{_tokens_html(taught, scale)}</div><p class="lt-taught-now" role="status">Point '
        'at a token, or press the arrow keys, for its figure.</p><p class="lt-taught-legend"><i class="lt-down" '
        f'style="--a:1">−{scale:.2f}</i> <span aria-hidden="true"></span> <i class="lt-up" style="--a:1">+{scale:.2f}'
        f'</i> nats: change of the log-probability, at temperature 1</p><p class="lt-quiet">{_SHOWS}{said}</p>'
        f"<details><summary>As a table</summary>{_table_html(taught, pair)}</details>"
    )


def _tokens_html(taught: Taught, scale: float) -> str:
    """The tokens with their colour and their figure in words; `scale` is the change of the full colour."""
    html = ""
    for piece, before, after in list(zip(taught.pieces, taught.before, taught.after))[:MAX_TOKENS]:
        change = after - before
        words = f"{_shown(piece)}: {_nats(change)} nats, from {_nats(before)} to {_nats(after)}"
        kind, share = "up" if change > 0 else "down", abs(change) / scale
        html += f'<i class="lt-{kind}" style="--a:{share:.2f}" data-words="{words}">{escape(piece, 80)}</i>'
    return html


def _table_html(taught: Taught, pair: tuple[int, int]) -> str:
    heads = "".join(f'<th scope="col">{one}</th>' for one in ("Token", *map(_name, pair), "Change"))
    rows = "".join(
        f'<tr><th scope="row">{_shown(piece)}</th><td>{_nats(before)}</td><td>{_nats(after)}</td>'
        f"<td>{_nats(after - before)}</td></tr>"
        for piece, before, after in list(zip(taught.pieces, taught.before, taught.after))[:MAX_TOKENS]
    )
    return (
        '<div class="lt-table" tabindex="0" role="group" aria-label="Log-probabilities of the tokens"><table>'
        f"<caption>Log-probabilities, in nats</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
        "</div>"
    )


def _shown(piece: str) -> str:
    """A token's text in a line."""
    return escape(piece.replace("\n", "↵"), 80) or "(a part of the next sign)"


def _name(step: int) -> str:
    return f"Step {step}" if step else "The base"


def _nats(value: float) -> str:
    rounded = round(value, 3)
    return f"{rounded:+.3f}".replace("-", "−") if rounded else "0"
