"""What views say of trials."""

from __future__ import annotations

import pytest
from machines import Driven

from milepost.control import events
from milepost.control.view import RunView, Tally, TrialView
from milepost.errors import task_error


class Facts:
    """A failed trial, as the ledger tells of it."""

    name = "train_1a2b3_00000"
    status = "ERROR"
    failures = 1

    def __init__(self, error: Exception | str) -> None:
        self.error = error
        self.evaluated: dict[str, float] = {}
        self.last_row: dict[str, float] = {}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (task_error(ValueError("bad")), "ValueError: bad"),
        (task_error(KeyboardInterrupt()), "KeyboardInterrupt"),
        (task_error(KeyError(), "Traceback: ...\nKeyError"), "KeyError"),
        ("the worker was lost", "the worker was lost"),
    ],
)
def test_errors_are_told_with_their_text_if_they_have_one(
    error: Exception | str, said: str
) -> None:
    """An exception without text is told by its name, without a colon that leads nowhere."""
    assert TrialView.of(Facts(error), None).error == said  # type: ignore[arg-type]


def test_an_error_without_text_or_traceback_is_its_type() -> None:
    """The same holds for the error that users receive."""
    assert str(task_error(KeyboardInterrupt())) == "KeyboardInterrupt"


def test_trials_that_were_cut_short_are_unfinished() -> None:
    """An interrupted run does not claim that its trials have come to their end."""
    driven = Driven()
    driven.running("a", "b")
    driven.reported(0, "stop")
    driven.finished(0, "stop")
    driven.interrupt()
    driven.reported(1)
    driven.finished(1, "stop")
    view = RunView(None, driven.machine, None, Tally())  # type: ignore[arg-type]
    counts = {status: count for status, count in view.counts.items() if count}
    assert counts == {"TERMINATED": 1, "UNFINISHED": 1}


class Total:
    """A plan whose search knows of so many trials."""

    def __init__(self, total: int) -> None:
        self.search = self
        self.total_samples = total


@pytest.mark.parametrize(("known", "while_searching"), [(0, 2), (1, 2), (2, 2), (9, 9)])
def test_the_total_is_that_of_all_trials(known: int, while_searching: int) -> None:
    """Never less than there are; when the search has ended, those that there are."""
    driven = Driven()
    driven.running("a", "b")
    view = RunView(Total(known), driven.machine, None, Tally())  # type: ignore[arg-type]
    assert view.total == while_searching
    driven(events.SearchEnded(at=0.0))
    assert view.total == 2
