"""What makes the host wait for a device, seen on a CPU, where it costs nothing and would not be noticed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from inference.engine.engine import Engine, Request

_aten = torch.ops.aten
WAITS = {
    _aten._local_scalar_dense: "reads a number (item, int, bool)",
    _aten.nonzero: "has a result whose shape depends on numbers",
    _aten.masked_select: "has a result whose shape depends on numbers",
    _aten.lift_fresh: "sends numbers of the host (torch.tensor)",
}
INDEXING = (_aten.index, _aten.index_put, _aten.index_put_)
"""They wait where an index is boolean."""


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        why = WAITS.get(func.overloadpacket)
        if func.overloadpacket in INDEXING and any(i is not None and i.dtype is torch.bool for i in args[1]):
            why = "has a boolean index"
        assert why is None, f"{func} {why}: the host waits"
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waits() -> Iterator[None]:
    """An `AssertionError` for what would wait within."""
    reading = mock.patch.object(torch.Tensor, "tolist", side_effect=AssertionError("tolist: the host waits"))
    with _Watch(), reading:
        yield


def check_a_step(engine: Engine, rows: Sequence[Request]) -> None:
    """No step of these rows waits, but that in which they are laid out. They need three tokens and a slot each."""
    decode = engine.stream(rows)
    engine.step()
    engine.step()
    with torch.inference_mode(), no_waits():
        made = engine._scheduler._batch.step()
    assert len(made) == len(rows)
    del decode  # and so the rows leave
    assert not engine._scheduler._running
