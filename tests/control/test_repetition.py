"""Which results a restored trial reports once more."""

from __future__ import annotations

import pytest

from milepost.control.repetition import Repetition


@pytest.mark.parametrize(
    ("until", "iterations", "known"),
    [
        (0, [1, 2], []),
        (5, [4, 5, 6, 7], [4, 5]),
        (5, [6, 7], []),
        (700, [600, 700, 800], [600, 700]),  # users count as they like
        (1, [1, 1, 1], [1]),  # what does not grow is new
        (9, [3, 2, 4], [3, 4]),
        (5, [5, 6, 1, 2], [5]),  # paused without a checkpoint, it starts over
    ],
)
def test_what_is_known(until: int, iterations: list[int], known: list[int]) -> None:
    """Results up to the last one that was told of, as long as they come in their order."""
    repetition = Repetition(until)
    assert [each for each in iterations if repetition.has(each)] == known


def test_each_start_repeats_from_its_own_checkpoint() -> None:
    """A worker that died while it repeated comes again to what is known."""
    repetition = Repetition(5)
    assert [repetition.has(each) for each in (3, 4, 5)] == [True] * 3
    repetition.begin()
    assert [repetition.has(each) for each in (4, 5, 6)] == [True, True, False]
