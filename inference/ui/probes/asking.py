"""Probes of one answer: does the thought matter to it, does the picture, and is it the same when asked eight times?

    found = yield from probe_thought(service, question, answered, visitor, watch)     # yields (done, total) requests

The thought is cut, left out, replaced or changed in one number (`inference.prompt.probes`). The picture is blanked,
swapped, and hidden part by part: how much less likely the same words become without a part is what they depend on
(occlusion; Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks). Attention weights are not
looked at. Votes are self-consistency (Wang et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageStat

from inference.common.errors import UserError
from inference.model.request import Completion, Request
from inference.prompt.format import parse_completion, sentences, stated_answer
from inference.prompt.probes import changed_number, forced_answer, half, thinks_on
from inference.server.service import Question, Service
from inference.server.submission import Submission
from inference.server.visitors import Visitor

PARTS = 4
"""Parts of the picture along each side; each is hidden once."""
LOOK_REQUESTS = PARTS**2 + 4
"""Requests of `probe_look`: a part hidden, the own and no picture; and two that are answered anew."""
VOTES = 8
"""Completions of "Ask 8 times"."""
VOTES_TEMPERATURE = 1.0
"""Of these; the evaluation's sampled conditions have it too, so that its calibration holds."""
MAX_REQUESTS = 8
"""Of one submission, which takes a place in the visitor's minute like a question."""
THOUGHT_REQUESTS = 5
"""Requests of `probe_thought` at most; the first alone, for a thought about another problem."""
ROOM_TOKENS = 64
"""Tokens that an answer may take more than the one before, if that has come further than the page's limit."""
MAX_SENTENCES = 12
"""Sentences of a thought that get a map of their own; the last one has the rest."""

Steps = Generator[tuple[int, int], None, list[Completion]]
"""Yields (requests that are done, requests in all), and returns the completions."""
Watch = Callable[[Submission], None]
"""Is given each submission, to stop it when the page is left."""


@dataclass(frozen=True)
class Answered:
    """A completion in its two parts, as the page shows them."""

    text: str
    thought: str
    answer: str


@dataclass(frozen=True)
class ThoughtProbe:
    """One way to change a thought, and the answer to it."""

    name: str
    """`half`, `none`, `other` or `number`."""
    thought: str
    """The thought that the model was given."""
    answer: str
    is_same: bool
    """As the answer before, by the grader."""
    void: str = ""
    """The reason why its answer tells nothing: it thought all the same though it was made to answer, or was cut off."""
    note: str = ""
    """The number that was changed, as `13 → 14`."""


@dataclass(frozen=True)
class Dependence:
    """The dependence of a piece of text on the picture: the fall of its log-probability without each part, in nats."""

    text: str
    drops: tuple[float, ...]
    """By part, row by row; negative where the piece is likelier without it."""
    blank: float
    """The same for a blank picture."""


@dataclass(frozen=True)
class LookProbe:
    """The findings of hiding the picture."""

    answer: Dependence
    thought: tuple[Dependence, ...]
    """By sentence."""
    blank: str
    """The answer to white paper; "" if it gave none."""
    swapped: str
    """The answer to another picture; "" if it gave none."""
    is_same: tuple[bool, bool]
    """These two, compared with the answer to the own picture."""
    is_cut: tuple[bool, bool]
    """True for one that its length limit cut off; its answer is ""."""
    other: Image.Image
    """The other picture."""


@dataclass(frozen=True)
class VoteProbe:
    """The answers to the same question, sampled."""

    counts: tuple[tuple[str, int], ...]
    """Each answer with its votes, most first; one without an answer, or that was cut off, is ""."""
    num_cut: int
    """Those that their length limit cut off."""


