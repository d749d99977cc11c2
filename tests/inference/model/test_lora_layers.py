"""The low-rank term of each row's own adapter."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from inference.model.lora_layers import Factors, RoutedLinear, Router, make_routes


def factors(seed: int, rank: int) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    return Factors(torch.randn(6, rank, generator=generator), torch.randn(rank, 5, generator=generator), 0.5 + seed)


ADAPTERS = (None, {"one": factors(0, 2)}, {"one": factors(1, 3), "two": factors(2, 1)}, {"two": factors(3, 4)})


@given(st.lists(st.integers(0, 3), min_size=1, max_size=7), st.integers(1, 3), st.booleans())
def test_each_row_gets_its_own_term_and_the_base_stays_exact(choice: list[int], length: int, bias: bool) -> None:
    linear = nn.Linear(6, 5, bias=bias)
    layers = {name: RoutedLinear(linear, name) for name in ("one", "two", "three")}
    x = torch.randn(len(choice), length, 6)
    Router(layers.values()).use(make_routes([ADAPTERS[i] for i in choice], x.device))
    with torch.no_grad():
        base = linear(x)
        for name in layers:
            y = layers[name](x)
            for row, i in enumerate(choice):
                own = (ADAPTERS[i] or {}).get(name)
                if own is None:
                    assert torch.equal(y[row], base[row])
                else:
                    expected = base[row] + own.scaling * (x[row] @ own.a @ own.b)
                    torch.testing.assert_close(y[row], expected, atol=1e-4, rtol=1e-4)


def test_one_adapter_is_taken_as_it_is_and_several_side_by_side() -> None:
    """So that a trainer's factors may change in place, and the order of rows costs nothing."""
    one, two, cpu = ADAPTERS[1], ADAPTERS[2], torch.device("cpu")
    assert one and two
    route = make_routes([one, one], cpu)["one"]
    assert route.a is one["one"].a and route.b is one["one"].b and route.others is None
    both = make_routes([one, None, two, one], cpu)["one"]
    assert both.a.shape == (6, 2 + 3) and both.others is not None and both.others.shape == (4, 1, 5)
    assert both.others[:, 0].tolist() == [[False] * 2 + [True] * 3, [True] * 5, [True] * 2 + [False] * 3] + [
        [False] * 2 + [True] * 3
    ]
    assert make_routes([None, None], cpu) == {}


def test_what_overflows_for_one_row_does_not_reach_another() -> None:
    """An adapter that nobody vouches for may have any finite weights."""
    huge = {"one": Factors(torch.full((6, 2), 3e38), torch.full((2, 5), 3e38), 4.0)}
    layer, x = RoutedLinear(nn.Linear(6, 5), "one"), torch.randn(3, 1, 6)
    Router([layer]).use(make_routes([None, huge, ADAPTERS[1]], x.device))
    with torch.no_grad():
        found, base = layer(x), F.linear(x, layer.weight, layer.bias)
    assert not torch.isfinite(found[1]).all() and torch.equal(found[0], base[0]) and torch.isfinite(found[2]).all()
