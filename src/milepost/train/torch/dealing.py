"""Samplers and batch samplers of users, shared out among workers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any


class Dealt:
    """Every worker's share of what a sampler yields, in turns, as many for each.

    The last turn is filled up with the sampler's first ones, because workers that make different
    numbers of steps would wait for each other without end.

    Args:
        source: a sampler or a batch sampler. All workers must get the same from it: what it draws
            from PyTorch's generator when its first sample is asked for, as PyTorch's samplers do,
            is drawn from the same seed in all of them.
        rank: this worker's number, from 0.
        workers: how many there are.
    """

    def __init__(self, source: Any, rank: int, workers: int) -> None:
        self.source = source
        self._rank = rank
        self._workers = workers
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration draw another order, the same in all workers."""
        self._epoch = epoch
        if hasattr(self.source, "set_epoch"):
            self.source.set_epoch(epoch)

    def __len__(self) -> int:
        return (len(self.source) + self._workers - 1) // self._workers

    def __iter__(self) -> Iterator[Any]:
        import torch

        generator = torch.default_generator  # torch.manual_seed would seed GPUs as well
        before = generator.get_state()
        generator.manual_seed(self._epoch)
        try:
            samples = iter(self.source)
            opening = turn = list(islice(samples, self._workers))
        finally:
            generator.set_state(before)
        while turn:
            lacking = self._rank - len(turn)
            yield turn[self._rank] if lacking < 0 else opening[lacking % len(opening)]
            turn = list(islice(samples, self._workers))