def probe_thought(
    service: Service, question: Question, answered: Answered, visitor: Visitor, watch: Watch
) -> Generator[tuple[int, int], None, list[ThoughtProbe]]:
    """Yields its progress. Raises `UserError`, also if there is no thought."""
    if not answered.thought:
        raise UserError("This answer has no thought before it, so there is none to change. Ask a question with one.")
    other = service.new_problem()
    request = _request(service, question, answered, temperature=0.0)
    asked = replace(request, image=other.image.convert("RGB"), more_images=(), question=other.question)
    changed = changed_number(answered.thought, answered.answer, question.question)
    total = THOUGHT_REQUESTS - (not half(answered.thought).strip()) - (changed is None)
    [completion] = yield from ask(service, [asked], visitor, watch, 0, total)
    thoughts = {
        "half": half(answered.thought).strip(),
        "none": "",
        "other": parts_of(completion).thought,
        "number": changed.thought if changed else None,
    }
    given = {name: it or "" for name, it in thoughts.items() if it or name == "none"}  # "" asks for none
    prefixes = [f"<think>{it}" if name == "number" else forced_answer(it) for name, it in given.items()]
    requests = [_request(service, question, answered, 0.0, prefix) for prefix in prefixes]
    completions = yield from ask(service, requests, visitor, watch, 1, 1 + len(requests))
    is_same = sameness(service, question)
    answers = [parts_of(completion).answer for completion in completions]
    return [
        ThoughtProbe(
            name,
            thought,
            answer,
            is_same(answered.answer, answer),
            _void(name, thought, completion),
            f"{changed.old} → {changed.new}" if changed and name == "number" else "",
        )
        for (name, thought), completion, answer in zip(given.items(), completions, answers)
    ]


def probe_look(
    service: Service, question: Question, answered: Answered, visitor: Visitor, watch: Watch
) -> Generator[tuple[int, int], None, LookProbe]:
    """Yields its progress. Raises `UserError`. Of several pictures the first is hidden."""
    request = _request(service, question, answered, temperature=0.0)
    scored = replace(request, prefix=answered.text, prefix_logprobs=True, max_new_tokens=1)
    blank, other = Image.new("RGB", question.image.size, "white"), service.new_problem().image.convert("RGB")
    pictures = [question.image, blank, *hidden_parts(question.image)]
    requests = [replace(scored, image=picture) for picture in pictures]
    anew = [replace(request, image=picture) for picture in (blank, other)]
    completions = yield from ask(service, [*anew, *requests], visitor, watch, 0, LOOK_REQUESTS)
    of_blank, of_other, own, no_picture, *hidden = completions
    engine = service.queue.engine
    assert engine is not None, "it has answered"
    pieces = engine.tokenizer.prefix_pieces(answered.text)
    begin = answered.text.rfind("<answer>") + 1  # the answer in its tags, if it has them
    start, end = _span(answered.text.partition("</answer>")[0] if begin else answered.text, answered.answer)
    spans = [*(_sentence_spans(answered) if answered.thought else []), (start, end)]

    def drop(without: Completion, span: tuple[int, int]) -> float:
        return _logprob(pieces, own, span) - _logprob(pieces, without, span)

    maps = [
        Dependence(
            answered.text[slice(*span)].strip(), tuple(drop(one, span) for one in hidden), drop(no_picture, span)
        )
        for span in spans
    ]
    is_same = sameness(service, question)
    answers = _whole_answer(of_blank), _whole_answer(of_other)
    same = is_same(answered.answer, answers[0]), is_same(answered.answer, answers[1])
    cut = of_blank.truncated, of_other.truncated
    return LookProbe(maps[-1], tuple(maps[:-1]), *answers, same, cut, other)


def probe_votes(
    service: Service, question: Question, answered: Answered, visitor: Visitor, watch: Watch
) -> Generator[tuple[int, int], None, VoteProbe]:
    """Yields its progress. The prompt is read once for all."""
    request = _request(service, question, answered, VOTES_TEMPERATURE)
    requests = [replace(request, seed=question.seed + number) for number in range(VOTES)]
    completions = yield from ask(service, requests, visitor, watch, 0, VOTES)
    is_same = sameness(service, question)
    counts: list[tuple[str, int]] = []
    for completion in completions:
        answer = _whole_answer(completion)
        at = next((i for i, (one, _) in enumerate(counts) if is_same(one, answer)), None)
        if at is None:
            counts.append((answer, 1))
        else:
            counts[at] = counts[at][0], counts[at][1] + 1
    num_cut = sum(completion.truncated for completion in completions)
    return VoteProbe(tuple(sorted(counts, key=lambda pair: (not pair[0], -pair[1]))), num_cut)


def num_questions(*num_requests: int) -> int:
    """The questions that a probe counts as, which asks so many requests one after the other."""
    return sum(math.ceil(number / MAX_REQUESTS) for number in num_requests)


