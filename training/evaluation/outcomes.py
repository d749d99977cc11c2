"""The outcomes of an evaluation, row by row, and the figures made of them: shares and paired differences.

`training.evaluation.report` has the same with tables and JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from inference.common.files import Json
from training.evaluation.conditions import CONDITIONS
from training.evaluation.measures.calibration import Calibration
from training.evaluation.measures.outside import Outside
from training.evaluation.measures.probes import Probe
from training.evaluation.statistics import (
    Clusters,
    Estimate,
    PairedDifference,
    mean_share,
    paired_difference,
    pass_at_k,
    share,
)
from training.evaluation.verdict import Changes, verdict

COMPARED = ("adapter-thinking", "base-thinking")
"""The two conditions of the headline: the change by training, on the same rows with the same prompt."""
AGAINST_FORCED = ("adapter-thinking", "base-forced")
AGAINST_CAREFUL = ("adapter-thinking", "base-careful")
AGAINST_DIRECT = ("adapter-thinking", "base-direct")
VOTING = "base-forced-sampled"
"""The condition whose majority the adapter has to beat."""
_OTHERS = tuple((c.name, c.reference) for c in CONDITIONS if c.reference and c.name != COMPARED[0])
PAIRS = (COMPARED, AGAINST_FORCED, AGAINST_CAREFUL, AGAINST_DIRECT, *_OTHERS)
"""Each difference that is shown if both conditions were measured, as (after, before)."""
DIRECT = tuple(c.name for c in CONDITIONS if c.is_direct)
MAX_KINDS = 12
"""Kinds in a table at most; the rarer ones are joined."""
_MAX_KIND_CHARS = 24


@dataclass(frozen=True)
class GradedCompletion:
    """One completion of one row, graded."""

    well_formed: bool
    strict: bool
    """The answer in its tags is right."""
    lenient: bool
    """The last answer stated is right, tags or not."""
    num_tokens: int
    truncated: bool
    text: str = ""
    contradicts: bool = False
    """The thought ends at another answer than the one given (`training.grading.contradiction`)."""


MEASURES: dict[str, Callable[[GradedCompletion], bool]] = {
    "format": lambda o: o.well_formed,
    "strict": lambda o: o.strict,
    "lenient": lambda o: o.lenient,
}


def graded_share(outcomes: Sequence[GradedCompletion], measure: str, clusters: Clusters | None = None) -> Estimate:
    """The share of outcomes that pass a measure of `MEASURES`; `clusters` are those of their rows."""
    return share([MEASURES[measure](outcome) for outcome in outcomes], clusters)


def graded_difference(
    after: Sequence[GradedCompletion],
    before: Sequence[GradedCompletion],
    measure: str,
    clusters: Clusters | None = None,
) -> PairedDifference:
    """The share that passes a measure in `after`, less that in `before`, on the same rows; `clusters` are theirs."""
    passes = MEASURES[measure]
    return paired_difference([passes(o) for o in after], [passes(o) for o in before], clusters)


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of each condition, row by row in one order, with the settings of the evaluation."""

    kinds: Sequence[str | None]
    """The kind of problem of each row."""
    outcomes: dict[str, list[GradedCompletion]]
    """One outcome for each row of each condition; the first of several samples."""
    about: Json = field(default_factory=dict)
    """Base, adapter, rows, seed, lengths: all that is needed to repeat the evaluation."""
    baselines: dict[str, Estimate] = field(default_factory=dict)
    """Accuracy of answers that do not depend on the picture."""
    samples: dict[str, list[list[GradedCompletion]]] = field(default_factory=dict)
    """All outcomes of each row, for conditions that were sampled more than once."""
    votes: dict[str, list[bool]] = field(default_factory=dict)
    """For the same conditions: for each row, whether the majority of its samples is right."""
    calibration: dict[str, Calibration] = field(default_factory=dict)
    """For the same conditions: the majority's share of votes against the share that is right."""
    clusters: Clusters | None = None
    """For each row a number that it shares with the rows whose pictures show the same."""
    probes: dict[str, Probe] = field(default_factory=dict)
    """What the conditions found that change a thought; their other rows were not asked and do not count."""
    outside: Outside | None = None
    """What the adapter can do outside the reward against the base; `None` where only one of them was measured."""

    @cached_property
    def by_kind(self) -> dict[str, list[int]]:
        """The rows of each kind of problem, in alphabetical order; empty if there is only one kind.

        Names from a dataset are shortened and made plain, and the rarest kinds are joined.
        """
        names = [_plain(kind) for kind in self.kinds]
        counts = Counter(names)
        shown = set(counts) if len(counts) <= MAX_KINDS else {name for name, _ in counts.most_common(MAX_KINDS - 1)}
        groups: dict[str, list[int]] = {name: [] for name in sorted(shown)}
        for row, name in enumerate(names):
            groups.setdefault(name if name in shown else "other kinds", []).append(row)
        return groups if len(groups) > 1 else {}

    def estimate(self, condition: str, measure: str, rows: Sequence[int] | None = None) -> Estimate:
        """The share of rows (all, or these) that pass a measure."""
        rows = self.asked(rows, condition)
        return graded_share(self._of(condition, rows), measure, self._clusters(rows))

    def difference(
        self, measure: str, rows: Sequence[int] | None = None, pair: tuple[str, str] = COMPARED
    ) -> PairedDifference:
        """The share under the first condition of `pair` less that under the second, on the same rows."""
        rows = self.asked(rows, *pair)
        return graded_difference(self._of(pair[0], rows), self._of(pair[1], rows), measure, self._clusters(rows))

    @property
    def over_majority(self) -> PairedDifference | None:
        """Lenient accuracy of the adapter's greedy completion less that of the majority of the base's samples."""
        if VOTING not in self.votes or COMPARED[0] not in self.outcomes:
            return None
        return paired_difference([o.lenient for o in self.outcomes[COMPARED[0]]], self.votes[VOTING], self.clusters)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of `PAIRS` of which both conditions were measured."""
        return [(after, before) for after, before in PAIRS if after in self.outcomes and before in self.outcomes]

    @property
    def has_difference(self) -> bool:
        return COMPARED in self.pairs

    @property
    def changes(self) -> Changes | None:
        """The differences of the verdict; `None` unless base and adapter were measured with the thinking prompt."""
        if not self.has_difference:
            return None
        forced, careful, direct = (
            self.difference("lenient", pair=pair) if pair in self.pairs else None
            for pair in (AGAINST_FORCED, AGAINST_CAREFUL, AGAINST_DIRECT)
        )
        form, strict, lenient = (self.difference(measure) for measure in MEASURES)
        return Changes(form, strict, lenient, forced, careful, self.over_majority, direct)

    @property
    def verdict(self) -> str | None:
        """One sentence; `None` unless base and adapter were both measured with the thinking prompt."""
        return verdict(self.changes) if self.changes else None

    def pass_at(self, condition: str, measure: str) -> dict[int, Estimate]:
        """pass@k of a sampled condition, for k = 1, 2, 4, … and all of its samples."""
        rights = [sum(MEASURES[measure](o) for o in row) for row in self.samples[condition]]
        num = len(self.samples[condition][0])
        ks = sorted({num, *(2**i for i in range(num.bit_length()) if 2**i <= num)})
        return {k: mean_share([pass_at_k(right, num, k) for right in rights], num // k, self.clusters) for k in ks}

    def majority(self, condition: str) -> Estimate:
        """The share of rows where the majority of a sampled condition's completions is right."""
        return share(self.votes[condition], self.clusters)

    def mean_tokens(self, condition: str, rows: Sequence[int] | None = None) -> float:
        """The mean length of a completion in tokens."""
        outcomes = self._of(condition, self.asked(rows, condition))
        return sum(o.num_tokens for o in outcomes) / len(outcomes)

    def truncated(self, condition: str, rows: Sequence[int] | None = None) -> Estimate:
        """The share of completions that the token limit cut off."""
        return self._share_of(condition, lambda o: o.truncated, rows)

    def contradictions(self, condition: str, rows: Sequence[int] | None = None) -> Estimate:
        """The share of completions whose thought ends at another answer than the one given."""
        return self._share_of(condition, lambda o: o.contradicts, rows)

    def asked(self, rows: Sequence[int] | None, *conditions: str) -> Sequence[int] | None:
        """Those of the rows that were asked in each of the conditions; `None` for all."""
        asked = [set(self.probes[c].rows) for c in conditions if c in self.probes]
        every = range(len(self.kinds)) if rows is None else rows
        return [row for row in every if all(row in each for each in asked)] if asked else rows

    def _share_of(
        self, condition: str, passes: Callable[[GradedCompletion], bool], rows: Sequence[int] | None
    ) -> Estimate:
        rows = self.asked(rows, condition)
        return share([passes(o) for o in self._of(condition, rows)], self._clusters(rows))

    def _of(self, condition: str, rows: Sequence[int] | None) -> list[GradedCompletion]:
        outcomes = self.outcomes[condition]
        return outcomes if rows is None else [outcomes[row] for row in rows]

    def _clusters(self, rows: Sequence[int] | None) -> Clusters | None:
        return self.clusters if rows is None or self.clusters is None else [self.clusters[row] for row in rows]


def measures_of(pair: tuple[str, str]) -> list[str]:
    """The measures that two conditions can be compared in; only lenient where one was not asked for tags."""
    return ["lenient"] if set(pair) & set(DIRECT) else list(MEASURES)


def _plain(kind: str | None) -> str:
    """A kind's name, short and plain enough for a table and a plot."""
    text = " ".join("".join(c if c.isprintable() and c not in "|<>`" else " " for c in str(kind or "")).split())
    text = text if len(text) <= _MAX_KIND_CHARS else text[: _MAX_KIND_CHARS - 1] + "…"
    return {"": "no kind", "overall": "overall (kind)"}.get(text, text)
