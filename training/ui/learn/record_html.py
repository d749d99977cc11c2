"""The record of what training changed (`training.learn.record`) as HTML: the replay, the gallery, the strengths.

Texts come from a model and pictures from files that somebody may have edited: all is escaped, and a picture that cannot
be read is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from inference.adapters.record import LEARN_FOLDER
from inference.common.files import Json
from inference.common.html import escape
from inference.prompt.format import parse_completion, stated_answer
from training.learn.record import ChangedRow, Changes, Replay, Row, Side, Strengths
from training.runs.metrics import METRICS
from training.ui.base.html import picture_uri
from training.ui.base.plots import Series, curves_plot

CURVES = ("accuracy", "format", "completion_tokens")
"""Of the run, beside the replay."""
CHOSEN = (
    "These problems were chosen because training gained them, where it could: they show how, not how often. How many "
    "of all it gained and lost stands below."
)
_CHANGES = {
    "gained": ("Gained", "Wrong before, right after training."),
    "lost": ("Lost", "Right before, wrong after training."),
    "right": ("Both right", "Training was not needed for these."),
    "wrong": ("Both wrong", "Training did not help with these."),
}


def replay_html(adapter: Path, replay: Replay, curves: Mapping[str, Series]) -> str:
    """The curves of the run, a slider over its checkpoints, and what each said to the same problems."""
    plots = "".join(curves_plot({name: curves[name]}, METRICS[name]) for name in CURVES if curves.get(name))
    steps = "".join(f'<option value="{i}" data-step="{step}"></option>' for i, step in enumerate(replay.steps))
    names = "".join(
        f'<span data-at="{i}"{" hidden" if i else ""}>{_step_name(step)}: {sum(r.sides[i].right for r in replay.rows)} '
        f"of {len(replay.rows)} right</span>"
        for i, step in enumerate(replay.steps)
    )
    cards = "".join(
        f'<li class="lt-group"><div class="lt-replayed">{_pictures(adapter, row)}<div><p>{escape(row.problem)}</p>'
        f'<p class="lt-quiet">Expected: {escape(row.gold, 200)}</p></div></div>'
        + "".join(
            f'<div data-at="{i}"{" hidden" if i else ""}>{side_html(side)}</div>' for i, side in enumerate(row.sides)
        )
        + "</li>"
        for row in replay.rows
    )
    last = len(replay.steps) - 1
    return (
        '<section class="lt-replay" aria-label="The run, checkpoint by checkpoint">'
        f'<div class="lt-plots">{plots}</div><p>{CHOSEN}</p><p>{moments(replay)}</p><div class="lt-replay-bar">'
        '<button type="button" class="lt-act lt-primary" data-play>Play</button>'
        f'<input type="range" min="0" max="{last}" value="0" step="1" aria-label="Checkpoint" list="lt-replay-steps">'
        f'<datalist id="lt-replay-steps">{steps}</datalist><span role="status">{names}</span></div>'
        f'<ol class="lt-replay-rows">{cards}</ol></section>'
    )


def moments(replay: Replay) -> str:
    """The steps at which the tags come, the texts grow and the most problems are right, in sentences that hold.

    A change counts from the first checkpoint after which it stays.
    """
    if not replay.rows:
        return "No problem is on record."
    columns = [[row.sides[i] for row in replay.rows] for i in range(len(replay.steps))]
    length = [sum(len(side.text) for side in column) for column in columns]
    tagged = [2 * sum(side.in_format for side in column) > len(column) for column in columns]
    longer = [one >= 1.5 * length[0] for one in length]
    right = [sum(side.right for side in column) for column in columns]
    most = right.index(max(right))
    sentences = []
    if (at := _lasting(tagged)) is not None:
        start = "Already the base keeps" if at == 0 else f"From step {replay.steps[at]} on most of these answers keep"
        sentences.append(f"{start} the tags.")
    if at := _lasting(longer):
        sentences.append(f"From step {replay.steps[at]} on the texts are at least half as long again as the base's.")
    if right[most] > right[0]:
        sentences.append(f"Most are right at step {replay.steps[most]}: {right[most]} of {len(replay.rows)}.")
    return " ".join(sentences) or "On these problems training changed neither the tags nor the length nor the answers."


def _lasting(holds: Sequence[bool]) -> int | None:
    """The first place from which on it always holds; `None` if it does not hold at the end."""
    at = len(holds)
    while at and holds[at - 1]:
        at -= 1
    return at if at < len(holds) else None


def changes_html(adapter: Path, changes: Changes) -> str:
    """The counts by kind, and each problem with both completions, folded."""
    counts = Counter((row.kind, row.change) for row in changes.rows)
    kinds = sorted({row.kind for row in changes.rows})
    head = "".join(f'<th scope="col">{title}</th>' for title, _ in _CHANGES.values())
    body = "".join(
        f'<tr><th scope="row">{escape(kind or "all", 40)}</th>'
        + "".join(f"<td>{counts[kind, change]}</td>" for change in _CHANGES)
        + "</tr>"
        for kind in kinds
    )
    groups = ""
    for change, (title, words) in _CHANGES.items():
        cards = "".join(_change_html(adapter, row) for row in changes.rows if row.change == change)
        number = sum(row.change == change for row in changes.rows)
        groups += (
            f'<details class="lt-change-group"><summary><b>{title}: {number}</b> <span class="lt-quiet">{words}</span>'
            f'</summary><div class="lt-changes">{cards}</div></details>'
        )
    return (
        f'<div class="lt-wide"><table class="lt-probe-table"><caption>{len(changes.rows)} held-out problems</caption>'
        f'<thead><tr><th scope="col">Kind</th>{head}</tr></thead><tbody>{body}</tbody></table></div>{groups}'
    )


def _change_html(adapter: Path, row: ChangedRow) -> str:
    """A problem, folded, with both completions."""
    sides = "".join(
        f"<section><h4>{title}</h4>{side_html(side)}</section>"
        for title, side in (("Base", row.base), ("After training", row.adapter))
    )
    summary = f"{_pictures(adapter, row, 1)}<span>{escape(row.problem, 120)}</span>"
    return (
        f'<details class="lt-group lt-change"><summary>{summary}</summary><div class="lt-change-body">'
        f'<p>{escape(row.problem)}</p><p class="lt-quiet">Expected: {escape(row.gold, 200)}</p>'
        f'<div class="lt-change-pair">{sides}</div></div></details>'
    )


def strengths_html(found: Strengths) -> str:
    """Accuracy and format at each strength, with intervals."""
    rows = ""
    for strength, accuracy, in_format in zip(found.strengths, found.accuracy, found.in_format):
        name = f"{100 * strength:.0f} %{' (the base)' if not strength else ''}"
        rows += f'<tr><th scope="row">{name}</th><td>{_share(accuracy)}</td><td>{_share(in_format)}</td></tr>'
    head = "".join(f'<th scope="col">{words}</th>' for words in ("Strength", "Correct (lenient)", "Format kept"))
    return (
        f"<p>On {found.num_rows} validation problems, with 95 % intervals. Strengths whose intervals overlap are not "
        f'shown to differ.</p><div class="lt-wide"><table class="lt-probe-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def checkpoints_html(found: Json) -> str:
    """pass@1, majority@8 and pass@8 over the checkpoints (`evaluate --checkpoints`), and the sentence on them."""
    steps, sentence = found.get("steps"), found.get("sentence")
    lines: dict[str, list[tuple[float, float]]] = {}
    for name in ("pass@1", "majority@8", "pass@8"):
        values = found.get(name)
        if isinstance(steps, list) and isinstance(values, list):
            values = [value[0] if isinstance(value, list) and value else value for value in values]
            lines[name] = list(zip(steps, values))
    if not any(lines.values()):
        return ""
    return f'<div class="lt-plots">{curves_plot(lines, METRICS["lenient"])}</div><p>{escape(sentence or "", 600)}</p>'


def side_html(side: Side) -> str:
    """A completion: thought, answer, and what the grader says."""
    parsed = parse_completion(side.text)
    thought, answer = parsed.thinking, parsed.answer
    if not thought and "<answer>" not in side.text:
        thought, answer = stated_answer(parsed.answer)
    kept = "format kept" if side.in_format else "format not kept"
    mark = "good" if side.right else "bad"
    return (
        f'<p class="lt-rollout-text">{escape(thought, 2_000) or "(no thought)"}</p><p class="lt-side-answer">'
        f'{escape(answer, 200) or "(no answer)"}</p><p class="lt-quiet"><span class="lt-badge lt-{mark}">'
        f"{'right' if side.right else 'wrong'}</span> read as {escape(side.read, 200) or 'nothing'}, {kept}</p>"
    )


def _step_name(step: int) -> str:
    return f"Step {step}" if step else "The base"


def _share(value: tuple[float, float, float]) -> str:
    share, low, high = (100 * one for one in value)
    return f"{share:.0f} % ({low:.0f} to {high:.0f})"


def _pictures(adapter: Path, row: Row, most: int = 16) -> str:
    images = ""
    for name in row.pictures[:most]:
        path = adapter / LEARN_FOLDER / Path(name).name
        uri = picture_uri(path) if path.is_file() and not path.is_symlink() else None
        images += f'<img src="{uri}" alt="" loading="lazy">' if uri else ""
    return f'<div class="lt-row-pictures">{images}</div>'
