"""The record of what training changed (`training.learn.record`) as HTML: the replay, the gallery, the strengths.

Texts come from a model and pictures from files that somebody may have edited: all is escaped, and a picture that cannot
be read is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from inference.common.files import Json
from inference.common.html import escape
from inference.prompt.format import parse_completion, stated_answer
from training.learn.record import ChangedRow, Changes, Replay, Row, Side, Strengths
from training.learn.strength import Scaled, part_of
from training.runs.metrics import METRICS
from training.ui.base.html import finite, mapping, picture_uri
from training.ui.base.plots import Series, curves_plot

CURVES = ("accuracy", "format", "completion_tokens")
"""Of the run, beside the replay."""
CHOSEN = (
    "As far as there are such, these are problems that the base got wrong and the adapter right: they show how answers "
    "changed, not how often. How many of all were gained and lost stands below."
)
FORCED = "the base made to think"
"""Of `evaluate --checkpoints`: its completions begin with `<think>`."""
_FORCED_SHOWS = (
    " The level lines are the base's where its answer has to begin with a thought: what it gets right so, training did "
    "not have to teach."
)
MAX_RATES = 3
MAX_SHOWN_STEPS = 100
_RATE = re.compile(r"(?:pass|majority)@[1-9]\d{0,3}", re.ASCII)
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
        sentences.append(f"{start} the format: one thought, then one answer, each in its tags.")
    if at := _lasting(longer):
        sentences.append(f"From step {replay.steps[at]} on the texts are at least half as long again as the base's.")
    if right[most] > right[0]:
        sentences.append(f"Most are right at step {replay.steps[most]}: {right[most]} of {len(replay.rows)}.")
    return (
        " ".join(sentences) or "On these problems training changed neither the format nor the length nor the answers."
    )


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


def strengths_html(found: Strengths | None, scaled: Scaled | None = None) -> str:
    """Accuracy and format at each strength, with intervals, or why there are none; `scaled` is of an adapter that is
    at one of them itself."""
    if found is None:
        return (
            "<p>It has not been measured at other strengths. <code>python -m training learn RUN --strengths 240</code> "
            "does, on 240 validation problems.</p>"
        )
    if not found.num_rows:
        return (
            "<p>It was not measured at other strengths, because its run had no validation problems. Train with "
            "<code>--validation-rows</code> to have some.</p>"
        )
    rows = ""
    for strength, accuracy, in_format in zip(found.strengths, found.accuracy, found.in_format):
        note = " (the base)" if not strength else " (as trained)" if strength == 1 else ""
        if scaled and strength == scaled.strength:
            note += " (this adapter)"
        name = f"{100 * strength:.0f} %{note}"
        rows += f'<tr><th scope="row">{name}</th><td>{_share(accuracy)}</td><td>{_share(in_format)}</td></tr>'
    head = "".join(f'<th scope="col">{words}</th>' for words in ("Strength", "Correct (lenient)", "Format kept"))
    of = f"Of {escape(scaled.of, 200)}, on" if scaled else "On"
    return (
        f"<p>{of} {found.num_rows:,} validation problems, with 95 % intervals: at 50 % the adapter adds half of what "
        "it learnt to the base. Correct (lenient): the last answer that is stated is right, with tags or without. "
        "Strengths whose intervals overlap are not shown to differ.</p>"
        f'<div class="lt-wide"><table class="lt-probe-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def scaled_html(scaled: Scaled, address: str) -> str:
    """The adapter that an adapter at another strength was made of; `address` is of its record, "" without one."""
    name = escape(scaled.of, 200)
    linked = f'<a href="{escape(address)}">{name}</a>' if address else name
    where = (
        "What its training changed is shown there."
        if address
        else "That adapter is not among those above, so what its training changed cannot be shown."
    )
    return (
        f"<p>This adapter is {linked} at {100 * scaled.strength:g} % of its strength: the same training, with "
        f"{'less' if scaled.strength < 1 else 'more'} of what it changed. {where}</p>"
    )


def checkpoints_html(found: Json) -> str:
    """pass@1, majority and pass@k over the checkpoints (`evaluate --checkpoints`), the base that is made to think as
    level lines, the figures with their intervals, and the sentence on them."""
    names = _rates(found)
    steps = [step for each in _items(found.get("steps")) if (step := finite(each)) is not None]
    by_name = {name: [_interval(each) for each in _items(found.get(name))] for name in names}
    lines = {name: [(x, one[0]) for x, one in zip(steps, by_name[name]) if one] for name in names}
    if not any(lines.values()) or len(steps) != len(_items(found.get("steps"))):
        return ""
    forced = {name: one for name in names if (one := _interval(mapping(found.get("forced")).get(name)))}
    level = {f"{name}, {FORCED}": [(min(steps), one[0]), (max(steps), one[0])] for name, one in forced.items()}
    cells = [[_share(one) if one else "" for one in column] for column in by_name.values()]
    rows = [(_step_name(int(step)), list(row)) for step, row in zip(steps, zip(*cells))]
    rows[1:1] = [(FORCED.capitalize(), [_share(forced[name]) if name in forced else "" for name in names])] * bool(
        forced
    )
    body = "".join(f'<tr><th scope="row">{title}</th>{_cells(row)}</tr>' for title, row in rows)
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Step", *names))
    tries = next((name.partition("@")[2] for name in names if name != "pass@1"), "1")
    return (
        f"<p>Of the problems, pass@1 is the share that one try gets right{_of_several(tries)}."
        f"{_FORCED_SHOWS if forced else ''}</p>"
        f'<div class="lt-plots">{curves_plot({**lines, **level}, METRICS["lenient"])}</div>'
        f"<p>{escape(found.get('sentence') or '', 600)}</p><details><summary>The figures with their 95 % intervals"
        f'</summary><div class="lt-wide"><table class="lt-probe-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _rates(found: Json) -> list[str]:
    """The names of the rates in the file: of its k, not of one that is expected here.

    >>> _rates({"pass@4": [], "steps": [], "pass@1": [], "majority@4": [], "pass@x": []})
    ['pass@1', 'majority@4', 'pass@4']
    """
    names = [name for name in found if _RATE.fullmatch(name)]
    return sorted(names, key=lambda name: (name != "pass@1", name))[:MAX_RATES]


def _of_several(tries: str) -> str:
    if tries == "1":
        return ""
    return (
        f", majority@{tries} the share of which the most frequent answer of {tries} tries is right, and pass@{tries} "
        f"the share that at least one of {tries} tries gets right"
    )


def _items(value: object) -> list[object]:
    return value[:MAX_SHOWN_STEPS] if isinstance(value, list) else []


def _interval(value: object) -> tuple[float, float, float] | None:
    """A rate with the ends of its interval; `None` for what is none."""
    ends = [finite(one) for one in value] if isinstance(value, list) and len(value) == 3 else []
    given = [one for one in ends if one is not None and 0 <= one <= 1]
    return (given[0], given[1], given[2]) if len(given) == 3 else None


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td>{one}</td>" for one in row)


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
    return f"{share:.0f}\u00a0% ({low:.0f}\u00a0to\u00a0{high:.0f})"  # on a phone it breaks before the bracket only


def _pictures(adapter: Path, row: Row, most: int = 16) -> str:
    images = ""
    for name in row.pictures[:most]:
        path = part_of(adapter, Path(name).name)
        uri = picture_uri(path) if path else None
        images += f'<img src="{uri}" alt="" loading="lazy">' if uri else ""
    return f'<div class="lt-row-pictures">{images}</div>'
