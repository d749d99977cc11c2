"""Many LoRA adapters over one base: each row of a batch uses its own.

The language model's linear layers become `RoutedLinear`: the base's result plus each row's own low-rank term,
y += scaling * mask(x Aᵀ) Bᵀ, where A and B are those of all adapters in the batch, one below the other, and the mask
zeroes the ranks of other adapters. So the work does not depend on the order of the rows, and rows without an adapter
get the base's own result. Nothing is merged, so no weight of the base ever changes. If all rows have one adapter that
brings merged weights of its own (`Factors.merged`), those are used in the place of the base's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from inference.model.device import send

MAX_TOGETHER = 8
"""Adapters that may share a batch whatever their ranks (`fit_together`): as many as the app keeps in memory at most
(`inference.adapters.live`), so that no visitor waits for another one's adapter."""


@dataclass(frozen=True)
class Factors:
    """One layer's low-rank term: A transposed (in, r), B transposed (r, out), and its factor."""

    a: torch.Tensor
    b: torch.Tensor
    scaling: float
    merged: torch.Tensor | None = None
    """(out, in), a copy of the base's weight with the term added, for batches of this adapter alone."""

    def on(self, device: torch.device) -> Factors:
        """The same on a device."""
        merged = None if self.merged is None else self.merged.to(device)
        return replace(self, a=self.a.to(device), b=self.b.to(device), merged=merged)


Adapter = dict[str, Factors]
"""An adapter: module name of a linear layer to its factors."""


def holding(adapter: Adapter) -> Callable[[], Adapter]:
    """The adapter as `Request.get_adapter` takes it."""
    return lambda: adapter


def scaled(adapter: Adapter, strength: float) -> Adapter:
    """The adapter with its terms multiplied: 0 is the base, 1 the adapter as trained. It shares the factors."""
    return {name: replace(one, scaling=one.scaling * strength, merged=None) for name, one in adapter.items()}


@dataclass(frozen=True)
class Route:
    """One layer's low-rank term for the rows of a batch."""

    a: torch.Tensor
    """(in, R), of one adapter or of several side by side."""
    b: torch.Tensor
    """(R, out)."""
    scaling: float
    others: torch.Tensor | None
    """(B, 1, R or 1), true where a rank is another row's; `None` if all rows have the one adapter."""
    merged: torch.Tensor | None = None
    """(out, in), used instead of the layer's own weight and the term."""


Routes = dict[str, Route]
"""For one batch: module name to its low-rank term."""


def fit_together(adapters: Collection[Adapter], hidden_size: int) -> bool:
    """True if rows with these adapters may share a batch: every row pays for the ranks of all.

    Up to half of the model's width in ranks they cost no more than the model itself does.
    """
    ranks = sum(max(factors.a.shape[1] for factors in adapter.values()) for adapter in adapters)
    return len(adapters) <= MAX_TOGETHER or 2 * ranks <= hidden_size


class RoutedLinear(nn.Linear):
    """A linear layer that adds each row's own adapter. Takes over the weight of the layer it replaces."""

    def __init__(self, linear: nn.Linear, name: str) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.name = name
        self.route: Route | None = None
        """The current forward's route; set by `Router.use`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (torch's name)
        """(B, T, in) to (B, T, out)."""
        route = self.route
        if route is not None and route.merged is not None:
            return F.linear(input, route.merged, self.bias)
        output = F.linear(input, self.weight, self.bias)
        if route is not None:
            low = input @ route.a  # (B, T, R)
            if route.others is not None:
                low.masked_fill_(route.others, 0.0)  # not a product: infinity times 0 is none
            output.view(-1, self.out_features).addmm_(low.view(-1, low.shape[-1]), route.b, alpha=route.scaling)
        return output


class Router:
    """The `RoutedLinear` layers of a model; sets what they add in the next forwards."""

    def __init__(self, layers: Iterable[RoutedLinear]) -> None:
        self.layers = {layer.name: layer for layer in layers}
        self._used: Routes = {}

    def use(self, routes: Routes) -> None:
        """Make the next forwards use these routes."""
        if routes is self._used:
            return
        layers = [self.layers[name] for name in routes]  # first, so that an adapter of another model changes nothing
        for name in self._used:
            self.layers[name].route = None
        for layer, route in zip(layers, routes.values()):
            layer.route = route
        self._used = routes


def decoder_path(model: nn.Module) -> str:
    """The path of the language model in `model`, such as `model.language_model`."""
    decoder = model.get_decoder()  # type: ignore[operator]
    return next(name for name, module in model.named_modules() if module is decoder)


def decoder_linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of the language model that an adapter may change, by their paths in `model`."""
    path = decoder_path(model)
    modules = model.get_submodule(path).named_modules(prefix=path)
    return {name: module for name, module in modules if type(module) in (nn.Linear, RoutedLinear)}


def route_linears(model: nn.Module) -> Router:
    """Replace every linear layer of the language model by a `RoutedLinear`, named by its path in `model`."""
    layers = []
    for name, module in decoder_linears(model).items():
        parent, _, child = name.rpartition(".")
        layers.append(RoutedLinear(module, name))
        setattr(model.get_submodule(parent), child, layers[-1])
    return Router(layers)


def make_routes(adapters: Sequence[Adapter | None], device: torch.device) -> Routes:
    """The routes of a batch, one adapter (or `None`) per row, in any order."""
    distinct = list({id(adapter): adapter for adapter in adapters if adapter is not None}.values())
    rows = {id(adapter): [other is not adapter for other in adapters] for adapter in distinct}
    others = {key: send(torch.tensor(hidden), device)[:, None, None] for key, hidden in rows.items()}  # (B, 1, 1)
    terms: dict[str, list[tuple[Factors, torch.Tensor | None]]] = {}
    for adapter in distinct:
        mask = others[id(adapter)] if any(rows[id(adapter)]) else None
        for name, factors in adapter.items():
            terms.setdefault(name, []).append((factors, mask))
    return {name: _joined(parts) for name, parts in terms.items()}


def _joined(parts: list[tuple[Factors, torch.Tensor | None]]) -> Route:
    """One layer's term; a single adapter's factors are taken as they are, so that they may change in place."""
    if len(parts) == 1:
        factors, mask = parts[0]
        return Route(factors.a, factors.b, factors.scaling, mask, factors.merged if mask is None else None)
    a = torch.cat([factors.a * factors.scaling for factors, _ in parts], dim=1)  # masked after it, should it overflow
    b = torch.cat([factors.b for factors, _ in parts])
    masks = [mask.expand(-1, 1, factors.a.shape[1]) for factors, mask in parts if mask is not None]
    return Route(a, b, 1.0, torch.cat(masks, dim=-1))
