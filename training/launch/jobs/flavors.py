"""What is said of a Job that no machine is free for: which others would do, and what they cost."""

from __future__ import annotations

from training.hub.space.prices import PriceList

NONE_FREE = "no free machine:"
_SHOWN = 3


def queue_words(prices: PriceList, flavor: str, waited_seconds: float, need_gb: float | None) -> str:
    """Since when it waits, and the cheapest others with the memory that the run needs.

    Where the need is not known, those with as much memory as the chosen one has.
    """
    waited = f"{NONE_FREE} no {flavor} for {waited_seconds / 60:.0f} min; the Job waits in the Hub's queue"
    own = prices.get(flavor)
    least = need_gb if need_gb is not None else own.gpu_gb / max(1, own.num_gpus) if own else 0.0
    others = [found.words for found in prices.that_fit(least) if found.name != flavor][:_SHOWN]
    if not others:
        return f"{waited}, which costs nothing"
    return (
        f"{waited}, which costs nothing. The run would fit on {'; '.join(others)}. To change: cancel it, set "
        "training.job_hardware in space.yaml, and resume it"
    )
