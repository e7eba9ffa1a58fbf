"""Makes random generators of Optuna's samplers exist, so that a saved state has them."""

from __future__ import annotations

from typing import Any


def settle(sampler: Any) -> None:
    """Have a sampler, and those inside of it, choose where their random generators begin.

    Samplers without a seed do so at their first draw. One that was saved before would draw
    something else after each restore, while trials already run with the first draws.
    """
    from optuna.samplers import BaseSampler

    for value in vars(sampler).values():
        if type(value).__name__ == "LazyRandomState":
            _ = value.rng
        elif isinstance(value, BaseSampler):
            settle(value)
