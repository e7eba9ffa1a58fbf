"""Rounds: one result of the reports of all workers."""

from __future__ import annotations

import random

import pytest

from milepost.control.rounds import Rounds, combined
from milepost.worker.protocol import Reported


def report(rank: int, number: int, **fields: object) -> Reported:
    return Reported(b"row %d of %d" % (number, rank))._replace(**fields)


@pytest.mark.parametrize("seed", range(20))
def test_the_nth_reports_belong_together(seed: int) -> None:
    """In whatever order they come, and however far one worker is ahead."""
    draws = random.Random(seed)
    size, count = draws.randint(1, 5), 10
    rounds, sent, found = Rounds(size), [0] * size, []
    while min(sent) < count:
        rank = draws.choice([each for each in range(size) if sent[each] < count])
        found.append(rounds.add(rank, report(rank, sent[rank])))
        sent[rank] += 1
        assert len([each for each in found if each]) == min(sent)
    assert [each for each in found if each] == [
        tuple(report(rank, number) for rank in range(size)) for number in range(count)
    ]


def test_one_result() -> None:
    """The row of rank 0, and the checkpoint of whoever has one."""
    reports = (
        report(0, 3, awaited=False),
        report(1, 3, checkpoint=7, nbytes=10, waited_s=0.5),
        report(2, 3, checkpoint=7, nbytes=5, waited_s=1.0, asks=True),
    )
    assert combined(reports) == Reported(
        b"row 3 of 0", checkpoint=7, nbytes=15, waited_s=1.0, asks=True, awaited=False
    )
    assert combined((report(0, 1), report(1, 1))).checkpoint is None
    assert combined((report(0, 1),)) == report(0, 1)
