"""Shares, paired differences of shares, and pass@k, with 95 % intervals.

Rows that share what their picture shows are not independent. Where the rows' clusters are given, an interval reaches as
far as that for independent rows and as far as a bootstrap that draws whole clusters, whichever is wider: the bootstrap
of a few rows, or of rows that all pass, would have no width.

>>> print(share([True] * 9 + [False]))
90.0 % (59.6 to 98.2)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from inference.common.files import Json

Z = 1.959964
"""The quantile of the normal distribution for two-sided 95 %."""
Z_POWER = 0.841621
"""The quantile of the normal distribution for a power of 80 %."""
ALPHA = 0.05
NUM_RESAMPLES = 4000
"""Draws of the bootstrap."""
Clusters = Sequence[int]
"""For each row a number that it shares with the rows whose pictures show the same."""
MIN_CHANGED = 6
"""With fewer rows changed, all in one direction, the exact test cannot go below `ALPHA`: 2 / 2⁵ is 0.0625."""


@dataclass(frozen=True)
class Estimate:
    """A share, or a difference of two, as a fraction of 1, with its 95 % interval and the number of rows."""

    value: float
    low: float
    high: float
    num_rows: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"

    def to_json(self) -> Json:
        return {name: round(number, 4) for name, number in asdict(self).items()}


def share(hits: Sequence[bool], clusters: Clusters | None = None) -> Estimate:
    """The share of true values, with Wilson's score interval, which stays within 0 to 1 and has a width at 0 and 1.

    With `clusters`, which number the rows, the interval is widened by the bootstrap.
    """
    n = len(hits)
    if n == 0:
        raise ValueError("a share needs at least 1 row, not 0")
    p = sum(hits) / n
    return Estimate(p, *_widened(_wilson(p, n), hits, clusters), n)


def mean_share(shares: Sequence[float], num_samples: int, clusters: Clusters | None = None) -> Estimate:
    """The mean of one share for each row, each from `num_samples` completions of that row.

    Completions of one row are not independent, so the interval is Wilson's with the effective number of completions
    n' = p(1 - p) / (s² / n), for n rows whose shares have the variance s² (Korn and Graubard 1998; Dean and Pagano
    2015): n where rows are right always or never, n · num_samples at most.
    """
    n = len(shares)
    if n == 0:
        raise ValueError("a mean share needs at least 1 row, not 0")
    p = sum(shares) / n
    between = sum((value - p) ** 2 for value in shares) / n
    effective: float = n * num_samples if between < 1e-12 and 0 < p < 1 else n
    if between >= 1e-12:
        effective = min(n * num_samples, max(n, p * (1 - p) * n / between))
    return Estimate(p, *_widened(_wilson(p, effective), shares, clusters), n)


def pass_at_k(num_right: int, num_samples: int, k: int) -> float:
    """The chance that at least one of k samples is right, estimated without bias from `num_right` of `num_samples`:
    1 - C(n - c, k) / C(n, k) (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1).

    >>> pass_at_k(1, 4, 2)
    0.5
    """
    if not (1 <= k <= num_samples and 0 <= num_right <= num_samples):
        raise ValueError(f"pass@{k} of {num_right} right in {num_samples} samples; k is 1 to {num_samples}")
    return 1 - math.comb(num_samples - num_right, k) / math.comb(num_samples, k)


@dataclass(frozen=True)
class PairedDifference(Estimate):
    """A difference of two shares on the same rows, with the rows that changed."""

    gained: int
    """Rows that are better after: of shares those that fail before and pass after."""
    lost: int
    """Rows that are worse after."""
    p_value: float
    """The p-value of the exact McNemar test."""

    @property
    def is_up(self) -> bool:
        """True if it is clearly above zero, by the interval and by the exact test."""
        return self.low > 0 and self.p_value < ALPHA

    @property
    def is_down(self) -> bool:
        """True if it is clearly below zero, by the interval and by the exact test."""
        return self.high < 0 and self.p_value < ALPHA

    @property
    def smallest_shown(self) -> float | None:
        """The smallest difference that these rows could show with as many changed rows (`smallest_difference`)."""
        return smallest_difference(self.num_rows, (self.gained + self.lost) / self.num_rows)

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"

    def to_json(self) -> Json:
        return super().to_json() | {"p_value": float(f"{self.p_value:.4g}")}


def paired_difference(
    after: Sequence[float], before: Sequence[float], clusters: Clusters | None = None
) -> PairedDifference:
    """The mean of `after` less that of `before`, shares or rates of 0 to 1 for the same rows in the same order.

    The interval is Bonett and Price's (2012) adjusted Wald interval for paired proportions, as if one more row had
    been gained and one more lost: with the mean m of these n + 2 differences and the mean q of their squares, it is
    m ± z · sqrt((q - m²) / (n + 2)). It keeps some width when no row, or every row, changed. With `clusters` it is
    widened by the bootstrap; the p-value is that of the rows that rose and fell, for independent rows.
    """
    n = len(after)
    if n == 0 or n != len(before):
        raise ValueError(
            f"{n} rows after and {len(before)} before; a paired difference needs the same rows, at least 1"
        )
    differences = [float(a) - float(b) for a, b in zip(after, before)]
    gained, lost = (sum(sign * each > 0 for each in differences) for sign in (1, -1))
    mean, square = sum(differences) / (n + 2), (sum(each**2 for each in differences) + 2) / (n + 2)
    half = Z * math.sqrt((square - mean**2) / (n + 2))
    low, high = _widened((max(-1.0, mean - half), min(1.0, mean + half)), differences, clusters)
    return PairedDifference(sum(differences) / n, low, high, n, gained, lost, mcnemar(gained, lost))


def mcnemar(gained: int, lost: int) -> float:
    """The two-sided p-value of the exact McNemar test, by which as many rows should be gained as lost.

    It is min(1, 2 · P(X ≤ min(gained, lost))) for X binomial with gained + lost trials and chance 1/2.

    >>> mcnemar(9, 1)
    0.021484375
    """
    changed = gained + lost
    tail = sum(math.comb(changed, i) for i in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**changed)


def smallest_difference(num_rows: int, changed: float) -> float | None:
    """The smallest paired difference that `num_rows` rows show with a power of 80 % at a two-sided level of 5 %.

    `changed` is the share of rows that pass in one condition and fail in the other, gained and lost together. Connor
    (1987, Biometrics 43, 207–211) has the rows that McNemar's test needs for a difference d with a share c changed:
    n = (z · sqrt(c) + z' · sqrt(c - d²))² / d², z = 1.96, z' = 0.84. This solves it for d. No difference is larger
    than the share changed, so c is at least d: a difference beyond what was seen to change would change more. The
    exact test also needs `MIN_CHANGED` rows. `None` if no difference could have been shown.

    >>> round(smallest_difference(155, 0.2), 3)
    0.1
    """

    def is_shown(d: float) -> bool:
        c = max(changed, d)
        return d * math.sqrt(num_rows) >= Z * math.sqrt(c) + Z_POWER * math.sqrt(c - d * d)

    if num_rows < MIN_CHANGED or not is_shown(1.0):
        return None
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if is_shown(middle) else (middle, high)
    return max(high, MIN_CHANGED / num_rows)


def _wilson(p: float, n: float) -> tuple[float, float]:
    """Wilson's score interval of a share p of n."""
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def _widened(interval: tuple[float, float], values: Sequence[float], clusters: Clusters | None) -> tuple[float, float]:
    """The interval, reaching at least as far as that of the cluster bootstrap of the mean of `values`."""
    if clusters is None or len(set(clusters)) == 1:
        return interval
    low, high = bootstrap(values, clusters)
    return min(interval[0], low), max(interval[1], high)


def bootstrap(values: Sequence[float] | np.ndarray, clusters: Clusters) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of `values`, one a row, drawing whole clusters with replacement.

    (Davison and Hinkley 1997, section 3.8.) The draws depend on the number of clusters alone, so that the same rows
    give the same interval.
    """
    columns = np.column_stack([np.asarray(values, float), np.ones(len(values))])
    return bootstrap_sums(columns, clusters, lambda sums: sums[:, 0] / sums[:, 1])


def bootstrap_sums(
    columns: np.ndarray, clusters: Clusters, statistic: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic of sums over rows, drawing whole clusters as `bootstrap` does.

    `columns` are (rows, sums); `statistic` takes the sums of every draw (draws, sums) and gives a number for each.
    """
    names, cluster_of_row = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, cluster_of_row, columns)
    low, high = np.quantile(statistic(_draws(len(names)) @ sums), (ALPHA / 2, 1 - ALPHA / 2))
    return float(low), float(high)


@lru_cache(maxsize=16)
def _draws(num_clusters: int) -> np.ndarray:
    """Times that each draw has each cluster (NUM_RESAMPLES, clusters); fewer draws where that would be over 80 MB."""
    num_draws = max(500, min(NUM_RESAMPLES, 20_000_000 // num_clusters))
    rng = np.random.default_rng(num_clusters)
    return rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=num_draws).astype(np.float32)
