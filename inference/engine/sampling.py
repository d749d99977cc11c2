"""From logits to the next token: greedy, or sampled by each row's own seed."""

from __future__ import annotations

import torch


def row_noise(seed: int, length: int) -> torch.Tensor:
    """One uniform number in [0, 1) per position of a completion, (length,) float64, from the row's seed alone.

    A longer row begins with the same numbers, so that Continue goes on as if the limit had been higher.
    """
    return torch.rand(length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(
    logits: torch.Tensor, temperature: torch.Tensor, noise: torch.Tensor, top_p: torch.Tensor | None = None
) -> torch.Tensor:
    """Next tokens (B,) for logits (B, V), temperatures (B,) above 0 and uniform noise (B,): the token whose share
    of the cumulative distribution holds the noise. Tokens at -inf are never drawn, nor those outside of `top_p` (B,).
    Of logits that are no numbers, which an adapter's weights can lead to, the last token is drawn: what follows is
    nonsense, for that row alone.

    >>> sample(torch.tensor([[0.0, 0.0, -torch.inf]]), torch.tensor([1.0]), torch.tensor([0.7])).tolist()
    [1]
    """
    shares = torch.softmax(logits.float() / temperature[:, None], dim=-1)  # (B, V)
    if top_p is not None:
        shares = keep_nucleus(shares, top_p)
    sums = shares.double().cumsum(dim=-1)
    drawn = torch.searchsorted(sums, noise[:, None].double() * sums[:, -1:], right=True)[:, 0]
    return drawn.clamp(max=logits.shape[-1] - 1)


def keep_nucleus(shares: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Shares (B, V) with 0 in the place of the unlikeliest that together come to at most 1 - `top_p` (B,).

    As `transformers.TopPLogitsWarper` cuts them; the likeliest token always stays.

    >>> keep_nucleus(torch.tensor([[0.125, 0.625, 0.25]]), torch.tensor([0.8])).tolist()
    [[0.0, 0.625, 0.25]]
    """
    ascending, order = shares.sort(dim=-1)
    cut = ascending.cumsum(dim=-1) <= (1 - top_p)[:, None]
    cut[:, -1] = False
    return shares.masked_fill(torch.zeros_like(cut).scatter(1, order, cut), 0.0)
