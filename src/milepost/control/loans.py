"""Resources that a run lends to trainers inside of its trials: what was lent, and who waits."""

from __future__ import annotations

import msgspec

from milepost.control.resources import Grant, Request


class Loan(msgspec.Struct):
    """What a trainer in a trial has been lent.

    Attributes:
        own: numbers of those of the trial's own bundles that it uses.
        grant: the rest.
    """

    own: tuple[int, ...]
    grant: Grant


class Borrower(msgspec.Struct):
    """A trainer in a trial that waits for resources.

    Attributes:
        worker_id: the trial's process.
        number: tells its trainers apart.
        most: what it asks for, a bundle for each worker.
        least: so many workers will do.
    """

    worker_id: str
    number: int
    most: Request
    least: int
