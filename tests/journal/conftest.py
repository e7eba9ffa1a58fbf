"""Experiments and records for the tests of the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from milepost.journal import experiment as experiments
from milepost.journal import records as rec
from milepost.journal.experiment import Experiment
from milepost.journal.log import Journal
from milepost.storage import codec


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """A new experiment."""
    return experiments.create(str(tmp_path / "exp"), name="exp", trainable="train")


@pytest.fixture
def open_journal(experiment: Experiment) -> Iterator[Callable[..., Journal]]:
    """Opens journals of the experiment and closes them at the end."""
    opened: list[Journal] = []

    def open_it(**options: int) -> Journal:
        journal = Journal.open(experiment, **options)
        opened.append(journal)
        return journal

    yield open_it
    for journal in opened:
        journal.close(None)


class Make:
    """Records with the members that a test does not care about filled in."""

    @staticmethod
    def raw(value: object) -> msgspec.Raw:
        """A value as records hold it."""
        return msgspec.Raw(codec.encode(value))

    @staticmethod
    def created(trial: str = "t1", **config: object) -> rec.Created:
        """A trial that searched all of its config."""
        return rec.Created(
            at=1.0,
            trial=trial,
            name=f"train_{trial}",
            directory=f"train_{trial}_dir",
            tag="1",
            order=0,
            config=Make.raw(config),
            evaluated=Make.raw(config),
            resources=Make.raw([{"CPU": 1}]),
        )

    @staticmethod
    def launched(trial: str = "t1", attempt: int = 0, at: float = 2.0) -> rec.Launched:
        """A start of a trial."""
        return rec.Launched(
            at=at, trial=trial, attempt=attempt, attempt_id=f"a{attempt}", first_index=0
        )

    @staticmethod
    def reported(
        trial: str = "t1",
        iteration: int = 1,
        attempt: int = 0,
        checkpoint: int | None = None,
        at: float = 3.0,
        **metrics: object,
    ) -> rec.Reported:
        """A report with ``training_iteration`` and the given metrics."""
        return rec.Reported(
            at=at,
            trial=trial,
            attempt=attempt,
            iteration=iteration,
            row=Make.raw({**metrics, "training_iteration": iteration}),
            action="continue",
            checkpoint=checkpoint,
        )

    @staticmethod
    def changed(trial: str = "t1", status: str = "TERMINATED", at: float = 9.0) -> rec.Changed:
        """A change of a trial's status."""
        return rec.Changed(at=at, trial=trial, status=status)

    @staticmethod
    def failure(trial: str = "t1", number: int = 1, error: str | None = None) -> rec.Failure:
        """A failure that is retried."""
        return rec.Failure(
            at=4.0,
            trial=trial,
            attempt=number - 1,
            failures=number,
            kind="ValueError",
            message="no",
            traceback=f"Traceback {number}\nValueError: no\n",
            retried=True,
            error=error,
        )


@pytest.fixture
def make() -> type[Make]:
    """Makes records."""
    return Make
