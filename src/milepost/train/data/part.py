"""Which rows of a dataset are whose, and in which order they come."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """The rows of one of several workers: they are dealt out in turns.

    Each row goes to one worker at most. Turns rather than blocks, so that data sorted by class or
    by date is the same mixture everywhere.

    Args:
        rank: the worker's number, from 0.
        workers: how many there are.
        equal: whether all get equally many; the rows of an incomplete last turn go to nobody then.
    """

    rank: int = 0
    workers: int = 1
    equal: bool = True

    def places(self, count: int) -> range:
        """Return the places of its rows among so many."""
        end = count - count % self.workers if self.equal else count
        return range(self.rank, end, self.workers)

    def of(self, rows: Iterable[T]) -> Iterator[T]:
        """Yield its rows of a stream, which is read to the end."""
        stream = iter(rows)
        while turn := list(islice(stream, self.workers)):
            if self.rank < len(turn) and (len(turn) == self.workers or not self.equal):
                yield turn[self.rank]


#: All rows.
WHOLE = Part()


class Again(Generic[T]):
    """Something that can be iterated over again and again.

    Args:
        start: called at the beginning of each iteration, it returns an iterator.
    """

    def __init__(self, start: Callable[[], Iterator[T]]) -> None:
        self._start = start

    def __iter__(self) -> Iterator[T]:
        return self._start()


def batched(items: Iterable[T], size: int | None, drop_last: bool) -> Iterator[list[T]]:
    """Yield items in lists.

    Args:
        items: any number of them.
        size: how many are in each; None for all in one.
        drop_last: whether to leave out a last list with fewer.
    """
    stream = iter(items)
    while batch := list(islice(stream, size)):
        if drop_last and size is not None and len(batch) < size:
            return
        yield batch


def shuffled(items: Iterable[T], size: int, seed: int | None) -> Iterator[T]:
    """Yield items in an order drawn from a buffer, which is refilled one by one.

    Args:
        items: any number of them.
        size: how many wait in the buffer.
        seed: the same gives the same order; None draws one from Python's global generator.
    """
    stream = iter(items)
    generator = random.Random(random.getrandbits(64) if seed is None else seed)  # noqa: S311
    buffer = list(islice(stream, size))
    for item in stream:
        place = generator.randrange(len(buffer))
        drawn, buffer[place] = buffer[place], item
        yield drawn
    generator.shuffle(buffer)
    yield from buffer