def _request(service: Service, question: Question, answered: Answered, temperature: float, prefix: str = "") -> Request:
    """The question again, with room for an answer as long as the one before, which Continue may have lengthened."""
    engine = service.queue.engine
    assert engine is not None, "it has answered"
    whole, begun = (len(engine.tokenizer.prefix_pieces(text)) for text in (answered.text, prefix))
    length = max(question.max_new_tokens, min(whole - begun + ROOM_TOKENS, service.settings.limits.max_new_tokens))
    return replace(question.request(question.adapter, prefix), temperature=temperature, max_new_tokens=length)


def ask(service: Service, requests: Sequence[Request], visitor: Visitor, watch: Watch, done: int, total: int) -> Steps:
    """The completions, in submissions of at most `MAX_REQUESTS`.

    `visitor` asks all of them since the probe began: a page that was closed between two asks for nothing more.
    """
    completions: list[Completion] = []
    for first in range(0, len(requests), MAX_REQUESTS):
        with service.queue.admit(visitor):
            submission = service.queue.submit(requests[first : first + MAX_REQUESTS], visitor)
        watch(submission)
        try:
            while not submission.wait(0.1):
                ended = sum(progress.completion is not None for progress in submission.progress())
                yield done + first + ended, total
        finally:
            submission.stop()
        found = [progress.completion for progress in submission.progress()]
        if submission.error is not None:
            raise submission.error
        completions += [completion for completion in found if completion is not None and not completion.stopped]
        if len(completions) < first + len(found):
            raise UserError("It was stopped.")
    return completions


def _whole_answer(completion: Completion) -> str:
    return "" if completion.truncated else parts_of(completion).answer


def _void(name: str, thought: str, completion: Completion) -> str:
    if completion.truncated:
        return "it was cut off"
    return "it thought all the same" if name != "number" and thinks_on(completion.text, forced_answer(thought)) else ""


def sameness(service: Service, question: Question) -> Callable[[str, str], bool]:
    """Tells whether two answers are equal, by the grader; two empty ones are."""
    grade = service.grader_of(question)

    def is_same(one: str, other: str) -> bool:
        if not one or not other or one == other:
            return one == other
        return grade(one, f"<answer>{other}</answer>").correct

    return is_same


def hidden_parts(image: Image.Image) -> list[Image.Image]:
    """The picture with each of its `PARTS` × `PARTS` parts painted in its mean colour, row by row."""
    mean = tuple(round(value) for value in ImageStat.Stat(image).mean)
    xs, ys = ([side * i // PARTS for i in range(PARTS + 1)] for side in image.size)
    hidden = []
    for y in range(PARTS):
        for x in range(PARTS):
            copy = image.copy()
            copy.paste(mean, (xs[x], ys[y], xs[x + 1], ys[y + 1]))  # type: ignore[arg-type]
            hidden.append(copy)
    return hidden


def parts_of(completion: Completion) -> Answered:
    """Thought and answer; of a completion without tags, what it states last is the answer."""
    text = completion.text
    parsed = parse_completion(text)
    if parsed.thinking or "<answer>" in text or "</think>" in text:
        return Answered(text, parsed.thinking, parsed.answer)
    return Answered(text, *stated_answer(parsed.answer, not completion.truncated))


def _sentence_spans(answered: Answered) -> list[tuple[int, int]]:
    """The place of each sentence of the thought in the completion."""
    begin, end = _span(answered.text, answered.thought)
    ends: list[int] = []
    for sentence in sentences(answered.text[begin:end]):
        ends.append((ends[-1] if ends else begin) + len(sentence))
    ends = [*ends[: MAX_SENTENCES - 1], end] if len(ends) > MAX_SENTENCES else ends
    return list(zip([begin, *ends], ends))


def _span(text: str, part: str) -> tuple[int, int]:
    """The last place of a part in the text; the whole text if it is not written so."""
    start = text.rfind(part) if part else -1
    return (start, start + len(part)) if start >= 0 else (0, len(text))


def _logprob(pieces: Sequence[str], completion: Completion, span: tuple[int, int]) -> float:
    """The log-probability of the tokens that reach into a span of the prefix."""
    begin, end = span
    total, position = 0.0, 0
    for piece, logprob in zip(pieces, completion.prefix_logprobs, strict=True):
        if position < end and position + len(piece) > begin:
            total += logprob
        position += len(piece)
    return total
